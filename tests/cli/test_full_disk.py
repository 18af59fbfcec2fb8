"""Builds whose disks are full: a true message, the right code, nothing left behind."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.build.projects import write_project
from tests.support import engines
from tests.support.cli import orchestrator, without_temporary_files

pytestmark = [pytest.mark.engine, pytest.mark.slow]


def _unmount(folder: Path) -> None:
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes file systems of so little room (tmpfs; needs root), gone at the end."""
    with ExitStack() as stack:

        def make(room: str) -> Path:
            folder = tmp_path / f"small-{room}"
            folder.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", folder], check=True)
            stack.callback(_unmount, folder)
            return folder

        yield make


def test_output(tmp_path: Path, small: Callable[[str], Path]) -> None:
    project, disk = write_project(tmp_path / "p"), small("1m")
    with engines.podman_engine() as podman:
        done = orchestrator("build", project, "-o", disk / "out", "--engine", podman.info.endpoint)
        assert done.code == 5
        assert "no space left on device" in done.stderr.lower()
        assert "free space" in done.stderr
        assert not [path for path in (disk / "out").iterdir() if not path.name.endswith(".lock")]
        assert orchestrator("build", project, "-o", tmp_path / "out", "--engine", podman.info.endpoint).code == 0


def test_what_cannot_fit_is_refused_before_the_build(
    tmp_path: Path, small: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, temporary = small("8m"), small("9m")
    data = tmp_path / "data"
    data.write_bytes(bytes(10 << 20))
    straight = write_project(tmp_path / "p", stage={"files": [{"from": "../data", "to": "/data"}]})
    through = write_project(tmp_path / "q")
    (through.parent / "data").hardlink_to(data)
    monkeypatch.setenv("TMPDIR", str(temporary))
    with engines.podman_engine() as podman:
        monkeypatch.undo()
        for project, out, full, code, what in (
            (straight, disk / "out", disk, 5, "10.0 MiB for the files of stage.files in the image"),
            (through, tmp_path / "out", temporary, 3, "10.0 MiB for the build context in Podman's temporary files"),
        ):
            done = orchestrator("build", project, "-o", out, "--engine", podman.info.endpoint)
            assert done.code == code
            assert f"the disk at {full} has " in done.stderr
            assert what in done.stderr
            assert "free space there" in done.stderr
            assert "build.sh" not in done.stderr


@pytest.mark.slow
def test_cache(tmp_path: Path, small: Callable[[str], Path]) -> None:
    project, disk = write_project(tmp_path / "p"), small("8m")
    with engines.podman_engine() as podman:
        done = orchestrator(
            "build", project, "-o", tmp_path / "out", "--engine", podman.info.endpoint,
            env={"ORCHESTRATOR_CACHE_DIR": str(disk / "cache")},
        )  # fmt: skip
    assert done.code == 4
    assert "0.0 MiB free; at least" in done.stderr
    assert "free some space there, or set ORCHESTRATOR_CACHE_DIR" in done.stderr
    assert not list(tmp_path.glob("out/*.img"))
    assert not list((disk / "cache/tmp").iterdir())
    assert not [path for path in (disk / "cache/entries").iterdir() if path.name.startswith("bootstrap")]


def test_no_place_for_temporary_files(tmp_path: Path) -> None:
    """Full in all the usual places, or not writable: no path is named then, and it is no bug of ours."""
    project, disk = write_project(tmp_path / "p"), tmp_path / "disk"
    disk.mkdir()
    done = without_temporary_files(
        "build", project, "-o", disk / "out", "--engine", "private", writable=disk,
        env={"ORCHESTRATOR_CACHE_DIR": str(disk / "cache"), "XDG_RUNTIME_DIR": "", "TMPDIR": ""},
    )  # fmt: skip
    assert done.code == 5
    assert "no usable temporary directory found in ['/tmp'" in done.stderr.lower()
    assert "free some space there" in done.stderr
    assert "bug" not in done.stderr
