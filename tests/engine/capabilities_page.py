"""docs/engines.md: the table of capabilities in it. Run as a module, writes it."""

from __future__ import annotations

from pathlib import Path

from orchestrator.engine.capabilities import markdown
from tests.support.sections import write_section

DOCUMENT = Path("docs/engines.md")


def table() -> str:
    """The table, set off by blank lines."""
    return f"\n{markdown()}\n"


if __name__ == "__main__":
    write_section(DOCUMENT, "capabilities", table())
