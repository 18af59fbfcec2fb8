"""Project + manifest + resolved inputs -> plan. Pure: no disk, no network, no engine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from orchestrator.manifest.effective import EffectiveManifest
from orchestrator.manifest.image_root import extra_files, root_attributes
from orchestrator.plan.plan import GpuPlan, GuestPlan, Origin, Plan, ShimPlan, StagingPlan
from orchestrator.project.load import LoadedProject
from orchestrator.project.project import Gevulot, Project
from orchestrator.resolved import Inputs

# docs/facts/gevulot.md, 2: the FFI crate alone needs protoc only; the whole workspace needs the guide's list.
SHIM_PACKAGES = ("protobuf-compiler",)
WORKSPACE_PACKAGES = ("clang", "cmake", "curl", "git", "libssl-dev", "pkg-config", "protobuf-compiler")
# docs/facts/gevulot.md, 4: copied to their sonames; all must be of one driver version.
DRIVER_LIBRARIES = ("libnvidia-ml", "libcuda", "libnvidia-ptxjitcompiler")
SHIM_LIBRARY = "/build/gevulot/target/release"
GUEST_LIBRARIES = "/build/lib/x86_64-linux-gnu"
CUDA_LIBRARIES = "/usr/local/cuda*/targets/x86_64-linux/lib"
STAGED_KLIBS = "/klibs"
LIBRARY_DIRECTORIES = ("lib", "lib64")


def make_plan(loaded: LoadedProject, manifest: EffectiveManifest, inputs: Inputs) -> Plan:
    """The plan of one image. Bases that were not resolved (no engine) keep the user's own reference."""
    project = loaded.project
    manifest = _program_inside(manifest)
    interpreter, script = _script(project.build.run)
    nanos_version = inputs.nanos.version or "local"
    ops_version = (inputs.ops.version if inputs.ops else "") or project.ops_release
    return Plan(
        name=project.name,
        packer=project.packer,
        runtime=project.runtime,
        shim=_shim(project.gevulot, project.gevulot_ref, inputs) if project.gevulot else None,
        base=inputs.base.reference if inputs.base else project.program_base.image,
        packages=project.build.packages,
        gpu=GpuPlan(driver_libraries=DRIVER_LIBRARIES, toolkit=project.cuda is not None) if inputs.gpu_assets else None,
        run_script=script,
        run_interpreter=interpreter,
        staging=StagingPlan(libraries=project.stage.libraries, arguments=tuple(_staging(project, manifest, inputs))),
        program=manifest.program,
        guest=GuestPlan(
            attributes=root_attributes(
                manifest, image_name=project.name, nanos_version=nanos_version, ops_version=ops_version
            ),
            extra_files=extra_files(manifest),
            mount_points=manifest.mount_points,
            klibs=manifest.klibs,
            staged_klibs=manifest.klib_dir is not None,
            tfs_version=4 if manifest.tfs_v4 else 5,
            uefi=manifest.uefi,
            minimum_size=manifest.base_volume_size or 0,
        ),
        nanos_version=nanos_version,
        ops_manifest=_ops_manifest(project, manifest),
        secrets=tuple(secret.id for secret in project.build.secrets),
        ssh=project.build.ssh,
        gnu_rust_linker=project.build.rust_linker == "gnu",
        fixed_environment=project.reproducible != "none",
        origins=_origins(loaded),
    )


def _program_inside(manifest: EffectiveManifest) -> EffectiveManifest:
    """`Program` relative to the staged tree: ops would look for an absolute one at the container's own root."""
    if not manifest.program_argument.startswith("/"):
        return manifest
    return replace(manifest, data={**manifest.data, "Program": manifest.program})


def _shim(gevulot: Gevulot, ref: str | None, inputs: Inputs) -> ShimPlan:
    source = inputs.gevulot
    pin = f" at {source.pin['commit']}" if source is not None and "commit" in source.pin else ""
    return ShimPlan(
        what=f"{gevulot.git}, {ref}{pin}" if gevulot.git else gevulot.path or gevulot.archive or "",
        base=inputs.gevulot_base.reference if inputs.gevulot_base else gevulot.base.image,
        packages=WORKSPACE_PACKAGES if gevulot.workspace else SHIM_PACKAGES,
        workspace=gevulot.workspace,
    )


def _script(run: str) -> tuple[str, str]:
    """The interpreter of the user's step (its `#!` line, or `sh -e`) and the script."""
    first = run.split("\n", 1)[0]
    if first.startswith("#!") and len(first) > 2:
        return shlex.join(shlex.split(first[2:])), run
    return "sh -e", run


def _staging(project: Project, manifest: EffectiveManifest, inputs: Inputs) -> Iterator[tuple[str, str]]:
    yield "--program", project.build.program
    yield "--as", manifest.program
    yield "--libraries", project.stage.libraries
    if inputs.gpu_assets:
        yield "--search", GUEST_LIBRARIES
    if project.gevulot:
        yield "--search", SHIM_LIBRARY
    if project.cuda:
        yield "--search", CUDA_LIBRARIES
    for name in project.stage.extra:
        yield "--extra", name
    for entry in dict.fromkeys((*project.stage.files, *manifest.files)):
        yield "--file", entry
    for entry in manifest.dirs:
        yield "--dir", entry
    for key, target in manifest.map_dirs.items():
        yield "--map", f"{key}={target}"
    for path in manifest.mount_points:
        yield "--runtime-dir", path
    if manifest.klib_dir:
        for klib in manifest.klibs:
            yield "--klib", klib
        yield "--klib-dir", manifest.klib_dir


def _ops_manifest(project: Project, manifest: EffectiveManifest) -> dict[str, Any]:
    """What `ops build` is given: the effective manifest with its host paths turned to the staged tree.

    ops runs in /stage, which holds the guest's root: every top-level directory of it is one of `Dirs`, every
    top-level file one of `Files`.
    """
    document = {
        key: value
        for key, value in manifest.data.items()
        if key not in {"Files", "Dirs", "MapDirs", "KlibDir", "TargetRoot", "NanosVersion"}
    }
    directories, files = _top_level(project, manifest)
    if directories:
        document["Dirs"] = directories
    if files:
        document["Files"] = files
    if manifest.klib_dir:
        document["KlibDir"] = STAGED_KLIBS
    return document


def _top_level(project: Project, manifest: EffectiveManifest) -> tuple[list[str], list[str]]:
    """Names at the top of the staged tree: (directories, files), sorted. The program itself is not among them."""
    files = [entry.strip("/") for entry in (*project.stage.files, *manifest.files)]
    trees = [entry.strip("/") for entry in (*manifest.dirs, *manifest.map_dirs.values())]
    directories = {path.split("/")[0] for path in files if "/" in path}
    directories |= {path.split("/")[0] for path in trees if path}
    if project.stage.libraries == "auto":
        directories |= set(LIBRARY_DIRECTORIES)
    return sorted(directories), sorted({path for path in files if "/" not in path and path not in directories})


def _origins(loaded: LoadedProject) -> dict[str, Origin]:
    fields = ("build.run", "build.packages", "build", "stage", "ops", "gevulot", "gpu-assets", "base")
    origins = {field: Origin(field=field, line=loaded.lines.get(field)) for field in fields}
    if "build.program" in loaded.lines and "stage" not in loaded.lines:
        origins["stage"] = Origin(field="build.program", line=loaded.lines["build.program"])
    return origins
