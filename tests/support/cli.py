"""The program as a user runs it: `python -m orchestrator …` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]

OUTCOME = frozenset({"ok", "end", "exit_code", "signal", "reason", "seconds", "peak_memory", "violations"})
"""What every command's --json says of a program that ran."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Its stdout, which must be exactly one JSON document."""
        return json.loads(self.stdout)


def orchestrator(
    *arguments: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None, timeout: float = 1200
) -> Run:
    """Run a command to its end."""
    return _to_its_end(_command(arguments), cwd or ROOT, env, timeout)


def with_devices(prepare: str, *arguments: str | Path) -> Run:
    """Run a command in a mount namespace of its own, after `prepare`, a shell script of root's."""
    script = f'set -e\n{prepare}\nexec "$@"'
    return _to_its_end(["unshare", "--mount", "--", "sh", "-c", script, "sh", *_command(arguments)], ROOT, None, 120)


_IMPORTED = """
import sys
before = set(sys.modules)
from orchestrator.cli.main import main
try:
    main(sys.argv[1:])
finally:
    print("imported:", *sorted(set(sys.modules) - before), file=sys.stderr)
"""


def imported_by(*arguments: str | Path) -> set[str]:
    """The names of all modules that a command imports, besides those of a bare interpreter."""
    command = [sys.executable, "-c", _IMPORTED, *(str(argument) for argument in arguments)]
    ended = _to_its_end(command, ROOT, None, 60)
    return set(ended.stderr.rpartition("imported:")[2].split())


def without_network(*arguments: str | Path, env: Mapping[str, str] | None = None, timeout: float = 1200) -> Run:
    """Run a command in a network namespace that has no interface but a loopback that is down.

    Also in a mount namespace of its own: a Podman store stays mounted on itself after its service has ended.
    """
    return _to_its_end(["unshare", "--net", "--mount", "--", *_command(arguments)], ROOT, env, timeout)


_ONLY_WRITABLE = """
for folder in /tmp /var/tmp /usr/tmp; do
    [ -d "$folder" ] || continue
    mount --bind "$folder" "$folder"
    mount -o remount,bind,ro "$folder"
done
mount -t tmpfs tmpfs "$1"
cd /proc
shift
exec "$@"
"""


def without_temporary_files(
    *arguments: str | Path, writable: Path, env: Mapping[str, str] | None = None, timeout: float = 1200
) -> Run:
    """Run a command where no usual place takes a temporary file; an empty tmpfs covers the folder `writable`."""
    inside = ["unshare", "--mount", "--", "sh", "-euc", _ONLY_WRITABLE, "sh", str(writable), *_command(arguments)]
    return _to_its_end(inside, ROOT, env, timeout)


def interrupted(
    arguments: Sequence[str | Path],
    when: Callable[[dict[str, Any]], bool],
    sign: signal.Signals,
    delay: float = 0.0,
    *,
    meanwhile: Callable[[], object] = lambda: None,
) -> Run:
    """Run a build with `--progress json`; send `sign` `delay` seconds after the first event that `when` accepts.

    After that call `meanwhile`, and let it go on if it was stopped.
    """
    running = subprocess.Popen(
        _command([*arguments, "--progress", "json"]),
        cwd=ROOT,
        env=_environment(None),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    seen, sent = [], False
    assert running.stderr is not None
    assert running.stdout is not None
    for line in running.stderr:
        seen.append(line)
        if not sent and line.startswith("{") and when(json.loads(line)):
            time.sleep(delay)
            running.send_signal(sign)
            sent = True
            meanwhile()
            running.send_signal(signal.SIGCONT)
    out = running.stdout.read()
    code = running.wait(timeout=120)
    running.stdout.close()
    running.stderr.close()
    assert sent, "the event never came:\n" + "".join(seen[-20:])
    return Run(code=code, stdout=out, stderr="".join(seen))


def _to_its_end(command: Sequence[str], cwd: Path, env: Mapping[str, str] | None, timeout: float) -> Run:
    done = subprocess.run(
        command,
        cwd=cwd,
        env=_environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Run(code=done.returncode, stdout=done.stdout, stderr=done.stderr)


def _command(arguments: Sequence[str | Path]) -> list[str]:
    return [sys.executable, "-m", "orchestrator", *(str(argument) for argument in arguments)]


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), **(extra or {})}
