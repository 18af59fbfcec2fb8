"""docs/library.md: the session that it shows is run, and it names what is public."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

import orchestrator.image
from tests.support.cli import ROOT

PAGE = ROOT / "docs/library.md"


def test_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = doctest.testfile(str(PAGE), module_relative=False, optionflags=doctest.IGNORE_EXCEPTION_DETAIL)
    assert done.attempted > 20
    assert done.failed == 0


def test_what_is_public() -> None:
    names = orchestrator.image.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(orchestrator.image, name) is not None
    text = PAGE.read_text()
    imported = {
        name.strip()
        for line in text.splitlines()
        if line.startswith(">>> from orchestrator.image import ")
        for name in line.partition("import ")[2].split(",")
    }
    assert imported <= set(names)
    documented = [getattr(orchestrator.image, name).__doc__ for name in names if name != "Node"]
    assert all(documented)
