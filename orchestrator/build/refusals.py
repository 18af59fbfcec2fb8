"""What staging refused, in the words of `stage-tree.sh`, with the field of project.yaml that asked for it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.project.load import LoadedProject

_PROGRAM, _FILES, _INCLUDE, _TRIM = "build.program: ", "stage.files: ", "stage.include: ", "stage.trim: "
_ASKED = re.compile(r"(?P<kind>Files|Dirs): '?(?P<name>.+?)'? (?:is|would) ")


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """One refusal. `field`: dotted, of project.yaml."""

    field: str
    message: str
    remedy: str


def find_refusal(tail: str, loaded: LoadedProject) -> Refusal | None:
    """The refusal that `tail`, the last lines of the staging step, ends with; None when it ended in another way.

    The script writes `error: WHAT`, then lines indented by two spaces (what to do) or four (a list).
    """
    lines = tail.splitlines()
    at = next((i for i in range(len(lines) - 1, -1, -1) if lines[i].startswith("error: ")), None)
    if at is None:
        return None
    what = lines[at].removeprefix("error: ")
    remedy = _remedy(lines[at + 1 :])
    if what.startswith(_PROGRAM):
        message = f"the program was refused: {what.removeprefix(_PROGRAM)}"
        return Refusal(field="build.program", message=message, remedy=remedy)
    field = _field(what, loaded)
    return Refusal(
        field=field,
        message=f"staging refused it: {what.removeprefix(_FILES).removeprefix(_INCLUDE).removeprefix(_TRIM)}",
        remedy=remedy,
    )


def _remedy(lines: Sequence[str]) -> str:
    """The indented lines below an error, as one line: what to do, after the list that it speaks of."""
    said = ""
    for line in lines:
        if not line.startswith("  "):
            break
        text, listed = line.strip(), line.startswith("    ")
        separator = "" if not said else " " if said.endswith(":") else ", " if listed else "; "
        said += separator + text
    return said or "its last lines are above"


def _field(what: str, loaded: LoadedProject) -> str:
    """Where project.yaml asks for what was refused: `stage` where that can't be told."""
    if what.startswith(_INCLUDE):
        return "stage.include"
    if what.startswith(_TRIM):
        return "stage.trim"
    if what.startswith(_FILES):
        rest = what.removeprefix(_FILES)
        named = {i: entry.path or "" for i, entry in loaded.project.stage.built.items()}
        meant = [i for i, path in named.items() if re.match(rf"'?{re.escape(path)}(?:'|:| )", rest)]
        return f"stage.files[{max(meant, key=lambda i: len(named[i]))}]" if meant else "stage.files"
    match = _ASKED.match(what)
    return f"manifest.{match['kind']}" if match and f"manifest.{match['kind']}" in loaded.lines else "stage"
