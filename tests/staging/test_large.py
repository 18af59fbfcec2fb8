"""Files that are listed instead of copied: the tree is the same as with copies, whoever looks at it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.staging.conftest import Staged, Workshop

LIMIT = 40_000


def listed(staged: Staged) -> dict[str, tuple[Path, int]]:
    text = (staged.root.parent / "sbom/large").read_text()
    rows = [line.split("\t") for line in text.splitlines()]
    return {path: (Path(source), int(size)) for path, source, size in rows}


def contents(staged: Staged) -> dict[str, str]:
    """What each path of the tree is, with the bytes of listed files where their places are."""
    tree = {}
    large = listed(staged)
    for path in staged.root.rglob("*"):
        name = str(path.relative_to(staged.root))
        if path.is_symlink():
            tree[name] = f"-> {path.readlink()}"
        elif path.is_file():
            source, size = large.get(name, (path, -1))
            if name in large:
                assert (path.stat().st_size, source.stat().st_size) == (0, size)
                assert str(source) == os.path.realpath(source)
            tree[name] = hashlib.sha256(source.read_bytes()).hexdigest()
        else:
            tree[name] = "directory"
    return tree


def test_the_same_tree_as_with_copies(workshop: Workshop) -> None:
    build, big = workshop.build, os.urandom(LIMIT)
    workshop.library("own/libdeep.so")
    # A large plugin, whose library has to be found; and a large program.
    pad = "char pad[60000] = {1};"
    (build / "tree/plugins").mkdir(parents=True)
    source = f"int deep(void); {pad} int f(void) {{ return deep(); }}"
    link = "-Wl,-rpath,$ORIGIN/../../own"
    workshop.compile("tree/plugins/plug.so", source, "-shared", "-fPIC", "-Lown", "-ldeep", link)
    workshop.compile("prog", f"{pad} int main(int c, char **v) {{ return pad[c]; }}")
    for name in ("one.bin", "tree/a/b/two.bin", "tree/a/c/three.bin", "maps/four.bin", "tree/a/b/replaced.bin"):
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        (build / name).write_bytes(big + name.encode())
    for number in range(120):
        (build / f"tree/a/b/small {number}").write_text(f"{number}")
    for name in ("tree/a/empty", "tree/z/small", "tree/tabs"):
        (build / name).mkdir(parents=True)
    (build / "tree/z/small/file").write_text("x")
    (build / "tree/tabs/a\tb.bin").write_bytes(big)
    (build / "tree/z/to-large").symlink_to("/tree/a/b/two.bin")
    (build / "tree/z/below-large").symlink_to("/tree/a/b/two.bin/x")
    (build / "tree/z/link").symlink_to("../a/c/three.bin")
    (build / "linked.bin").symlink_to("tree/a/c/three.bin")
    arguments = [
        "--dir", "tree", "--dir", "tree/a", "--map", "maps/*=/tree/a/b", "--file", "one.bin", "--file", "linked.bin",
        "--file", "tree/a/b/replaced.bin",
    ]  # fmt: skip
    copied = workshop.stage(*arguments)
    assert copied.status == 0, copied.stderr
    assert not listed(copied)
    expected = contents(copied)
    copied.root.rename(build.parent / "copied")
    spared = workshop.stage(*arguments, "--large", str(LIMIT))
    assert spared.status == 0, spared.stderr
    assert contents(spared) == expected
    assert (spared.stdout, spared.stderr, spared.warnings) == (copied.stdout, copied.stderr, copied.warnings)
    names = {"one.bin", "linked.bin", "prog", "tree/plugins/plug.so", "tree/a/b/two.bin", "tree/a/c/three.bin"}
    assert names | {"tree/a/b/four.bin"} < listed(spared).keys()
    assert any(name.endswith("libdeep.so") for name in expected)
