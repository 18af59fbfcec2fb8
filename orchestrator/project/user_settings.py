"""The user's own settings, for all projects: mirrors and network, where a project's own come first; whom to trust."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from orchestrator.findings import Findings
from orchestrator.project import mirrors, yaml_reader
from orchestrator.project.fields import Line, Mirrors, Model
from orchestrator.project.load import MAX_BYTES, LoadedProject, read_text
from orchestrator.project.project import Network
from orchestrator.suggest import did_you_mean
from orchestrator.user_paths import settings_path

CacheRole = Literal["read", "read-write"]
"""Whether a machine only takes from a shared cache, or puts things there too."""


class CacheSettings(Model):
    """The shared cache of all builds; a directory is relative to the file's, as are the keys (PEM)."""

    url: Line | None = None
    role: CacheRole = "read"
    trusted_keys: tuple[Line, ...] = Field(default=(), alias="trusted-keys")
    """Public keys: results that one of them signed are taken."""
    sign: Line | None = None
    """The private key that signs the results of this machine."""


def cache_image(value: str) -> str:
    """The image or repository that a cache of layers is: as it is, or as buildx writes it. ValueError for another kind
    of cache, which the engines' API does not have."""
    if "=" not in value:
        return value
    fields = dict(part.partition("=")[::2] for part in value.split(","))
    if fields.get("type") != "registry" or not fields.get("ref") or fields.keys() - {"type", "ref"}:
        raise ValueError("the engines' API has caches in registries only")
    return fields["ref"]


CACHE_REMEDY = "give an image's name, such as registry.example/team/cache:main"
CacheImage = Annotated[Line, AfterValidator(cache_image)]


class RegistryCacheSettings(Model):
    """Where the layers of all builds come from, and go to; `{name}` is the project's."""

    sources: tuple[CacheImage, ...] = Field(default=(), alias="from")
    to: CacheImage | None = None


class UserSettings(Model):
    """config.yaml. `network.ca` is relative to the file's directory, `trusted` names directories of projects."""

    cache: CacheSettings = CacheSettings()
    registry_cache: RegistryCacheSettings = Field(default=RegistryCacheSettings(), alias="registry-cache")
    mirrors: Mirrors = Field(default_factory=dict)
    network: Network = Network()
    trusted: tuple[Line, ...] = ()


def with_user_settings(loaded: LoadedProject) -> LoadedProject:
    """The project with what the user's settings add. UsageError when they are wrong."""
    path = settings_path()
    if not path.is_file():
        return loaded
    settings, project = read_settings(path), loaded.project
    settings_network = settings.network.model_dump(exclude_none=True)
    if "ca" in settings_network:
        settings_network["ca"] = str(path.parent / settings_network["ca"])
    network = Network(**{**settings_network, **project.network.model_dump(exclude_none=True)})
    merged = {**settings.mirrors, **project.mirrors}
    updated = project.model_copy(update={"mirrors": merged, "network": network})
    trusted = _trusted(loaded.root, path.parent, settings.trusted)
    return replace(loaded, project=updated, own_mirrors=settings.mirrors, trusted=trusted)


def _trusted(root: Path, above: Path, directories: Iterable[str]) -> bool:
    """Whether a project lies in one of `directories`, links resolved: a link into one is not what was trusted."""
    real = Path(os.path.realpath(root))
    return any(real.is_relative_to(os.path.realpath(above / Path(directory).expanduser())) for directory in directories)


def read_settings(path: Path) -> UserSettings:
    """Read and validate a settings file; every error at once, with its line."""
    document = yaml_reader.read(read_text(path, what="a settings file", limit=MAX_BYTES), str(path))
    findings = Findings(file=str(path), lines=document.lines, otherwise=1, collected=list(document.findings))
    data = document.data if document.data is not None else {}
    settings = UserSettings()
    try:
        if not findings.collected:
            settings = UserSettings.model_validate(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            field = ".".join(str(part) for part in detail["loc"])
            if field == "mirrors" and detail["type"] == "value_error":
                _mirrors(findings, document.data["mirrors"])
                continue
            if field.startswith("registry-cache") and detail["type"] == "value_error":
                findings.error("bad-value", field, str(detail["ctx"]["error"]), CACHE_REMEDY)
                continue
            unknown = detail["type"] == "extra_forbidden"
            known = [info.alias or name for name, info in _model_of(field).model_fields.items()]
            if unknown:
                findings.error("unknown-key", field, "unknown key", did_you_mean(field.rpartition(".")[2], known))
            else:
                findings.error("bad-value", field, detail["msg"].lower())
    if findings.collected:
        raise findings.failure()
    return settings


def _mirrors(findings: Findings, written: Any) -> None:
    for key, wrong in mirrors.problems(written):
        findings.error("bad-value", yaml_reader.join("mirrors", key), wrong.message, wrong.remedy)


def _model_of(field: str) -> type[Model]:
    tables: dict[str, type[Model]] = {"network": Network, "cache": CacheSettings,
                                      "registry-cache": RegistryCacheSettings}  # fmt: skip
    return tables.get(field.rpartition(".")[0], UserSettings)
