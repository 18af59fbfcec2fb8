"""Which engine builds: the one that was asked for, or the first that answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import process
from orchestrator.engine.base import RunningEngine
from orchestrator.engine.docker import DockerEngine
from orchestrator.engine.docker_api import Api, ConnectionFault, GoneError
from orchestrator.engine.podman import PodmanEngine
from orchestrator.engine.probe import start_private
from orchestrator.errors import EngineError, Finding, Severity
from orchestrator.events import Emit, ignore
from orchestrator.findings import Findings

DOCKER_SOCKET = "unix:///var/run/docker.sock"
SCHEMES = ("unix://", "tcp://", "http://", "https://")
ANSWER_TIMEOUT = 5.0
"""Seconds in which an engine must say who it is, before the next one is tried."""


@dataclass(frozen=True, kw_only=True)
class EngineAttempt:
    """A place that was tried: `what` in a user's words, `endpoint`, and why it is of no use.

    `absent`: nothing was ever there, so that most users needn't hear of it.
    """

    what: str
    endpoint: str
    problem: str
    remedy: str
    absent: bool = False

    def __str__(self) -> str:
        return f"- {self.what}: {self.problem}; {self.remedy}"


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    what: str
    endpoint: str
    kind: str


def connect(spec: str = "auto", *, emit: Emit = ignore) -> RunningEngine:
    """The engine that `spec` asks for.

    `auto`: Docker if it answers, else a running Podman, else a private Podman. `docker`; `podman` (a running one,
    else private); `private` (a private Podman even where one runs); or a URL (unix://, tcp://, http://, https://).
    EngineError names every place that was tried, why each failed, and the remedy.
    """
    attempts: list[EngineAttempt] = []
    for candidate in _candidates(spec):
        engine = _open(candidate, attempts)
        if engine is not None:
            return engine
    if spec in ("auto", "podman", "private"):
        try:
            return start_private(emit, note=_why_private(spec, attempts))
        except EngineError as error:
            attempts.append(
                EngineAttempt(what="private Podman", endpoint="", problem=error.message, remedy=error.remedy)
            )
    raise _none(spec, attempts)


def connect_to_another(kind: str, *, emit: Emit = ignore) -> RunningEngine | None:
    """An engine that is not of this kind (docker|podman); None where none can be used."""
    try:
        return connect("podman" if kind == "docker" else "docker", emit=emit)
    except EngineError:
        return None


def candidates() -> list[Finding]:
    """Every engine that `auto` would look at and whether it is of use, for `doctor`.

    A private Podman is started, to see whether that works, and ended.

    Codes: engine-docker, engine-podman-socket, engine-podman-private, runtime-crun, runtime-runc. NOTE = usable (or
    not needed), WARNING = not usable, with the remedy; when no engine at all is usable the last finding is an
    ERROR with code engine-none.
    """
    findings = Findings()
    usable = False
    for candidate in _candidates("auto"):
        attempts: list[EngineAttempt] = []
        engine = _open(candidate, attempts)
        code = "engine-docker" if candidate.kind == "docker" else "engine-podman-socket"
        if engine is not None:
            usable = True
            info = engine.info
            engine.close()
            text = f"{candidate.what}: {info.kind} {info.version}, API {info.api_version}, builder {info.builder}"
            findings.note(code, "", text)
        else:
            failed = attempts[0]
            text = f"{failed.what}: {failed.problem}"
            severity = Severity.NOTE if failed.absent else Severity.WARNING
            findings.add(severity, code, "", text, failed.remedy)
    private = _look_at_private(findings)
    _look_at_runtimes(findings)
    if not usable and private.severity is not Severity.NOTE:
        remedy = "install podman and runc (Debian: apt-get install podman runc), or start Docker"
        findings.error("engine-none", "", "no usable container engine", remedy)
    return findings.collected


def _candidates(spec: str) -> Iterator[_Candidate]:
    if spec.startswith(SCHEMES):
        yield _Candidate(what=spec, endpoint=spec, kind="")
        return
    if spec not in ("auto", "docker", "podman", "private"):
        raise EngineError(
            f"unknown engine {spec!r}",
            remedy="use auto, docker, podman, private or a URL (unix:///path, tcp://host:port)",
        )
    if spec in ("auto", "docker"):
        host = os.environ.get("DOCKER_HOST", "")
        what = "Docker (DOCKER_HOST)" if host else "Docker"
        yield _Candidate(what=what, endpoint=host or DOCKER_SOCKET, kind="docker")
    if spec in ("auto", "podman"):
        yield from _podman_candidates()


def _podman_candidates() -> Iterator[_Candidate]:
    if host := os.environ.get("CONTAINER_HOST", ""):
        yield _Candidate(what="Podman (CONTAINER_HOST)", endpoint=host, kind="podman")
    sockets = ["/run/podman/podman.sock"] if os.geteuid() == 0 else []
    if runtime := os.environ.get("XDG_RUNTIME_DIR", ""):
        sockets.insert(0, f"{runtime}/podman/podman.sock")
    for path in sockets:
        yield _Candidate(what="running Podman", endpoint=f"unix://{path}", kind="podman")


def _open(candidate: _Candidate, attempts: list[EngineAttempt]) -> RunningEngine | None:
    """The engine at `place`, or None and one more attempt."""

    def failed(problem: str, remedy: str, *, absent: bool = False) -> None:
        attempts.append(
            EngineAttempt(
                what=candidate.what, endpoint=candidate.endpoint, problem=problem, remedy=remedy, absent=absent
            )
        )

    if not candidate.endpoint.startswith(SCHEMES):
        failed(f"{candidate.endpoint} has an unsupported scheme", "use unix:// or tcp://, or forward its socket")
        return None
    try:
        api = Api(candidate.endpoint, timeout=ANSWER_TIMEOUT)
        make: Callable[[Api], RunningEngine] = PodmanEngine if api.version.kind == "podman" else DockerEngine
        return make(api)
    except GoneError as error:
        failed(error.message, _remedy(candidate, error.reason), absent=error.reason is ConnectionFault.MISSING)
    except EngineError as error:
        failed(error.message, error.remedy or "check its URL")
    return None


def _remedy(candidate: _Candidate, reason: ConnectionFault) -> str:
    podman = candidate.kind == "podman"
    if reason is ConnectionFault.DENIED:
        return (
            "run as the user that owns the socket"
            if podman
            else "add yourself to the group docker (usermod -aG docker $USER, then log in again) or use --engine podman"
        )
    if reason in (ConnectionFault.MISSING, ConnectionFault.REFUSED):
        if candidate.kind == "":
            return "start the engine that serves it, or check the URL"
        return (
            "start it (systemctl start podman.socket) or ignore this: a private one can be used"
            if podman
            else "start it (systemctl start docker) or use --engine podman"
        )
    return "check that the engine is running, and look at its log"


def _why_private(spec: str, attempts: list[EngineAttempt]) -> str:
    """What to say of engines that are there and can't be used; one that isn't installed needs no word."""
    if spec == "private":
        return ""
    present = [attempt for attempt in attempts if not attempt.absent]
    return "; ".join(f"{attempt.what} not used: {attempt.problem}" for attempt in present)


def _none(spec: str, attempts: list[EngineAttempt]) -> EngineError:
    if len(attempts) == 1:
        only = attempts[0]
        return EngineError(f"cannot use {only.what}: {only.problem}", remedy=only.remedy)
    tried = "\n".join(str(attempt) for attempt in attempts)
    return EngineError(
        f"no usable container engine (requested: {spec}). Tried:\n{tried}",
        remedy="`orchestrator doctor` shows more",
    )


def _look_at_private(findings: Findings) -> Finding:
    code = "engine-podman-private"
    path = process.which("podman")
    if path is None:
        message = "private Podman: podman is not installed"
        return findings.warning(code, "", message, "apt-get install podman runc")
    try:
        engine = start_private()
    except EngineError as error:
        return findings.warning(code, "", f"private Podman: {error.message}", error.remedy)
    info = engine.info
    engine.close()
    note = f" ({info.note})" if info.note else ""
    message = f"private Podman: podman {info.version}, API {info.api_version}, runs build steps{note}"
    return findings.note(code, "", message)


def _look_at_runtimes(findings: Findings) -> None:
    hybrid = Path("/sys/fs/cgroup/unified").is_dir()
    for name in ("crun", "runc"):
        path = process.which(name)
        if path is None:
            text, remedy = f"{name}: not installed", f"apt-get install {name} (one of crun, runc is enough)"
            other = process.which("runc" if name == "crun" else "crun")
            severity = Severity.NOTE if other and not (name == "runc" and hybrid) else Severity.WARNING
        else:
            lines = process.run([path, "--version"], timeout=30).stdout.split("\n")
            text, remedy, severity = f"{name}: {lines[0].strip()}", "", Severity.NOTE
            if name == "crun" and hybrid:
                text += " (refuses this machine's hybrid cgroups; runc is used)"
        findings.add(severity, f"runtime-{name}", "", text, remedy)
