"""Inputs that prove themselves: what one machine fetched the others take from the shared cache, once it was proven."""

from __future__ import annotations

import io
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from orchestrator.dependencies.collect import find_lock_files, take_dependencies
from orchestrator.errors import InputError
from orchestrator.inputs.debs import fetch_debs
from orchestrator.inputs.download import fetch
from orchestrator.inputs.git import fetch_git
from orchestrator.inputs.store import CacheEntry
from orchestrator.inputs.transfer import export_entries
from orchestrator.inputs.trees import file_digest
from orchestrator.resolved import Deb, Input
from orchestrator.shared_cache.backend import CacheBackend
from orchestrator.shared_cache.directory import DirectoryBackend
from orchestrator.shared_cache.entries import file_name
from orchestrator.shared_cache.places import open_backend
from tests.dependencies.test_packages import KINDS, write
from tests.inputs.conftest import leftovers
from tests.shared_cache.conftest import Machine, MakeMachine
from tests.support.servers import FileServer

DATA = b"an input" * 50_000
MIRRORS = {"cargo": "crates", "go": "go/", "npm": "npm", "pypi": "simple"}
"""As the tests' projects have them."""


def sha256_of(tmp_path: Path, data: bytes = DATA) -> str:
    (tmp_path / "data").write_bytes(data)
    return file_digest(tmp_path / "data")[0]


def test_a_file_is_downloaded_by_one_machine_alone(
    backend: CacheBackend, machine: MakeMachine, server: FileServer, tmp_path: Path
) -> None:
    url, sha256 = server.add("/input", DATA), sha256_of(tmp_path)
    fetch(machine(backend, writable=True).access, url)  # nobody has said yet what it must be
    for _ in range(2):
        other = machine(backend)
        assert fetch(other.access, url, sha256=sha256).path.read_bytes() == DATA
        assert other.warnings == []
    assert server.count("/input") == 1


def test_what_a_machine_has_already_is_put_there_too(tmp_path: Path, machine: MakeMachine, server: FileServer) -> None:
    backend, url = DirectoryBackend(tmp_path / "shared", make=True), server.add("/input", DATA)
    commit = repository(tmp_path / "repository", "one")
    first = machine(DirectoryBackend(tmp_path / "nowhere", make=True))
    again = Machine(first.store.root, backend, writable=True, limit=2**30, seconds=20.0)
    for one in (first, again):
        fetch(one.access, url)
        sources(one, tmp_path / "repository", commit)
    assert sorted(backend.names()) == [file_name(sha256_of(tmp_path)), f"git-{commit}"]
    assert server.count("/input") == 1


def test_who_only_reads_puts_nothing_there(tmp_path: Path, machine: MakeMachine, server: FileServer) -> None:
    (tmp_path / "shared").mkdir()
    backend = DirectoryBackend(tmp_path / "shared", make=True)
    reader = machine(backend)
    fetch(reader.access, server.add("/input", DATA), sha256=sha256_of(tmp_path))
    assert (list(backend.names()), reader.warnings) == ([], [])


def test_what_is_known_of_a_file_comes_from_who_made_it(
    tmp_path: Path, machine: MakeMachine, server: FileServer
) -> None:
    """A shared cache says nothing but the bytes: the facts are those of the later download."""
    backend, url, sha256 = (
        DirectoryBackend(tmp_path / "shared", make=True),
        server.add("/input", DATA),
        sha256_of(tmp_path),
    )
    fetch(machine(backend, writable=True).access, url)
    other = machine(backend)
    assert "shared cache" in fetch(other.access, url, sha256=sha256).info["source"]
    assert fetch(other.access, url).info["source"] == url


POISON: dict[str, Callable[[bytes], bytes]] = {
    "changed": lambda data: data[:1000] + b"!" + data[1001:],
    "truncated": lambda data: data[:-1],
    "longer": lambda data: data + b"!",
    "empty": lambda _data: b"",
    "huge": lambda data: data * 10,
}


@pytest.mark.parametrize("poison", POISON)
def test_a_poisoned_file_is_refused_and_replaced(
    backend: CacheBackend, machine: MakeMachine, server: FileServer, tmp_path: Path, poison: str
) -> None:
    url, sha256 = server.add("/input", DATA), sha256_of(tmp_path)
    name = file_name(sha256)
    backend.store(name, io.BytesIO(POISON[poison](DATA)))
    for writable in (False, True):
        reader = machine(backend, writable=writable, limit=2 * len(DATA))
        assert fetch(reader.access, url, sha256=sha256).path.read_bytes() == DATA
        (text,) = reader.warnings
        assert f"{name} is refused, because " in text
        assert leftovers(reader.store) == []
    after = machine(backend)
    fetch(after.access, url, sha256=sha256)
    assert after.warnings == []
    assert server.count("/input") == 2


@pytest.mark.parametrize("kind", KINDS)
def test_a_poisoned_dependency_is_refused(machine: MakeMachine, server: FileServer, tmp_path: Path, kind: str) -> None:
    """A crate and a wheel; a lock file that names no SHA-256, as Go's and npm's, has nothing taken from there."""
    served, backend = KINDS[kind](), DirectoryBackend(tmp_path / "shared", make=True)
    write(tmp_path / "p", server, served)
    lock_files = find_lock_files([(served.path, tmp_path / "p" / served.path)])
    mirrors = {f"{tool}:": f"{server.url}/{path}" for tool, path in MIRRORS.items()}

    def take(one: Machine) -> dict[str, bytes]:
        (taken,) = take_dependencies(replace(one.access, mirrors=mirrors), lock_files)
        assert taken.failure is None
        contents = {place: path.read_bytes() for place, path in taken.files.items()} | dict(taken.texts)
        return {f"{kind}/{place}": data for place, data in contents.items()}

    assert take(machine(backend, writable=True)) == served.files
    entries = [path for path in (tmp_path / "shared").rglob("*") if path.is_file()]
    assert entries
    for path in entries:
        path.write_bytes(POISON["changed"](path.read_bytes()) + b"!")
    asked, reader = len(server.seen), machine(backend)
    assert take(reader) == served.files
    assert len(reader.warnings) == (1 if kind in ("cargo", "pip") else 0)
    assert all("is refused, because " in text for text in reader.warnings)
    assert len(server.seen) > asked


def test_a_poisoned_debian_package_is_refused(tmp_path: Path, machine: MakeMachine, server: FileServer) -> None:
    backend, sha256 = DirectoryBackend(tmp_path / "shared", make=True), sha256_of(tmp_path)
    deb = Deb(name="zlib1g", version="1:1.2.13", sha256=sha256, size=len(DATA), url=server.add("/zlib1g.deb", DATA))
    wanted = Input(name="packages", kind="debs", source="zlib1g", packages=(str(deb),))
    fetch_debs(machine(backend, writable=True).access, wanted)
    taker = machine(backend)
    assert fetch_debs(taker.access, wanted).files[deb.file].read_bytes() == DATA
    assert (server.count("/zlib1g.deb"), taker.warnings) == (1, [])
    backend.store(file_name(sha256), io.BytesIO(POISON["changed"](DATA)))
    reader = machine(backend)
    assert fetch_debs(reader.access, wanted).files[deb.file].read_bytes() == DATA
    (text,) = reader.warnings
    assert f"{file_name(sha256)} is refused, because " in text
    assert server.count("/zlib1g.deb") == 2


def test_a_download_that_fails_is_no_entry_of_the_shared_cache(
    tmp_path: Path, machine: MakeMachine, server: FileServer
) -> None:
    backend = DirectoryBackend(tmp_path / "shared", make=True)
    with pytest.raises(InputError):
        fetch(machine(backend, writable=True).access, server.add("/input", DATA), sha256="0" * 64)
    assert not (tmp_path / "shared").exists()


def test_without_the_shared_cache_all_goes_on(tmp_path: Path, machine: MakeMachine, server: FileServer) -> None:
    other = machine(open_backend("oci://127.0.0.1:9/cache"), writable=True)
    for number in range(3):
        data = DATA + bytes([number])
        assert fetch(other.access, server.add(f"/{number}", data), sha256=sha256_of(tmp_path, data))
    assert len(other.warnings) == 1


def repository(folder: Path, text: str) -> str:
    """A git repository of two files; its commit."""
    folder.mkdir()
    (folder / "tool").write_text(text)
    (folder / "tool").chmod(0o755)
    (folder / "link").symlink_to("tool")

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=x", "-c", "user.email=x@x.invalid")
        done = subprocess.run(["git", *who, "-C", folder, *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "x")
    return git("rev-parse", "HEAD")


def sources(machine: Machine, folder: Path, commit: str) -> CacheEntry:
    return fetch_git(machine.access, str(folder), commit).entry


def test_a_commit_is_fetched_by_one_machine_alone(backend: CacheBackend, machine: MakeMachine, tmp_path: Path) -> None:
    commit = repository(tmp_path / "repository", "one")
    first = sources(machine(backend, writable=True), tmp_path / "repository", commit)
    shutil.rmtree(tmp_path / "repository")
    other = machine(backend)
    entry = sources(other, tmp_path / "repository", commit)
    assert (entry.sha256, entry.info["commit"]) == (first.sha256, commit)
    assert other.warnings == []


def another_commit(tmp_path: Path, machine: Machine, key: str) -> bytes:
    """The files of another commit, under the name of this one."""
    commit = repository(tmp_path / "evil", "evil")
    entry = sources(machine, tmp_path / "evil", commit)
    export_entries(machine.store, [entry.key], tmp_path / "evil.tar")
    return (tmp_path / "evil.tar").read_bytes().replace(entry.key.encode(), key.encode())


def with_more(tmp_path: Path, machine: Machine, key: str) -> bytes:
    """The right commit, and what an offline build would take for a finished step."""
    evil = machine.store.put("program-" + "a" * 40, lambda target: {"source": str(target.write_bytes(b"evil"))})
    export_entries(machine.store, [key, evil.key], tmp_path / "more.tar")
    return (tmp_path / "more.tar").read_bytes()


def packed(tmp_path: Path, machine: Machine, key: str) -> bytes:
    export_entries(machine.store, [key], tmp_path / "whole.tar.zst")
    return (tmp_path / "whole.tar.zst").read_bytes()


def unpacked(tmp_path: Path, machine: Machine, key: str) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(packed(tmp_path, machine, key)).read()


FORGED: dict[str, Callable[[Path, Machine, str], bytes]] = {
    "another commit": another_commit,
    "more than one entry": with_more,
    "truncated": lambda *what: packed(*what)[:-20],
    "changed": lambda *what: zstandard.compress(unpacked(*what).replace(b"one" + bytes(509), b"two" + bytes(509))),
    "empty": lambda *_: b"",
    "no archive": lambda *_: b"evil" * 1000,
    "nothing but zeros, packed": lambda *_: zstandard.compress(bytes(2**20)),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_a_forged_commit_is_refused_and_replaced(tmp_path: Path, machine: MakeMachine, forgery: str) -> None:
    backend, folder = DirectoryBackend(tmp_path / "shared", make=True), tmp_path / "repository"
    commit = repository(folder, "one")
    key = f"git-{commit}"
    maker = machine(DirectoryBackend(tmp_path / "elsewhere", make=True))
    right = sources(maker, folder, commit)
    backend.store(key, io.BytesIO(FORGED[forgery](tmp_path, maker, key)))
    reader = machine(backend, writable=True)
    assert sources(reader, folder, commit).sha256 == right.sha256
    (text,) = reader.warnings
    assert f"{key} is refused, because " in text
    assert [entry.key for entry in reader.store.list()] == [key]
    assert leftovers(reader.store) == []
    after = machine(backend)
    assert (sources(after, folder, commit).sha256, after.warnings) == (right.sha256, [])
