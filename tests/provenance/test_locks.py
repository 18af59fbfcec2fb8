"""Lock files: what they name is found, what they are is bounded, and no bytes break the reader."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from orchestrator.provenance import locks
from orchestrator.provenance.locks import LockedPackage, UnreadableLockError, read_lock

ROOT = Path(__file__).resolve().parents[2]
REAL = ROOT / "examples/groth16/Cargo.lock"
CRATES_IO = next(line for line in REAL.read_text().splitlines() if line.startswith("source = ")).split('"')[1]


def named(path: str, text: str) -> set[tuple[str, str]]:
    return {(package.name, package.version) for package in read_lock(path, text.encode())}


def test_a_real_cargo_lock() -> None:
    packages = read_lock("Cargo.lock", REAL.read_bytes())
    crates = {package.name: package for package in packages}
    assert crates["ark-groth16"].registry
    assert len(crates["ark-groth16"].sha256) == 64
    assert not crates["my-prover"].registry
    assert crates["my-prover"].source == ""
    assert len(packages) == REAL.read_text().count("[[package]]")


def test_version_1_keeps_checksums_apart() -> None:
    text = f'[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "{CRATES_IO}"\n'
    text += f'[metadata]\n"checksum a 1.0.0 ({CRATES_IO})" = "{"c" * 64}"\n'
    assert read_lock("Cargo.lock", text.encode()) == (
        LockedPackage(kind="cargo", name="a", version="1.0.0", sha256="c" * 64),
    )


def test_git_crates_say_where_they_are_from_without_credentials() -> None:
    source = "git+https://me:hunter2@example.org/a?branch=main#0123"
    text = f'[[package]]\nname = "a"\nversion = "1.0.0"\nsource = "{source}"\n'
    (packages,) = read_lock("gevulot/Cargo.lock", text.encode())
    assert not packages.registry
    assert packages.source == "git+https://example.org/a#0123"


def test_a_company_registry_is_not_the_usual_one() -> None:
    """Else a private crate would be looked up, and be answered for, under a public one's name."""
    for source in (
        f"{CRATES_IO}.example",
        "sparse+https://me:hunter2@example.org/index/",
        "registry+https://example.org/i",
    ):
        (packages,) = read_lock("Cargo.lock", f'[[package]]\nname = "a"\nversion = "1"\nsource = "{source}"\n'.encode())
        assert not packages.registry
        assert packages.source
        assert "hunter2" not in packages.source


def test_go_sum_counts_what_was_taken() -> None:
    text = "example.org/a v1.0.0 h1:x=\nexample.org/a v1.0.0/go.mod h1:y=\nexample.org/b v0.2.0/go.mod h1:z=\n\nodd\n"
    assert named("go.sum", text) == {("example.org/a", "v1.0.0")}


def test_package_lock_names_what_is_installed() -> None:
    packages = {
        "": {"name": "own", "version": "1"},
        "node_modules/a": {"version": "1.0.0"},
        "node_modules/a/node_modules/@scope/b": {"version": "2.0.0"},
        "node_modules/link": {"link": True, "resolved": "own"},
        "node_modules/odd": 3,
    }
    text = json.dumps({"lockfileVersion": 3, "packages": packages})
    assert named("package-lock.json", text) == {("a", "1.0.0"), ("@scope/b", "2.0.0")}


def test_requirements_that_are_pinned() -> None:
    text = "A_b.c==1.0\nd[extra] == 2.0 ; python_version > '3'\ne>=1\n# f==1\n-r other.txt\ng @ https://t:x@h/g.whl\n"
    assert named("requirements.txt", text + "h==1.0 --hash=sha256:00 \\\n") == {
        ("a-b-c", "1.0"),
        ("d", "2.0"),
        ("h", "1.0"),
    }


def test_a_lock_file_may_name_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "MOST", 3)
    text = "".join(f"example.org/{number} v1.0.0 h1:x=\n" for number in range(4))
    with pytest.raises(UnreadableLockError, match="more than 3"):
        read_lock("go.sum", text.encode())


@pytest.mark.parametrize("path", ["Cargo.lock", "package-lock.json"])
def test_deep_nesting_is_an_unreadable_lock(path: str) -> None:
    with pytest.raises(UnreadableLockError):
        read_lock(path, (b"a = " if path == "Cargo.lock" else b"") + b"[" * 100_000)


def test_an_unknown_format_is_not_guessed_at() -> None:
    with pytest.raises(UnreadableLockError):
        read_lock("Gemfile.lock", b"")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["packages", "package", "name", "version", "source", "node_modules/a", "link", "metadata"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)
crates = st.lists(st.tuples(st.text(max_size=10), st.text(max_size=10), st.text(max_size=40)), max_size=4).map(
    lambda rows: "".join(
        f"[[package]]\nname = {json.dumps(name)}\nversion = {json.dumps(version)}\nsource = {json.dumps(source)}\n"
        for name, version, source in rows
    ).encode()
)


@given(
    path=st.sampled_from(["Cargo.lock", "go.sum", "package-lock.json", "requirements.txt"]),
    data=st.binary(max_size=300)
    | st.text().map(str.encode)
    | values.map(lambda part: json.dumps(part).encode())
    | crates,
)
@example(path="Cargo.lock", data=b"package = 3")
@example(path="Cargo.lock", data=b"[[package]]\nname = 1\nversion = 1979-05-27")
@example(path="Cargo.lock", data=b'metadata = 1\n[[package]]\nname = "/"\nversion = "/"')
@example(path="Cargo.lock", data=b"a = " + b"9" * 5000)
def test_any_bytes_are_read_or_refused(path: str, data: bytes) -> None:
    try:
        packages = read_lock(path, data)
    except UnreadableLockError:
        return
    for package in packages:
        assert package.name
        assert package.version
        assert (package.name + package.version).isprintable()
