"""Settings of the private Podman, and the selection with a real one."""

from __future__ import annotations

import os
import subprocess
import time
import tomllib
from pathlib import Path

import pytest

from orchestrator.engine import probe
from orchestrator.engine.private import PrivatePodman
from orchestrator.engine.probe import start_private
from orchestrator.engine.select import candidates
from orchestrator.engine.settings import Settings, alternatives
from orchestrator.errors import EngineError
from orchestrator.events import ignore
from tests.support.engines import PODMAN_STORE, ensure_base, need, request

pytestmark = pytest.mark.engine


def test_settings_that_work_are_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    need("podman")
    memory = tmp_path / "settings.json"
    monkeypatch.setattr(probe, "podman_memory", lambda: memory)
    first = start_private(storage=PODMAN_STORE)
    assert first.info.private
    assert not [item for item in first.leftovers() if item.build_id.startswith(probe.PROBE_ID)], (
        "the probe left something"
    )
    first.close()
    written = memory.read_text()
    began = time.monotonic()
    second = start_private(storage=PODMAN_STORE)
    took = time.monotonic() - began
    second.close()
    assert second.info.note == first.info.note
    assert memory.read_text() == written
    assert took < 5, "it probed again"
    memory.write_text("{broken")
    third = start_private(storage=PODMAN_STORE)
    third.close()
    assert memory.read_text() == written


def test_service_that_does_not_come_up_shows_its_log(tmp_path: Path) -> None:
    need("podman")
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(EngineError) as caught:
        PrivatePodman(Settings(), storage=blocked / "storage")
    assert "failed to start" in caught.value.message
    assert "not a directory" in caught.value.message
    assert caught.value.remedy


def test_doctor_finds_the_private_podman() -> None:
    need("podman")
    survey = candidates()
    private = next(finding for finding in survey.findings if finding.code == "engine-podman-private")
    assert "runs build steps" in private.message
    can = next(able for info, able in survey.answering if info.private)
    assert (can.mounts, can.buildkit, can.remote, can.shares_files) == (True, False, False, True)
    assert can.storage in ("overlay", "vfs")
    assert can.cgroup in ("1", "2")


def test_settings_are_written_as_podman_reads_them() -> None:
    assert Settings().conf() == ""
    for settings in alternatives():
        if not settings.plain:
            parsed = tomllib.loads(settings.conf())
            assert parsed["engine"]["cgroup_manager"] == "cgroupfs"
            assert parsed["engine"].get("runtime", "") == settings.runtime


@pytest.mark.parametrize(("store", "first"), [("vfs 0", "overlay"), ("vfs 3", ""), ("overlay 0", "")])
def test_rootless_overlay_before_an_empty_vfs_store(
    store: str, first: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    podman = tmp_path / "podman"
    podman.write_text(f"#!/bin/sh\necho {store}\n")
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    settings = next(iter(alternatives()))
    assert settings.driver == first
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert next(iter(alternatives())).plain


@pytest.mark.parametrize("full", ["temporary files", "storage"])
def test_a_full_disk_is_named_with_what_to_do(full: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", disk], check=True)
    try:
        if full == "storage":
            engine = start_private(storage=disk / "storage")
        else:
            monkeypatch.setenv("TMPDIR", str(disk))
            engine = start_private(storage=PODMAN_STORE)
        try:
            base = ensure_base(engine)
            asked = request(f"FROM {base}\nCOPY data /\n", "test-full", files={"data": os.urandom(16 << 20)})
            with pytest.raises(EngineError) as caught:
                engine.build(asked, ignore)
        finally:
            engine.close()
        assert "no space left" in caught.value.message
        assert "`orchestrator clean`" in caught.value.remedy
        assert full == "storage" or f"in {disk} (from TMPDIR; " in caught.value.message
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", disk], check=True)
