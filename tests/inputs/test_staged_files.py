"""Files of `stage.files` that no build step makes, as inputs."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.events import Event, StepStarted
from orchestrator.inputs.access import Access
from orchestrator.inputs.staged_files import resolve_staged_file
from orchestrator.project.stage_files import StagedFile
from orchestrator.resolved import Pin
from tests.support.servers import FileServer


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def host_file(name: str) -> StagedFile:
    return StagedFile.model_validate({"from": name, "to": "/keys/key"})


def hashed(events: list[Event]) -> int:
    return sum(isinstance(event, StepStarted) and event.title.startswith("hash ") for event in events)


def test_a_file_of_this_machine_is_read_once_as_long_as_it_is_the_same(
    access: Access, tmp_path: Path, events: list[Event]
) -> None:
    path, entry = tmp_path / "key", host_file("key")
    path.write_bytes(b"one")
    assert [resolve_staged_file(access, entry, tmp_path).pin["sha256"] for _ in range(2)] == [sha256(b"one")] * 2
    assert hashed(events) == 2, "what was just written may change again without a trace"
    old = path.stat().st_mtime - 3600
    os.utime(path, (old, old))
    # Its ctime is now: nobody can set that back, and only time makes it old.
    resolve_staged_file(access, entry, tmp_path)
    assert hashed(events) == 3


@pytest.mark.parametrize("data", [b"two", b"longer"])
def test_a_changed_file_is_read_again(
    access: Access, tmp_path: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr("orchestrator.inputs.staged_files.RECENT_NS", -(10**18))
    path, entry = tmp_path / "key", host_file("key")
    path.write_bytes(b"one")
    times = path.stat()
    for _ in range(3):
        resolved = resolve_staged_file(access, entry, tmp_path)
    assert (resolved.name, resolved.pin) == ("file:keys/key", {"sha256": sha256(b"one"), "size": "3"})
    assert hashed(events) == 1
    path.write_bytes(data)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    changed = resolve_staged_file(access, entry, tmp_path)
    assert changed.pin == {"sha256": sha256(data), "size": str(len(data))}
    assert hashed(events) == 2


def test_a_download_is_what_the_lock_says(access: Access, tmp_path: Path, server: FileServer) -> None:
    url = server.add("/kzg.srs", b"first")
    entry = StagedFile(url=url, to="kzg.srs")
    resolved = resolve_staged_file(access, entry, tmp_path)
    assert (resolved.name, resolved.source, resolved.pin["sha256"]) == ("file:kzg.srs", url, sha256(b"first"))
    server.add("/kzg.srs", b"other")
    pins = {str(resolved.name): Pin(kind="file", values=resolved.pin)}
    assert resolve_staged_file(replace(access, pins=pins), entry, tmp_path).local.read_bytes() == b"first"
    access.store.remove(f"sha256-{sha256(b'first')}")
    with pytest.raises(InputError, match="the lock says"):
        resolve_staged_file(replace(access, pins=pins), entry, tmp_path)
    pinned = entry.model_copy(update={"sha256": sha256(b"third")})
    with pytest.raises(InputError, match=sha256(b"third")):
        resolve_staged_file(access, pinned, tmp_path)
    mirrored = replace(access, mirrors={server.url: f"{server.url}/near"})
    server.add("/near/kzg.srs", b"near")
    assert resolve_staged_file(mirrored, entry, tmp_path).local.read_bytes() == b"near"


@pytest.mark.parametrize("name", ["absent", "directory"])
def test_what_is_no_file(access: Access, tmp_path: Path, name: str) -> None:
    (tmp_path / "directory").mkdir()
    with pytest.raises(InputError, match=f"there is no file .*{name}"):
        resolve_staged_file(access, host_file(name), tmp_path)
