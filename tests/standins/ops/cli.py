"""The commands `build` and `version`, and how each way of ending looks from outside."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from . import MARKER, VERSION
from .behaviour import before_anything, behaviour
from .build import build
from .console import BuildFailureError, ExitError, UsageMistakeError, log_error, say
from .home import Home
from .options import USAGE, Options, parse


def main(arguments: Sequence[str]) -> int:
    """Run one command; the exit code. Mistakes on the command line or in the configuration's form exit 0, as ops."""
    try:
        home = Home()
        name = behaviour(home.path)
        before_anything(name)
        if name == "no-network":
            home.local_version = "0.0"
        home.look_up_version(online=name == "online")
        version = "0.1.41" if name == "version-0.1.41" else VERSION
        _run(arguments, home, version, name)
    except UsageMistakeError as mistake:
        sys.stderr.write(f"Error: {mistake}\n{USAGE}\n\n")
    except BuildFailureError as failure:
        log_error(str(failure))
        return 1
    except ExitError as end:
        return end.code
    return 0


def _run(arguments: Sequence[str], home: Home, version: str, name: str) -> None:
    command = arguments[0] if arguments else ""
    if command == "version":
        say(f"Ops version: {version}\nNanos version: {home.local_version}\n{MARKER}")
    elif command == "build":
        options = parse(arguments[1:])
        if "help" in options.switches:
            say(f"Build an image from ELF\n\n{USAGE}")
            return
        _check_words(options)
        build(options, home, version, name)
    elif command in ("", "-h", "--help", "help"):
        say("Usage:\n  ops [command]\n\nAvailable Commands:\n  build\n  version\n\nThis is a stand-in for ops.")
    else:
        sys.stderr.write(f'Error: unknown command "{command}" for "ops"\nRun \'ops --help\' for usage.\n')


def _check_words(options: Options) -> None:
    if not options.words:
        raise UsageMistakeError("requires at least 1 arg(s), only received 0")
    if len(options.words) > 2:
        raise UsageMistakeError("invalid argument or flag provided, use --help for usage information.")
