"""Secrets, the ssh agent and the CA bundle: they reach the user's step, and stay nowhere. On both engines."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from orchestrator.build.check import check_project
from orchestrator.containerfile.assemble import BuilderCapabilities, assemble
from orchestrator.containerfile.sources import list_sources
from orchestrator.engine.api_engine import ApiEngine
from orchestrator.engine.base import BuildRequest, BuildSecret, Engine, LayerLostError
from orchestrator.events import ignore
from orchestrator.inputs.resolve import resolve_inputs
from orchestrator.network import CA_SECRET, ca_bundle
from orchestrator.plan.make import make_plan
from tests.build.projects import COMPILE, write_project
from tests.support import engines
from tests.support.cli import Run, orchestrator

KEY_LINES = 6


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """What must be found nowhere: a token (environment), a key file of several lines, a CA certificate."""

    token: str
    key: str
    certificate: str

    @classmethod
    def new(cls) -> Canaries:
        key = "\n".join(secrets.token_hex(24) for _ in range(KEY_LINES))
        body = "\n".join(base64.b64encode(secrets.token_bytes(48)).decode() for _ in range(8))
        return cls(
            token=f"canary-{secrets.token_hex(16)}",
            key=f"-----BEGIN KEY-----\n{key}\n-----END KEY-----\n",
            certificate=f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n",
        )

    def needles(self) -> list[bytes]:
        """Parts that betray each, however lines are ended."""
        lines = [self.token, self.key.splitlines()[2], self.certificate.splitlines()[2]]
        return [line.encode() for line in lines]


def project_of(folder: Path, canaries: Canaries, run: str, mark: str = "") -> Path:
    """A project with all three. Its script is unlike any other, or the step would come from an engine's cache."""
    folder.mkdir(parents=True, exist_ok=True)
    # Among the sources, which are copied into layers: it must be left out of them by itself.
    (folder / "key.pem").write_text(canaries.key)
    (folder.parent / "ca.pem").write_text(canaries.certificate)
    named = [{"id": "token", "env": "CANARY_TOKEN"}, {"id": "key", "file": "key.pem"}]
    return write_project(
        folder,
        build={"secrets": named, "run": f"{run}# {mark or secrets.token_hex(8)}\n", "program": "program"},
        stage={"files": ["sums"]},
        network={"ca": "../ca.pem"},
    )


def build(project: Path, out: Path, engine: Engine, canaries: Canaries, *more: str, **env: str) -> Run:
    environment = {"CANARY_TOKEN": canaries.token, **env}
    return orchestrator("build", project, "-o", out, "--engine", engine.info.endpoint, *more, env=environment)


SUMS = f"""\
{COMPILE}
for file in /run/secrets/token /run/secrets/key "$SSL_CERT_FILE"; do sha256sum < "$file" | cut -c1-64; done > sums
echo "they say $(cat /run/secrets/token), they do"
cat /run/secrets/key
printf '%s' "$(cat /run/secrets/token)" >&2
"""


def test_secrets_reach_the_step_and_stay_nowhere(engine: Engine, tmp_path: Path) -> None:
    canaries, began = Canaries.new(), time.time()
    project = project_of(tmp_path / "p", canaries, SUMS)
    done = build(project, tmp_path / "out", engine, canaries, "--progress", "json")
    assert done.code == 0, done.stderr
    image = tmp_path / "out" / "program.img"
    told = orchestrator("inspect", image, "cat", "/sums").stdout.split()
    bundle = ca_bundle().read_bytes() + b"\n" + canaries.certificate.encode()
    sent = [canaries.token.encode(), canaries.key.encode(), bundle]
    assert told == [hashlib.sha256(value).hexdigest() for value in sent]

    assert "they say ***, they do" in done.stderr
    for text in (done.stdout, done.stderr):
        assert not [needle for needle in canaries.needles() if needle.decode() in text]
    written = [path for path in (tmp_path / "out").iterdir() if path.is_file()]
    assert image in written
    assert not [path for path in written if found_in(path, canaries.needles())]
    # Nor in what the engine keeps: layers, caches, logs, contexts that it unpacked.
    searched, hits = search(engine, began - 1, canaries.needles())
    assert searched, "the engine's files were not where they were looked for"
    assert hits == []


def test_no_image_of_the_build_holds_them(engine: Engine, tmp_path: Path) -> None:
    """Every stage of the Containerfile as an image, exported whole."""
    canaries = Canaries.new()
    project = project_of(tmp_path / "p", canaries, SUMS)
    for target in ("program", "staging"):
        with stage_image(engine, project, canaries, target) as image:
            assert not found_in_export(engine, image, canaries.needles()), target


def test_the_searches_find_what_a_step_does_keep(engine: Engine, tmp_path: Path) -> None:
    """So that finding nothing, above, means something."""
    canaries, began = Canaries.new(), time.time()
    project = project_of(tmp_path / "p", canaries, f'{SUMS}\ncat /run/secrets/* "$SSL_CERT_FILE" > leak\n')
    with stage_image(engine, project, canaries, "program") as image:
        assert found_in_export(engine, image, canaries.needles()) == sorted(canaries.needles())
        assert [path for path in search(engine, began - 1, canaries.needles())[1] if path.name == "leak"]


def test_the_context_holds_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canaries = Canaries.new()
    project = project_of(tmp_path / "p", canaries, SUMS)
    monkeypatch.delenv("CANARY_TOKEN", raising=False)
    done = orchestrator("render", project, "-o", tmp_path / "made")
    assert done.code == 0, done.stderr
    assert "--secret id=token,type=env,src=CANARY_TOKEN" in done.stderr
    files = [path for path in (tmp_path / "made").rglob("*") if path.is_file()]
    assert len(files) > 4
    assert not [path for path in files if found_in(path, canaries.needles())]
    bundle = next(word for word in done.stderr.split() if word.startswith(f"id={CA_SECRET},src="))
    assert canaries.certificate in Path(bundle.partition("src=")[2]).read_text()


def test_a_failing_step_does_not_tell_them(engine: Engine, tmp_path: Path) -> None:
    canaries = Canaries.new()
    run = "cat /run/secrets/key\necho last words: $(cat /run/secrets/token) >&2\n$(cat /run/secrets/token)\n"
    project = project_of(tmp_path / "p", canaries, run)
    for progress in ("plain", "json"):
        done = build(project, tmp_path / "out", engine, canaries, "--progress", progress, "--no-cache")
        assert done.code == 5
        assert "last words: ***" in done.stderr
        assert not [needle for needle in canaries.needles() if needle.decode() in done.stderr + done.stdout]


def test_a_second_build_is_cached_whatever_the_secrets(engine: Engine, tmp_path: Path) -> None:
    def steps(canaries: Canaries) -> dict[str, bool]:
        project = project_of(tmp_path / "p", canaries, f"{COMPILE}\nwc -c < /run/secrets/token > sums\n", mark)
        done = build(project, tmp_path / "out", engine, canaries)
        assert done.code == 0, done.stderr
        receipt = json.loads((tmp_path / "out" / "program.receipt.json").read_text())
        return {row["step"]: row["cached"] for row in receipt["stages"] if row["step"].startswith("RUN")}

    mark = secrets.token_hex(8)
    first, second = steps(Canaries.new()), steps(Canaries.new())
    assert not all(first.values())
    assert first.keys() == second.keys()
    assert all(second.values()), second


def test_the_ssh_agent_reaches_the_step(engine: Engine, tmp_path: Path) -> None:
    comment = f"key-{secrets.token_hex(8)}"
    ask = (
        "import os, socket, struct\n"
        "agent = socket.socket(socket.AF_UNIX)\n"
        "agent.connect(os.environ['SSH_AUTH_SOCK'])\n"
        "for _ in range(3):\n"
        "    agent.sendall(struct.pack('>IB', 1, 11))\n"
        "    size = struct.unpack('>I', agent.recv(4, socket.MSG_WAITALL))[0]\n"
        "    answer = agent.recv(size, socket.MSG_WAITALL)\n"
        f"print(len(answer), b'{comment}' in answer)\n"
    )
    project = write_project(
        tmp_path / "p",
        files={"ask.py": ask},
        build={"run": f"{COMPILE}\npython3 ask.py | tee sums\n", "program": "program", "ssh": True},
        stage={"files": ["sums"]},
    )
    answer = b"\x0c" + b"\0" * 100_000 + comment.encode()
    with agent(answer) as path:
        done = orchestrator(
            "build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint, env={"SSH_AUTH_SOCK": path}
        )
    assert done.code == 0, done.stderr
    said = orchestrator("inspect", tmp_path / "out" / "program.img", "cat", "/sums").stdout
    assert said == f"{len(answer)} True\n"


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"secrets": [{"id": "t", "env": "NO_SUCH_CANARY"}]}, "build.secrets[0].env", "NO_SUCH_CANARY is not set"),
        ({"secrets": [{"id": "t", "file": "gone.pem"}]}, "build.secrets[0].file", "there is no file `gone.pem`"),
        ({"ssh": True}, "build.ssh", "SSH_AUTH_SOCK"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(
    tmp_path: Path, change: dict[str, object], field: str, words: str
) -> None:
    project = write_project(tmp_path / "p", build={"run": COMPILE, "program": "program", **change})
    # An engine that isn't there is not even asked.
    done = orchestrator(
        "build", project, "-o", tmp_path / "out", "--engine", f"unix://{tmp_path}/none", env={"SSH_AUTH_SOCK": ""}
    )
    assert done.code == 2
    line = next(n for n, text in enumerate(project.read_text().splitlines(), 1) if field.rpartition(".")[2] in text)
    assert done.stderr.startswith(f"{project}:{line}: {field}: "), done.stderr
    assert words in done.stderr
    assert not (tmp_path / "out").exists()
    assert orchestrator("check", project, env={"SSH_AUTH_SOCK": ""}).code == 0


@pytest.mark.engine
@pytest.mark.parametrize("change", [{"secrets": [{"id": "t", "env": "PATH"}]}, {"ssh": True}])
def test_the_classic_builder_says_that_it_cannot(tmp_path: Path, change: dict[str, object]) -> None:
    project = write_project(tmp_path / "p", build={"run": COMPILE, "program": "program", **change})
    with engines.docker_engine() as docker, agent(b"") as path:
        done = orchestrator(
            "build", project, "-o", tmp_path / "out", "--engine", docker.info.endpoint,
            env={"DOCKER_BUILDKIT": "0", "SSH_AUTH_SOCK": path},
        )  # fmt: skip
    assert done.code == 3
    assert f"build.{next(iter(change))}: docker" in done.stderr
    assert "DOCKER_BUILDKIT" in done.stderr


@pytest.mark.engine
def test_the_classic_builder_still_has_the_certificates(tmp_path: Path) -> None:
    """Copied there, because it has no mounts: the step sees the same bundle."""
    run = f'{COMPILE}\nsha256sum < "$SSL_CERT_FILE" | cut -c1-64 > sums\n'
    project = write_project(tmp_path / "p", build={"run": run, "program": "program"}, stage={"files": ["sums"]})
    with engines.docker_engine() as docker:
        done = orchestrator(
            "build", project, "-o", tmp_path / "out", "--engine", docker.info.endpoint, env={"DOCKER_BUILDKIT": "0"}
        )
    assert done.code == 0, done.stderr
    told = orchestrator("inspect", tmp_path / "out" / "program.img", "cat", "/sums").stdout.strip()
    assert told == hashlib.sha256(ca_bundle().read_bytes()).hexdigest()


@contextmanager
def agent(answer: bytes, parent: Path = Path("/tmp")) -> Iterator[str]:
    """An ssh agent that gives `answer` to every request; the path of its socket."""
    folder = parent / f"orchestrator-agent-{secrets.token_hex(6)}"
    folder.mkdir(mode=0o700)
    path = folder / "agent.sock"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def serve(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while connection.recv(5, socket.MSG_WAITALL):
                connection.sendall(len(answer).to_bytes(4, "big") + answer)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield str(path)
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(timeout=5)
        path.unlink()
        folder.rmdir()


@contextmanager
def stage_image(engine: Engine, project: Path, canaries: Canaries, target: str) -> Iterator[str]:
    """One stage of a project's Containerfile, built as an image and removed afterwards."""
    checked = check_project(project)
    inputs = resolve_inputs(checked.loaded, engine, ignore)
    plan = make_plan(checked.loaded, checked.settings, inputs)
    capabilities = BuilderCapabilities(mounts=engine.capabilities.mounts, ssh=engine.capabilities.ssh)
    sources = list_sources(checked.loaded, (project.parent / "out",))
    made = assemble(checked.loaded, plan, inputs, capabilities=capabilities, sources=sources)
    identity = f"test-secrets-{secrets.token_hex(4)}"
    request = BuildRequest(
        context=(),
        containerfile="Containerfile",
        tag=f"localhost/orchestrator-test/{target}:{identity}",
        build_id=identity,
        target=target,
        secrets=(
            BuildSecret(id="token", data=canaries.token.encode()),
            BuildSecret(id="key", data=canaries.key.encode()),
            BuildSecret(id=CA_SECRET, data=made.certificates, hide=False),
        ),
    )
    image = ""
    while not image:
        with suppress(LayerLostError):  # another session's build, on the same Podman, ended just then
            image = engine.build(replace(request, context=made.context.stream()), ignore)
    try:
        yield image
    finally:
        for leftover in engine.leftovers():
            if leftover.build_id == identity:
                engine.remove(leftover)


def found_in_export(engine: Engine, image: str, needles: list[bytes]) -> list[bytes]:
    """Which of `needles` an image's export (layers, configuration, history) holds."""
    assert isinstance(engine, ApiEngine)
    size = 0

    def counting(chunks: Iterator[bytes]) -> Iterator[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            yield chunk

    with engine._api.get_stream(f"/images/{image}/get", params={}) as chunks:
        hits = scan(counting(chunks), needles)
    assert size > 100_000, "the export is no image"
    return hits


def found_in(path: Path, needles: list[bytes]) -> list[bytes]:
    """Which of `needles` a file holds."""
    with path.open("rb") as stream:
        return scan(iter(lambda: stream.read(1 << 20), b""), needles)


def scan(chunks: Iterator[bytes], needles: list[bytes]) -> list[bytes]:
    """Which of `needles` are in a stream, also across its chunks."""
    hits, rest, longest = set(), b"", max(map(len, needles))
    for chunk in chunks:
        data = rest + chunk
        hits |= {needle for needle in needles if needle in data}
        rest = data[-longest:]
    return sorted(hits)


def search(engine: Engine, since: float, needles: list[bytes]) -> tuple[int, list[Path]]:
    """Every file that changed since then below the engine's own folders: how many, and those with a needle."""
    assert isinstance(engine, ApiEngine)
    places = [Path("/var/tmp"), Path("/var/log"), Path("/run")]
    for own in ("libpod*", "buildah*", "containers*", "orchestrator-*"):
        places += Path(tempfile.gettempdir()).glob(own)
    if engine.info.kind == "docker":
        places.append(Path(engine._api.json("GET", "/info")["DockerRootDir"]))
    else:
        places += [engines.PODMAN_STORE, Path(engine.info.endpoint.removeprefix("unix://")).parent]
    searched, hits = 0, []
    for path in changed(places, lambda status: max(status.st_mtime, status.st_ctime) >= since):
        with suppress(OSError):
            searched += 1
            if found_in(path, needles):
                hits.append(path)
    return searched, hits


def changed(places: list[Path], wanted: Callable[[os.stat_result], bool]) -> Iterator[Path]:
    for place in places:
        for folder, _folders, names in os.walk(place):
            for name in names:
                path = Path(folder, name)
                with suppress(OSError):
                    status = path.lstat()
                    if path.is_file() and not path.is_symlink() and status.st_size and wanted(status):
                        yield path
