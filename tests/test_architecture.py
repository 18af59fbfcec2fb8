"""docs/architecture.md, enforced: imports go one way, no cycles, no function over 60 lines."""

from __future__ import annotations

import ast
import re
from fnmatch import fnmatch
from graphlib import TopologicalSorter

import pytest

from tests.support.imports import ROOT, arrows, ground, imports, modules, room

PACKAGE = ROOT / "orchestrator"
PAGE = ROOT / "docs" / "architecture.md"
_ROW = re.compile(r"^\| `(\w+)/?` \| ([\w ]+) \|")


def allowed() -> dict[str, set[str]]:
    """Package → what it may import besides itself and the ground, as the page's table says."""
    rows = (match for line in PAGE.read_text().splitlines() if (match := _ROW.match(line)))
    return {match[1]: set(match[2].split()) - {"nothing"} for match in rows}


def test_the_pages_table_is_the_rule() -> None:
    rooms = arrows()
    below = ground(rooms)
    rule, free = allowed(), {"cli"}
    assert set(rule) == set(rooms) - below - free
    assert {name: sorted(rooms[name] - below - rule[name]) for name in rule if rooms[name] - below - rule[name]} == {}
    # What is allowed and not used is no rule but a wish.
    assert {name: sorted(rule[name] - rooms[name]) for name in rule if rule[name] - rooms[name]} == {}


def test_the_page_names_the_ground() -> None:
    text = PAGE.read_text().partition("The ground, which everything may import")[2].partition("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", text)) == ground(arrows())


def test_no_import_cycle() -> None:
    known = dict(modules())
    graph = {name: {other for other in imports(name, path) if other in known} - {name} for name, path in known.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


WING = {"elf", "guest", "image", "inspection", "nanos"}
"""What is Nanos's own. `kinds` alone names it to the rest, who ask through `image_kind` and `run.guest_runner`."""


def test_the_rest_asks_a_kind_of_image_and_knows_none() -> None:
    # Not `inputs/`: the stub kernel is an input that needs no fetching, and it writes its bytes.
    rest = {"build", "cli", "containerfile", "engine", "lock", "plan", "provenance", "receipt"}
    wrong = {
        name: sorted(reached)
        for name, path in modules()
        if "." in name
        and room(name) in rest
        and (reached := {imported for imported in imports(name, path) if room(imported) in WING})
    }
    assert not wrong
    named = {room(name) for name, path in modules() if "." in name and room(name) not in WING
             and any(room(imported) == "nanos" for imported in imports(name, path))}  # fmt: skip
    assert named == {"kinds"}


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
                if any(imported.split(".")[0] == library for imported in names):
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
    "orchestrator.image.output": "the image writer is a library of its own; it opens with O_NOFOLLOW",
    "orchestrator.cli.console": "/dev/null",
    "orchestrator.inputs.userns": "/proc/PID/uid_map; a script that imports nothing of ours",
    "orchestrator.guest.files": "the rehearsal's own folders",
    "orchestrator.shared_cache.object_store": "an object store's files, by fsspec",
    "orchestrator.run.sandbox.jail": "/proc/self/uid_map, mount points; a script that imports nothing of ours",
    "orchestrator.run.sandbox.limits": "control groups",
    "orchestrator.run.sandbox.notify": "/proc/PID/mem",
    "orchestrator.run.sandbox.rehearsal": "the rehearsal's own folders",
    "orchestrator.run.sandbox.sandboxes": "the rehearsal's own folders",
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
    arguments = [ast.unparse(argument) for argument in (*node.args, *(keyword.value for keyword in node.keywords))]
    if name == "open" and owner == "os":
        return any(flag in argument for argument in arguments for flag in ("O_WRONLY", "O_RDWR", "O_CREAT"))
    if name == "open" and owner not in ("tarfile", "zipfile"):
        return any(re.fullmatch(r"'[rwxab+]*[wxa+][rwxab+]*'", argument) for argument in arguments)
    # A bare name is a function imported from orchestrator.files; without an owner there is no such builtin.
    return name in WRITERS and bool(owner) and owner not in OUR_OWN


def test_only_one_module_opens_files_for_writing() -> None:
    by_module: dict[str, list[int]] = {}
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and opens_for_writing(node):
                by_module.setdefault(name, []).append(node.lineno)
    home = by_module.pop("orchestrator.files")
    assert home
    assert {name: lines for name, lines in by_module.items() if name not in OWN_WRITING} == {}
    assert set(OWN_WRITING) == set(by_module)


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


# Who may call a parser of JSON, TOML or YAML. A document of ours goes through orchestrator.documents, which checks it
# by a model; what people write goes through the readers that tell lines (project.yaml's has a loader of its own).
PARSING = {
    "orchestrator.text": "the one reader of what other programs wrote",
    "orchestrator.nanos.manifest.json_reader": "JSON that people write, with lines",
    "orchestrator.run.sandbox.fix": "edits project.yaml, and compares what it became",
    "orchestrator.run.sandbox.jail": "its own arguments; a script that imports nothing of ours",
}


def test_documents_are_parsed_in_few_places() -> None:
    parsers = re.compile(r"(json|tomllib|yaml)\.(loads?|safe_load|compose)|.*JSONDecoder|raw_decode")
    users = set()
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and parsers.fullmatch(ast.unparse(node.func)):
                users.add(name)
    assert users == set(PARSING)


# Where a library decides what is handed on, so that no type of ours can say it.
HANDED_ON = {
    "orchestrator.archive": "tarfile.TarFile's own options",
    "orchestrator.fleet.guard": "Dask's own arguments of a connection",
    "orchestrator.cli.parameters": "a decorator: click's arguments of the command below it",
}


def hides_types(node: ast.AST) -> bool:
    """Whether a type checker can't see which fields are meant: `**vars(x)` in a call, `**given: Any` in a signature."""
    if isinstance(node, ast.Call):
        spread = [ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg is None]
        return any(re.match(r"vars\(|asdict\(|dataclasses\.asdict\(|.*\.__dict__$", text) for text in spread)
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.args.kwarg is not None:
        kind = node.args.kwarg.annotation
        return kind is None or ast.unparse(kind) in ("Any", "object")
    return False


def test_what_is_made_is_made_by_name() -> None:
    by_module: dict[str, list[int]] = {}
    for name, path in modules():
        lines = [node.lineno for node in ast.walk(ast.parse(path.read_text())) if hides_types(node)]  # type: ignore[attr-defined]
        if lines:
            by_module[name] = lines
    assert {name: lines for name, lines in by_module.items() if name not in HANDED_ON} == {}
    assert set(HANDED_ON) == set(by_module)


def test_findings_are_made_in_one_place() -> None:
    """By orchestrator.findings' collector, which knows file and line; `errors` has short words for those of images."""
    wrong = []
    for name, path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
                wrong.append(f"{name}:{node.lineno}")
    assert [line for line in wrong if line.split(":")[0] not in ("orchestrator.errors", "orchestrator.findings")] == []


TEXT_METHODS = {"startswith", "endswith", "find", "index", "count", "partition", "rpartition", "split", "splitlines"}


def decides_by_text(tree: ast.AST) -> list[int]:
    """Lines at which what an exception says (`error.message`, `str(error)`) is compared, searched or cut."""
    caught = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)} - {None}

    def is_words(node: ast.AST) -> bool:
        if isinstance(node, ast.Attribute):
            return node.attr in ("message", "args") and ast.unparse(node.value) in caught
        return (
            isinstance(node, ast.Call)
            and bool(node.args)
            and ast.unparse(node) in {f"str({error})" for error in caught}
        )

    def words(node: ast.AST) -> bool:
        return any(is_words(inner) for inner in ast.walk(node))

    numbers = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            looked = any(words(operand) for operand in (node.left, *node.comparators))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, name = node.func.value, node.func.attr
            searching = ast.unparse(owner) == "re" or name in ("search", "match", "fullmatch", "findall")
            looked = (name in TEXT_METHODS and words(owner)) or (
                searching and any(words(operand) for operand in node.args)
            )
        else:
            continue
        if looked:
            numbers.append(node.lineno)
    return numbers


def test_nobody_decides_by_an_errors_text() -> None:
    """Errors carry data: a class, a reason, what another program said. Their words are for the reader."""
    by_module = {name: lines for name, path in modules() if (lines := decides_by_text(ast.parse(path.read_text())))}
    assert not by_module


def test_pytest_passes_over_no_room(pytestconfig: pytest.Config) -> None:
    """Its own list of directories that are not looked into has `build`."""
    patterns = pytestconfig.getini("norecursedirs")
    rooms = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
    assert not [room for room in rooms for pattern in patterns if fnmatch(room.name, pattern)]
