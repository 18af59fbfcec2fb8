"""docs/architecture.md, enforced: imports go one way, no cycles, no function over 60 lines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "orchestrator"

# What a package may import besides itself; single modules at the top are listed by their own name.
BASIS = {
    "amounts",
    "errors",
    "events",
    "files",
    "process",
    "resources",
    "suggest",
    "network",
    "digest",
    "protobuf",
    "rpc",
}
ALLOWED = {
    **{name: {"errors", "events"} for name in BASIS},
    "image": {"errors"},
    "elf": {"errors"},
    "boot": BASIS | {"image", "node", "receipt"},
    "gpu": {"errors", "elf", "image"},
    "project": BASIS | {"gpu"},
    "manifest": BASIS | {"project", "image"},
    "engine": BASIS,
    "inputs": BASIS | {"project", "image", "engine"},
    "lock": BASIS | {"project", "inputs", "engine"},
    "plan": BASIS | {"project", "manifest", "inputs", "image"},
    "containerfile": BASIS | {"project", "plan", "inputs"},
    "prebuilt": BASIS | {"project", "inputs", "plan", "containerfile", "engine"},
    "packers": BASIS | {"plan", "engine", "image"},
    "verify": BASIS | {"image", "elf", "gpu", "manifest"},
    "receipt": BASIS | {"project", "plan", "inputs", "engine", "verify"},
    "provenance": BASIS | {"project", "plan", "inputs", "engine", "packers", "image", "verify", "receipt"},
    "job": BASIS
    | {"project", "manifest", "inputs", "lock", "plan", "containerfile", "prebuilt", "engine", "packers", "image"}
    | {"gpu", "verify", "receipt", "provenance"},
    "scaffold": BASIS | {"project"},
    "inspection": BASIS | {"image"},
    "node": BASIS,
    "rehearse": BASIS | {"image", "elf", "engine", "inspection", "receipt", "node"},
    "workflow": BASIS | {"inputs", "node", "receipt", "rehearse", "boot"},
    "clean": BASIS | {"engine"},
    "doctor": BASIS | {"boot", "engine", "inputs"},
}


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(name: str, path: Path) -> set[str]:
    """Modules of ours that a module imports, relative ones resolved."""
    found: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return {each for each in found if each.startswith("orchestrator.")}


def top(module: str) -> str:
    return module.split(".")[1]


def test_data_flows_one_way() -> None:
    wrong = []
    for name, path in modules():
        if name in ("orchestrator", "orchestrator.__main__", "orchestrator.pipeline") or top(name) == "cli":
            continue
        allowed = ALLOWED[top(name)] | {top(name)}
        wrong += [
            f"{name} imports {each}" for each in imports(name, path) if top(each) not in allowed | {"__version__"}
        ]
    assert not wrong


def test_no_import_cycle() -> None:
    known = dict(modules())
    graph = {name: {each for each in imports(name, path) if each in known} - {name} for name, path in known.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_no_function_over_60_lines() -> None:
    long = []
    for path in [*PACKAGE.rglob("*.py"), *(ROOT / "tests").rglob("*.py"), *(ROOT / "bench").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                length = node.end_lineno - node.lineno + 1
                if length > 60:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}: {length} lines")
    assert not long


def test_only_one_module_imports_docker_and_one_starts_processes() -> None:
    for library, home in (("docker", "orchestrator.engine.docker_api"), ("subprocess", "orchestrator.process")):
        users = set()
        for name, path in modules():
            for node in ast.walk(ast.parse(path.read_text())):
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
                if any(each.split(".")[0] == library for each in names):
                    users.add(name)
        assert users == {home}


def test_only_the_cli_prints_or_exits() -> None:
    wrong = []
    for name, path in modules():
        if name.startswith("orchestrator.cli") or name == "orchestrator.__main__":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "sys.exit", "exit", "os._exit"}:
                wrong.append(f"{name}:{node.lineno}")
    assert not wrong
