"""docs/guest.md: the parts of it that are generated, each between two markers. Run as a module, writes the table."""

from __future__ import annotations

from pathlib import Path

from orchestrator.files import write_text
from orchestrator.guest.page import markdown
from orchestrator.guest.table import guest_of

DOCUMENT = Path("docs/guest.md")
_PATH = Path(__file__).resolve().parents[2] / DOCUMENT


def section(name: str) -> str:
    """What stands between the markers of `name`."""
    return _parts(name)[1]


def write_section(name: str, text: str) -> None:
    """Put `text` there. It ends with a newline."""
    before, _, after = _parts(name)
    write_text(_PATH, before + text + after)


def table() -> str:
    """The guest's table (orchestrator/guest), one heading deeper than by itself."""
    return "\n" + markdown(guest_of(None)).strip() + "\n\n"


def _parts(name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, begun, rest = _PATH.read_text().partition(begin)
    text, ended, after = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"{DOCUMENT} lacks a marker of {name}")
    return before + begin, text, end + after


if __name__ == "__main__":
    write_section("table", table())
