"""What every engine must do. A scenario gets a `Bench`; AssertionError = a fault, NotHereError = it can't be here."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.label import LABEL
from tests.build.projects import COMPILE, write_project
from tests.build.test_secrets import agent
from tests.engines.client import Client
from tests.engines.daemons import UNIX
from tests.standins.make_ops import make_ops
from tests.standins.nanos_release import make_release
from tests.support.cli import Run

MARK = f"0.63{secrets.randbelow(10**6):06d}"
"""How long a step sleeps at a time, by which its processes are known."""
_WAIT = f"for i in $(seq 60); do sleep {MARK}; done"
_ENGINES_OWN = ("storage-run-", "buildah-cache", "rootlesskit")
"""As long as it lives: its run-time directories, and what Podman's `RUN --mount=type=cache` keeps."""
_TEMPORARY = ("/tmp", "/var/tmp")
_ASK = """\
import os, socket, struct
agent = socket.socket(socket.AF_UNIX)
agent.connect(os.environ['SSH_AUTH_SOCK'])
agent.sendall(struct.pack('>IB', 1, 11))
size = struct.unpack('>I', agent.recv(4, socket.MSG_WAITALL))[0]
print(agent.recv(size, socket.MSG_WAITALL)[1:].decode())
"""


class NotHereError(Exception):
    """A cell that can't be: why."""


@dataclass(kw_only=True)
class Bench:
    """One engine with a client, and what its scenarios share. `digests`: of the images, of all engines."""

    client: Client
    digests: dict[str, str]
    canary: str = field(default_factory=lambda: f"canary-{secrets.token_hex(12)}")
    began: float = field(default_factory=time.time)
    there: frozenset[Path] = field(init=False)
    """What its machine's temporary directories held before: of systemd's services."""

    def __post_init__(self) -> None:
        machine = self.client.service.machine
        self.there = frozenset(path for place in _TEMPORARY for path in machine.files(place).iterdir())

    def project(self, name: str, **changes: Any) -> Path:
        """A project of the client's in a directory of that name."""
        files = changes.pop("files", None)
        project = write_project(self.client.folder / name, files=files, **changes)
        self.client.own(project.parent)
        return project

    def build(self, name: str, *more: str | Path, out: str = "", **variables: str) -> Run:
        """Build that project; it must work."""
        done = self.client.run("build", self.client.folder / name, "-o", self.out(out or name), *more, **variables)
        assert done.code == 0, f"build ended with {done.code}:\n{done.stderr[-3000:]}"
        return done

    def out(self, name: str) -> Path:
        """Where its image comes."""
        return self.client.folder / "out" / name

    def image(self, name: str) -> Path:
        """Its image."""
        return self.out(name) / "program.img"

    def compare(self, name: str, image: Path) -> None:
        """It must have the bytes that every engine gives."""
        digest = hashlib.sha256(image.read_bytes()).hexdigest()
        assert self.digests.setdefault(name, digest) == digest, f"{name}: another image than on the other engines"

    def file(self, name: str, path: str) -> str:
        """A file in its image."""
        return self.client.run("inspect", self.image(name), "cat", path).stdout


def build(bench: Bench) -> None:
    """A project is built, and verified."""
    bench.project("plain")
    bench.build("plain")


def same_bytes(bench: Bench) -> None:
    """Its bytes are those of the other engines."""
    if not bench.image("plain").exists():
        build(bench)
    bench.compare("plain", bench.image("plain"))


def no_cache(bench: Bench) -> None:
    """`--no-cache` runs the step once more, and gives the same bytes."""
    bench.project("plain")
    done = bench.build("plain", "--no-cache", "--progress", "json", out="fresh")
    events = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    steps = {event["id"] for event in events if event["event"] == "step-started" and "build.sh" in event["title"]}
    cached = [
        event.get("cached", False) for event in events if event["event"] == "step-finished" and event["id"] in steps
    ]
    assert cached, "the step did not run"
    assert not any(cached), "the step was taken from the cache"
    bench.compare("plain", bench.image("fresh"))


def offline_locked(bench: Bench) -> None:
    """`--offline --locked` needs no network, and gives the same bytes."""
    if not bench.image("plain").exists():
        build(bench)
    bench.build("plain", "--offline", "--locked", out="offline")
    bench.compare("plain", bench.image("offline"))


def secret(bench: Bench) -> None:
    """A secret reaches the step; `clean` looks for its bytes."""
    digest = hashlib.sha256(bench.canary.encode()).hexdigest()
    run = f'{COMPILE}\ntest "$(sha256sum </run/secrets/canary)" = "{digest}  -"\n'
    step = {"run": run, "program": "program", "secrets": [{"id": "canary", "env": "CANARY"}]}
    bench.project("secret", build=step)
    bench.build("secret", CANARY=bench.canary)


def ssh(bench: Bench) -> None:
    """The ssh agent answers in the step; where it can't, the build is refused before it starts."""
    step = {"run": f"{COMPILE}\npython3 ask.py | tee said\n", "program": "program", "ssh": True}
    project = bench.project("ssh", files={"ask.py": _ASK}, build=step, stage={"files": ["said"]})
    word = secrets.token_hex(8)
    with agent(b"\x0c" + word.encode(), bench.client.folder) as path:
        bench.client.own(Path(path).parent)
        service = bench.client.service
        if service.engine.program == "podman" and service.engine.way != UNIX:
            done = bench.client.run("build", project, "-o", bench.out("ssh"), SSH_AUTH_SOCK=path)
            assert done.code == 3, done.stderr
            assert "build.ssh" in done.stderr, done.stderr
            raise NotHereError("Podman has no ssh in its API, and on another machine sees no socket of ours: refused")
        bench.build("ssh", SSH_AUTH_SOCK=path)
    assert bench.file("ssh", "/said").strip() == word


def packer_ops(bench: Bench) -> None:
    """The packer `ops`, with a stand-in of it; what it packs is the same, written by chance (docs/facts/ops.md)."""
    folder = bench.client.folder
    release = make_release(folder / "nanos")
    ops = make_ops(folder / "ops", interpreter="/usr/bin/python3")
    bench.client.own(release)
    bench.client.own(ops)
    bench.project("packed", packer="ops", nanos={"path": str(release)}, ops={"path": str(ops)})
    bench.build("packed")
    same = bench.image("packed").with_suffix(".same")
    done = bench.client.run("inspect", bench.image("packed"), "convert", same)
    assert done.code == 0, done.stderr
    bench.compare("ops", same)


def interrupt(bench: Bench) -> None:
    """SIGINT during a step: exit 130, nothing half, the step has gone, and the next build is right."""
    done = _stop(bench, "interrupt", signal.SIGINT)
    assert done.code == 130, done.stderr
    assert "interrupted" in done.stderr
    _next_is_right(bench, "interrupt")


def kill(bench: Bench) -> None:
    """SIGKILL during a step: nothing half, and after the next build nothing runs any more."""
    done = _stop(bench, "kill", signal.SIGKILL)
    assert done.code == -signal.SIGKILL, done.stderr
    _next_is_right(bench, "kill")


def rehearse(bench: Bench) -> None:
    """The packed program runs in a container of the engine."""
    if not bench.image("plain").exists():
        build(bench)
    done = bench.client.run("rehearse", bench.image("plain"))
    if bench.client.service.engine.way != UNIX:
        assert "does not see this machine's files; the program is sent there" in done.stderr, done.stderr
    assert done.code == 0, f"rehearse ended with {done.code}:\n{done.stderr[-3000:]}"
    assert "1.000000" in done.stdout + done.stderr, done.stdout


def clean(bench: Bench) -> None:
    """After all the others: `clean` leaves no container, image, process or temporary file, nor a byte of the secret."""
    done = bench.client.run("clean", bench.client.folder / "out", "--all")
    assert done.code == 0, done.stderr
    until = time.monotonic() + 15
    while (left := [*_left(bench)]) and time.monotonic() < until:
        time.sleep(0.5)
    assert not left, f"left after:\n{done.stderr}{done.stdout}\n" + "\n".join(left)


SCENARIOS: dict[str, Callable[[Bench], None]] = {
    "build": build, "same bytes": same_bytes, "--no-cache": no_cache, "offline, locked": offline_locked,
    "secrets": secret, "ssh": ssh, "packer ops": packer_ops, "interrupt": interrupt, "kill": kill,
    "rehearse": rehearse, "clean leaves nothing": clean,
}  # fmt: skip


def _stop(bench: Bench, name: str, sign: signal.Signals) -> Run:
    # One step that waits, and only the first time: the next build of the project is to end.
    step = {"run": f"{COMPILE}\n[ -e quick ] || {{ {_WAIT}; }}\n", "program": "program"}
    project = bench.project(name, build=step)
    done = bench.client.stopped(["build", project, "-o", bench.out(name)], lambda: bool(steps_of_ours()), sign)
    assert not bench.image(name).exists(), "an image of half a build"
    return done


def _next_is_right(bench: Bench, name: str) -> None:
    (bench.client.folder / name / "quick").touch()
    bench.build(name)
    bench.compare("stopped", bench.image(name))
    until = time.monotonic() + 15
    while (steps := steps_of_ours()) and time.monotonic() < until:
        time.sleep(0.2)
    assert not steps, f"steps still run: {steps}"


def steps_of_ours() -> list[int]:
    """The processes of steps of ours."""
    return [pid for pid, command in _processes() if command[:2] == [b"sleep", MARK.encode()]]


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                yield int(entry.name), (entry / "cmdline").read_bytes().split(b"\0")


def _left(bench: Bench) -> Iterator[str]:
    service = bench.client.service
    external = ["--external"] if service.engine.program == "podman" else []
    if not external or service.engine.way == UNIX:
        yield from (f"container {row}" for row in _containers(bench))
    yield from (f"image {row}" for row in service.command("images", "-a", "-q", "--filter", f"label={LABEL}"))
    yield from (f"process {pid}" for pid in steps_of_ours())
    yield from (f"file {path}" for path in bench.client.temporary.iterdir())
    for place in _TEMPORARY:
        for path in service.machine.files(place).iterdir():
            above = f"{bench.client.folder}/".startswith(f"{place}/{path.name}/")  # of what is shared
            if not path.name.startswith(_ENGINES_OWN) and path not in bench.there and not above:
                yield f"file {path}"
    yield from (f"the secret in {path}" for path in _changed(bench) if _holds(path, bench.canary.encode()))


def _containers(bench: Bench) -> list[str]:
    service = bench.client.service
    if service.engine.program == "docker":
        return service.command("ps", "-a", "-q")
    # Podman's working containers are not in its API's usual list.
    return service.machine.run("podman", "ps", "-a", "-q", "--external", user=service.engine.rootless).splitlines()


def _changed(bench: Bench) -> Iterator[Path]:
    """Files of the engine's machine, and of the client, that are new since the beginning."""
    machine = bench.client.service.machine
    for place in (machine.folder, bench.client.folder, machine.files("/run"), machine.files("/tmp")):
        for folder, _, names in os.walk(place):
            for path in (Path(folder, name) for name in names):
                with suppress(OSError):
                    status = path.lstat()
                    if (
                        path.is_file()
                        and not path.is_symlink()
                        and max(status.st_mtime, status.st_ctime) >= bench.began
                    ):
                        yield path


def _holds(path: Path, needle: bytes) -> bool:
    rest = b""
    with suppress(OSError), path.open("rb") as file:
        while chunk := file.read(1 << 20):
            if needle in rest + chunk:
                return True
            rest = chunk[-len(needle) :]
    return False
