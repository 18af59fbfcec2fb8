"""The project model: what project.yaml says, validated and completed with defaults. Pure data."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from orchestrator.gpu.tables import FAMILY_NAMES
from orchestrator.project import mirrors
from orchestrator.suggest import did_you_mean, shown
from orchestrator.text import is_one_line

DEFAULT_BASE = "docker.io/library/rust:bookworm"
DEFAULT_NANOS = "0.1.51"
DEFAULT_OPS = "0.1.43"
MINIMUM_OPS = (0, 1, 42)
GEVULOT_GIT = "https://github.com/gevulotnetwork/gevulot"
# facts/gevulot.md §0.1: the guide contradicts itself; the code says which branch is which.
RUNTIME_REFS = {"devnet": "main", "local": "optional-file-based-task-to-shim"}
SHIM_BOOTSTRAP_PACKAGES = (
    "cargo-web", "rustc-web", "gcc", "libc6-dev", "protobuf-compiler", "pkg-config", "ca-certificates",
)  # fmt: skip


class Model(BaseModel):
    """Base of every table in project.yaml: frozen, and no key that we don't know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in Path(value).parts:
        raise ValueError("must be a relative path without '..'")
    return value


def _names_a_file(value: str) -> str:
    if value.endswith("/") or Path(value).name == "":
        raise ValueError("must name a file, not a directory")
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty")
    return value


def _starts(value: str) -> str:
    first = value.split("\n", 1)[0]
    if first.startswith("#!"):
        try:
            words = shlex.split(first[2:])
        except ValueError as error:
            raise ValueError(f"its first line, {shown(first)}, has {str(error).lower()}; close the quote") from error
        if not words or not is_one_line(first):
            raise ValueError(f"its first line, {shown(first)}, names no interpreter; write as #!/bin/bash -e")
    return value


def _one_line(value: str) -> str:
    if not is_one_line(value):
        raise ValueError("must be one line without control characters, line separators and turns of direction")
    return value


Line = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
"""A non-empty string that can't break out of a line of a Containerfile."""
InsidePath = Annotated[Line, AfterValidator(_inside)]
"""A relative path that stays inside its root."""
InsideFile = Annotated[InsidePath, AfterValidator(_names_a_file)]
"""The same for a path that can't be a directory."""
Mirrors = Annotated[dict[str, str], AfterValidator(mirrors.checked)]
"""Prefix of an address -> what takes its place; see `project/mirrors.py`."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PackageName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+.:=~_-]*$")]
Version = Annotated[
    str,
    BeforeValidator(lambda v: str(v) if isinstance(v, int | float) and not isinstance(v, bool) else v),
    Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+_-]*$"),
]


MOST_MEMORY = 16 * 1024 * 1024
"""MiB: 16 TiB."""


class Resources(Model):
    """What the node gives the program. `memory` is MiB."""

    cpus: Annotated[int, Field(ge=1, le=1024, strict=True)] = 2
    memory: Annotated[int, Field(ge=16, le=MOST_MEMORY, strict=True)] = 512
    gpus: Annotated[int, Field(ge=0, le=1, strict=True)] = 0  # the node's QEMU line takes 0 or 1


FIRST_WHOLE_CUDA = 13
"""The first CUDA whose Python packages hold a compiler."""


def is_whole_cuda(version: str) -> bool:
    """Whether the Python packages of this CUDA version (as 13.0.2) hold a compiler."""
    major = version.partition(".")[0]
    return major.isdigit() and int(major) >= FIRST_WHOLE_CUDA


def _whole_cuda(value: str) -> str:
    if not is_whole_cuda(value):
        raise ValueError(
            f"CUDA {value} can't be made from Python packages, which hold no nvcc before {FIRST_WHOLE_CUDA}"
            "; remove it: CUDA 12 needs its image"
        )
    return value


class Bootstrap(Model):
    """A base made from Debian packages when its image can't be pulled; with `cuda`, NVIDIA's Python packages too."""

    debian: Annotated[str, Field(pattern=r"^[a-z]+$")] = "bookworm"
    packages: tuple[PackageName, ...] = ()
    cuda: Annotated[Version, AfterValidator(_whole_cuda)] | None = None


class Base(Model):
    """An image reference, and how to make it where no registry answers."""

    image: Annotated[Line, Field(pattern=r"^[^\s$'\"\\]+$")]
    bootstrap: Bootstrap | None = None


def _base(value: Any) -> Any:
    return {"image": value} if isinstance(value, str) else value


BaseField = Annotated[Base, BeforeValidator(_base)]


class Gevulot(Model):
    """Where the Gevulot shim comes from (exactly one of git, path, archive) and how it is built."""

    git: Line | None = None
    path: Line | None = None
    archive: Line | None = None
    sha256: Sha256 | None = None
    ref: Line | None = None
    workspace: bool = False  # build the whole workspace, as the guide does, not the FFI crate alone
    base: BaseField = Base(image=DEFAULT_BASE, bootstrap=Bootstrap(debian="bookworm", packages=SHIM_BOOTSTRAP_PACKAGES))

    @model_validator(mode="after")
    def _one_source(self) -> Gevulot:
        given = [k for k in ("git", "path", "archive") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of git, path, archive (has {', '.join(given) if given else 'none'})")
        if self.ref is not None and self.git is None:
            raise ValueError("ref goes with git only")
        if self.sha256 is not None and self.archive is None:
            raise ValueError("sha256 goes with archive only")
        return self


class Secret(Model):
    """A build secret: from an environment variable or a file of the host."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    env: Line | None = None
    file: Line | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        if (self.env is None) == (self.file is None):
            raise ValueError("needs exactly one of env, file")
        return self


class Build(Model):
    """The user's step. `program` is relative to the work directory /build."""

    context: Line = "."
    packages: tuple[PackageName, ...] = ()
    secrets: tuple[Secret, ...] = ()
    ssh: Annotated[bool, Field(strict=True)] = False  # the host's ssh agent, for `run` alone
    run: Annotated[str, AfterValidator(_not_blank), AfterValidator(_starts)]
    program: InsideFile


class Stage(Model):
    """What goes beside the program into the image."""

    libraries: Literal["auto", "none"] = "auto"
    extra: tuple[Line, ...] = ()
    files: tuple[InsidePath, ...] = ()


class Nanos(Model):
    """The kernel: a release, a directory (kernel.img, boot.img, klibs/), or our own stub."""

    version: Version | None = None
    path: Line | None = None
    kernel: Literal["stub"] | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Nanos:
        given = [k for k in ("version", "path", "kernel") if getattr(self, k) is not None]
        if self.kernel is not None and len(given) > 1:
            raise ValueError("kernel: stub stands alone; drop version and path")
        if not given:
            raise ValueError("needs one of version, path, kernel")
        return self


class Ops(Model):
    """The packer's binary: a release, a file, or a URL with its checksum."""

    version: Version | None = None
    path: Line | None = None
    url: Line | None = None
    sha256: Sha256 | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Ops:
        given = [k for k in ("version", "path", "url") if getattr(self, k) is not None]
        if len(given) != 1:
            raise ValueError(f"needs exactly one of version, path, url (has {', '.join(given) or 'none'})")
        if self.url is not None and self.sha256 is None:
            raise ValueError("url needs a sha256 beside it")
        if self.version is not None and re.fullmatch(r"\d+\.\d+\.\d+", self.version):
            number = tuple(int(part) for part in self.version.split("."))
            if number < MINIMUM_OPS:
                raise ValueError(
                    f"ops {self.version} can't write the /workspace mount as the node expects it"
                    " (older than 0.1.42); use 0.1.42 or newer"
                )
        return self


class GpuAssets(Model):
    """klib gpu_nvidia, NVIDIA's user libraries and firmware: an archive or a directory."""

    url: Line | None = None
    sha256: Sha256 | None = None
    path: Line | None = None

    @model_validator(mode="after")
    def _one_source(self) -> GpuAssets:
        if (self.url is None) == (self.path is None):
            raise ValueError("needs exactly one of url, path")
        return self


def _gpu_family(value: str) -> str:
    if value not in FAMILY_NAMES:
        raise ValueError(f"isn't a GPU family; {did_you_mean(value, FAMILY_NAMES)}")
    return value


GpuFamily = Annotated[str, AfterValidator(_gpu_family)]
"""A generation of GPUs, as ampere: `gpu/tables.py` lists them."""


class Network(Model):
    """Proxies and certificates for the build steps; what isn't given comes from the host's environment."""

    http_proxy: Line | None = Field(default=None, alias="http-proxy")
    https_proxy: Line | None = Field(default=None, alias="https-proxy")
    no_proxy: Line | None = Field(default=None, alias="no-proxy")
    ca: Line | None = None


class Project(Model):
    """One project.yaml. Relative host paths are relative to `root`, the file's directory (set by the loader)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
    runtime: Literal["devnet", "local"] = "devnet"
    resources: Resources = Resources()
    gevulot: Gevulot | None = None
    base: BaseField = Base(image=DEFAULT_BASE)
    cuda: Version | None = None
    build: Build
    stage: Stage = Stage()
    nanos: Nanos = Nanos(version=DEFAULT_NANOS)
    ops: Ops = Ops(version=DEFAULT_OPS)
    packer: Literal["ops", "native"] = "ops"
    gpu_assets: GpuAssets | None = Field(default=None, alias="gpu-assets")
    gpu_families: tuple[GpuFamily, ...] = Field(default=(), alias="gpu-families")
    manifest: Line | dict[str, Any] | None = None
    mirrors: Mirrors = {}
    network: Network = Network()

    @property
    def gpu(self) -> bool:
        """A GPU project gets the CUDA base, the GPU assets and the GPU manifest."""
        return self.cuda is not None or self.resources.gpus > 0
