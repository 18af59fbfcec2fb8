"""The engines that are measured: one that runs, by its URL, or the tests' own, of which the storage is known too."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.engine.private import PrivateEngine
from tests.support.engines import FOLDER, PODMAN_STORE, Dockerd, docker_engine, podman_engine


@dataclass(frozen=True, kw_only=True)
class MeasuredEngine:
    """`command` is its own, with the options that name it, by which a person builds; `builder` says how that builds.

    `storage` and `pid` (of its daemon) are None and 0 where they aren't known.
    """

    url: str
    command: tuple[str, ...]
    builder: str
    storage: Path | None = None
    pid: int = 0
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """docker or podman."""
        return "podman" if "podman" in self.builder else "docker"

    def prune(self) -> None:
        """Let go of what builds left, where the engine is the tests' own: it would fill the disk."""
        if self.storage is not None:
            words = ["builder", "prune", "--all", "--force"] if self.name == "docker" else ["image", "prune", "--force"]
            environment = {**os.environ, **self.variables}
            subprocess.run([*self.command, *words], env=environment, capture_output=True, check=False)


@contextmanager
def open_engine(name: str) -> Iterator[MeasuredEngine]:
    """`docker` and `podman` are the tests' own, which are started; anything else is a URL."""
    if name == "docker":
        with docker_engine():
            dockerd = Dockerd(FOLDER / "docker")
            own = dockerd.pid() is not None
            url = dockerd.socket if own else os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
            yield _docker(url, FOLDER / "docker/data" if own else None, dockerd.pid() or 0)
    elif name == "podman":
        with podman_engine() as engine:
            assert isinstance(engine, PrivateEngine)
            yield _own_podman(engine.service.endpoint, engine.service.pid)
    else:
        by_url = MeasuredEngine(url=name, command=("podman", "--url", name), builder="podman build, remote")
        yield by_url if "podman" in name else _docker(name)


def _own_podman(url: str, pid: int) -> MeasuredEngine:
    """By hand without the service, as most people use it: with the service's own options and settings."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    variables = dict(line.partition("=")[::2] for line in Path(f"/proc/{pid}/environ").read_text().split("\0"))
    return MeasuredEngine(
        url=url,
        command=("podman", *itertools.takewhile(lambda word: not word.startswith("--log-level"), words[1:])),
        builder="podman build",
        storage=PODMAN_STORE,
        pid=pid,
        variables={name: variables[name] for name in ("CONTAINERS_CONF",) if name in variables},
    )


def _docker(url: str, storage: Path | None = None, pid: int = 0) -> MeasuredEngine:
    """By BuildKit where a docker command is there that speaks to it: Docker 20 to 22's own, or one with buildx."""
    for folder in [*os.get_exec_path(), "/usr/bin"]:
        docker = shutil.which("docker", path=folder)
        if docker is not None and _knows_buildkit(docker):
            return MeasuredEngine(
                url=url,
                command=(docker, "--host", url),
                builder="docker build, BuildKit",
                storage=storage,
                pid=pid,
                variables={"DOCKER_BUILDKIT": "1"},
            )
    command = ("docker", "--host", url)
    return MeasuredEngine(url=url, command=command, builder="docker build, classic builder", storage=storage, pid=pid)


def _knows_buildkit(docker: str) -> bool:
    version = re.search(r"(\d+)\.", _said(docker, "--version"))
    return (version is not None and 20 <= int(version[1]) < 23) or "buildx" in _said(docker, "buildx", "version")


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""
