"""One word for one thing, as far as that can be checked: docs/architecture.md, "Words"."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator

from tests.support.imports import ROOT, modules

# Words that say nothing of what is in them; a file is named by what it holds.
NOTHING_SAID = {"model", "models", "common", "helpers", "misc", "run", "util", "utils"}


def test_files_are_named_by_what_they_hold() -> None:
    assert [name for name, path in modules() if path.stem in NOTHING_SAID] == []


def test_no_two_public_classes_have_one_name() -> None:
    homes = defaultdict(list)
    for name, path in modules():
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not name.endswith("_pb2"):
                homes[node.name].append(name)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}


def variables(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of everything that is assigned, or is a parameter."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg


def test_variables_say_what_they_are() -> None:
    """Not that something is gone through, looked for or handed over: a finding, a match, the options."""
    files = [path for folder in ("orchestrator", "tests", "bench") for path in sorted((ROOT / folder).rglob("*.py"))]
    trees = {path: ast.parse(path.read_text()) for path in files if not path.stem.endswith("_pb2")}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path, tree in trees.items()
        for line, name in variables(tree)
        if name in ("each", "found", "given")
    ]
    assert wrong == []


def test_exceptions_end_in_error() -> None:
    wrong = []
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases
            ):
                wrong += [] if node.name.endswith("Error") else [f"{name}.{node.name}"]
    assert wrong == []
