"""What a project says of its Nanos guest: ops's manifest, and the plan of an image that follows from it."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from orchestrator.errors import Finding
from orchestrator.image_kind import GuestSettings
from orchestrator.nanos.manifest.effective import EffectiveManifest
from orchestrator.nanos.manifest.merge import left_out, merge_manifest
from orchestrator.project.load import LoadedProject
from orchestrator.project.paths import LeftOutBy
from orchestrator.project.project import Project
from orchestrator.resolved import Inputs

if TYPE_CHECKING:
    from orchestrator.nanos.plan import NanosPlan

STAGED_KLIBS = "/klibs"
LIBRARY_DIRECTORIES = ("lib", "lib64")


def read_settings(loaded: LoadedProject) -> NanosSettings:
    """The project's manifest. UsageError with all its errors at once."""
    return NanosSettings(loaded=loaded, effective=merge_manifest(loaded))


@dataclass(frozen=True, kw_only=True)
class NanosSettings:
    """A project's own manifest, merged over the defaults."""

    loaded: LoadedProject
    effective: EffectiveManifest

    @property
    def findings(self) -> tuple[Finding, ...]:
        """About the manifest."""
        return self.effective.findings

    @property
    def text(self) -> str:
        """The manifest that is built with."""
        return self.effective.text

    @property
    def program(self) -> str:
        """`Program`, by ops's rule for it."""
        return self.effective.program

    @property
    def files(self) -> tuple[str, ...]:
        """`Files`."""
        return self.effective.files

    @cached_property
    def staging(self) -> Sequence[tuple[str, str]]:
        """Directories, mount points and klibs."""
        manifest = self.effective
        options = [("--dir", entry) for entry in manifest.dirs]
        options += [("--map", f"{key}={target}") for key, target in manifest.map_dirs.items()]
        options += [("--runtime-dir", path) for path in manifest.mount_points]
        if manifest.klib_dir:
            options += [("--klib", klib) for klib in manifest.klibs]
            options.append(("--klib-dir", manifest.klib_dir))
        if cwd := self._cwd_of_image:
            options.append(("--make-dir", cwd))
        return tuple(options)

    @property
    def _cwd_of_image(self) -> str:
        """The directory in which the program's image starts it: it may be empty, and has to be there."""
        cwd = self.effective.passthrough.get("cwd")
        return cwd if self.loaded.image is not None and isinstance(cwd, str) else ""

    def left_out(self, left_out_by: LeftOutBy) -> Sequence[Finding]:
        """Of `Files` and `Dirs`."""
        return left_out(self.loaded, left_out_by)

    def plan_image(self, inputs: Inputs) -> NanosPlan:
        """What ops would write into the image, and what it is given to write it."""
        # Late: `check` needs no packer.
        from orchestrator.nanos.manifest.image_root import extra_files, root_attributes
        from orchestrator.nanos.packers.native import GuestPlan
        from orchestrator.nanos.plan import NanosPlan

        project, manifest = self.loaded.project, _program_inside(self.effective)
        nanos_version = inputs.nanos_kernel.version or "local"
        ops_version = (inputs.ops.version if inputs.ops else "") or project.ops_release
        return NanosPlan(
            name=project.name,
            packer=project.packer,
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
            manifest=_ops_manifest(project, manifest),
            placed=tuple(resolved.guest_path for resolved in inputs.staged_files),
        )


def _program_inside(manifest: EffectiveManifest) -> EffectiveManifest:
    """`Program` relative to the staged tree: ops would look for an absolute one at the container's own root."""
    if not manifest.program_argument.startswith("/"):
        return manifest
    return replace(manifest, data={**manifest.data, "Program": manifest.program})


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
    """Names at the top of the staged tree: (directories, files), sorted. The program itself is not among them.

    As far as they are known: pack-ops.sh adds what else there is, as what a glob matches.
    """
    files = [entry.strip("/") for entry in (*_built(project), *_outside(project), *manifest.files)]
    trees = [entry.strip("/") for entry in (*manifest.dirs, *manifest.map_dirs.values())]
    directories = {path.split("/")[0] for path in files if "/" in path}
    directories |= {path.split("/")[0] for path in trees if path}
    if project.stage.libraries == "auto":
        directories |= set(LIBRARY_DIRECTORIES)
    if project.build.finished and (cwd := str(manifest.passthrough.get("cwd", "")).strip("/")):
        directories.add(cwd.split("/")[0])
    return sorted(directories), sorted({path for path in files if "/" not in path and path not in directories})


def _built(project: Project) -> list[str]:
    """Paths of the build stage that lie below a directory; whether another is a file or a directory, it alone knows."""
    paths = [(entry.to or entry.path or "").strip("/") for entry in project.stage.built.values()]
    return [path for path in map(posixpath.normpath, paths) if "/" in path and not set("*?[") & set(path.split("/")[0])]


def _outside(project: Project) -> list[str]:
    return [entry.guest_path for entry in project.stage.outside.values()]


_satisfies: type[GuestSettings] = NanosSettings  # checked by mypy
