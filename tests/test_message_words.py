"""Messages are written out: no "can't" beside "cannot". What another program says is quoted as it says it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.support.imports import ROOT, modules

CONTRACTION = re.compile(r"\w+n't\b|\w+'(?:re|ve|ll)\b|\b(?:it|that|there|what|who|here)'s\b", re.IGNORECASE)
QUOTED = ("couldn't find program interpreter",)  # the kernel's own words
SAYS = re.compile(r"\s*(?:die|warn|fail|note|echo|printf)\s|.*(?:\|\||&&)\s*(?:die|warn|fail)\s")


def strings(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each string of a module that is not a docstring."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.lineno, node.value


def script_messages(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each line of a script that says something."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if SAYS.match(line):
            yield number, line


def test_messages_have_no_contractions() -> None:
    sources = [(path, strings(path)) for _, path in modules()]
    sources += [
        (path, script_messages(path)) for path in sorted((ROOT / "containerfiles").rglob("*")) if path.suffix == ".sh"
    ]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {text}"
        for path, said in sources
        for line, text in said
        if CONTRACTION.search(text) and not any(words in text for words in QUOTED)
    ]
    assert wrong == []
