"""docs/architecture.md, enforced: imports go one way, no cycles, no function over 60 lines."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "orchestrator"

# What a package may import besides itself; single modules at the top are listed by their own name.
BASIS = {
    "amounts",
    "archive",
    "errors",
    "events",
    "files",
    "process",
    "resources",
    "suggest",
    "text",
    "network",
    "digest",
    "rpc",
}
ALLOWED = {
    **{name: {"errors", "events", "text", "files"} for name in BASIS},
    "image": {"errors"},
    "elf": {"errors"},
    "boot": BASIS | {"image", "node", "receipt"},
    "gpu": {"errors", "elf", "image"},
    "guest": set(),
    "project": BASIS | {"gpu"},
    "manifest": BASIS | {"project", "image"},
    "engine": BASIS,
    "inputs": BASIS | {"project", "image", "engine"},
    "lock": BASIS | {"project", "inputs", "engine"},
    "plan": BASIS | {"project", "manifest", "inputs", "image"},
    "containerfile": BASIS | {"project", "plan", "inputs"},
    "prebuilt": BASIS | {"project", "inputs", "plan", "containerfile", "engine"},
    "packers": BASIS | {"plan", "engine", "image"},
    "verify": BASIS | {"image", "elf", "gpu", "manifest", "guest"},
    "receipt": BASIS | {"project", "plan", "inputs", "engine", "verify"},
    "provenance": BASIS | {"project", "plan", "inputs", "engine", "packers", "image", "verify", "receipt"},
    "job": BASIS
    | {"project", "manifest", "inputs", "lock", "plan", "containerfile", "prebuilt", "engine", "packers", "image"}
    | {"gpu", "verify", "receipt", "provenance"},
    "scaffold": BASIS | {"project"},
    "inspection": BASIS | {"image"},
    "node": BASIS,
    "rehearse": BASIS | {"image", "elf", "engine", "inspection", "receipt", "node", "guest"},
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


# Who may open for writing without orchestrator/files.py, and what. Each is something else than a file on a disk that a
# project, an image or a program could have put a link in the way of.
OWN_WRITING = {
    "orchestrator.image.tfs": "the image writer is a library of its own; it opens with O_NOFOLLOW",
    "orchestrator.cli.console": "/dev/null",
    "orchestrator.inputs.userns": "/proc/PID/uid_map; a script that imports nothing of ours",
    "orchestrator.guest.files": "the rehearsal's own folders",
    "orchestrator.rehearse.jail": "/proc/self/uid_map, mount points; a script that imports nothing of ours",
    "orchestrator.rehearse.limits": "control groups",
    "orchestrator.rehearse.notify": "/proc/PID/mem",
    "orchestrator.rehearse.run": "the rehearsal's own folders",
    "orchestrator.rehearse.places": "the rehearsal's own folders",
}
WRITERS = {
    "write_text", "write_bytes", "mkdir", "makedirs", "touch", "symlink_to", "hardlink_to", "symlink", "link", "mknod",
    "copyfile", "copy", "copy2", "copytree", "move", "extractall", "extract",
}  # fmt: skip
OUR_OWN = {"files", "tree", "self", "self.tree", "inside", "writer", "files_of_ours", "transfer"}
"""What such a method may be called on: orchestrator.files itself, and its Tree."""


def opens_for_writing(node: ast.Call) -> bool:
    name = node.func.attr if isinstance(node.func, ast.Attribute) else ast.unparse(node.func)
    owner = ast.unparse(node.func.value) if isinstance(node.func, ast.Attribute) else ""
    arguments = [ast.unparse(each) for each in (*node.args, *(keyword.value for keyword in node.keywords))]
    if name == "open" and owner == "os":
        return any(flag in argument for argument in arguments for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    if name == "open" and owner not in ("tarfile", "zipfile"):
        return any(re.fullmatch(r"'[rwxab+]*[wxa+][rwxab+]*'", argument) for argument in arguments)
    # A bare name is a function imported from orchestrator.files; without an owner there is no such builtin.
    return name in WRITERS and bool(owner) and owner not in OUR_OWN


def test_only_one_module_opens_files_for_writing() -> None:
    found: dict[str, list[int]] = {}
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and opens_for_writing(node):
                found.setdefault(name, []).append(node.lineno)
    home = found.pop("orchestrator.files")
    assert home
    assert {name: lines for name, lines in found.items() if name not in OWN_WRITING} == {}
    assert set(OWN_WRITING) == set(found)


def test_archives_are_read_in_one_way() -> None:
    """tarfile and zipfile read whole headers, however large; orchestrator/archive.py measures them."""
    wrong = []
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or name == "orchestrator.archive":
                continue
            called, mode = ast.unparse(node.func), ast.unparse(node)
            reading = called == "tarfile.open" and not re.search(r"'[wa]\|?'", mode)
            if reading or called in ("zipfile.ZipFile", "gzip.open", "gzip.GzipFile", "lzma.open", "bz2.open"):
                wrong.append(f"{name}:{node.lineno} {called}")
    assert not wrong
