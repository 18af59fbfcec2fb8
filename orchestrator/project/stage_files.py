"""The table `stage`: what goes beside the program into the image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from orchestrator.project.fields import BuildStagePath, Line, Model, Sha256, check_build_stage_path
from orchestrator.project.wrong_value import MissingChoiceError, WrongValueError
from orchestrator.suggest import shown


def _excludes(value: str) -> str:
    if value.startswith("!"):
        raise WrongValueError(f"`{shown(value)}`: there are no exceptions here", "name what stays out, without `!`")
    return check_build_stage_path(value)


def _guest_file(value: str) -> str:
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError("must be a path without '..'")
    if not parts or value.endswith("/"):
        raise ValueError("must name a file, not a directory")
    return "/".join(parts)


GuestFile = Annotated[Line, AfterValidator(_guest_file)]
"""A file's path in the image; it is kept without the leading "/"."""


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

    trim: BuildStagePath | None = None
    """Of a program that an interpreter starts (`build.language`, a `#!` line): a file in /build that names what is
    packed of the interpreter's library, its packages and the sources, a guest path a line. `rehearse --trace --trim
    FILE` writes one, of what the program opened. What `files` names is packed in any case.
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
