"""The generated parts of a page, each between two markers: `<!-- NAME: begin -->` and `<!-- NAME: end -->`."""

from __future__ import annotations

from pathlib import Path

from orchestrator.files import write_text

ROOT = Path(__file__).resolve().parents[2]


def section(page: Path, name: str) -> str:
    """What stands between the markers of `name` in a page of the repository. ValueError without them."""
    return _parts(page, name)[1]


def write_section(page: Path, name: str, text: str) -> None:
    """Put `text` there. It ends with a newline."""
    before, _, after = _parts(page, name)
    write_text(ROOT / page, before + text + after)


def _parts(page: Path, name: str) -> tuple[str, str, str]:
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, begun, rest = (ROOT / page).read_text().partition(begin)
    text, ended, after = rest.partition(end)
    if not begun or not ended:
        raise ValueError(f"{page} lacks a marker of {name}")
    return before + begin, text, end + after
