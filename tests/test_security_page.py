"""docs/security.md names tests that exist, and at least one for each surface."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.cli import ROOT

PAGE = ROOT / "docs/security.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def rows() -> list[str]:
    """The table's rows, without its head."""
    return [line for line in PAGE.read_text().splitlines() if line.startswith("| ")][1:]


def cases_of(path: Path) -> set[str]:
    """Names of a file's test functions."""
    tree = ast.parse(path.read_text())
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.split("|")[1].strip())
def test_every_surface_has_tests_that_exist(row: str) -> None:
    cells = row.strip("| ").split(" | ")
    named = NAMED.findall(cells[-1])
    assert named
    assert NAMED.sub("", cells[-1]).strip() == "", "something among the tests is no name of a test"
    assert not [f"{file}::{name}" for file, name in named if name not in cases_of(ROOT / file)]


def test_every_surface_is_there() -> None:
    surfaces = " ".join(row.split("|")[1] for row in rows())
    for surface in ("project.yaml", ".dockerignore", "mirrors", "archives", "git", "registries", "bundles", "cache",
                 "`inspect`", "`rehearse`", "program", "other users", "engine", "terminal", "secrets", "receipts",
                 "signatures"):  # fmt: skip
        assert surface in surfaces
