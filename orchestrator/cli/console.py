"""How every command ends: answers on stdout, everything else on stderr, one place that turns errors into exits."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any, Self, TextIO, TypeVar

import click

from orchestrator.cli.runner_log import InertStream, on_github, shown, shown_json
from orchestrator.errors import OUTSIDE, BuildStepError, ExitCode, Finding, OrchestratorError, Severity, UsageError
from orchestrator.events import Event, Notice
from orchestrator.text import OutputFilter, coloured, lines_of, one_line, paragraph, safe_json

Item = TypeVar("Item")
SHOWN_ALIKE = 3
"""How many notes or warnings of one kind are shown in full."""
DETAIL_LINES = 30
"""How much of a failed step's output an error repeats."""
_BUG = 1
_debug: ContextVar[bool] = ContextVar("debug", default=False)


def answer(text: str) -> None:
    """Print an answer of one line (stdout): whatever is in it that a terminal acts on is written out.

    A reader that has gone (`| head`) changes nothing about how the command ends.
    """
    _answer(shown(one_line(text)))


def answer_block(text: str) -> None:
    """Print an answer of many lines (stdout): as it is to a file, and as `answer` line by line to a terminal."""
    shown = "\n".join(map(one_line, text.split("\n"))) if sys.stdout.isatty() else text
    _answer(shown)


def _answer(text: str) -> None:
    try:
        click.echo(text)
    except BrokenPipeError:
        _silence_stdout()


def answer_json(document: Any) -> None:
    """Print exactly one JSON document (stdout)."""
    _answer(shown_json(safe_json(json.dumps(document, indent=2, ensure_ascii=False))))


def answer_outcome(document: Any, *, ok: bool) -> None:
    """The one JSON document about a program that ran; ends with 7 when it failed, whose why is in the document."""
    answer_json(document)
    if not ok:
        sys.exit(int(ExitCode.PROGRAM))


def _silence_stdout() -> None:
    """What is still written goes nowhere, and the interpreter has nothing to complain of at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(text: str) -> None:
    """Print anything that isn't the answer (stderr), for a terminal; further lines of it are set in."""
    click.echo(shown(paragraph(text)), err=True)


class Relay:
    """A program's own output to ours: as it is to a file or pipe, without what a terminal acts on to a terminal.

    Where GitHub's runner reads a pipe of ours, nothing in it is a command.
    """

    def __init__(self) -> None:
        self._filters: dict[str, OutputFilter] = {}
        self._inert: dict[str, InertStream] = {}

    def __call__(self, stream: str, data: bytes) -> None:
        """Hand on what the program wrote to `stdout` or `stderr`."""
        target = sys.stdout if stream == "stdout" else sys.stderr
        if target.isatty():
            data = self._filters.setdefault(stream, OutputFilter()).feed(data).encode(errors="replace")
        elif on_github() and not _is_file(target):
            data = self._inert.setdefault(stream, InertStream()).feed(data)
        target.buffer.write(data)
        target.buffer.flush()

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """The program has ended: hand on what still waited for the end of a line."""
        for stream, inert_stream in self._inert.items():
            target = sys.stdout if stream == "stdout" else sys.stderr
            target.buffer.write(inert_stream.finish())
            target.buffer.flush()


def _is_file(stream: TextIO) -> bool:
    try:
        return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError):
        return False


def say_notice(event: Event) -> None:
    """An `Emit` for commands that show no steps: a line for what the user should read."""
    if isinstance(event, Notice):
        say(f"{event.level}: {event.text}")


def say_findings(findings: Iterable[Finding]) -> None:
    """Findings as lines on stderr: errors as they are, the rest with their severity in front.

    Of many notes or warnings of one kind the first is shown, and how many there are; each error is to be mended.
    """
    for finding, more in alike(findings, _kind, most=SHOWN_ALIKE):
        prefix = "" if finding.severity is Severity.ERROR else f"{finding.severity}: "
        say(f"{prefix}{finding}{more_like_it(more)}")


def say_warnings(findings: Iterable[Finding]) -> None:
    """What every command repeats of `check`'s findings: notes are for `check`, but for what leaves the project."""
    say_findings(finding for finding in findings if finding.severity is not Severity.NOTE or finding.code == OUTSIDE)


def _kind(finding: Finding) -> Hashable:
    """What findings have in common that say one thing: a list's items are one field."""
    if finding.severity is Severity.ERROR or finding.code == OUTSIDE:
        return id(finding)  # each counts: nobody should hide one behind others
    return finding.severity, finding.code, finding.file, re.sub(r"\[\d+\].*", "", finding.field or "")


def alike(items: Iterable[Item], kind: Callable[[Item], Hashable], *, most: int = 1) -> Iterator[tuple[Item, int]]:
    """The first of each kind in order, and how many more there are; up to `most` of a kind are given one by one."""
    kinds: dict[Hashable, list[Item]] = {}
    for item in items:
        kinds.setdefault(kind(item), []).append(item)
    for group in kinds.values():
        if len(group) <= most:
            yield from ((item, 0) for item in group)
        else:
            yield group[0], len(group) - 1


def more_like_it(count: int) -> str:
    """What ends a line that stands for more than one; `--json` is never shortened."""
    return f" (and {count} more like it)" if count else ""


def say_error(error: OrchestratorError) -> None:
    """One to a few lines: what is wrong; what to do."""
    if error.detail:
        for line in lines_of(error.detail)[-DETAIL_LINES:]:
            click.echo(shown(f"  | {coloured(line)}"), err=True)
    if error.findings:
        say_findings(error.findings)
        return
    say(f"error: {error.message}")
    if error.remedy:
        say(f"  {error.remedy}")


class _InterruptedError(KeyboardInterrupt):
    """What a signal raises. Where KeyboardInterrupt itself passes an exec() of text, which every dataclass is made by,
    CPython remembers it and dies of SIGINT at its end, whatever sys.exit was given (measured with 3.11)."""


def _on_interrupt(_signal: int, _frame: FrameType | None) -> None:
    # One path for all of them: builds are cancelled in the engine, temporary files removed.
    raise _InterruptedError


def failure_document(error: OrchestratorError) -> dict[str, Any]:
    """What `--json` answers when a command fails: `ok` is false, the rest as on stderr."""
    return {
        "ok": False,
        "exit_code": int(error.exit_code),
        "error": error.message,
        "remedy": error.remedy,
        "detail": error.detail,
        "findings": [vars(finding) for finding in error.findings],
    }


def failure_document_of(error: BaseException) -> dict[str, Any]:
    """The same of whatever ended a command."""
    known = as_user_error(error) if isinstance(error, OSError) else error
    if isinstance(known, OrchestratorError):
        return failure_document(known)
    said = "interrupted" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
    return {"ok": False, "exit_code": exit_code_of(error), "error": said}


def exit_code_of(error: BaseException) -> int:
    """What a command that `error` ends exits with: 1 for what is a bug of ours."""
    known = as_user_error(error) if isinstance(error, OSError) else error
    if isinstance(known, OrchestratorError):
        return int(known.exit_code)
    return int(ExitCode.INTERRUPTED) if isinstance(error, KeyboardInterrupt) else _BUG


# What a path given by the user can be wrong in; and what a disk can be.
_PATH_ERRNOS = {
    errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ELOOP,
    errno.ENAMETOOLONG, errno.EXDEV, errno.ETXTBSY,
}  # fmt: skip
_FULL_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def as_user_error(error: OSError) -> OrchestratorError | None:
    """A failure of the host's file system in a user's words; None for anything else (that is a bug of ours)."""
    named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
    where = f"{named}: " if named else ""
    reason = error.strerror or type(error).__name__
    # tempfile says it without a path; a directory that can't be written to is full more often than forbidden.
    no_room_for_temporary = error.errno == errno.ENOENT and not named and "temporary directory" in reason
    if error.errno in _FULL_ERRNOS or no_room_for_temporary:
        remedy = "free some space there; `orchestrator clean` removes what builds left"
        return BuildStepError(f"{where}{reason[0].lower()}{reason[1:]}", remedy=remedy)
    if error.errno in _PATH_ERRNOS and named:
        return UsageError(f"{where}{reason[0].lower()}{reason[1:]}", remedy="check the path and its permissions")
    return None


def run_to_exit_code(run: Callable[[], None], *, debug: bool) -> int:
    """Run a command; return its exit code (the table in README). Tracebacks only with `debug`."""
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, _on_interrupt)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else who started us wants it ignored
            signal.signal(signal.SIGINT, _on_interrupt)
    _debug.set(debug)
    try:
        run()
        _flush()
    except BrokenPipeError:
        # `inspect cat | head`: the reader has gone, which is no failure.
        _silence_stdout()
    except KeyboardInterrupt:
        if debug:
            traceback.print_exc()
        say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except Exception as error:  # noqa: BLE001 - the last line of defence before the user
        say_failure(error)
        try:
            _flush()
        except OSError:
            # It was said. From Python 3.14 on the rest is tried again at the end, which would end with 120.
            _silence_stdout()
        return exit_code_of(error)
    return int(ExitCode.OK)


def _flush() -> None:
    """Find out now whether the answer could be written, and not while the interpreter ends."""
    stream: TextIO | None = sys.stdout  # None when it was closed by who started us
    if stream is not None:
        stream.flush()


def debugging() -> bool:
    """Whether --debug was given."""
    return _debug.get()


def say_failure(error: Exception) -> None:
    """Print what went wrong, as every command does at its end; with --debug the traceback before it."""
    if debugging():
        traceback.print_exception(error)
    known = as_user_error(error) if isinstance(error, OSError) else error
    if isinstance(known, OrchestratorError):
        say_error(known)
        return
    say(f"error: {type(error).__name__}: {error}")
    say("  this is a bug in orchestrator; run again with --debug and report what it prints")
