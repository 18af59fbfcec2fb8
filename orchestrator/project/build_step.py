"""The table `build`: the user's step, or what there is instead of one."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from orchestrator.project import images
from orchestrator.project.fields import (
    InsideFile,
    Line,
    Model,
    PackageName,
    check_names_a_file,
    check_one_line,
    need_one_of,
)
from orchestrator.project.languages import LANGUAGES, Language
from orchestrator.project.wrong_value import WrongValueError
from orchestrator.suggest import shown
from orchestrator.text import is_one_line


def _program(value: str) -> str:
    """Relative to /build, or absolute; without "//" and "." there."""
    if ".." in value.split("/"):
        raise ValueError("must be a path without '..'")
    inside = check_names_a_file(value).lstrip("/")
    return f"/{Path(inside)}" if value.startswith("/") else value


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
        need_one_of(self, "env", "file")
        return self


Cache = Literal["cargo", "rust", "go", "npm", "pip", "apt", "compilers"]
CACHES: tuple[Cache, ...] = get_args(Cache)
DOWNLOAD_CACHES: tuple[Cache, ...] = ("cargo", "npm", "pip", "apt")
"""Those that hold nothing that a step made."""


def _in_one_order(caches: tuple[Cache, ...]) -> tuple[Cache, ...]:
    return tuple(cache for cache in CACHES if cache in caches)


def _program_or_none(value: str) -> str:
    return _program(check_one_line(value)) if value else value


_IN_THE_FILE = "do it in the Containerfile"
_WITHOUT: Mapping[str, Mapping[str | None, str]] = {
    "image": {
        "containerfile": "remove one of them",
        "run": "remove it, or make the image the `base`, in which run builds the program",
        "packages": "remove it, or make the image the `base` of a build",
        "secrets": "remove it: nothing is built",
        "ssh": "remove it: nothing is built",
        "caches": "remove it: nothing is built",
        "dependencies": "remove it: nothing is built",
        "rust_linker": "remove it: nothing is built",
    },
    "containerfile": {
        "run": _IN_THE_FILE,
        "packages": _IN_THE_FILE,
        "caches": "remove it; a RUN --mount=type=cache of the Containerfile has a cache",
        "dependencies": "remove it: the Containerfile's steps fetch their packages themselves",
        "rust_linker": f"{_IN_THE_FILE}: ENV RUSTFLAGS=-Clink-arg=-fuse-ld=bfd, for a program that rustc links by lld",
    },
}
_EVERYWHERE = ("auto", "never", "default")
"""Values of these that hold beside anything."""
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
    args: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")], Line] = Field(default={})
    """Values for the ARG lines of `containerfile`."""
    context: Line = "."
    """Directory to copy to /build, relative to project.yaml. .dockerignore is honoured. Directories with a
    CACHEDIR.TAG, such as cargo's target/, are left out unless a `!PATH` in .dockerignore keeps a part of them. So are
    project.yaml and its manifest file, which no step needs: a change of them alone runs none again."""
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
    language: Language | None = None
    """`python` or `node`: the program is a script, or a directory with a `__main__.py` or package.json. Its interpreter
    becomes the guest's program, and the script the first of its Args; the standard library, installed packages and
    everything in /build are packed, with the libraries that they need. A program with a `#!` line needs no `language`,
    which also gives defaults: of `base` (python:3.11-bookworm, node:22-bookworm) and of `run`, which installs what
    requirements.txt and pyproject.toml, or package-lock.json, ask for."""
    run: Annotated[str, AfterValidator(_not_blank), AfterValidator(_starts)] = ""
    """Shell script that builds the program, run in /build with `sh -e`. Without it, `program` is there already: a
    binary of the context, or a part of `image` or of what `containerfile` builds; but see `language`."""
    program: Annotated[str, AfterValidator(_program_or_none)] = Field(default="", validate_default=True)
    """The built program, relative to /build; the image has it at its top. An absolute path names any program of the
    build stage, as /usr/bin/node, which keeps its place in the image. With `image` or `containerfile` it is a path from
    their root; the default is what ENTRYPOINT and CMD start. A script with a `#!` line is started by its interpreter.
    """

    @field_validator("containerfile", "packages", "secrets", "ssh", "run", "caches", "dependencies", "rust_linker")
    @classmethod
    def _not_beside(cls, value: Any, others: ValidationInfo) -> Any:
        """What would be without effect is refused."""
        for built, without in _WITHOUT.items():
            if (
                value
                and value not in _EVERYWHERE
                and others.field_name in without
                and others.data.get(built) is not None
            ):
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
    def step(self) -> str:
        """The script of the build step: `run`, or what the language does by default."""
        return self.run or (LANGUAGES[self.language].run if self.language is not None and not self.finished else "")

    @property
    def finished(self) -> bool:
        """Whether the program comes in an image that is not made by our own steps."""
        return self.image is not None or self.containerfile is not None
