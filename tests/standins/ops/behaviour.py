"""Failures on demand, each as the real tool was seen to fail.

The name is taken from the environment variable `OPS_STANDIN_BEHAVIOUR`, else the file `.ops/standin-behaviour`, else
what `make_ops` built in. Without any, the stand-in does its best.
"""

from __future__ import annotations

import os
import pkgutil
import signal
import sys
import time
from pathlib import Path

from .console import ExitError, UsageMistakeError, bare, fatal, fatal_bold, log_error, panic, say

ENVIRONMENT = "OPS_STANDIN_BEHAVIOUR"
FILE = "standin-behaviour"
BUILT_IN = "behaviour.txt"

BEHAVIOURS = (
    "good",
    "online",  # the version lookup is answered, so nothing precedes the success line
    "unknown-key",  # usage on stderr, exit 0, no image
    "missing-klib",  # one line, exit 0, an image without the klib
    "no-network",  # `No local build found.`, exit 1
    "release-not-found",  # exit 1
    "missing-common",  # exit 0, an image without certificates
    "bad-common",  # exit 1, text without a newline
    "missing-library",  # exit 1
    "partial-file",  # half an image, exit 1
    "killed",  # half an image, SIGKILL
    "panic",  # exit 2
    "no-success-line",  # an image, exit 0, nothing said
    "success-line-without-file",  # exit 0
    "success-line-for-old-file",  # exit 0, the image untouched (made old if there was none)
    "exit1-after-success",
    "version-0.1.41",  # older than the fix of mount numbers
    "hang",  # as the version lookup, which has no time limit
)


def behaviour(home: Path) -> str:
    """The behaviour asked for; an unknown name ends the run with 64, so that a misspelt test can't pass."""
    file = home / FILE
    name = os.environ.get(ENVIRONMENT) or (file.read_text() if file.exists() else "") or _built_in()
    name = name.strip() or "good"
    if name not in BEHAVIOURS:
        sys.stderr.write(f"ops stand-in: unknown behaviour {name!r}; known: {', '.join(BEHAVIOURS)}\n")
        raise ExitError(64)
    return name


def _built_in() -> str:
    """What lies beside this module in the packed file."""
    try:
        return (pkgutil.get_data(__package__ or "", BUILT_IN) or b"").decode()
    except OSError:
        return ""


def before_anything(name: str) -> None:
    """Behaviours that show in every command."""
    if name == "hang":
        while True:
            time.sleep(3600)


def before_build(name: str, version: str) -> None:
    """Behaviours that end `build` before an image file exists."""
    if name == "unknown-key":
        raise UsageMistakeError(
            'failed converting configuration file: json: unknown field "Injected"\n'
            "See more details at https://nanovms.gitbook.io/ops/configuration"
        )
    if name == "release-not-found":
        fatal_bold(f"release '{version}' is not found")
    if name == "bad-common":
        bare("gzip: invalid header")
    if name == "missing-library":
        say("Ops can't find the following missing libraries:")
        fatal("failed building manifest: Library: libinjected.so.1 => not found")
    if name == "panic":
        panic("runtime error: index out of range [1] with length 1")


def instead_of_image(name: str, path: Path) -> bool:
    """Behaviours that take the place of writing the image; whether one did."""
    if name == "success-line-without-file":
        path.unlink(missing_ok=True)
        return True
    if name == "success-line-for-old-file":
        if not path.exists():
            path.write_bytes(b"an image of long ago")
        os.utime(path, (1_000_000_000, 1_000_000_000))
        return True
    return False


def after_image(name: str, path: Path) -> bool:
    """Behaviours that spoil a finished image; whether to say that it is done."""
    if name in ("partial-file", "killed"):
        os.truncate(path, path.stat().st_size // 2)
        if name == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        log_error(
            f"failed creating image file: cannot write root filesystem: cannot write image file: write {path}: "
            "no space left on device"
        )
        raise ExitError(1)
    return name != "no-success-line"


def after_success(name: str) -> None:
    """Behaviours that fail after the success line."""
    if name == "exit1-after-success":
        raise ExitError(1)
