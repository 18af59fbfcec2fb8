"""What project.yaml asks for from outside, input by input, before anything is resolved. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.inputs.releases import COMMON_URL, GPU_URL
from orchestrator.project.bases import Base
from orchestrator.project.images import qualified
from orchestrator.project.load import LoadedProject
from orchestrator.project.project import Project
from orchestrator.project.vendor import Gevulot, Nanos
from orchestrator.resolved import InputName, file_input_name, redact_url

Request = Mapping[str, Any]
"""Text, or a list of text, by key. `path` is there if and only if the input is the user's own file or directory."""


def requests_of(loaded: LoadedProject) -> dict[InputName, Request]:
    """The request of every input that can be locked. Mirrors don't count: they change the way, not the goal.

    The stub kernel is our own and has no pin; a local kernel's common.tar.gz is part of its directory.
    """
    project = loaded.project
    requests: dict[InputName, Request] = {"base": _base(project.program_base)}
    if project.build.image is not None:
        requests["image"] = {"image": project.build.image}
    if loaded.containerfile is not None and (images := own_images(loaded)):
        requests["containerfile"] = {"images": list(images)}
    if project.gevulot is not None:
        requests["gevulot"] = _gevulot(project.gevulot, project.gevulot_ref)
        requests["gevulot-base"] = _base(project.gevulot.base)
    for name, _base_name, names in wanted_packages(project):
        if names:
            requests[name] = {"packages": sorted(set(names))}
    if project.nanos.kernel != "stub":
        requests |= _nanos(project.nanos)
    if project.packer == "ops":
        requests["ops"] = _given({**project.ops.model_dump(), "url": _shown(project.ops.url)})
    if project.gpu:
        assets = project.gpu_assets.model_dump() if project.gpu_assets else {}
        default = GPU_URL.format(version=project.nanos.release)
        url = None if assets.get("path") else _shown(assets.get("url")) or default
        requests["gpu-assets"] = _given({**assets, "url": url})
    for entry in project.stage.outside.values():
        values = {"path": entry.host, "url": _shown(entry.url), "sha256": entry.sha256}
        requests[file_input_name(entry.guest_path)] = _given(values)
    return requests


def wanted_packages(project: Project) -> tuple[tuple[InputName, InputName, Sequence[str]], ...]:
    """The Debian packages that are installed: the input's name, that of the base which gets them, theirs."""
    gevulot = project.gevulot.packages if project.gevulot is not None else ()
    return ("packages", "base", project.packages), ("gevulot-packages", "gevulot-base", gevulot)


def own_images(loaded: LoadedProject) -> tuple[str, ...]:
    """The images that the user's own Containerfile begins with, but for the one that is `base`."""
    base = qualified(loaded.project.program_base.image)
    images = loaded.containerfile.images if loaded.containerfile is not None else ()
    return tuple(image for image in images if qualified(image) != base)


def is_local(request: Request) -> bool:
    """Whether it is a file or directory of the user's, which may change from build to build."""
    return "path" in request


def _gevulot(gevulot: Gevulot, ref: str | None) -> Request:
    return _given(
        {
            "git": _shown(gevulot.git),
            "ref": ref,
            "path": gevulot.path,
            "archive": _shown(gevulot.archive),
            "sha256": gevulot.sha256,
        }
    )


def _nanos(nanos: Nanos) -> dict[InputName, Request]:
    if nanos.path is not None:
        return {"nanos": _given({"path": nanos.path, "version": nanos.version})}
    return {"nanos": {"version": nanos.release}, "nanos-common": {"url": COMMON_URL}}


def _base(base: Base) -> Request:
    bootstrap = base.bootstrap
    return _given(
        {
            "image": base.image,
            "debian": bootstrap.debian if bootstrap else None,
            "packages": sorted(set(bootstrap.packages)) if bootstrap else None,
            "cuda": bootstrap.cuda if bootstrap else None,
        }
    )


def _shown(url: str | None) -> str | None:
    return redact_url(url) if url is not None else None


def _given(values: Mapping[str, Any]) -> Request:
    return {key: value for key, value in values.items() if value is not None}
