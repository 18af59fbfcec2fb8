"""A second kind of image, for tests alone: the staged tree as a tar, and how the program is started as its first file.

It is as small as a kind can be, and nothing of Nanos is in it. Its machine says the program's name and stops.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import BuildStepError, Finding, UsageError, VerificationError, error
from orchestrator.events import Emit
from orchestrator.image_kind import (
    BOOT,
    Comparison,
    ContextFile,
    Difference,
    Expected,
    FileDigests,
    KernelRelease,
    LibraryRow,
    OpenedImage,
    Packing,
    PackProgress,
    Row,
)
from orchestrator.kinds import Kind
from orchestrator.project.load import LoadedProject
from orchestrator.project.paths import LeftOutBy
from orchestrator.project.project import Project
from orchestrator.resolved import InputName, Inputs
from orchestrator.run.outcome import Outcome
from orchestrator.run.qemu.machine import QemuMachine
from orchestrator.run.sandbox.rehearsal import Rehearsal, RehearseOptions
from orchestrator.staged import ImageFiles, PackedTree, placed_files, read_entries, with_placed
from orchestrator.verification import Check, PackedFile, StandIn, Verification

SETTINGS = "settings.json"
PREFIX = "tar-"
"""How projects are named that want such an image: project.yaml has no key for it."""


@dataclass(frozen=True, kw_only=True)
class TarPlan:
    """One image."""

    manifest: Mapping[str, Any]
    template: str = ""
    title: str = "write the tar"

    @property
    def kernel(self) -> KernelRelease:
        return KernelRelease(name="linux", version="6.1")

    @property
    def steps(self) -> Mapping[str, str]:
        return {}

    def context(self, inputs: Inputs) -> tuple[ContextFile, ...]:
        return ()

    def explain(self, field: str, tail: str) -> BuildStepError | None:
        return None

    def pack(self, inputs: Inputs, files: ImageFiles, target: Path, progress: PackProgress) -> Packing:
        with tarfile.open(target, "w") as tar, files.open_archive("/stage") as stream:
            _add(tar, SETTINGS, json.dumps(self.manifest).encode())
            for entry in with_placed(read_entries(stream, "stage"), placed_files(inputs, files)):
                if entry.kind == "file":
                    _add(tar, f"root/{entry.path}", b"".join(entry.chunks()))
        return Packing(tool_version=None)

    def pack_again(self, inputs: Inputs, tree: PackedTree, target: Path, progress: Callable[[int], None]) -> Packing:
        raise AssertionError("`pack` says nothing of what it packed")

    def stand_ins(self, inputs: Inputs) -> tuple[StandIn, ...]:
        return ()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


@dataclass(frozen=True, kw_only=True)
class TarSettings:
    """What is said of the guest."""

    program: str
    findings: tuple[Finding, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.program

    @property
    def staging(self) -> Sequence[tuple[str, str]]:
        return [("--runtime-dir", "workspace")]

    def left_out(self, left_out_by: LeftOutBy) -> Sequence[Finding]:
        return ()

    def plan_image(self, inputs: Inputs) -> TarPlan:
        return TarPlan(manifest={"program": f"/{self.program}"})


@dataclass(frozen=True, kw_only=True)
class TarImage:
    """An open image: its files' bytes by guest path."""

    path: Path
    settings: Mapping[str, Any]
    files: Mapping[str, bytes]

    @classmethod
    def load(cls, path: Path) -> TarImage:
        members = dict(_members(path))
        settings = json.loads(members.pop(SETTINGS))
        files = {name.removeprefix("root"): data for name, data in members.items()}
        return cls(path=path, settings=settings, files=files)

    def __enter__(self) -> TarImage:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def summary(self) -> dict[str, Any]:
        return {"image": str(self.path), "format": "tar", "program": self.settings["program"]}

    def summary_lines(self) -> Iterator[str]:
        return (f"{name}: {value}" for name, value in self.summary().items())

    def entries(self, path: str, *, recursive: bool) -> list[Row]:
        return [Row(path=name, type="file", size=len(data)) for name, data in sorted(self.files.items())]

    def tree_lines(self, path: str) -> Iterator[str]:
        return iter(sorted(self.files))

    def read(self, path: str) -> Iterator[bytes]:
        if path not in self.files:
            raise UsageError(f"the image has no {path}")
        return iter([self.files[path]])

    def write_tree(self, directory: Path) -> int:
        raise UsageError("a tar is extracted by tar")

    def libraries(self) -> tuple[LibraryRow, ...]:
        return ()

    def convert(self, target: Path, *, lossy: bool) -> tuple[str, ...]:
        raise UsageError("a tar has one form")

    def compare(self, other: OpenedImage) -> Comparison:
        if not isinstance(other, TarImage):
            raise UsageError(f"{self.path} is a tar, the other image is none")
        names = sorted(name for name in {*self.files, *other.files} if self.files.get(name) != other.files.get(name))
        differences = tuple(Difference(part="tree", change="~", path=name) for name in names)
        return Comparison(differences=differences, same=not differences)


def _members(path: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(path) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            assert stream is not None
            yield member.name, stream.read()


class Tars:
    """The kind. Its kernel lies outside the image, as a microVM's does."""

    unused_inputs: frozenset[InputName] = frozenset({"nanos", "nanos-common", "ops", "gpu-assets"})

    def makes(self, project: Project, /) -> bool:
        return project.name.startswith(PREFIX)

    def recognizes(self, image: Path, /) -> bool:
        with image.open("rb") as stream:
            return stream.read(len(SETTINGS)) == SETTINGS.encode()

    def read_settings(self, loaded: LoadedProject) -> TarSettings:
        return TarSettings(program=Path(loaded.project.build.program).name)

    def check_gpu_assets(self, project: Project, inputs: Inputs) -> tuple[Finding, ...]:
        return ()

    def import_ahead(self) -> None:
        """Nothing is late."""

    def verify(self, image: Path, expected: Expected) -> Verification:
        opened = TarImage.load(image)
        program = opened.settings["program"]
        findings = () if program in opened.files else (error("program-missing", f"{program} is not in the tar", ""),)
        check = Check(id="program", title="Program", ok=not findings, findings=findings, detail=program)
        files = self.packed_files(image, (), expected.known) if expected.known is not None else ()
        return Verification(image=image, size=image.stat().st_size, checks=(check,), bootable=not findings, files=files)

    def packed_files(self, image: Path, stand_ins: Sequence[StandIn], known: FileDigests) -> tuple[PackedFile, ...]:
        opened = TarImage.load(image)
        kernel = PackedFile(path=f"{BOOT}/vmlinux", size=0, sha256=hashlib.sha256().hexdigest(), role="kernel")
        return (
            kernel,
            *(
                PackedFile(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
                for path, data in sorted(opened.files.items())
            ),
        )

    def open(self, image: Path) -> OpenedImage:
        if not self.recognizes(image):
            raise VerificationError(f"{image} is no tar")
        return TarImage.load(image)

    def boot(self, machine: QemuMachine, output: Callable[[bytes], None]) -> Outcome:
        said = f"ran {TarImage.load(machine.image).settings['program']}\n".encode()
        output(said)
        return Outcome(ok=True, end="exit", exit_code=0, reason="ended", ran_on="tcg", output={"serial": said})

    def judge(self, booted: Outcome) -> Outcome:
        return booted

    def rehearse(self, image: Path, options: RehearseOptions, emit: Emit) -> Rehearsal:
        raise UsageError(f"{image} is a tar, which cannot be rehearsed", remedy="boot it")


TARS: Kind = Tars()
