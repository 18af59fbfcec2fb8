"""The command line in this process, and an image to look into."""

from __future__ import annotations

import contextlib
import io
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from orchestrator.cli.main import main
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.stub_kernel import stub_boot_image, stub_kernel


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A command that ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """Its stdout as text."""
        return self.out.decode()

    def json(self) -> Any:
        """Its stdout, which must be exactly one JSON document."""
        return json.loads(self.out)


def cli(*arguments: str | Path) -> Ended:
    """Run a command as `main` does, without the cost of a process; no traceback unless it is asked for."""
    out, err = io.BytesIO(), io.StringIO()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    try:
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert ("Traceback" in err.getvalue()) == ("--debug" in arguments and ended.value.code != 0)
    code = ended.value.code
    assert isinstance(code, int)
    return Ended(code=code, out=out.getvalue(), err=err.getvalue())


def snapshot(folder: Path) -> dict[str, bytes | None]:
    """Everything below a directory."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@contextlib.contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Nothing below `folder` is written, changed or removed."""
    before = snapshot(folder)
    yield
    assert snapshot(folder) == before


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


FILES = {"/etc/motd": b"hello\n", "/prog": b"\x7fELF, or nearly", "/zeros": bytes(10_000)}


@pytest.fixture
def image(here: Path) -> Path:
    """A well-formed image, `x.img` in the current directory, with the stub kernel and no real program."""
    path = Path("x.img")
    with ImageWriter(path, BootFiles(boot_img=stub_boot_image(), kernel=stub_kernel(), klibs={})) as writer:
        for name, data in FILES.items():
            writer.add_file(name, len(data), [data])
        writer.finish({"program": "/prog", "arguments": ["prog", "two words"], "mounts": {"%0": "/workspace"}})
    return path
