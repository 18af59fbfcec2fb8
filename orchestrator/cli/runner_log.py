"""Logs that GitHub's runner reads: which of their lines it would take for a command, and how they lose that.

Its runner takes commands from everything that a step prints, whoever wrote it: `::name …::text` at the start of a
line, after any white space, and `##[name …]text` anywhere in one (actions/runner, ActionCommand.cs). It compares by a
culture's rules, which pass over characters without weight, so anything but visible ASCII counts as nothing here.
"""

from __future__ import annotations

import os
import re
from typing import Final

_AT_START: Final = re.compile(r"^[^!-~]*:[^!-~]*:")
_LINES: Final = re.compile(r"([\r\n])")  # to .NET a \r ends a line too
_LONGEST_LINE: Final = 64 * 1024
"""Characters of a line that are waited for; a longer one becomes several."""
_ANYWHERE: Final = re.compile(r"#(?=[^!-~]*#[^!-~]*\[)")


def on_github() -> bool:
    """Whether GitHub's runner reads what this process prints."""
    return os.environ.get("GITHUB_ACTIONS") == "true"


def command_text(text: str) -> str:
    """The text of a command of ours: the end of a line is the end of the command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def inert(text: str) -> str:
    """Lines of which the runner takes none for a command: a backslash goes before or into what would be one."""
    return "".join(_inert_line(line) for line in _LINES.split(text))


def _inert_line(line: str) -> str:
    line = _ANYWHERE.sub(r"#\\", line)
    return f"\\{line}" if _AT_START.match(line) else line


def shown(text: str) -> str:
    """Lines as they may be printed where we run."""
    return inert(text) if on_github() else text


def shown_json(text: str) -> str:
    """The same of JSON, which stays the same document: there the signs of a command are in strings."""
    return _ANYWHERE.sub(r"\\u0023", text) if on_github() else text


class InertStream:
    """The bytes of a stream, made inert line by line: the start of a line waits for its end, as the runner does."""

    def __init__(self) -> None:
        self._rest = ""

    def feed(self, data: bytes) -> bytes:
        """What can be handed on by now."""
        text = self._rest + data.decode("latin-1")
        end = max(text.rfind("\n"), text.rfind("\r")) + 1
        self._rest = text[end:]
        while len(self._rest) > _LONGEST_LINE:
            text, self._rest = f"{text[:end]}{self._rest[:_LONGEST_LINE]}\n", self._rest[_LONGEST_LINE:]
            end = len(text)
        return inert(text[:end]).encode("latin-1")

    def finish(self) -> bytes:
        """What is left of a line that has no end."""
        rest, self._rest = self._rest, ""
        return inert(rest).encode("latin-1")
