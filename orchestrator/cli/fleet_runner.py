"""A fleet worker's builds: each is the command for one project, in a process of its own, as with `--jobs`."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Final

from orchestrator import process
from orchestrator.cli.build_processes import build_command, build_environment, failure_of
from orchestrator.errors import EngineError
from orchestrator.events import ignore

if TYPE_CHECKING:
    from orchestrator.fleet.messages import JobOptions
    from orchestrator.fleet.worker import WantedRun

_TAIL: Final = 20


class ProcessRunner:
    """Builds on one engine; see `fleet.worker.JobRunner`."""

    def __init__(self, engine: str) -> None:
        self._engine = engine

    def run(self, wanted: WantedRun, line: Callable[[str], None], stopped: threading.Event) -> None:
        """Build one project; the error is as in this process."""
        options = ["-o", str(wanted.output), "--engine", self._engine, *_flags(wanted.options)]
        tail: deque[str] = deque(maxlen=_TAIL)

        def take(text: str) -> None:
            if text.startswith("{"):
                line(text)
            else:
                tail.append(text)

        path = str(wanted.project)
        ended = process.follow(build_command(options, path), env=build_environment(), cwd=wanted.root, line=take,
                               running=lambda running: _stopped_by(running, stopped, wanted.adopt))  # fmt: skip
        if ended.status < 0:  # killed: what it had in the engine is still there
            self.reap()
        if ended.status and not stopped.is_set():
            raise failure_of(ended, tail, path)

    def reap(self) -> None:
        """Remove what builds of this machine that were killed left behind: files, processes, and in the engine."""
        from orchestrator.clean import clean_temporary, reap_engine
        from orchestrator.engine.select import connect

        clean_temporary(dry_run=False)
        # Without an engine there is nothing to remove; the next build says what is wrong with it.
        with suppress(EngineError), closing(connect(self._engine, emit=ignore)) as engine:
            reap_engine(engine)


def _flags(options: JobOptions) -> list[str]:
    flags = {"--locked": options.locked, "--offline": options.offline, "--no-cache": options.no_cache}
    return [flag for flag, on in flags.items() if on] + (["--from", options.begin] if options.begin else [])


@contextmanager
def _stopped_by(running: process.Background, stopped: threading.Event, adopt: Callable[[int], None]) -> Iterator[None]:
    """Tell a process to end, as Ctrl-C would, when `stopped` is set."""
    adopt(running.pid)
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if stopped.wait(0.2):
                running.terminate()
                return

    watcher = threading.Thread(target=watch, name="fleet-stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
