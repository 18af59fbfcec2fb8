"""The finished shim from a shared cache: the tree that a trusted key signed for, under the name it was signed for."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from orchestrator.build.shared_shim import bring_shim, offer_shim
from orchestrator.inputs.store import CacheEntry
from orchestrator.inputs.transfer import write_entry
from orchestrator.inputs.trees import file_digest
from orchestrator.provenance.dsse import PublicKey, SigningKey, load_public_key, load_signing_key
from orchestrator.shared_cache.directory import DirectoryBackend
from orchestrator.shared_cache.results import SharedResults
from tests.inputs.conftest import leftovers
from tests.shared_cache.conftest import Machine, MakeMachine
from tests.support.keys import write_keys

NAME, OTHER = f"shim-{'a' * 40}", f"shim-{'b' * 40}"


def key(tmp_path: Path, name: str = "fleet") -> tuple[SigningKey, PublicKey]:
    if not (tmp_path / f"{name}.pem").exists():
        write_keys(tmp_path, name)
    return load_signing_key(tmp_path / f"{name}.pem"), load_public_key(tmp_path / f"{name}.public.pem")


def build(machine: Machine, text: str = "the shim") -> CacheEntry:
    """As if the shim had been built there."""

    def fill(target: Path) -> dict[str, str]:
        (target / "lib").mkdir(parents=True)
        (target / "lib/libshim.a").write_text(text)
        (target / "shim").write_text("program")
        (target / "shim").chmod(0o755)
        return {"source": "built"}

    return machine.store.keep(NAME, fill)


@pytest.fixture
def shared(tmp_path: Path) -> DirectoryBackend:
    return DirectoryBackend(tmp_path / "shared", make=True)


def offered(tmp_path: Path, shared: DirectoryBackend, machine: MakeMachine, signer: str = "fleet") -> CacheEntry:
    first = machine(shared, writable=True)
    entry = build(first)
    offer_shim(NAME, entry, SharedResults(first.shared, trusted=(), sign=key(tmp_path, signer)[0]))
    return entry


def brought(tmp_path: Path, machine: Machine, name: str = NAME) -> CacheEntry | None:
    bring_shim(machine.store, name, SharedResults(machine.shared, trusted=[key(tmp_path)[1]]))
    assert leftovers(machine.store) == []
    return machine.store.kept(name)


def test_another_machine_takes_the_shim(tmp_path: Path, shared: DirectoryBackend, machine: MakeMachine) -> None:
    entry = offered(tmp_path, shared, machine)
    other = machine(shared)
    taken = brought(tmp_path, other)
    assert taken is not None
    assert (taken.sha256, other.warnings) == (entry.sha256, [])
    assert (taken.path / "shim").stat().st_mode & 0o111
    assert brought(tmp_path, machine(shared), OTHER) is None


def path_of(shared: DirectoryBackend, tmp_path: Path, kind: str) -> Path:
    (name,) = (name for name in shared.names() if name.startswith(kind))
    return tmp_path / "shared" / kind / name.partition("-")[2][:2] / name


def replayed(tmp_path: Path, shared: DirectoryBackend, _machine: MakeMachine) -> None:
    """The statement of the right shim, under the name that another one is looked for by."""
    from orchestrator.build.shared_shim import _key

    right = path_of(shared, tmp_path, "result")
    data = right.read_bytes()
    right.unlink()
    shared.store(f"result-{_key(OTHER)}", io.BytesIO(data))


def other_tree(tmp_path: Path, shared: DirectoryBackend, machine: MakeMachine) -> None:
    """Signed with the trusted key, but the tree isn't the one that it is called."""
    first = machine(shared, writable=True)
    right = build(first)
    evil = build(machine(DirectoryBackend(tmp_path / "elsewhere", make=True)), "evil")
    write_entry(evil, tmp_path / "evil.tar.zst")
    results = SharedResults(first.shared, trusted=(), sign=key(tmp_path)[0])
    path_of(shared, tmp_path, "result").unlink()
    from orchestrator.build.shared_shim import _key

    results.offer(_key(NAME), {f"{right.key}.tar.zst": tmp_path / "evil.tar.zst"})


def changed(tmp_path: Path, shared: DirectoryBackend, kind: str, change: Callable[[bytes], bytes]) -> None:
    path = path_of(shared, tmp_path, kind)
    path.write_bytes(change(path.read_bytes()))


Poison = Callable[[Path, DirectoryBackend, MakeMachine], None]
POISON: dict[str, Poison] = {
    "changed": lambda at, shared, _: changed(at, shared, "file", lambda data: data[:50] + b"!" + data[51:]),
    "truncated": lambda at, shared, _: changed(at, shared, "file", lambda data: data[:-1]),
    "huge": lambda at, shared, _: changed(at, shared, "file", lambda data: data * 100),
    "unsigned": lambda at, shared, _: changed(
        at, shared, "result", lambda data: json.dumps({**json.loads(data), "signatures": []}).encode()
    ),
    "replayed": replayed,
    "another tree": other_tree,
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_shim_is_refused(
    tmp_path: Path, shared: DirectoryBackend, machine: MakeMachine, poison: str
) -> None:
    offered(tmp_path, shared, machine)
    POISON[poison](tmp_path, shared, machine)
    other = machine(shared)
    assert brought(tmp_path, other, OTHER if poison == "replayed" else NAME) is None
    (text,) = other.warnings
    assert " is refused, because " in text


def test_a_shim_that_a_foreign_key_signed_is_refused(
    tmp_path: Path, shared: DirectoryBackend, machine: MakeMachine
) -> None:
    offered(tmp_path, shared, machine, "foreign")
    other = machine(shared)
    assert brought(tmp_path, other) is None
    assert "did not sign it" in other.warnings[0]
    assert file_digest(path_of(shared, tmp_path, "file"))[1] > 0
