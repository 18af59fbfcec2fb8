"""Staged trees to be packed: one large file, or many small ones, beside a static program."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.measure import MIB
from tests.support.engines import need

PROGRAM = "bin/busybox"
"""It is called as what it is: by another name it would not know what to do."""
SMALL = 4096
_IN_A_DIRECTORY = 500


@dataclass(frozen=True, kw_only=True)
class Tree:
    """A file of so many MiB (random, zero, sparse), or so many files of `small` bytes."""

    mib: int = 0
    kind: str = "random"
    files: int = 0
    small: int = SMALL

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.files} files of {self.small} bytes" if self.files else f"{self.mib} MiB ({self.kind})"

    def write(self, folder: Path) -> Path:
        """The tree as a new directory."""
        (folder / PROGRAM).parent.mkdir(parents=True)
        shutil.copy(need("busybox"), folder / PROGRAM)
        if self.files:
            for path, data in self._small_files():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(data)
        else:
            self._write_large(folder / "data")
        os.sync()
        return folder

    def write_tar(self, path: Path) -> Path:
        """The tree as a tar, which takes no inode a file."""
        with tarfile.open(path, "w") as archive:
            archive.add(need("busybox"), arcname=PROGRAM)
            for name, data in self._small_files():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        return path

    def _small_files(self) -> Iterator[tuple[str, bytes]]:
        noise = os.urandom(self.small + self.files)
        for number in range(self.files):
            yield f"data/{number // _IN_A_DIRECTORY:04}/{number}", noise[number : number + self.small]

    def _write_large(self, path: Path) -> None:
        noise = os.urandom(MIB) if self.kind == "random" else bytes(MIB)
        with path.open("wb") as stream:
            if self.kind == "sparse":
                stream.truncate(self.mib * MIB)
            else:
                for number in range(self.mib):
                    # No two blocks are equal, for file systems that would notice.
                    stream.write(number.to_bytes(8) + noise[8:] if self.kind == "random" else noise)
