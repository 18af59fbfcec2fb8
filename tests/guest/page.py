"""docs/guest.md: the parts of it that are generated, each between two markers. Run as a module, writes the table."""

from __future__ import annotations

from pathlib import Path

from orchestrator.guest.page import markdown
from orchestrator.guest.table import guest_of
from tests.support import sections

DOCUMENT = Path("docs/guest.md")


def section(name: str) -> str:
    """What stands between the markers of `name`."""
    return sections.section(DOCUMENT, name)


def write_section(name: str, text: str) -> None:
    """Put `text` there. It ends with a newline."""
    sections.write_section(DOCUMENT, name, text)


def table() -> str:
    """The guest's table (orchestrator/guest), one heading deeper than by itself."""
    return "\n" + markdown(guest_of(None)).strip() + "\n\n"


if __name__ == "__main__":
    write_section("table", table())
