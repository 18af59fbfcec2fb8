"""What the user of ops sees: lines on stdout, colours, and how a run ends."""

from __future__ import annotations

import sys
import time
from typing import NoReturn

RESET = "\033[0m"
_YELLOW = "\033[1;33m"
_BOLD_RED = "\033[1;31m"
_RED = "\033[31m"


class ExitError(Exception):
    """The end of the run, with its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class UsageMistakeError(Exception):
    """Something the command-line layer refuses: ops prints it and the usage to stderr, and exits 0."""


class BuildFailureError(Exception):
    """Something that `ops build` reports in red and exits 1 for."""


def say(text: str) -> None:
    """One line on stdout, where ops writes nearly everything."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def warn_of_lookup() -> None:
    """The line of every command when the latest version can't be asked for; the colour ends on the *next* line."""
    sys.stdout.write(f"{_YELLOW}version lookup failed, using local.\n{RESET}")
    sys.stdout.flush()


def log_error(text: str) -> None:
    """A red line on stdout; the run goes on."""
    say(f"{_RED}{text}{RESET}")


def fatal(text: str) -> NoReturn:
    """A red line on stdout, exit 1."""
    log_error(text)
    raise ExitError(1)


def fatal_bold(text: str) -> NoReturn:
    """A line in both of ops's reds on stdout, exit 1 (errors of its command layer)."""
    fatal(f"{_BOLD_RED}{text}{RESET}")


def fatal_on_stderr(text: str) -> NoReturn:
    """A dated line on stderr, exit 1 (only the ELF check writes there)."""
    sys.stderr.write(f"{time.strftime('%Y/%m/%d %H:%M:%S')} {_BOLD_RED}{text}{RESET}\n")
    raise ExitError(1)


def bare(text: str) -> NoReturn:
    """Text without a newline on stdout, exit 1 (bad archives)."""
    sys.stdout.write(text)
    sys.stdout.flush()
    raise ExitError(1)


def panic(text: str) -> NoReturn:
    """A crash of ops itself: stderr, exit 2."""
    sys.stderr.write(f"panic: {text}\n\ngoroutine 1 [running]:\n")
    raise ExitError(2)
