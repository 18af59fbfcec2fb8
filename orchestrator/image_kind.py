"""What the rest asks of a kind of image. Nanos (`nanos/`) is the one there is; `kinds.py` names them all.

A kind knows its kernel, its manifest, its file format and its machine. Everyone else knows a project, a staged tree
and a file that came of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from orchestrator.errors import BuildStepError, Finding
from orchestrator.resolved import InputName, Inputs
from orchestrator.verification import PackedFile, StandIn, Verification

if TYPE_CHECKING:
    from orchestrator.project.load import LoadedProject
    from orchestrator.project.paths import LeftOutBy
    from orchestrator.project.project import Project
    from orchestrator.staged import ImageFiles, PackedEntry, PackedTree

BOOT: Final = "boot:"
"""Prefix of paths of what starts the machine, which lies outside the guest's root, as `verify` writes them."""


@dataclass(frozen=True, kw_only=True)
class KernelRelease:
    """A guest's kernel by its name in documents (`nanos`: the receipt's nanos_version) and its version there."""

    name: str
    version: str


@dataclass(frozen=True, kw_only=True)
class ContextFile:
    """What a kind's own packing stage copies: `content` is its bytes, or a file or a directory of this host."""

    path: str
    content: bytes | Path
    executable: bool = False


FileDigests = Mapping[str, tuple[int, str]]
"""Size in bytes and SHA-256 (hex) of files, by guest path."""


@dataclass(frozen=True, kw_only=True)
class PackProgress:
    """Who is told how far an image is: `copied` (done, total) bytes where it comes as a whole, `ready` up to which byte
    it is as it will be."""

    copied: Callable[[int, int], None]
    ready: Callable[[int], None] = lambda _end: None


@dataclass(frozen=True, kw_only=True)
class Packing:
    """How an image was packed. `tool_version` is of the tool in the container that made it, None where there is none;
    `contents` are the files whose bytes went through our hands; `staged` is the staged tree as `ImagePlan.pack_again`
    wants it, and empty where that can't be; `unmarked` are the guest paths of `PackedTree.unmarked` that are in it."""

    tool_version: str | None
    contents: FileDigests = field(default_factory=dict)
    staged: Sequence[PackedEntry] = ()
    unmarked: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One node: guest path, type (file|directory|symlink|special), size in bytes, a link's target."""

    path: str
    type: str
    size: int = 0
    target: str = ""

    def line(self) -> str:
        """`ls -l` for a file system that stores no modes, owners or times."""
        mark = {"directory": "d", "symlink": "l", "file": "-"}.get(self.type, "?")
        return f"{mark} {self.size:>12} {self.path}" + (f" -> {self.target}" if self.target else "")


@dataclass(frozen=True, kw_only=True)
class LibraryRow:
    """One packed ELF file. `needed` is (name, guest path, or None when the guest's loader would not find it)."""

    path: str
    interpreter: str | None
    needed: tuple[tuple[str, str | None], ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "path": self.path,
            "interpreter": self.interpreter,
            "needed": [{"name": name, "path": path} for name, path in self.needed],
        }


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One difference of two images. `change`: "-" what only the first has, "+" only the second, "~" both, and not the
    same. `part` is what it is a part of, `offset` the first differing byte, where there is one.
    """

    part: str
    change: Literal["-", "+", "~"]
    path: str
    detail: str = ""
    offset: int | None = None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How two images differ. `same`: they hold the same, and only how that is written down differs."""

    differences: tuple[Difference, ...]
    same: bool


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What is known of an image before it is verified.

    `runtime` (devnet, local) is what its shim must speak, None if that isn't known; `gpu_families` (project.yaml, the
    receipt) which GPUs its program must run on; `libraries` is project.yaml's stage.libraries, for the advice. `known`:
    the digests of files that were just written, where `Verification.files` is wanted. `unmarked`: `Packing.unmarked`.
    """

    runtime: str | None = None
    gpu_families: Sequence[str] = ()
    libraries: str | None = None
    known: FileDigests | None = None
    unmarked: frozenset[str] = frozenset()


class ImagePlan(Protocol):
    """What a kind decides of one image, as pure data, and how its file comes of the staged tree. A part of the plan."""

    @property
    def kernel(self) -> KernelRelease:
        """The guest's kernel, for receipt, provenance and bill of materials."""

    @property
    def manifest(self) -> Mapping[str, Any]:
        """What the guest is told, as it is written beside the Containerfile; JSON-able."""

    @property
    def template(self) -> str:
        """The template in containerfiles/ of a last stage, `result`, which has /sbom.

        "" for none: the last is then `staging`, which has /stage, /klibs and /sbom. Large files are only listed there,
        and `staged.placed_files` has them.
        """

    @property
    def title(self) -> str:
        """What `pack` does, for people."""

    @property
    def steps(self) -> Mapping[str, str]:
        """What an instruction of that stage contains → the field of project.yaml that it came from."""

    def context(self, inputs: Inputs) -> tuple[ContextFile, ...]:
        """What that stage copies beside the staged tree."""

    def explain(self, field: str, tail: str) -> BuildStepError | None:
        """A step of `steps` that failed, of which `tail` are the last lines, in true words; None for other steps."""

    def pack(self, inputs: Inputs, files: ImageFiles, target: Path, progress: PackProgress) -> Packing:
        """Write the image to `target` (an existing, empty temporary file) out of the last stage's `files`.

        Errors: EngineError for
        a broken stream, InputError for what an input lacks, BuildStepError for a tree that no image can hold.
        """

    def pack_again(self, inputs: Inputs, tree: PackedTree, target: Path, progress: Callable[[int], None]) -> Packing:
        """Write the image to `target` as `pack` would, out of an image in which the same staged tree was packed, but
        for the files of `inputs.staged_files`, which may be others now.

        `progress` is told up to which byte the file is as it will be. Errors: those of `pack`.
        """

    def stand_ins(self, inputs: Inputs) -> tuple[StandIn, ...]:
        """Inputs that only stand in for the real ones, and can't be seen in the image."""


class GuestSettings(Protocol):
    """What a project says of its guest, completed with defaults and checked. Pure data."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Warnings and notes; errors were raised."""

    @property
    def text(self) -> str:
        """All that it says: the same settings give the same text."""

    @property
    def program(self) -> str:
        """The program's path in the guest, without the leading "/"."""

    @property
    def files(self) -> tuple[str, ...]:
        """Files to stage beside `stage.files`."""

    @property
    def staging(self) -> Sequence[tuple[str, str]]:
        """Further options of stage-tree.sh, in order, as (option, value)."""

    def left_out(self, left_out_by: LeftOutBy) -> Sequence[Finding]:
        """Warnings for what it names and an ignore file keeps from the build."""

    def plan_image(self, inputs: Inputs) -> ImagePlan:
        """What is decided of the image. Pure: no disk, no network, no engine."""


class OpenedImage(Protocol):
    """An image as `inspect` looks into it, read-only, until its end as a context.

    Paths are guest paths; links are followed. Errors: VerificationError for a damaged file, UsageError for a path that
    isn't there.
    """

    def __enter__(self) -> OpenedImage: ...

    def __exit__(self, *_: object) -> None: ...

    @property
    def settings(self) -> Mapping[str, Any]:
        """What the guest is told: program, arguments, environment and so on. JSON-able."""

    def summary(self) -> dict[str, Any]:
        """What it is, for --json."""

    def summary_lines(self) -> Iterator[str]:
        """The same for people."""

    def entries(self, path: str, *, recursive: bool) -> list[Row]:
        """What is below `path`, sorted; a file is its own only row."""

    def tree_lines(self, path: str) -> Iterator[str]:
        """The same as `tree` draws it, with sizes."""

    def read(self, path: str) -> Iterator[bytes]:
        """A regular file's bytes."""

    def write_tree(self, directory: Path) -> int:
        """Write the whole tree into an empty or new directory; how many entries. UsageError for any other."""

    def libraries(self) -> tuple[LibraryRow, ...]:
        """A row for every packed ELF file of the node's machine, the program first, then by path."""

    def convert(self, target: Path, *, lossy: bool) -> tuple[str, ...]:
        """Write it anew to `target`, a temporary file, as this version's own packer would; what was left out, in words.

        VerificationError for something that has no place there, unless `lossy`.
        """

    def compare(self, other: OpenedImage) -> Comparison:
        """With another image. UsageError for one of another kind."""


class ImageKind(Protocol):
    """One kind of image."""

    @property
    def unused_inputs(self) -> frozenset[InputName]:
        """Inputs that only other kinds have a use for, whatever project.yaml says of them."""

    def makes(self, project: Project, /) -> bool:
        """Whether a project asks for an image of this kind."""

    def recognizes(self, image: Path, /) -> bool:
        """Whether a file is an image of this kind. Nothing about the file raises."""

    def read_settings(self, loaded: LoadedProject) -> GuestSettings:
        """UsageError with all errors at once."""

    def check_gpu_assets(self, project: Project, inputs: Inputs) -> tuple[Finding, ...]:
        """What is wrong with GPU assets that would be packed. OSError when they can't be read."""

    def import_ahead(self) -> None:
        """Import what packing and `verify` import late: the engine runs its steps meanwhile."""

    def verify(self, image: Path, expected: Expected) -> Verification:
        """Every check that can be made without booting. What is wrong with the image is in the result."""

    def open(self, image: Path) -> OpenedImage:
        """VerificationError for a file that is no such image; its message names the file."""

    def packed_files(self, image: Path, stand_ins: Sequence[StandIn], known: FileDigests) -> tuple[PackedFile, ...]:
        """Every file of an image, by its tree as read back, sorted by path. VerificationError if it is damaged.

        Files are read and hashed, but for those that are `known` with the size that they have in the tree.
        """
