"""Finding settings with which Podman really runs a build step here, and remembering them."""

from __future__ import annotations

import io
import json
import os
import platform
import re
import secrets
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator import process
from orchestrator.documents import DocumentError, read_document
from orchestrator.engine.base import BuildRequest, Engine
from orchestrator.engine.private import INSTALL, PrivateEngine, PrivatePodman
from orchestrator.engine.settings import Settings, alternatives
from orchestrator.errors import EngineError, OrchestratorError
from orchestrator.events import Emit, Notice, ignore
from orchestrator.files import write_text
from orchestrator.user_namespaces import find_obstacle
from orchestrator.user_paths import podman_memory

PROBE_ID = "probe"
# The smallest static program, exit(0): machine code, ELF machine number, assembly.
EXIT_0 = {
    "x86_64": (bytes.fromhex("31ffb83c0000000f05"), 62, "xor edi, edi; mov eax, 60; syscall"),
    "aarch64": (bytes.fromhex("000080d2a80b80d2010000d4"), 183, "mov x0, 0; mov x8, 93; svc 0"),
}
_NETWORK = re.compile(r"netavark|cni|network|netns|slirp|pasta", re.IGNORECASE)
_RUNTIME = re.compile(r"/(?P<name>\w[\w-]*) ")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What Podman's words say of why a step could not run: read once, where they arrive.

    `network`: it is about the network of a step. `runtimes`: the OCI runtimes that this machine's control groups stop.
    """

    network: bool = False
    runtimes: frozenset[str] = frozenset()

    @staticmethod
    def of(said: str) -> Fault:
        """The fault that Podman's `said` is about."""
        named = _RUNTIME.findall(said) if "cgroup" in said else []
        return Fault(network=bool(_NETWORK.search(said)), runtimes=frozenset(named))


@dataclass(frozen=True, kw_only=True)
class SettingsAttempt:
    """Settings that were tried and what went wrong ("" = they work)."""

    settings: Settings
    problem: str
    fault: Fault


def start_private(emit: Emit = ignore, *, storage: Path | None = None) -> PrivateEngine:
    """A private Podman that works on this machine. EngineError when none of the settings does.

    The first time after a boot or an upgrade it tries settings with a tiny build (seconds); later it remembers.
    """
    if process.which("podman") is None:
        raise EngineError("podman is not installed", remedy=INSTALL)
    known = _recall()
    if known is not None:
        with suppress(EngineError):
            return _engine(known, storage)
    emit(Notice(text="testing Podman on this machine (once after each boot)"))
    attempts: list[SettingsAttempt] = []
    for settings in _worth_trying(attempts):
        try:
            engine = _prove(settings, storage)
        except OrchestratorError as error:
            attempts.append(SettingsAttempt(settings=settings, problem=error.message, fault=Fault.of(error.said)))
            continue
        _remember(settings)
        return engine
    tried = "\n".join(f"- {a.settings.note() or 'as configured'}: {a.problem}" for a in attempts)
    raise EngineError(
        f"Podman cannot run a build step on this machine:\n{tried}",
        remedy=_mend(),
    )


def _mend() -> str:
    obstacle = find_obstacle() if os.geteuid() != 0 else None
    if obstacle is None:
        return "try `podman run` by hand to see what it lacks, or start Docker"
    return f"{obstacle.reason}: {obstacle.remedy}, or start Docker"


def _worth_trying(attempts: list[SettingsAttempt]) -> Iterator[Settings]:
    """`alternatives`, less those that the last problem says will fail the same way."""
    for settings in alternatives():
        if settings.network and not (attempts and attempts[-1].fault.network):
            continue
        # The runtime itself failed before: another storage driver won't mend it.
        if not settings.network and any(settings.runtime in attempt.fault.runtimes for attempt in attempts):
            continue
        yield settings


def _engine(settings: Settings, storage: Path | None) -> PrivateEngine:
    service = PrivatePodman(settings, storage=storage)
    try:
        return PrivateEngine(service, note=settings.note(), network=settings.network)
    except BaseException:
        service.close()
        raise


def _prove(settings: Settings, storage: Path | None) -> PrivateEngine:
    """An engine with these settings that has built something. OrchestratorError when it could not."""
    engine = _engine(settings, storage)
    try:
        try_step(engine)
    except BaseException:
        engine.close()
        raise
    return engine


def try_step(engine: Engine) -> None:
    """A build from scratch with one RUN; leaves nothing. OrchestratorError when the engine can't run it."""
    number = secrets.token_hex(6)
    request = BuildRequest(
        context=_probe_context(mounts=engine.capabilities.mounts),
        containerfile="Containerfile",
        tag=f"localhost/orchestrator-probe:{number}",
        build_id=f"{PROBE_ID}-{number}",  # of this probe alone: others may run
        no_cache=True,
    )
    engine.build(request, ignore)
    for leftover in engine.leftovers():  # the image, and on Podman what it is made of
        if leftover.build_id == request.build_id:
            engine.remove(leftover)


def _probe_context(*, mounts: bool) -> list[bytes]:
    # Mounted, not copied: a step that fails leaves no layer of an earlier one behind.
    step = 'RUN --mount=type=bind,source=probe,target=/probe ["/probe"]'
    if platform.machine() not in EXIT_0:
        step = "COPY probe /probe"
    elif not mounts:
        step = 'COPY probe /probe\nRUN ["/probe"]'
    files = {"Containerfile": f"FROM scratch\n{step}\n".encode(), "probe": _program()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return [buffer.getvalue()]


def _program() -> bytes:
    code, machine, _ = EXIT_0.get(platform.machine(), (b"", 0, ""))
    base, header = 0x400000, 64 + 56
    size = header + len(code)
    elf = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)  # 64 bits, little-endian, version 1
    for value, width in ((2, 2), (machine, 2), (1, 4), (base + header, 8), (64, 8), (0, 8), (0, 4)):
        elf += value.to_bytes(width, "little")  # executable, machine, version, entry, phoff, shoff, flags
    for value in (64, 56, 1, 64, 0, 0):  # sizes and counts of headers: one segment, no sections
        elf += value.to_bytes(2, "little")
    for value, width in ((1, 4), (5, 4), (0, 8), (base, 8), (base, 8), (size, 8), (size, 8), (0x1000, 8)):
        elf += value.to_bytes(width, "little")  # PT_LOAD, readable and executable, the whole file
    return elf + code


def _key() -> str:
    """Changes with every boot, kernel, user, and version of Podman or a runtime."""
    parts = [platform.release(), str(os.geteuid())]
    with suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
    for name in ("podman", "runc", "crun", "fuse-overlayfs"):
        if path := process.which(name):
            stat = Path(path).stat()
            parts.append(f"{path}:{stat.st_size}:{stat.st_mtime_ns}")
    parts += [os.environ.get(name, "") for name in ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF")]
    return "|".join(parts)


def _recall() -> Settings | None:
    with suppress(OSError, DocumentError):
        return read_document(podman_memory(), dict[str, Settings]).get(_key())
    return None


def _remember(settings: Settings) -> None:
    with suppress(OSError):  # a cache: where it can't be written, the next start probes again
        write_text(podman_memory(), json.dumps({_key(): asdict(settings)}, indent=1) + "\n")
