"""Why a user can't have a user namespace, and what to do: before anything that needs one is begun."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orchestrator import user_namespaces
from orchestrator.errors import ExitCode, InputError
from orchestrator.events import ignore
from orchestrator.inputs.bootstrap_sandbox import open_sandbox
from orchestrator.user_namespaces import find_obstacle, user_name


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine with uidmap, and ranges for this user; its programs are in `bin`."""
    (tmp_path / "bin").mkdir()
    for name in ("newuidmap", "unshare"):
        program(tmp_path, name, "exit 0")
    for name in ("subuid", "subgid"):
        (tmp_path / name).write_text(f"other:100000:65536\n{user_name()}:165536:65536\n")
    files = ((tmp_path / "subuid", ()), (tmp_path / "subgid", ("-g",)))
    monkeypatch.setattr(user_namespaces, "_SUBORDINATE", files)
    monkeypatch.setattr("shutil.which", lambda name, path=None: _in(tmp_path / "bin", name))
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path


def _in(folder: Path, name: str) -> str | None:
    return str(folder / name) if (folder / name).exists() else None


def program(machine: Path, name: str, script: str) -> None:
    path = machine / "bin" / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_nothing_is_missing(machine: Path) -> None:
    assert find_obstacle() is None
    (machine / "subgid").write_text(f"{os.getuid()}:165536:65536\n")  # by number
    assert find_obstacle() is None


def test_no_uidmap(machine: Path) -> None:
    (machine / "bin/newuidmap").unlink()
    obstacle = find_obstacle()
    assert obstacle is not None
    assert "apt-get install uidmap" in obstacle.remedy


@pytest.mark.parametrize("name", ["subuid", "subgid"])
@pytest.mark.parametrize("there", [True, False])
def test_no_range(machine: Path, name: str, there: bool) -> None:
    if there:
        (machine / name).write_text(f"{user_name()}x:1:2\n")
    else:
        (machine / name).unlink()
    obstacle = find_obstacle()
    assert obstacle is not None
    assert f"{name} has no range for user {user_name()}" in obstacle.reason
    assert "usermod --add-subuids" in obstacle.remedy
    program(machine, "getsubids", "echo 0: user 165536 65536")  # of LDAP, say
    assert find_obstacle() is None


def test_namespaces_are_refused(machine: Path) -> None:
    program(machine, "unshare", "exit 1")
    obstacle = find_obstacle()
    assert obstacle is not None
    assert "does not allow user namespaces" in obstacle.reason
    assert "unprivileged_userns" in obstacle.remedy


def test_a_base_says_so_before_it_is_begun(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmdebstrap's own "unable to pick chroot mode automatically" names no reason."""
    (machine / "subuid").write_text("")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(InputError, match="has no range for user") as caught, open_sandbox(ignore, trusted=True):
        pass
    assert caught.value.exit_code is ExitCode.INPUT
    assert "usermod" in caught.value.remedy
    program(machine, "proot", "exit 0")
    with open_sandbox(ignore, trusted=True) as sandbox:
        assert sandbox.mode == "auto"
