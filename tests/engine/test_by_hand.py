"""The tests' own Docker, started by hand as the docstring of tests/support/engines.py says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import engines


class NoDaemon(engines.Dockerd):
    """Starts nothing: only what is done around it counts here."""

    def start(self) -> None:
        """Its folder, as the real one makes it."""
        self.folder.mkdir(parents=True)

    def answers(self) -> bool:
        """Never."""
        return False


def test_a_fresh_machine_has_no_folder_of_ours_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "fresh"
    monkeypatch.setattr(engines, "FOLDER", folder)
    monkeypatch.setattr(engines, "Dockerd", NoDaemon)
    assert engines.main(["start-docker"]) == 0
    assert capsys.readouterr().out == f"unix://{folder}/docker/docker.sock\n"
    assert engines.main(["stop-docker"]) == 0


def test_a_machine_without_docker_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(engines, "FOLDER", tmp_path / "fresh")
    monkeypatch.setattr("orchestrator.process.which", lambda _name: None)
    assert engines.main(["start-docker"]) == 1
    assert capsys.readouterr().err.startswith("error: dockerd is not installed; ")
