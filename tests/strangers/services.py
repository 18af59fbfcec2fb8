"""What some strangers need from elsewhere, served by this machine: large files, private git repositories, an image."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.engine.base import Engine
from tests.support import engines
from tests.support.cli import ROOT
from tests.support.servers import FileServer, git_server
from tests.support.ssh import own_address, ssh_server

LIBRARY = ROOT / "tests/strangers/library"
"""The sources of the private repository."""
KEY_SIZE = 300 * 1024 * 1024
_COMMITTED = {"NAME": "strangers", "EMAIL": "strangers@example.org", "DATE": "2020-01-01T00:00:00Z"}


@dataclass(frozen=True, kw_only=True)
class Service:
    """`words` are put where a stranger's files and edits have `{name}`; `env` is the build's environment."""

    words: Mapping[str, str] = field(default_factory=dict)
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """Where a service may work: the stranger's own copy of its sources, an empty folder, the engine of its build."""

    sources: Path
    folder: Path
    engine: Engine


@contextmanager
def serve_key(ground: Ground) -> Iterator[Service]:
    """A proving key of 300 MiB; the sum is the one that the program makes of it."""
    block = b"".join(hashlib.sha256(bytes([number])).digest() for number in range(256)) * 128
    data = block * (KEY_SIZE // len(block))
    with FileServer() as server:
        url = server.add("/proving.key", data)
        words = {
            "key": url,
            "sha256": hashlib.sha256(data).hexdigest(),
            "sum": f"key size={len(data)} sum={_sum(data)}",
        }
        del data
        yield Service(words=words)


def _sum(data: bytes) -> str:
    """Fletcher's sum of 32-bit words, as large-key/main.c has it; by blocks, which are all the same."""
    size, modulus = 256 * 32 * 128, 0xFFFFFFFF
    words = memoryview(data[:size]).cast("I")
    total, weighted, count = sum(words), sum((len(words) - at) * word for at, word in enumerate(words)), len(words)
    first = second = 0
    for _ in range(len(data) // size):
        second = (second + count * first + weighted) % modulus
        first = (first + total) % modulus
    return f"{second:08x}{first:08x}"


@contextmanager
def make_tables(ground: Ground) -> Iterator[Service]:
    """5,000 files of a number each, in 50 directories."""
    for number in range(5000):
        path = ground.sources / f"tables/{number // 100:02}/{number:04}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}\n")
    yield Service()


@contextmanager
def serve_git_by_token(ground: Ground) -> Iterator[Service]:
    """The private repository, for whoever has the token; git on this machine has it, as on a build runner."""
    commit = _make_repository(ground.folder)
    token = secrets.token_hex(16)
    with git_server(ground.folder, own_address(), token) as server:
        address = server.url.removeprefix("http://")
        env = {
            "GIT_TOKEN": token,
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.http://x:{token}@{address}/.insteadOf",
            "GIT_CONFIG_VALUE_0": f"{server.url}/",
        }
        yield Service(words={"git": server.url, "address": address, "commit": commit}, env=env)


@contextmanager
def serve_git_by_ssh(ground: Ground) -> Iterator[Service]:
    """The private repository, for whoever has the agent's key."""
    _make_repository(ground.folder)
    with ssh_server(ground.folder / "ssh", ground.folder, own_address()) as server:
        words = {"ssh": server.url, "host": server.host, "port": str(server.port)}
        yield Service(words=words, env={"SSH_AUTH_SOCK": str(server.agent)})


def _make_repository(folder: Path) -> str:
    """A bare private/lattice.git with the tag v1.0.0; its commit."""
    work, bare = folder / "work", folder / "private/lattice.git"
    shutil.copytree(LIBRARY / "lattice", work)
    who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in _COMMITTED.items()}
    environment = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=work, env=environment, check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init", "--quiet", "--initial-branch", "main")
    git("add", ".")
    git("commit", "--quiet", "--message", "The library")
    git("tag", "v1.0.0")
    git("clone", "--quiet", "--bare", ".", str(bare))
    return git("rev-parse", "HEAD")


@contextmanager
def make_image(ground: Ground) -> Iterator[Service]:
    """A finished image, of a program that was built elsewhere, and of nothing but it."""
    program = ground.sources / "prover"
    subprocess.run(["musl-gcc", "-static", "-Os", "-o", program, ground.sources / "main.c"], check=True)
    files = {name: (ground.sources / name).read_bytes() for name in ("prover", "data.txt")}
    recipe = ground.sources / "finished.containerfile"
    request = engines.request(recipe.read_text(), "strangers", files=files)
    ground.engine.build(request, engines.Events())
    for path in (program, recipe, ground.sources / "data.txt", ground.sources / "main.c"):
        path.unlink()  # it is all in the image
    yield Service(words={"image": request.tag})


SERVICES: Mapping[str, Callable[[Ground], AbstractContextManager[Service]]] = {
    "key": serve_key,
    "tables": make_tables,
    "token": serve_git_by_token,
    "ssh": serve_git_by_ssh,
    "image": make_image,
}
