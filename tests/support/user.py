"""The command line as a user who isn't root runs it, in tests that root runs."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cli import ROOT, Run

NOBODY = 61_234
"""An id without an account: the user."""


@contextmanager
def users_ground() -> Iterator[Path]:
    """A directory that another user reaches; tmp_path is its maker's alone."""
    folder = Path(tempfile.mkdtemp(prefix="escape-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


_USER = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")


@functools.cache
def python_of_all() -> str:
    """That of the tests may lie where only root gets; another of its version can use its packages."""
    same = f"import sys; exit(sys.version_info[:2] != {sys.version_info[:2]})"
    for interpreter in (sys.executable, "/usr/bin/python3"):
        tried = subprocess.run([*_USER, "sh", "-c", f'{interpreter} -c "$0"', same], capture_output=True, check=False)
        if tried.returncode == 0:
            return interpreter
    raise AssertionError(f"a user who isn't root can run no Python {sys.version_info[:2]}; install python3")


def as_user(ground: Path, *arguments: str | Path) -> Run:
    """The command line, run by a user who isn't root and has nothing but `ground`."""
    home = ground / "home"
    home.mkdir(exist_ok=True)
    os.chown(home, NOBODY, NOBODY)
    environment = os.environ | {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": f"{ROOT}:{sysconfig.get_path('purelib')}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    environment.pop("XDG_RUNTIME_DIR", None)
    done = subprocess.run(
        [*_USER, python_of_all(), "-m", "orchestrator", *map(str, arguments)],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Run(code=done.returncode, stdout=done.stdout, stderr=done.stderr)
