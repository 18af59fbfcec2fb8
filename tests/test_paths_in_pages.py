"""Every path that a page, a script or a comment names is there: files move, and what speaks of them stays behind."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = [Path(name) for name in subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT, capture_output=True, text=True, check=True,
).stdout.splitlines() if (ROOT / name).is_file()]  # fmt: skip
FOLDERS = {parent for path in FILES for parent in path.parents}
PAGES = [str(path) for path in FILES if path.suffix == ".md" and path.name != "CHANGELOG.md"]
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")
SPAN = re.compile(r"`([A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*/?)`")
OUR_SUFFIXES = {".py", ".sh", ".j2", ".proto"}
# A script in the build container, written for each project; a page that `make bench-report` writes.
ELSEWHERE, WRITTEN = {"build.sh"}, {"docs/performance.md"}


def is_here(name: str, page: Path) -> bool:
    """Whether a path is one of the repository: from its root, its package or the page, or the end of one."""
    path = Path(name)
    if any(base / path in FOLDERS or base / path in FILES for base in (Path(), Path("orchestrator"), page.parent)):
        return True
    return any(file.parts[-len(path.parts) :] == path.parts for file in FILES)


def is_ours(name: str) -> bool:
    """Whether a name in backquotes speaks of this repository: it begins with a folder of it, or ends like our code."""
    first = name.partition("/")[0]
    tops = {path.parts[0] for path in FILES if len(path.parts) > 1}
    tops |= {path.parts[1] for path in FILES if len(path.parts) > 2 and path.parts[0] == "orchestrator"}
    return ("/" in name and first in tops) or Path(name).suffix in OUR_SUFFIXES


@pytest.mark.parametrize("page", PAGES)
def test_paths_of_a_page_are_there(page: str) -> None:
    text = (ROOT / page).read_text()
    links = {target for target in LINK.findall(text) if not re.match("[a-z]+:", target)}
    here = Path(page).parent
    lost = [target for target in links if not (ROOT / here / target).exists()]
    spans = {name for name in SPAN.findall(text) if is_ours(name)}
    lost += [name for name in spans if name not in ELSEWHERE and not is_here(name, Path(page))]
    assert not lost


def test_pages_that_code_cites_are_there() -> None:
    lost = []
    for path in FILES:
        if path.parts[0] == "tests":  # which are full of paths that are made up
            continue
        if path.suffix in {".py", ".sh", ".toml", ".j2", ".c", ".yaml"} or path.name == "Makefile":
            for cited in re.findall(r"\bdocs/[\w./-]+\.md\b", (ROOT / path).read_text(errors="replace")):
                if cited not in WRITTEN and not (ROOT / cited).is_file():
                    lost.append(f"{path}: {cited}")
    assert not lost
