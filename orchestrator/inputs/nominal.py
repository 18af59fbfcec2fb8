"""Inputs as project.yaml names them, with nothing fetched: enough to render the Containerfile. Pure."""

from __future__ import annotations

from orchestrator.project.load import LoadedProject
from orchestrator.resolved import Input, Inputs, file_input_name


def nominal_inputs(loaded: LoadedProject) -> Inputs:
    """The inputs of a project without pins and without files on this host."""
    project = loaded.project
    nanos, ops, gevulot, image = project.nanos, project.ops, project.gevulot, project.build.image
    version = "stub" if nanos.kernel == "stub" else nanos.version or "local"
    gevulot_source = (gevulot.git or gevulot.path or gevulot.archive or "") if gevulot else ""
    kernel = Input(name="nanos", kind="archive", source=nanos.path or nanos.version or "stub", pin={"version": version})
    return Inputs(
        nanos=kernel if "nanos" not in loaded.unused_inputs else None,
        gevulot=Input(name="gevulot", kind="directory", source=gevulot_source) if gevulot else None,
        ops=Input(name="ops", kind="file", source=ops.path or ops.url or ops.version or "", pin=_ops_pin(ops.version))
        if project.packer == "ops" and "ops" not in loaded.unused_inputs
        else None,
        gpu_assets=Input(name="gpu-assets", kind="archive", source="gpu-assets")
        if project.gpu and "gpu-assets" not in loaded.unused_inputs
        else None,
        image=Input(name="image", kind="image", source=image, reference=image) if image is not None else None,
        staged_files=tuple(
            Input(name=file_input_name(entry.guest_path), kind="file", source=entry.host or entry.url or "")
            for entry in project.stage.outside.values()
        ),
    )


def _ops_pin(version: str | None) -> dict[str, str]:
    return {"version": version} if version else {}
