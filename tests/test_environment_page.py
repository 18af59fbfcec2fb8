"""docs/environment.md and the code name the same variables."""

from __future__ import annotations

import ast
import re

from orchestrator.containerfile.assemble import PROXIES
from orchestrator.doctor import PROXIES as ALL_PROXIES
from orchestrator.network import CA_VARIABLES
from orchestrator.project.secrets import AGENT_VARIABLE
from orchestrator.user_paths import CACHE_VARIABLE
from tests.support.imports import ROOT, modules

NAMED = {CACHE_VARIABLE, AGENT_VARIABLE, *CA_VARIABLES, *PROXIES, *ALL_PROXIES}
"""Read by a name that is a constant, or one of several."""
OF_LIBRARIES = {"GRPC_VERBOSITY", "GRPC_ENABLE_FORK_SUPPORT"}
"""Set for a library, not read."""


def literals() -> set[str]:
    """Names that stand in the code where the environment is asked."""
    texts: set[str] = set()
    for _, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.unparse(node) if isinstance(node, ast.Call | ast.Subscript | ast.Compare) else ""
            texts |= set(re.findall(r"environ(?:\.get|\.setdefault)?[(\[]'([A-Za-z_]+)'", text))
            texts |= set(re.findall(r"'([A-Za-z_]+)' (?:not )?in os\.environ", text))
            texts |= set(re.findall(r"'([A-Z_]+)'", text)) if "environ.get(name" in text else set()
    return texts


BY_NAME = {
    "orchestrator.user_paths": {"CACHE_VARIABLE"},
    "orchestrator.build.last_build": {"name"},
    "orchestrator.doctor": {"name"},
    "orchestrator.network": {"name"},
    "orchestrator.containerfile.assemble": {"name", "name.upper()"},
    "orchestrator.engine.probe": {"name"},
    "orchestrator.project.secrets": {"AGENT_VARIABLE", "secret.env"},
    "orchestrator.inputs.debian": {"name"},
    "orchestrator.inputs.transmission": {"name"},
}
"""Where the environment is asked for a name that is no literal there: NAMED has all of them, but for a secret's."""


def asked(node: ast.AST) -> ast.expr | None:
    """The name for which a piece of code asks the environment."""
    if isinstance(node, ast.Call) and re.fullmatch(r"(os\.)?(environ\.\w+|getenv)", ast.unparse(node.func)):
        return node.args[0] if node.args else None
    if isinstance(node, ast.Subscript) and re.fullmatch(r"(os\.)?environ", ast.unparse(node.value)):
        return node.slice
    if isinstance(node, ast.Compare) and re.fullmatch(r"(os\.)?environ", ast.unparse(node.comparators[-1])):
        return node.left
    return None


def test_no_variable_is_read_by_a_name_unknown_here() -> None:
    by_module: dict[str, set[str]] = {}
    for module, path in modules():
        names = (asked(node) for node in ast.walk(ast.parse(path.read_text())))
        by_name = {ast.unparse(name) for name in names if name is not None and not isinstance(name, ast.Constant)}
        if by_name:
            by_module[module] = by_name
    assert by_module == BY_NAME


def test_the_page_lists_every_variable() -> None:
    rows = [line.split("|")[1] for line in (ROOT / "docs/environment.md").read_text().splitlines() if line[:3] == "| `"]
    listed = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert listed == literals() - OF_LIBRARIES | NAMED | {"CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF"}
