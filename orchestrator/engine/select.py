"""Which engine builds: the one that was asked for, or the first that answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator import process
from orchestrator.engine.base import EngineInfo, RunningEngine
from orchestrator.engine.capabilities import EngineCapabilities
from orchestrator.engine.docker import DockerEngine
from orchestrator.engine.docker_api import Api, ConnectionFault, GoneError
from orchestrator.engine.endpoints import SCHEMES, Endpoint, docker_endpoints, endpoints, podman_endpoints
from orchestrator.engine.podman import PodmanEngine
from orchestrator.engine.probe import start_private, try_step
from orchestrator.engine.ssh_tunnel import CONNECT_TIMEOUT, SshTunnel
from orchestrator.errors import EngineError, Finding, OrchestratorError, Severity
from orchestrator.events import Emit, Notice, ignore
from orchestrator.findings import Findings

_Answering = list[tuple[EngineInfo, EngineCapabilities]]
ANSWER_TIMEOUT = 5.0
"""Seconds in which an engine must say who it is, before the next one is tried."""
NAMED_TIMEOUT = 30.0
"""Of one that a person has named, after which none is tried: systemd may start it only now, by its socket."""


@dataclass(frozen=True, kw_only=True)
class EngineAttempt:
    """An engine that was tried: `what` in a user's words, its `url`, and why it is of no use.

    `absent`: nothing was ever there, so that most users needn't hear of it.
    """

    what: str
    url: str
    problem: str
    remedy: str
    absent: bool = False

    def __str__(self) -> str:
        return f"{self.what}: {self.problem}"


def connect(spec: str = "auto", *, emit: Emit = ignore) -> RunningEngine:
    """The engine that `spec` asks for; `emit` hears which it is, and why.

    `auto`: the engine that a person has named (DOCKER_HOST, a docker context, CONTAINER_HOST, a podman connection),
    and no other. Where none is named: Docker if it answers, else a running Podman, else a private Podman. `docker`;
    `podman` (a running one, else private); `private` (a private Podman even where one runs); or a URL (unix://, tcp://,
    http://, https://, ssh://).

    EngineError names every one that was tried, why each failed, and the remedy.
    """
    attempts: list[EngineAttempt] = []
    places = endpoints(spec)
    for endpoint in places:
        engine = _open(endpoint, attempts)
        if engine is not None:
            emit(Notice(text=_chosen(engine.info, spec, endpoint, attempts)))
            return engine
    if spec in ("auto", "podman", "private") and not any(endpoint.named for endpoint in places):
        try:
            engine = start_private(emit)
        except EngineError as error:
            attempts.append(EngineAttempt(what="private Podman", url="", problem=error.message, remedy=error.remedy))
        else:
            emit(Notice(text=_chosen(engine.info, spec, None, attempts)))
            return engine
    raise _none(spec, places, attempts)


def connect_to_another(kind: str, *, emit: Emit = ignore) -> RunningEngine | None:
    """An engine that is not of this kind (docker|podman); None where none can be used."""
    try:
        return connect("podman" if kind == "docker" else "docker", emit=emit)
    except EngineError:
        return None


@dataclass(frozen=True, kw_only=True)
class EngineSurvey:
    """The engines that could be asked for: what was found of each, and what those can do that answer."""

    findings: tuple[Finding, ...]
    answering: tuple[tuple[EngineInfo, EngineCapabilities], ...]


def candidates() -> EngineSurvey:
    """Every engine that could be asked for and whether it is of use, for `doctor`.

    A private Podman is started, to see whether that works, and ended.

    Codes: engine-docker, engine-podman-socket, engine-podman-private, runtime-crun, runtime-runc. NOTE = usable (or
    not needed), WARNING = not usable, with the remedy. ERROR where builds can't begin: the engine that a person has
    named is not usable, or (code engine-none) there is no usable engine at all.
    """
    findings, answering = Findings(), _Answering()
    usable = named = False
    for code, places in (("engine-docker", docker_endpoints), ("engine-podman-socket", podman_endpoints)):
        try:
            listed = places()
        except EngineError as error:
            severity = Severity.WARNING if named else Severity.ERROR
            named = True
            findings.add(severity, code, "", error.message, error.remedy)
            continue
        for endpoint in listed:
            decides = bool(endpoint.named) and not named
            named = named or decides
            usable = _look_at(endpoint, code, (findings, answering), decides=decides) or usable
    private = _look_at_private(findings, answering)
    _look_at_runtimes(findings)
    if not named and not usable and private.severity is not Severity.NOTE:
        remedy = "install podman and runc (Debian: apt-get install podman runc), or start Docker"
        findings.error("engine-none", "", "no usable container engine", remedy)
    return EngineSurvey(findings=tuple(findings.collected), answering=tuple(answering))


def _look_at(endpoint: Endpoint, code: str, told: tuple[Findings, _Answering], *, decides: bool) -> bool:
    """Whether the engine there is of use. `decides`: `auto` takes this one or none."""
    (findings, answering), attempts = told, list[EngineAttempt]()
    engine = _open(endpoint, attempts)
    if engine is None:
        failed = attempts[0]
        severity = Severity.NOTE if failed.absent else Severity.WARNING
        findings.add(Severity.ERROR if decides else severity, code, "", f"{failed}", failed.remedy)
        return False
    info = engine.info
    text = f"{endpoint.what}: {info.kind} {info.version}, API {info.api_version}, builder {info.builder}"
    text += f", named by {endpoint.named}" if endpoint.named else ""
    try:
        with closing(engine):
            answering.append((info, engine.capabilities))
            try_step(engine)
    except OrchestratorError as error:
        severity = Severity.ERROR if decides else Severity.WARNING
        findings.add(severity, code, "", f"{text}; it cannot run a build step: {error.message}", error.remedy)
        return False
    findings.note(code, "", f"{text}, runs build steps")
    return True


def _open(endpoint: Endpoint, attempts: list[EngineAttempt]) -> RunningEngine | None:
    """The engine at `endpoint`, or None and one more attempt."""

    def failed(problem: str, remedy: str, *, absent: bool = False) -> None:
        what = f"{endpoint.what} ({endpoint.named})" if endpoint.named not in ("", "--engine") else endpoint.what
        attempts.append(EngineAttempt(what=what, url=endpoint.url, problem=problem, remedy=remedy, absent=absent))

    if not endpoint.url.startswith(SCHEMES):
        failed(f"{endpoint.url} has an unsupported scheme", f"use one of {', '.join(SCHEMES)}, or forward its socket")
        return None
    try:
        api = _connection(endpoint)
        make: Callable[[Api], RunningEngine] = PodmanEngine if api.version.kind == "podman" else DockerEngine
        return make(api)
    except GoneError as error:
        absent = error.reason is ConnectionFault.MISSING and not endpoint.named
        failed(error.message, _remedy(endpoint, error.reason), absent=absent)
    except EngineError as error:
        failed(error.message, error.remedy or "check its URL")
    return None


def _connection(endpoint: Endpoint) -> Api:
    if not endpoint.url.startswith("ssh://"):
        return Api(endpoint.url, timeout=NAMED_TIMEOUT if endpoint.named else ANSWER_TIMEOUT, tls=endpoint.tls)
    tunnel = SshTunnel(endpoint.url, kind=endpoint.kind, identity=endpoint.identity)
    try:
        return Api(endpoint.url, timeout=CONNECT_TIMEOUT, tunnel=tunnel)
    except BaseException:
        tunnel.close()
        raise


def _remedy(endpoint: Endpoint, reason: ConnectionFault) -> str:
    podman = endpoint.kind == "podman"
    if reason is ConnectionFault.INSECURE:
        return (
            "check the certificates: ca.pem, and the cert.pem and key.pem that the engine may require, in"
            " DOCKER_CERT_PATH or the docker context"
        )
    if endpoint.url.startswith("ssh://"):
        host = urlsplit(endpoint.url).netloc
        program = "podman" if podman else "docker"
        return f"`ssh {host} {program} version` must work without a question (a key in the agent, a known host)"
    if reason is ConnectionFault.DENIED:
        return (
            "run as the user that owns the socket"
            if podman
            else "add yourself to the group docker (usermod -aG docker $USER, then log in again) or use --engine podman"
        )
    if endpoint.named:
        if endpoint.named == "--engine":
            return "start the engine that serves it, or check the URL"
        return f"start the engine that serves it, correct {endpoint.named}, or choose another with --engine"
    if reason in (ConnectionFault.MISSING, ConnectionFault.REFUSED):
        return (
            "start it (systemctl start podman.socket) or ignore this: a private one can be used"
            if podman
            else "start it (systemctl start docker) or use --engine podman"
        )
    return "check that the engine is running, and look at its log"


def _chosen(info: EngineInfo, spec: str, endpoint: Endpoint | None, attempts: list[EngineAttempt]) -> str:
    """Which engine was taken and why, with a word on those that are there and can't be used."""
    name = f"{info.kind.capitalize()} {info.version}"
    text = f"engine: private {name}" if info.private else f"engine: {name} at {info.endpoint}"
    text += f" ({info.note})" if info.note else ""
    if endpoint is not None and endpoint.named not in ("", "--engine"):
        return f"{text}, named by {endpoint.named}"
    if spec != "auto":
        return f"{text}, as --engine asks"
    refused = [f"{attempt.what} not used: {attempt.problem}" for attempt in attempts if not attempt.absent]
    if info.private and not refused:
        refused = ["no other is running"]
    return "; ".join([text, *refused])


def _none(spec: str, places: list[Endpoint], attempts: list[EngineAttempt]) -> EngineError:
    if len(attempts) == 1:
        only = attempts[0]
        named = places[0].named if places else ""
        rule = "; no other engine is tried, because that one is named" if named and spec in ("auto", "podman") else ""
        return EngineError(f"cannot use {only.what}: {only.problem}{rule}", remedy=only.remedy)
    tried = "\n".join(f"- {attempt}; {attempt.remedy}" for attempt in attempts)
    return EngineError(
        f"no usable container engine (requested: {spec}). Tried:\n{tried}",
        remedy="`orchestrator doctor` shows more",
    )


def _look_at_private(findings: Findings, answering: _Answering) -> Finding:
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
    with closing(engine):
        answering.append((info, engine.capabilities))
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
