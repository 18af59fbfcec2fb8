"""The rooms of the house and the arrows between them: which package of ours imports which.

By hand, for the figures and the list of a checkout:

    python -m tests.support.imports [ROOT]
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def modules(root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of the package."""
    for path in sorted((root / "orchestrator").rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(name: str, path: Path) -> set[str]:
    """Modules of ours that a module imports, relative ones resolved."""
    names: set[str] = set()
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    return {name for name in names if name.startswith("orchestrator.")}


def room(module: str) -> str:
    """The package, or single module, right below `orchestrator` that a module is in."""
    return module.split(".")[1]


def arrows(root: Path = ROOT) -> dict[str, set[str]]:
    """Room → the rooms that it imports."""
    known = {room(name) for name, _ in modules(root) if "." in name}
    rooms: dict[str, set[str]] = {name: set() for name in known}
    for name, path in modules(root):
        if "." in name:
            rooms[room(name)] |= {room(imported) for imported in imports(name, path)} & known - {room(name)}
    rooms.pop("__main__", None)
    return rooms


def ground(rooms: dict[str, set[str]], root: Path = ROOT) -> set[str]:
    """The single modules at the top on which everything may stand: those that import no package."""
    packages = {path.name for path in (root / "orchestrator").iterdir() if (path / "__init__.py").is_file()}
    single = set(rooms) - packages
    while True:
        kept = {name for name in single if rooms[name] <= single}
        if kept == single:
            return single
        single = kept


def main(root: Path) -> None:
    """Print every arrow between rooms, and how many there are."""
    arrows_of = arrows(root)
    below = ground(arrows_of, root)
    rooms = sorted(set(arrows_of) - below)
    for name in rooms:
        print(f"{name:<14} {' '.join(sorted(arrows_of[name] - below))}")
    count = sum(len(arrows_of[name] - below) for name in rooms)
    print(f"{len(rooms)} rooms, {count} arrows; on the ground: {' '.join(sorted(below))}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if sys.argv[1:] else ROOT)
