"""Every sort of shared cache keeps files by name, and tells what it has."""

from __future__ import annotations

import errno
import io
from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.events import Event, Notice
from orchestrator.shared_cache.backend import CacheBackend, Sink, Source
from orchestrator.shared_cache.directory import DirectoryBackend
from orchestrator.shared_cache.places import open_backend
from orchestrator.shared_cache.shared_cache import Patience, SharedCache
from tests.shared_cache.conftest import MakeMachine
from tests.support.servers import Fault, FileServer

NAME, OTHER = f"file-{'a' * 64}", f"git-{'b' * 40}"


class Bytes:
    """A sink without limits."""

    def __init__(self) -> None:
        self.data, self.expected = b"", -1

    def expect(self, size: int) -> None:
        self.expected = size

    def write(self, data: bytes) -> None:
        self.data += data


def test_what_is_stored_is_fetched(backend: CacheBackend) -> None:
    assert not backend.has(NAME)
    assert not backend.fetch(NAME, Bytes())
    for data in (b"first" * 300_000, b"second", b""):
        backend.store(NAME, io.BytesIO(data))
        sink = Bytes()
        assert backend.fetch(NAME, sink)
        assert (sink.data, sink.expected) == (data, len(data))
    backend.store(OTHER, io.BytesIO(b"other"))
    assert backend.has(OTHER)
    assert sorted(backend.names()) == [NAME, OTHER]


@pytest.mark.parametrize("name", ["file-xyz", "../file-" + "a" * 64, "file-" + "a" * 64 + "/..", "key-" + "a" * 64])
def test_no_name_leads_out_of_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="not a name"):
        DirectoryBackend(tmp_path).has(name)


def test_a_link_in_a_directory_is_not_followed(tmp_path: Path, machine: MakeMachine) -> None:
    backend = DirectoryBackend(tmp_path / "shared")
    backend.store(NAME, io.BytesIO(b"x"))
    (path,) = (tmp_path / "shared").glob("*/*/*")
    (tmp_path / "secret").write_text("secret")
    path.unlink()
    path.symlink_to(tmp_path / "secret")
    reader = machine(backend)
    assert not reader.shared.fetch(NAME, tmp_path / "target", 100)
    assert (tmp_path / "target").read_bytes() == b""
    assert len(reader.warnings) == 1


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("oci://", "oci:/// is not the address of a registry's repository"),
        ("oci://host", "oci://host/ is not the address of a registry's repository"),
        ("oci://user:word@host/a", "oci://host/a is not the address of a registry's repository"),
        ("oci://host/Upper", "oci://host/Upper is not the address of a registry's repository"),
        ("https://host/path", "a shared cache cannot be at the https address https://host/path"),
        ("nothing://host/path", "the shared cache nothing://host/path cannot be used: "),
    ],
)
def test_addresses_that_are_none(address: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_backend(address)
    assert caught.value.message.startswith(said)
    assert caught.value.remedy


def test_http_is_for_this_machine_or_asked_for(server: FileServer) -> None:
    """Without asking, no other host is spoken to without TLS."""
    assert open_backend("oci://registry.invalid/x")._origin == "https://registry.invalid"  # type: ignore[attr-defined]
    assert open_backend("oci+http://registry.invalid/x")._origin == "http://registry.invalid"  # type: ignore[attr-defined]
    assert open_backend("oci://localhost:5000/x")._origin == "http://localhost:5000"  # type: ignore[attr-defined]


class Broken(DirectoryBackend):
    """One that is full, or may only be read."""

    def __init__(self, root: Path, number: int) -> None:
        super().__init__(root)
        self.number = number

    def store(self, name: str, source: Source) -> None:
        source.read(10)
        raise OSError(self.number, "cannot write")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_one_that_cannot_be_written_is_still_read(tmp_path: Path, machine: MakeMachine, number: int) -> None:
    DirectoryBackend(tmp_path / "shared").store(NAME, io.BytesIO(b"data"))
    writer = machine(Broken(tmp_path / "shared", number), writable=True)
    (tmp_path / "file").write_bytes(b"x")
    for name in (f"file-{'c' * 64}", f"file-{'d' * 64}"):
        writer.shared.store(name, tmp_path / "file")
    assert writer.warnings == [f"nothing more is put into the shared cache {tmp_path}/shared: cannot write"]
    assert writer.shared.fetch(NAME, tmp_path / "target", 100)


def test_a_directory_that_is_missing_is_a_mistake_of_who_only_reads(tmp_path: Path, machine: MakeMachine) -> None:
    reader = machine(open_backend(str(tmp_path / "shared")))
    assert not reader.shared.fetch(NAME, tmp_path / "target", 100)
    said = f"the shared cache {tmp_path}/shared is not used from here on: there is no such directory"
    assert reader.warnings == [said]


def test_a_registry_that_is_down_is_asked_once(tmp_path: Path, machine: MakeMachine) -> None:
    reader = machine(open_backend("oci://127.0.0.1:9/cache"), writable=True)
    for _ in range(3):
        assert not reader.shared.fetch(NAME, tmp_path / "target", 100)
    reader.shared.store(NAME, tmp_path / "target")
    (text,) = reader.warnings
    assert text.startswith("the shared cache oci://127.0.0.1:9/cache is not used from here on: ")


@pytest.mark.parametrize("kind", ["slow-headers", "stall", "status", "html", "reset"])
def test_a_registry_with_faults_costs_time_only(
    tmp_path: Path, machine: MakeMachine, server: FileServer, kind: str
) -> None:
    server.add(f"/v2/cache/manifests/{NAME}", b"{}" * 100, always=Fault(kind=kind, at=10))
    reader = machine(open_backend(f"oci://{server.url.removeprefix('http://')}/cache"), seconds=0.5)
    for _ in range(2):
        assert not reader.shared.fetch(NAME, tmp_path / "target", 100)
    assert len(reader.warnings) == 1
    assert len(server.seen) == 1


class Dripping(DirectoryBackend):
    """Gives a byte now and then, and keeps on when nobody waits any more."""

    def fetch(self, name: str, sink: Sink) -> bool:
        import time

        while True:
            time.sleep(0.05)
            sink.write(b"x")


def test_one_that_drips_is_given_up(tmp_path: Path) -> None:
    events: list[Event] = []
    cache = SharedCache(Dripping(tmp_path), emit=events.append, patience=Patience(seconds=0.3, least=1000))
    assert not cache.fetch(NAME, tmp_path / "target", 10_000)
    (notice,) = events
    assert isinstance(notice, Notice)
    assert "it is too slow (" in notice.text
