"""One word for one thing, as far as that can be checked: docs/architecture.md, "Words"."""

from __future__ import annotations

import ast
from collections import defaultdict

from tests.support.imports import modules

# Words that say nothing of what is in them; a file is named by what it holds.
NOTHING_SAID = {"model", "models", "common", "helpers", "misc", "run", "util", "utils"}


def test_files_are_named_by_what_they_hold() -> None:
    named = [name for name, path in modules() if path.stem in NOTHING_SAID]
    assert named == ["orchestrator.guest.table"]  # they move with their packages


def test_no_two_public_classes_have_one_name() -> None:
    homes = defaultdict(list)
    for name, path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not name.endswith("_pb2"):
                homes[node.name].append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def test_exceptions_end_in_error() -> None:
    wrong = []
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases
            ):
                wrong += [] if node.name.endswith("Error") else [f"{name}.{node.name}"]
    assert wrong == []
