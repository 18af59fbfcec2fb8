"""The command line as the user of an engine runs it: root, or a user with an account's ranges of ids and no more."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.inputs.store import Store
from tests.build.projects import BASE, cache_with_base
from tests.engines.daemons import Service, variables
from tests.support.cli import ROOT, Run
from tests.support.user import NOBODY, python_of_all

TIMEOUT = 600.0


def make_users_cache(folder: Path) -> Path:
    """A new cache of a user who isn't root, with the base in it."""
    cache = cache_with_base(folder, BASE)
    # An import brings the entry, not what it was made for; of the names that lead nowhere no notice is taken.
    shutil.copytree(Store().root / "names", cache / "names", dirs_exist_ok=True)
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(cache)], check=True)
    return cache


@dataclass(frozen=True, kw_only=True)
class Client:
    """Commands on one service. `folder` is theirs, and where they have their temporary files."""

    service: Service
    folder: Path
    cache: Path | None

    @property
    def temporary(self) -> Path:
        """TMPDIR."""
        return self.folder / "tmp"

    def own(self, path: Path) -> Path:
        """Make a tree the user's."""
        if self.service.engine.rootless:
            subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(path)], check=True)
        return path

    def run(self, *arguments: str | Path, **more: str) -> Run:
        """A command to its end."""
        with self.started(*arguments, **more) as running:
            out, err = running.communicate(timeout=TIMEOUT)
        assert "Traceback" not in err, err
        return Run(code=running.returncode, stdout=out, stderr=err)

    def stopped(self, arguments: list[str | Path], begun: Callable[[], bool], sign: signal.Signals) -> Run:
        """A command that gets `sign` once it has `begun`."""
        with self.started(*arguments) as running:
            until = time.monotonic() + TIMEOUT
            while not begun() and running.poll() is None and time.monotonic() < until:
                time.sleep(0.05)
            time.sleep(0.2)
            running.send_signal(sign)
            out, err = running.communicate(timeout=TIMEOUT)
        return Run(code=running.returncode, stdout=out, stderr=err)

    @contextmanager
    def started(self, *arguments: str | Path, **more: str) -> Iterator[subprocess.Popen[str]]:
        """A command that runs."""
        command = [*self._python(), "-m", "orchestrator", *map(str, arguments)]
        if arguments[0] in ("build", "clean", "rehearse", "lock"):
            # By `auto` a rehearsal takes no engine where it can do without.
            spec = self.service.spec
            command += ["--engine", self.service.engine.program if spec == "auto" else spec]
        with subprocess.Popen(
            command,
            cwd=ROOT if not self.service.engine.rootless else self.folder,
            env={**os.environ, **variables(self.service), **self._environment(), **more},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as running:
            yield running

    def _python(self) -> list[str]:
        if not self.service.engine.rootless:
            return [sys.executable]
        return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", python_of_all()]

    def _environment(self) -> dict[str, str]:
        environment = {"TMPDIR": str(self.temporary), "PYTHONPATH": str(ROOT)}
        if self.cache is not None:
            environment["ORCHESTRATOR_CACHE_DIR"] = str(self.cache)
        if self.service.engine.rootless:
            environment["HOME"] = str(self.folder)
            environment["PYTHONPATH"] = f"{ROOT}:{sysconfig.get_path('purelib')}"
            environment["PYTHONDONTWRITEBYTECODE"] = "1"
        return environment
