"""What comes from others: the Gevulot shim, Nanos, ops, NVIDIA's parts."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import model_validator

from orchestrator.project.bases import DEFAULT_BASE, Base, BaseField, Bootstrap
from orchestrator.project.fields import Line, Model, Sha256, Version, need_one_of
from orchestrator.project.wrong_value import MissingChoiceError, WrongValueError

DEFAULT_NANOS = "0.1.51"
DEFAULT_OPS = "0.1.43"
MINIMUM_OPS = (0, 1, 42)
SHIM_BOOTSTRAP_PACKAGES = (
    "cargo-web", "rustc-web", "gcc", "libc6-dev", "protobuf-compiler", "pkg-config", "ca-certificates",
)  # fmt: skip
# docs/facts/gevulot.md, 2: the FFI crate alone needs protoc only; the whole workspace needs the guide's list.
SHIM_PACKAGES = ("protobuf-compiler",)
WORKSPACE_PACKAGES = ("clang", "cmake", "curl", "git", "libssl-dev", "pkg-config", "protobuf-compiler")


class Gevulot(Model):
    """Where the Gevulot shim comes from (exactly one of git, path, archive) and how it is built."""

    git: Line | None = None
    """Git repository with the shim's sources."""
    path: Line | None = None
    """Directory with the shim's sources, relative to project.yaml."""
    archive: Line | None = None
    """URL of an archive with the shim's sources."""
    sha256: Sha256 | None = None
    """SHA-256 that the archive must have."""
    ref: Line | None = None
    """Branch, tag or commit. The default follows `runtime`: main for devnet, optional-file-based-task-to-shim
    for local.
    """
    workspace: bool = False  # build the whole workspace, as the guide does, not the FFI crate alone
    """Build the whole cargo workspace, as the vendor's guide does, instead of the shim's crate alone."""
    base: BaseField = Base(image=DEFAULT_BASE, bootstrap=Bootstrap(debian="bookworm", packages=SHIM_BOOTSTRAP_PACKAGES))
    """Base of the stage that builds the shim; takes the same form as the top-level `base`."""

    @model_validator(mode="after")
    def _one_source(self) -> Gevulot:
        need_one_of(self, "git", "path", "archive")
        if self.ref is not None and self.git is None:
            raise ValueError("ref is only valid with git")
        if self.sha256 is not None and self.archive is None:
            raise ValueError("sha256 is only valid with archive")
        return self

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages that building it needs."""
        return WORKSPACE_PACKAGES if self.workspace else SHIM_PACKAGES


class Nanos(Model):
    """The kernel: a release, a directory (kernel.img, boot.img, klibs/), or our own stub."""

    version: Version | None = None
    """Nanos release to download."""
    path: Line | None = None
    """Directory with kernel.img, boot.img and klibs/, relative to project.yaml."""
    kernel: Literal["stub"] | None = None
    """`stub` packs a stand-in kernel, which prints one line and stops the machine."""

    @model_validator(mode="after")
    def _one_source(self) -> Nanos:
        sources = [k for k in ("version", "path", "kernel") if getattr(self, k) is not None]
        if self.kernel is not None and len(sources) > 1:
            raise WrongValueError("kernel: stub cannot be combined with version or path", "remove version and path")
        if not sources:
            raise MissingChoiceError("needs one of version, path, kernel", ("version", "path", "kernel"))
        return self

    @property
    def release(self) -> str:
        """The Nanos that the project is for; of a directory that doesn't say, and of the stub, the default."""
        return self.version or DEFAULT_NANOS


class Ops(Model):
    """The packer's binary: a release, a file, or a URL with its checksum."""

    version: Version | None = None
    """ops release to download: 0.1.42 or newer."""
    path: Line | None = None
    """ops binary on this machine, relative to project.yaml."""
    url: Line | None = None
    """URL of an ops binary; needs `sha256`."""
    sha256: Sha256 | None = None
    """SHA-256 that the binary must have."""

    @model_validator(mode="after")
    def _one_source(self) -> Ops:
        need_one_of(self, "version", "path", "url")
        if self.url is not None and self.sha256 is None:
            raise MissingChoiceError("url needs a sha256", ("sha256",))
        if self.version is not None and re.fullmatch(r"\d+\.\d+\.\d+", self.version):
            number = tuple(int(part) for part in self.version.split("."))
            if number < MINIMUM_OPS:
                message = f"ops {self.version} cannot write the /workspace mount as the node expects it"
                raise WrongValueError(f"{message} (older than 0.1.42)", "use 0.1.42 or newer")
        return self


class GpuAssets(Model):
    """klib gpu_nvidia, NVIDIA's user libraries and firmware: an archive or a directory."""

    url: Line | None = None
    """URL of the archive with the klib, NVIDIA's user libraries and firmware."""
    sha256: Sha256 | None = None
    """SHA-256 that the archive must have."""
    path: Line | None = None
    """Directory with the same content, relative to project.yaml."""

    @model_validator(mode="after")
    def _one_source(self) -> GpuAssets:
        need_one_of(self, "url", "path")
        return self
