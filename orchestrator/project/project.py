"""The project model: what project.yaml says, validated and completed with defaults. Pure data."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from orchestrator.families import FAMILY_NAMES
from orchestrator.project import images, mirrors
from orchestrator.project.wrong_value import MissingChoiceError, WrongValueError
from orchestrator.suggest import did_you_mean, shown
from orchestrator.text import is_one_line

DEFAULT_BASE = "docker.io/library/rust:bookworm"
_GLOB = re.compile(r"(?:[^\[]|\[[!^]?[^/][^\]/]*\])*")
DEFAULT_NANOS = "0.1.51"
DEFAULT_OPS = "0.1.43"
MINIMUM_OPS = (0, 1, 42)
# docs/facts/gevulot.md, 1: the guide contradicts itself; the code says which branch is which.
RUNTIME_REFS = {"devnet": "main", "local": "optional-file-based-task-to-shim"}
SHIM_BOOTSTRAP_PACKAGES = (
    "cargo-web", "rustc-web", "gcc", "libc6-dev", "protobuf-compiler", "pkg-config", "ca-certificates",
)  # fmt: skip


class Model(BaseModel):
    """Base of every table in project.yaml: frozen, and no key that we don't know."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


def _need_one_of(table: Model, *keys: str) -> None:
    present = [key for key in keys if getattr(table, key) is not None]
    message = f"needs exactly one of {', '.join(keys)} (has {', '.join(present) or 'none'})"
    if not present:
        raise MissingChoiceError(message, keys)
    if len(present) > 1:
        raise ValueError(message)


def _inside(value: str) -> str:
    if value.startswith("/") or ".." in Path(value).parts:
        raise ValueError("must be a relative path without '..'")
    return value


def _in_build_stage(value: str) -> str:
    """A path or a glob of the build stage: relative to /build, or absolute."""
    if ".." in value.split("/"):
        raise ValueError("must be a path without '..'")
    if value.count("[") and not _GLOB.fullmatch(value):
        raise WrongValueError(f"`{shown(value)}` has a `[` that no `]` closes", "write `[[]` for the character itself")
    return value


def _excludes(value: str) -> str:
    if value.startswith("!"):
        raise WrongValueError(f"`{shown(value)}`: there are no exceptions here", "name what stays out, without `!`")
    return _in_build_stage(value)


def _program(value: str) -> str:
    """Relative to /build, or absolute; without "//" and "." there."""
    if ".." in value.split("/"):
        raise ValueError("must be a path without '..'")
    inside = _names_a_file(value).lstrip("/")
    return f"/{Path(inside)}" if value.startswith("/") else value


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
            message = f"its first line, {shown(first)}, has {str(error).lower()}"
            raise WrongValueError(message, "close the quote") from error
        if not words or not is_one_line(first):
            message = f"its first line, {shown(first)}, does not name an interpreter"
            raise WrongValueError(message, "write, for example, #!/bin/bash -e")
    return value


def _one_line(value: str) -> str:
    if not is_one_line(value):
        raise ValueError("must be one line without control, line separator or text direction characters")
    return value


def _guest_file(value: str) -> str:
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("must be a path without '..'")
    if not parts or value.endswith("/"):
        raise ValueError("must name a file, not a directory")
    return "/".join(parts)


Line = Annotated[str, Field(min_length=1), AfterValidator(_one_line)]
"""A non-empty string that can't break out of a line of a Containerfile."""
InsidePath = Annotated[Line, AfterValidator(_inside)]
"""A relative path that stays inside its root."""
InsideFile = Annotated[InsidePath, AfterValidator(_names_a_file)]
"""The same for a path that can't be a directory."""
BuildStagePath = Annotated[Line, AfterValidator(_in_build_stage)]
"""Files or directories of the build stage, as a path or a glob: relative to /build, or absolute."""
GuestFile = Annotated[Line, AfterValidator(_guest_file)]
"""A file's path in the image; it is kept without the leading "/"."""
Mirrors = Annotated[dict[str, str], AfterValidator(mirrors.check_mirrors)]
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
    """Virtual CPUs that the node gives the guest."""
    memory: Annotated[int, Field(ge=16, le=MOST_MEMORY, strict=True)] = 512
    """Memory of the guest, in MiB."""
    gpus: Annotated[int, Field(ge=0, le=1, strict=True)] = 0  # the node's QEMU line takes 0 or 1
    """GPUs passed through to the guest. 1 makes this a GPU project: CUDA base, GPU assets and the GPU manifest."""


CUDA_IMAGE = "docker.io/nvidia/cuda:{version}-devel-ubuntu22.04"
CUDA_PACKAGES = ("ca-certificates", "cmake", "g++", "gcc", "libc6-dev", "make")
"""Beside CUDA itself, what the devel image has to build with."""
FIRST_WHOLE_CUDA = 13
"""The first CUDA whose Python packages hold a compiler."""


def is_whole_cuda(version: str) -> bool:
    """Whether the Python packages of this CUDA version (as 13.0.2) hold a compiler."""
    major = version.partition(".")[0]
    return major.isdigit() and int(major) >= FIRST_WHOLE_CUDA


def _whole_cuda(value: str) -> str:
    if not is_whole_cuda(value):
        raise WrongValueError(
            f"CUDA {value} cannot be assembled from Python packages, which have no nvcc before {FIRST_WHOLE_CUDA}",
            "remove it: CUDA 12 needs its image",
        )
    return value


class Bootstrap(Model):
    """A base made from Debian packages when its image can't be pulled; with `cuda`, NVIDIA's Python packages too."""

    debian: Annotated[str, Field(pattern=r"^[a-z]+$")] = "bookworm"
    """Debian release to take the packages from, by its code name."""
    packages: tuple[PackageName, ...] = ()
    """Debian packages to install in addition to the minimal system."""
    cuda: Annotated[Version, AfterValidator(_whole_cuda)] | None = None
    """CUDA toolkit to assemble from NVIDIA's Python packages: version 13 or newer. CUDA 12 needs its image."""


class Base(Model):
    """An image reference, and how to make it where no registry answers."""

    image: Annotated[Line, AfterValidator(images.check_image), Field(pattern=images.REFERENCE)]
    """Image that the stage starts from."""
    bootstrap: Bootstrap | None = None
    """How to make the base from Debian packages if the image cannot be pulled. A warning says so when it is used."""


PLAIN_BASE = Base(image="docker.io/library/debian:bookworm", bootstrap=Bootstrap(debian="bookworm"))
"""Where nothing is built: it need not have a compiler."""
READELF = ("binutils",)
STAGING_TOOLS = ("busybox-static", *READELF)
"""A shell and tools that run in any image, and readelf."""


def _base(value: Any) -> Any:
    return {"image": value} if isinstance(value, str) else value


BaseField = Annotated[Base, BeforeValidator(_base)]


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
        _need_one_of(self, "git", "path", "archive")
        if self.ref is not None and self.git is None:
            raise ValueError("ref is only valid with git")
        if self.sha256 is not None and self.archive is None:
            raise ValueError("sha256 is only valid with archive")
        return self

    @property
    def packages(self) -> tuple[str, ...]:
        """The Debian packages that building it needs."""
        return WORKSPACE_PACKAGES if self.workspace else SHIM_PACKAGES


class Secret(Model):
    """A build secret: from an environment variable or a file of the host."""

    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    """Name of the secret, which is at /run/secrets/ID while `build.run` runs."""
    env: Line | None = None
    """Environment variable that holds the value."""
    file: Line | None = None
    """File that holds the value, relative to project.yaml. Among the sources, it is left out of the context."""

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        _need_one_of(self, "env", "file")
        return self


Cache = Literal["cargo", "rust", "go", "npm", "pip", "apt", "compilers"]
CACHES: tuple[Cache, ...] = get_args(Cache)
DOWNLOAD_CACHES: tuple[Cache, ...] = ("cargo", "npm", "pip", "apt")
"""Those that hold nothing that a step made."""


def _in_one_order(caches: tuple[Cache, ...]) -> tuple[Cache, ...]:
    return tuple(cache for cache in CACHES if cache in caches)


def _program_or_none(value: str) -> str:
    return _program(_one_line(value)) if value else value


_IN_THE_FILE = "do it in the Containerfile"
_WITHOUT: Mapping[str, Mapping[str | None, str]] = {
    "image": {
        "containerfile": "remove one of them",
        "run": "remove it, or make the image the `base`, in which run builds the program",
        "packages": "remove it, or make the image the `base` of a build",
        "secrets": "remove it: nothing is built",
        "ssh": "remove it: nothing is built",
    },
    "containerfile": {"run": _IN_THE_FILE, "packages": _IN_THE_FILE},
}
"""What has no place beside a program that comes in an image, and what to do instead."""


class Build(Model):
    """The user's step, or what there is instead of one. Paths are relative to the work directory /build."""

    image: Annotated[Line, AfterValidator(images.check_image), Field(pattern=images.REFERENCE)] | None = None
    """A finished image, local or remote, that has the program: nothing is built. Its ENTRYPOINT and CMD, ENV and
    WORKDIR give program, Args, Env and cwd, unless project.yaml says otherwise."""
    containerfile: InsideFile | None = None
    """Your own Containerfile or Dockerfile, relative to `context`: it is built as it is, and the program is taken from
    the result, as from `image`. .dockerignore is honoured; secrets and ssh reach its RUN --mount."""
    target: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] | None = None
    """Stage of `containerfile` to end at; the default is the last one."""
    args: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Line] = {}
    """Values for the ARG lines of `containerfile`."""
    context: Line = "."
    """Directory to copy to /build, relative to project.yaml. .dockerignore is honoured. Directories with a
    CACHEDIR.TAG, such as cargo's target/, are left out unless a `!PATH` in .dockerignore keeps a part of them."""
    packages: tuple[PackageName, ...] = ()
    """Debian packages that the build step needs. apt in the base says which others they need; project.lock names them
    all by version and sha256, and they are installed from files, without a network. The base must have apt."""
    dependencies: Literal["auto", "always", "never"] = "auto"
    """Where the packages that the sources' lock files name (Cargo.lock, go.sum, package-lock.json, requirements.txt
    with hashes) come from. `auto`: bundles contain them, and a step without a network gets them; a step with one
    downloads what it needs, except crates from git where cargo is Debian's, which fetches none. `always`: they are
    fetched on this machine for every build, and the step's package managers use nothing else. `never`: they are
    left to the step."""
    secrets: tuple[Secret, ...] = ()
    """Values that only the build step can read; they never reach a layer, the context, the receipt or the image."""
    ssh: Annotated[bool, Field(strict=True)] = False  # the host's ssh agent, for `run` alone
    """Forward the ssh agent at SSH_AUTH_SOCK to the build step."""
    caches: Annotated[tuple[Cache, ...], AfterValidator(_in_one_order)] = CACHES
    """What outlasts the build step, so that the next one is faster; its result is the same. `cargo`: crates and git
    repositories; `rust`: the compiled dependencies in cargo's target/, so that a change of a source line compiles the
    program alone; `go`: modules and compiled packages; `npm`, `pip`; `apt`: the .deb files of an apt-get in `run`;
    `compilers`: ccache and sccache, where the base has them. `[]` turns all off. All projects of an engine share them,
    so list none where other projects are not trusted. `--no-cache` takes nothing compiled from them."""
    rust_linker: Literal["gnu", "default"] = Field(default="gnu", alias="rust-linker")
    """Linker for Rust programs. `gnu` makes cargo link with GNU ld where rustc would use its own lld, whose programs
    lose data on Nanos 0.1.51; `default` leaves the choice to rustc. A linker that the project itself names wins."""
    run: Annotated[str, AfterValidator(_not_blank), AfterValidator(_starts)] = ""
    """Shell script that builds the program, run in /build with `sh -e`. Without it, `program` is there already: a
    binary of the context, or a part of `image` or of what `containerfile` builds."""
    program: Annotated[str, AfterValidator(_program_or_none)] = Field(default="", validate_default=True)
    """The built program, relative to /build; the image has it at its top. An absolute path names any program of the
    build stage, as /usr/bin/node, which keeps its place in the image. With `image` or `containerfile` it is a path from
    their root; the default is what ENTRYPOINT and CMD start.
    """

    @field_validator("containerfile", "packages", "secrets", "ssh", "run")
    @classmethod
    def _not_beside(cls, value: Any, others: ValidationInfo) -> Any:
        """What would be without effect is refused."""
        for built, without in _WITHOUT.items():
            if value and others.field_name in without and others.data.get(built) is not None:
                raise WrongValueError(f"cannot be combined with build.{built}", without[others.field_name])
        return value

    @field_validator("target", "args", mode="before")
    @classmethod
    def _of_containerfile(cls, value: Any, others: ValidationInfo) -> Any:
        if value and others.data.get("containerfile", "") is None:
            remedy = "for the program in the guest, write `manifest: {Args: [--flag, value]}`"
            raise WrongValueError(
                "is only valid with build.containerfile", remedy if others.field_name == "args" else "remove it"
            )
        return value

    @field_validator("program", mode="before")
    @classmethod
    def _is_needed(cls, value: Any, others: ValidationInfo) -> Any:
        if value != "":
            return value
        finished = [others.data.get(key, "") for key in ("image", "containerfile")]
        if finished == [None, None]:
            raise PydanticCustomError("missing", "is missing")
        return value

    @property
    def finished(self) -> bool:
        """Whether the program comes in an image that is not made by our own steps."""
        return self.image is not None or self.containerfile is not None


class StagedFile(Model):
    """Files of the image: exactly one of `from`, `url` (of no build step's making), `path`."""

    host: Line | None = Field(default=None, alias="from")
    """File on this machine, relative to project.yaml. It goes straight into the image, and is left out of the
    context.
    """
    url: Line | None = None
    """URL of a file to download. It is locked, cached, and goes straight into the image."""
    sha256: Sha256 | None = None
    """SHA-256 that the downloaded file must have."""
    path: BuildStagePath | None = None
    """File, directory or glob of the build stage, relative to /build or absolute. In a glob, `*` and `?` match within
    a name, `**` any directories; a directory that matches is packed with all that is in it.
    """
    to: GuestFile | None = None
    """The file's path in the image. Of `path`: without it the same path; for a directory, the directory in the image
    that takes what is in it; for a glob, the one that takes what matches.
    """
    exclude: tuple[Annotated[Line, AfterValidator(_excludes)], ...] = ()
    """What of a directory or glob of `path` stays out, as globs: without a slash any name, as `*.pyc`, otherwise a path
    below that directory.
    """

    @model_validator(mode="after")
    def _one_source(self) -> StagedFile:
        values = (("from", self.host), ("url", self.url), ("path", self.path))
        present = [key for key, value in values if value is not None]
        if not present:
            raise MissingChoiceError("needs exactly one of from, url, path (has none)", ("from", "url", "path"))
        if len(present) > 1:
            raise WrongValueError(
                f"needs exactly one of from, url, path (has {', '.join(present)})", "keep one of them"
            )
        if self.sha256 is not None and self.url is None:
            raise ValueError("sha256 is only valid with url")
        if self.exclude and self.path is None:
            raise WrongValueError("exclude is only valid with path", "remove it: from and url name one file")
        if self.path is None and self.to is None:
            raise WrongValueError(
                f"{present[0]} needs `to`, the file's path in the image", "write `to: params/kzg.srs`"
            )
        return self

    @property
    def guest_path(self) -> str:
        """`to`, of an entry that always has it."""
        if self.to is None:
            raise ValueError("an entry with from or url has `to`")
        return self.to


def _form_of_entry(value: Any) -> str:
    return "mapping" if isinstance(value, dict | StagedFile) else "text"


StageEntry = Annotated[
    Annotated[BuildStagePath, Tag("text")] | Annotated[StagedFile, Tag("mapping")], Discriminator(_form_of_entry)
]
"""An entry of `stage.files`: a path of the build stage, or a mapping."""


class Stage(Model):
    """What goes beside the program into the image."""

    libraries: Literal["auto", "none"] = "auto"
    """`auto` packs every shared library that a packed ELF file needs; `none` packs only what is listed."""
    extra: tuple[Line, ...] = ()
    """Libraries that the program loads by name at run time (with dlopen)."""
    files: tuple[StageEntry, ...] = ()
    """Files that the program reads. A path or glob names files and directories of the build stage, relative to /build
    or absolute, which keep their paths in the image; a mapping gives them another place, or leaves something out. A
    mapping with `from` or `url` names a file that no build step makes, on this machine or on the network: such a file
    never passes through the engine's layers, whatever its size.
    """
    include: tuple[Literal["nss", "certificates", "locale", "gconv", "tzdata"], ...] = ()
    """What programs load by name at run time, from the build stage: `nss` (name services and their settings),
    `certificates` (CA certificates), `locale` (/usr/lib/locale), `gconv` (glibc's character sets), `tzdata` (time
    zones).
    """

    @property
    def built(self) -> dict[int, StagedFile]:
        """The entries that name files of the build stage, by their place in `files`."""
        entries = (StagedFile(path=entry) if isinstance(entry, str) else entry for entry in self.files)
        return {index: entry for index, entry in enumerate(entries) if entry.path is not None}

    @property
    def outside(self) -> dict[int, StagedFile]:
        """The files that no build step makes, by their place in `files`."""
        return {
            index: entry
            for index, entry in enumerate(self.files)
            if isinstance(entry, StagedFile) and entry.path is None
        }


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
        _need_one_of(self, "version", "path", "url")
        if self.url is not None and self.sha256 is None:
            raise MissingChoiceError("url needs a sha256", ("sha256",))
        if self.version is not None and re.fullmatch(r"\d+\.\d+\.\d+", self.version):
            number = tuple(int(part) for part in self.version.split("."))
            if number < MINIMUM_OPS:
                message = f"ops {self.version} can't write the /workspace mount as the node expects it"
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
        _need_one_of(self, "url", "path")
        return self


def _gpu_family(value: str) -> str:
    if value not in FAMILY_NAMES:
        raise WrongValueError("isn't a GPU family", did_you_mean(value, FAMILY_NAMES))
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
    mirrors: Mirrors = {}
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
                "strict can't hold with packer: ops, which writes other bytes each time", "use packer: native"
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
        if not self.build.run:
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
        return self.build.packages if self.build.run else (*self.build.packages, *READELF)

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
