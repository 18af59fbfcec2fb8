"""The tests' own engines, started by hand as the docstring of tests/support/engines.py says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.cli import ROOT


@pytest.mark.parametrize(("command", "code", "says"), [("start-docker", 1, "error: dockerd "), ("stop-docker", 0, "")])
def test_a_fresh_machine_has_no_folder_of_ours_yet(tmp_path: Path, command: str, code: int, says: str) -> None:
    """No PATH, so no daemon comes up (containerd is missing): the folder is needed before that."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.engines", command],
        cwd=ROOT,
        env={"TMPDIR": str(tmp_path), "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(says)
    assert "Traceback" not in done.stderr
