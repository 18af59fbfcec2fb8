"""What engines say of themselves, and what is concluded; the page has the table of what is done without."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.base import ContainerRequest, Engine
from orchestrator.engine.docker_api import Api
from orchestrator.engine.facts import EngineFacts, docker_facts, podman_facts
from orchestrator.engine.peers import sees_files
from orchestrator.engine.podman import PodmanEngine
from orchestrator.engine.podman_container import specification
from orchestrator.engine.select import connect
from tests.engine.capabilities_page import DOCUMENT, table
from tests.engine.test_select import serving
from tests.support.fake_engine import CAPABILITIES
from tests.support.sections import section

HERE = os.uname().release


def test_the_page_has_the_table() -> None:
    assert section(DOCUMENT, "capabilities") == table(), "run `make docs`"


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (
            {"Driver": "overlay2", "CgroupVersion": "1", "SecurityOptions": ["name=seccomp"], "KernelVersion": HERE},
            ("overlay2", "1", False, False),
        ),
        (
            {
                "Driver": "overlayfs",
                "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]],
                "SecurityOptions": ["name=seccomp", "name=rootless"],
            },
            ("containerd/overlayfs", "", True, False),
        ),
        ({"OperatingSystem": "Docker Desktop", "KernelVersion": HERE}, ("", "", False, True)),
        ({"Driver": "overlay2", "KernelVersion": "1.0-other"}, ("overlay2", "", False, True)),
        ({}, ("", "", False, False)),
    ],
    ids=["daemon", "containerd-rootless", "desktop", "virtual-machine", "silent"],
)  # fmt: skip
def test_what_docker_says(info: dict[str, Any], expected: tuple[str, str, bool, bool]) -> None:
    facts = docker_facts(info)
    assert (facts.storage, facts.cgroup, facts.rootless, facts.is_elsewhere("unix:///s")) == expected


def test_what_podman_says() -> None:
    said = {
        "host": {
            "cgroupVersion": "v2",
            "cgroupControllers": ["cpu", "pids"],
            "security": {"rootless": True},
            "kernel": HERE,
        },
        "store": {"graphDriverName": "overlay", "graphRoot": "/s", "imageCopyTmpDir": "/var/tmp"},
    }
    facts = podman_facts(said)
    assert (facts.storage, facts.cgroup, facts.rootless) == ("overlay", "2", True)
    assert facts.limits == ("pids",)
    assert podman_facts({"host": {"cgroupControllers": None}}).limits == ()
    assert facts.records == Path("/s/overlay-containers")
    assert [str(place.path) for place in facts.places] == ["/s", "/var/tmp"]
    assert podman_facts({}) == EngineFacts()
    assert docker_facts({"MemoryLimit": False, "PidsLimit": True}).limits == ("pids",)


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:2375", "ssh://me@far"])
def test_an_engine_behind_no_socket_is_elsewhere(endpoint: str) -> None:
    assert EngineFacts(kernel=HERE).is_elsewhere(endpoint)


_LISTEN = """
import socket, sys
listening = socket.socket(socket.AF_UNIX)
listening.bind(sys.argv[1])
listening.listen()
print(flush=True)
sys.stdin.read()
"""


@contextmanager
def listening(path: Path, *prefix: str) -> Iterator[str]:
    """A socket that another process serves; its URL."""
    command = [*prefix, sys.executable, "-I", "-c", _LISTEN, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as serving:
        assert serving.stdout is not None
        serving.stdout.readline()
        yield f"unix://{path}"
        assert serving.stdin is not None
        serving.stdin.close()


def test_the_process_behind_a_socket_sees_our_files_or_not(tmp_path: Path) -> None:
    shared, hidden = tmp_path / "shared", tmp_path / "hidden"
    for folder in (shared, hidden):
        folder.mkdir()
    apart = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"']
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # a socket's path may have 107 bytes
        with listening(Path(short) / "a") as url:
            assert sees_files(url, shared) is True
            assert sees_files(url, tmp_path / "missing") is None
        with listening(Path(short) / "b", *apart, str(hidden)) as url:
            assert sees_files(url, shared) is True
            assert sees_files(url, hidden) is False
        with socket.socket(socket.AF_UNIX) as nobody:
            nobody.bind(f"{short}/c")
        assert sees_files(f"unix://{short}/c", shared) is None


def test_engines_are_asked_once(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    can = engine.capabilities
    assert (can.mounts, can.remote, can.shares_files, can.rootless) == (True, False, True, False)
    assert can.buildkit == (engine.info.kind == "docker")
    assert can.storage
    assert can.cgroup in ("1", "2")
    with closing(connect(engine.info.endpoint)) as again:
        first = again.capabilities
        monkeypatch.setattr(again, "_find_capabilities", None)
        assert again.capabilities is first


def test_a_limit_that_the_engine_lacks_is_not_asked_for() -> None:
    """crun fails where control groups have no memory controller; the watch of a rehearsal is there without it."""
    asked: list[dict[str, Any]] = []

    class Answering(PodmanEngine):
        capabilities = replace(CAPABILITIES, limits=("pids",))

        def _create(self, request: ContainerRequest, name: str, *, rootless: bool) -> None:
            asked.append(specification(request, name, rootless=rootless))

    headers = {"Libpod-Api-Version": "5.4.2", "Api-Version": "1.41"}
    request = ContainerRequest(image="i", command=("c",), build_id="test", memory=1 << 20, processes=7)
    with (
        serving({"/_ping": (200, headers, "OK")}) as url,
        closing(Answering(Api(url))) as engine,
        engine.open_container(request),
    ):
        pass
    assert asked[0]["resource_limits"] == {"pids": {"limit": 7}}
