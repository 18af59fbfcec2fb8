"""Project + guest settings + resolved inputs -> plan. Pure: no disk, no network, no engine."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from orchestrator.image_kind import GuestSettings, ImagePlan
from orchestrator.plan.plan import GpuPlan, Origin, Plan, ShimPlan, StagingPlan
from orchestrator.project.load import LoadedProject
from orchestrator.project.vendor import Gevulot
from orchestrator.resolved import Inputs, ScriptSettings
from orchestrator.staged import LARGE

# docs/facts/gevulot.md, 4: copied to their sonames; all must be of one driver version.
DRIVER_LIBRARIES = ("libnvidia-ml", "libcuda", "libnvidia-ptxjitcompiler")
SHIM_LIBRARY = "/build/gevulot/target/release"
GUEST_LIBRARIES = "/build/lib/x86_64-linux-gnu"
CUDA_LIBRARIES = "/usr/local/cuda*/targets/x86_64-linux/lib"


def make_plan(loaded: LoadedProject, settings: GuestSettings, inputs: Inputs) -> Plan:
    """The plan of one image. Bases that were not resolved (no engine) keep the user's own reference."""
    project = loaded.project
    interpreter, script = _script(project.build.step)
    image = settings.plan_image(inputs)
    return Plan(
        name=project.name,
        runtime=project.runtime,
        shim=_shim(project.gevulot, project.gevulot_ref, inputs) if project.gevulot else None,
        base=inputs.base.reference if inputs.base else project.program_base.image,
        packages=project.packages,
        packages_locked=inputs.packages is not None,
        gpu=GpuPlan(driver_libraries=DRIVER_LIBRARIES, toolkit=project.cuda is not None) if inputs.gpu_assets else None,
        run_script=script,
        run_interpreter=interpreter,
        staging=StagingPlan(
            libraries=project.stage.libraries, arguments=(*_large(image), *_staging(loaded, settings, inputs))
        ),
        program=settings.program,
        image=image,
        secrets=tuple(secret.id for secret in project.build.secrets),
        ssh=project.build.ssh,
        gnu_rust_linker=project.build.rust_linker == "gnu" and bool(script),
        program_image=inputs.image.reference if inputs.image is not None else "",
        finished=project.build.finished,
        fixed_environment=project.reproducible != "none",
        caches=project.build.caches,
        script_question=tuple(_script_question(loaded)),
        origins=_origins(loaded, image),
    )


def _shim(gevulot: Gevulot, ref: str | None, inputs: Inputs) -> ShimPlan:
    source = inputs.gevulot
    pin = f" at {source.pin['commit']}" if source is not None and "commit" in source.pin else ""
    return ShimPlan(
        what=f"{gevulot.git}, {ref}{pin}" if gevulot.git else gevulot.path or gevulot.archive or "",
        base=inputs.gevulot_base.reference if inputs.gevulot_base else gevulot.base.image,
        packages=gevulot.packages,
        packages_locked=inputs.gevulot_packages is not None,
        workspace=gevulot.workspace,
    )


def _script(run: str) -> tuple[str, str]:
    """The interpreter of the user's step (its `#!` line, or `sh -e`) and the script."""
    first = run.split("\n", 1)[0]
    if first.startswith("#!") and len(first) > 2:
        return shlex.join(shlex.split(first[2:])), run
    return "sh -e", run


def _large(image: ImagePlan) -> tuple[tuple[str, str], ...]:
    """Files that the staging step only lists: of no use to a stage after it, which needs the tree itself."""
    return () if image.template else (("--large", str(LARGE)),)


def _staging(loaded: LoadedProject, settings: GuestSettings, inputs: Inputs) -> Iterator[tuple[str, str]]:
    project, script = loaded.project, loaded.script
    # A finished image is staged from its root.
    program = project.build.program if script is None else script.interpreter
    yield "--program", program.lstrip("/") if project.build.finished else program
    yield "--as", settings.program
    yield "--libraries", project.stage.libraries
    if inputs.gpu_assets:
        yield "--search", GUEST_LIBRARIES
    if project.gevulot:
        yield "--search", SHIM_LIBRARY
    if project.cuda:
        yield "--search", CUDA_LIBRARIES
    for name in project.stage.extra:
        yield "--extra", name
    for word in dict.fromkeys(project.stage.include):
        yield "--include", word
    if script is not None:
        yield from _loaded_by(script, loaded)
    for entry in project.stage.built.values():
        yield "--path", entry.path or ""
        if entry.to is not None:
            yield "--to", entry.to
        for glob in entry.exclude:
            yield "--exclude", glob
    for name in dict.fromkeys(settings.files):
        yield "--file", name
    for resolved in inputs.staged_files:
        yield "--outside", resolved.guest_path
    yield from settings.staging


def _script_question(loaded: LoadedProject) -> Iterator[tuple[str, str]]:
    """The options of find-interpreter.sh."""
    build, image = loaded.project.build, loaded.image
    yield "--program", build.program
    if build.language is not None:
        yield "--language", build.language
    if image is not None:
        yield "--directory", image.directory
        for word in image.arguments:
            yield "--argument", word


def _loaded_by(script: ScriptSettings, loaded: LoadedProject) -> Iterator[tuple[str, str]]:
    """What an interpreter loads, first of all: what the project names replaces it."""
    yield "--interpreter-of", script.language
    if script.directory and script.start:
        yield from (("--start-in", script.directory), ("--start-file", script.start))
    for packed in script.paths:
        yield "--path", packed.path
        if packed.path == ".":
            yield "--to", "/"
            for name in _not_the_programs(loaded):
                yield "--exclude", f"/{name}"
        for glob in packed.exclude:
            yield "--exclude", glob
    if loaded.project.stage.trim is not None:
        yield "--trim", loaded.project.stage.trim


def _not_the_programs(loaded: LoadedProject) -> Iterator[str]:
    """What is at the top of /build and not of the program: its project file, and what we put there."""
    project = loaded.project
    if project.build.context in (".", "./"):
        yield loaded.path.name
        yield ".project.schema.json"
    yield ".dockerignore"
    if project.gevulot is not None:
        yield "gevulot"
    if project.gpu:
        yield from ("lib", "lib64", "nvidia")


def _origins(loaded: LoadedProject, image: ImagePlan) -> dict[str, Origin]:
    fields = (
        "build.image", "build.containerfile", "build.run", "build.packages", "build.program", "build", "stage",
        "gevulot", "gpu-assets", "base", *image.steps.values(),
    )  # fmt: skip
    origins = {field: Origin(field=field, line=loaded.lines.get(field)) for field in fields}
    if "build.program" in loaded.lines and "stage" not in loaded.lines:
        origins["stage"] = Origin(field="build.program", line=loaded.lines["build.program"])
    return origins
