"""The strangers' projects, as far as no engine is needed: `init` sees them, `check` takes what comes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import cli
from tests.strangers.page import PAGE
from tests.strangers.stranger import STRANGERS, Stranger

WORDS = {
    "key": "http://127.0.0.1:1/proving.key", "sha256": "ab" * 32, "image": "localhost/strangers/finished:1",
    "git": "http://127.0.0.1:1", "commit": "0" * 40, "address": "127.0.0.1:1", "ssh": "ssh://me@127.0.0.1:1/git",
    "host": "127.0.0.1", "port": "1",
}  # fmt: skip


@pytest.mark.parametrize("stranger", STRANGERS, ids=lambda stranger: stranger.name)
def test_check_takes_the_project_of_a_stranger(
    stranger: Stranger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = stranger.copy_to(tmp_path / stranger.name)
    stranger.fill(sources, WORDS)
    if "tables" in stranger.services:
        (sources / "tables").mkdir()
    monkeypatch.chdir(sources / stranger.directory)
    if not stranger.by_hand:
        made = cli("init")
        assert made.code == 0, made.err
    stranger.edit(Path("project.yaml"), WORDS)
    checked = cli("check", ".")
    assert checked.code == 0, checked.err


def test_each_stranger_is_on_the_page() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    missing = [stranger.name for stranger in STRANGERS if not any(f"(`{stranger.name}`)" in row for row in rows)]
    assert not missing
