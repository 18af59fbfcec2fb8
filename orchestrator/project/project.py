"""The project model: what project.yaml says, validated and completed with defaults. Pure data."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator

from orchestrator.families import FAMILY_NAMES
from orchestrator.project.bases import (
    CUDA_IMAGE,
    CUDA_PACKAGES,
    DEFAULT_BASE,
    PLAIN_BASE,
    READELF,
    STAGING_TOOLS,
    Base,
    BaseField,
    Bootstrap,
    is_whole_cuda,
)
from orchestrator.project.build_step import Build
from orchestrator.project.fields import Line, Mirrors, Model, Version
from orchestrator.project.languages import LANGUAGES
from orchestrator.project.stage_files import Stage
from orchestrator.project.vendor import DEFAULT_NANOS, DEFAULT_OPS, Gevulot, GpuAssets, Nanos, Ops
from orchestrator.project.wrong_value import WrongValueError
from orchestrator.suggest import did_you_mean

# docs/facts/gevulot.md, 1: the guide contradicts itself; the code says which branch is which.
RUNTIME_REFS = {"devnet": "main", "local": "optional-file-based-task-to-shim"}
MOST_MEMORY = 16 * 1024 * 1024
"""MiB: 16 TiB."""


class Resources(Model):
    """What the node gives the program. `memory` is MiB."""

    cpus: Annotated[int, Field(ge=1, le=1024, strict=True)] = 2
    """Virtual CPUs that the node gives the guest."""
    memory: Annotated[int, Field(ge=16, le=MOST_MEMORY, strict=True)] = 512
    """Memory of the guest, in MiB."""
    gpus: Annotated[int, Field(ge=0, le=1, strict=True)] = 0  # the node's QEMU line takes 0 or 1
    """GPUs passed through to the guest. 1 makes this a GPU project: CUDA base, GPU assets and the GPU manifest."""


def _gpu_family(value: str) -> str:
    if value not in FAMILY_NAMES:
        raise WrongValueError("is not a GPU family", did_you_mean(value, FAMILY_NAMES))
    return value


GpuFamily = Annotated[str, AfterValidator(_gpu_family)]
"""A generation of GPUs, as ampere: `families.py` lists them."""


class Network(Model):
    """Proxies and certificates for the build steps; what isn't given comes from the host's environment."""

    http_proxy: Line | None = Field(default=None, alias="http-proxy")
    """Proxy for http; the default is the host's HTTP_PROXY."""
    https_proxy: Line | None = Field(default=None, alias="https-proxy")
    """Proxy for https; the default is the host's HTTPS_PROXY."""
    no_proxy: Line | None = Field(default=None, alias="no-proxy")
    """Hosts to reach without a proxy; the default is the host's NO_PROXY."""
    ca: Line | None = None
    """PEM file with CA certificates to trust in addition to the host's, relative to project.yaml."""


class Project(Model):
    """One project.yaml. Relative host paths are relative to `root`, the file's directory (set by the loader)."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,127}$")]
    """Name of the image: `target/NAME.img`."""
    runtime: Literal["devnet", "local"] = "devnet"
    """Where tasks come from: `devnet` (from a node, over vsock) or `local` (from a file, for shim-executor)."""
    resources: Resources = Resources()
    """What the node gives the program; goes into the receipt and `deploy-command`."""
    gevulot: Gevulot | None = None
    """The Gevulot shim: exactly one of git, path, archive. Omit it to build without the shim."""
    base: BaseField = Base(image=DEFAULT_BASE)
    """Where `build.run` runs: an image, or a mapping."""
    cuda: Version | None = None
    """CUDA version of a GPU project; selects the CUDA devel image as the base."""
    build: Build
    """How the program is built."""
    stage: Stage = Stage()
    """What is packed in addition to the program."""
    nanos: Nanos = Nanos(version=DEFAULT_NANOS)
    """The kernel: exactly one of version, path, kernel."""
    ops: Ops = Ops(version=DEFAULT_OPS)
    """The vendor's tool, for `packer: ops`: exactly one of version, path, url."""
    packer: Literal["ops", "native"] = "native"
    """`native` is our own writer: same input, same bytes, and nothing to download. `ops` is the vendor's tool."""
    reproducible: Literal["environment", "strict", "none"] = "environment"
    """`environment` gives `build.run` what a result must not depend on: SOURCE_DATE_EPOCH=1577836800 (the age of
    the oldest source in /build), LC_ALL=C.UTF-8, TZ=UTC, GOFLAGS=-trimpath and umask 022; what the script itself sets
    wins. `strict` also builds twice, the second time on another engine (if there is one), at another path, later and
    on one core, and refuses an image that differs; it needs `packer: native`. `none` sets nothing.
    """
    gpu_assets: GpuAssets | None = Field(default=None, alias="gpu-assets")
    """NVIDIA's klib, libraries and firmware: exactly one of url, path. The default is the vendor's archive for
    the Nanos version.
    """
    gpu_families: tuple[GpuFamily, ...] = Field(default=(), alias="gpu-families")
    """GPU generations that the image must run on. If you omit it, the check passes when at least one is
    supported by both the firmware and the driver.
    """
    manifest: Line | dict[str, Any] | None = None
    """The ops manifest: a JSON file, or its keys inline. Merged over the defaults in manifests/."""
    mirrors: Mirrors = Field(default={})
    """Redirects for outside inputs: URL prefix to replacement. `debian:` names a Debian mirror, `pypi:` a
    Python package index, `cargo:`, `go:` and `npm:` a registry of crates, Go modules and npm packages.
    """
    network: Network = Network()
    """Proxies and CA certificates for downloads and build steps; the defaults come from the host's environment."""

    @field_validator("reproducible")
    @classmethod
    def _native_if_strict(cls, value: str, others: ValidationInfo) -> str:
        if value == "strict" and others.data.get("packer", "native") != "native":
            raise WrongValueError(
                "strict cannot hold with packer: ops, which writes other bytes each time", "use packer: native"
            )
        return value

    @property
    def gpu(self) -> bool:
        """A GPU project gets the CUDA base, the GPU assets and the GPU manifest; any other gets none of them."""
        return self.cuda is not None or self.resources.gpus > 0

    @property
    def program_base(self) -> Base:
        """The base that the program is built in: `base`, or the CUDA devel image that `cuda` names.

        Of a program that isn't built here, what its libraries (a binary) or the tools of staging (an image) are from.
        """
        if "base" in self.model_fields_set:
            return self.base
        language = self.build.language
        if language is not None and self.cuda is None and not self.build.finished:
            return LANGUAGES[language].base
        if not self.build.step:
            return PLAIN_BASE
        if self.cuda is None:
            return self.base
        whole = is_whole_cuda(self.cuda)
        made = Bootstrap(debian="bookworm", packages=CUDA_PACKAGES, cuda=self.cuda) if whole else None
        return Base(image=CUDA_IMAGE.format(version=self.cuda), bootstrap=made)

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages of that base: the user's, and where nothing is built there, what staging needs."""
        if self.build.finished:
            return STAGING_TOOLS
        return self.build.packages if self.build.step else (*self.build.packages, *READELF)

    @property
    def gevulot_ref(self) -> str | None:
        """Branch, tag or commit of `gevulot.git`: `ref`, else what suits `runtime`. None: the shim isn't from git."""
        if self.gevulot is None or self.gevulot.git is None:
            return None
        return self.gevulot.ref or RUNTIME_REFS[self.runtime]

    @property
    def debian_cargo(self) -> bool:
        """Whether cargo may be Debian's, as far as project.yaml says."""
        made = self.program_base.bootstrap
        named = (*(made.packages if made is not None else ()), *self.build.packages)
        return any(re.split("[=:]", package)[0] in ("cargo", "cargo-web") for package in named)

    @property
    def ops_release(self) -> str:
        """The ops whose keys and behaviour count; of a file or a URL that doesn't say, the default."""
        return self.ops.version or DEFAULT_OPS
