"""What a resolved outside input is: where it came from, what pins it, where its bytes lie on this host."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NewType, Self, get_args
from urllib.parse import urlsplit, urlunsplit

OneInputName = Literal[
    "gevulot", "ops", "nanos", "nanos-common", "gpu-assets", "base", "gevulot-base", "packages", "gevulot-packages",
    "image", "containerfile",
]  # fmt: skip
"""Inputs of which a project has one at most."""
FileInputName = NewType("FileInputName", str)
"""`file:` and the guest path, without a leading "/", of a file of `stage.files` that no build step makes."""
InputName = OneInputName | FileInputName
InputKind = Literal["git", "archive", "directory", "file", "image", "images", "bootstrap", "debs", "stub"]
Ground = Literal[
    "known", "given", "signature", "checksum", "tls", "ssh", "registry", "engine", "bundle", "local", "none"
]
"""Why an input was believed when it was first used; `inputs.grounds` has the words."""

FILE_PREFIX = "file:"


def file_input_name(guest_path: str) -> FileInputName:
    """What the input is called that goes into the image as `guest_path`."""
    return FileInputName(FILE_PREFIX + guest_path)


def is_input_name(text: str) -> bool:
    """Whether an input can be called so."""
    return text in get_args(OneInputName) or (text.startswith(FILE_PREFIX) and text != FILE_PREFIX)


_NAME = r"[a-z0-9][a-z0-9+.-]{0,100}"
_VERSION = r"[0-9A-Za-z.+:~-]{1,100}"
DEB_PATTERN = rf"{_NAME}={_VERSION} sha256:[0-9a-f]{{64}} [0-9]{{1,15}} https?://[!-~]{{1,600}}"
"""A line of a lock: name, version, sha256 and size (bytes) of a .deb, and its address."""
_LINE = re.compile(rf"({_NAME})=({_VERSION}) sha256:([0-9a-f]{{64}}) ([0-9]+) (\S+)")


@dataclass(frozen=True, kw_only=True)
class Deb:
    """One .deb file: what it holds, its sha256 (hex) and size (bytes), and where a mirror has it."""

    name: str
    version: str
    sha256: str
    size: int
    url: str

    @classmethod
    def parse(cls, line: str) -> Self:
        """The package of a line that `str` gives. ValueError for any other line."""
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a package of a lock: {line!r}")
        return cls(name=match[1], version=match[2], sha256=match[3], size=int(match[4]), url=match[5])

    def __str__(self) -> str:
        return f"{self.name}={self.version} sha256:{self.sha256} {self.size} {self.url}"

    @property
    def file(self) -> str:
        """The name under which it is given to apt, which reads name and version in it: nothing of an address."""
        return f"{self.name}_{self.sha256[:16]}.deb"


@dataclass(frozen=True, kw_only=True)
class Input:
    """One outside input, resolved.

    `source` is what the user wrote (or the default), without credentials. `pin` identifies the content:
    `commit` (40 hex) for git; `sha256` and `size` (bytes) for what was downloaded or is a file; `tree-sha256`
    (see `trees.digest_tree`) for a directory; `digest` (`sha256:…`) for an image, and where an engine knows it
    `image-id`, the digest of its settings, by which a saved copy of it is known; for the kernel and ops also
    `version` where it is known; for the Gevulot sources also `cargo-lock-sha256`; for Debian packages (`debs`) `base`,
    the digest of what they are installed on, and `snapshot`, when the mirror had them. `path` is the file or directory
    on this host (None for a pulled image). `reference` is what a FROM line names (bases only). `note` is something the
    user should know about it. `packages` are what a base made from Debian packages holds (`name=version sha256:HEX`),
    or what `debs` are (a line of `Deb` each), whose fetched files are in `files`, by name; of `images` a line each, of
    what a FROM line says, the digest, and where it is known the image id; `references` is what to write there instead.
    `ground`: why it was believed when it was not pinned yet; "" where nobody knows, or it is our own.
    """

    name: InputName
    kind: InputKind
    source: str
    pin: Mapping[str, str] = field(default_factory=dict)
    path: Path | None = None
    reference: str = ""
    note: str = ""
    packages: tuple[str, ...] = ()
    ground: Ground | Literal[""] = ""
    files: Mapping[str, Path] = field(default_factory=dict)
    references: Mapping[str, str] = field(default_factory=dict)

    @property
    def version(self) -> str:
        """The version as far as it is known, else ""."""
        return self.pin.get("version", "")

    @property
    def debs(self) -> tuple[Deb, ...]:
        """The .deb files that an input of kind `debs` is, sorted."""
        return tuple(sorted(map(Deb.parse, self.packages), key=str))

    @property
    def guest_path(self) -> str:
        """Where one of `Inputs.staged_files` lies in the image, without the leading "/"."""
        return self.name.removeprefix(FILE_PREFIX)

    @property
    def local(self) -> Path:
        """`path` of an input that always has one."""
        if self.path is None:
            raise ValueError(f"input {self.name} ({self.kind}) has no file on this host")
        return self.path


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """What a finished image says of how its program is started: ENTRYPOINT, CMD, ENV and WORKDIR.

    `arguments` are the words after the program, once it is known. `platform` is as linux/amd64.
    """

    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: str = "/"
    platform: str = ""
    arguments: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PackedPath:
    """A file or directory of the build container that goes into the image, less what `exclude` matches.

    `path` is absolute, or `.` for the whole work directory, which is the guest's root.
    """

    path: str
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ScriptSettings:
    """How a program that is a script is started: by its interpreter, which is the guest's program.

    `interpreter` is its path in the build container, `program` that in the guest, without the leading "/"; `arguments`
    are the words before the user's own, the script among them (none where the program is the interpreter itself);
    `words` are a finished image's own words in place of its `ImageSettings.arguments`; `directory` is where the program
    begins ("" = the root), to which the guest's file `start` takes it; `paths` is what it loads; `fixed`: the guest's
    kernel has to place it at one address always.
    """

    language: str
    interpreter: str
    program: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    directory: str = ""
    start: str = ""
    paths: tuple[PackedPath, ...] = ()
    fixed: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Pin:
    """What an input has to be, as the lock recorded it: kind, `Input.pin`, its Debian packages, and the ground."""

    kind: InputKind
    values: Mapping[str, str]
    packages: tuple[str, ...] = ()
    ground: Ground | Literal[""] = ""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """All inputs of one project. What a project doesn't use is None.

    `nanos` is None for an image that Nanos does not boot; its path is a directory with kernel.img and, as far as
    there, boot.img and klibs/. `ops` is None with the native packer. `nanos_common` (ops's common.tar.gz) is None for
    the stub kernel, and for a local kernel directory without one. `base` and `gevulot_base` are None when they were
    resolved without an engine. `packages` (build.packages) and `gevulot_packages` (the shim's) are what is to be
    installed on these two; None also where nothing says which versions. `image` is the finished one that has the
    program, `containerfile` are the images that the user's own begins with. `staged_files` are the files of
    `stage.files` that no build step makes.
    """

    nanos: Input | None = None
    nanos_common: Input | None = None
    gevulot: Input | None = None
    ops: Input | None = None
    gpu_assets: Input | None = None
    base: Input | None = None
    gevulot_base: Input | None = None
    packages: Input | None = None
    gevulot_packages: Input | None = None
    image: Input | None = None
    containerfile: Input | None = None
    staged_files: tuple[Input, ...] = ()

    @property
    def nanos_kernel(self) -> Input:
        """`nanos` of an image that Nanos boots."""
        if self.nanos is None:
            raise ValueError("an image that Nanos boots needs its kernel")
        return self.nanos

    def __iter__(self) -> Iterator[Input]:
        """Every input that is there, in a fixed order."""
        every = (
            self.gevulot, self.gevulot_base, self.gevulot_packages, self.base, self.packages, self.gpu_assets,
            self.nanos, self.nanos_common, self.ops, self.image, self.containerfile,
        )  # fmt: skip
        return iter([item for item in (*every, *self.staged_files) if item is not None])

    def get(self, name: InputName) -> Input | None:
        """The input of that name, or None."""
        return next((item for item in self if item.name == name), None)


def checksums(debs: Sequence[Deb]) -> str:
    """A file for `sha256sum --check` beside the files of these."""
    return "".join(f"{deb.sha256}  {deb.file}\n" for deb in debs)


def identity(resolved: Input) -> str:
    """What pins an input's content, in one word; "" for what has no pin."""
    return next((resolved.pin[key] for key in ("tree-sha256", "digest", "sha256") if key in resolved.pin), "")


def redact(text: str) -> str:
    """`text` (a URL, or a message that quotes URLs) without the credentials in its URLs."""
    return re.sub(r"(?<=://)[^/\s@'\"]+@", "***@", text)


def redact_url(url: str) -> str:
    """A URL that may be shown and recorded: no user information, and no query (signed URLs keep keys there)."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return redact(url.partition("?")[0])
    if not parts.scheme or "://" not in url:
        return url
    host = parts.netloc.rpartition("@")[2]
    # A bare user name (ssh://git@host) is no secret, and without it the URL says something else.
    user = parts.netloc.rpartition("@")[0]
    if user and ":" not in user and parts.scheme in {"ssh", "git+ssh"}:
        host = f"{user}@{host}"
    return urlunsplit((parts.scheme, host, parts.path, "***" if parts.query else "", ""))


def debian_mirror(suite: str, mirrors: Mapping[str, str]) -> str:
    """Where Debian `suite` is fetched from: the mirror of the longest prefix of `debian:SUITE`, "" for none."""
    matches = [prefix for prefix in mirrors if prefix.startswith("debian:") and f"debian:{suite}".startswith(prefix)]
    return mirrors[max(matches, key=len)] if matches else ""
