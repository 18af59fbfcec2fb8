"""What this machine can do for a build, and how to mend what it can't."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator import process
from orchestrator.engine.base import EngineInfo
from orchestrator.engine.capabilities import EngineCapabilities
from orchestrator.engine.select import candidates
from orchestrator.errors import EngineError, Finding, Severity
from orchestrator.network import ca_bundle
from orchestrator.run.qemu.accelerator import choose
from orchestrator.user_namespaces import find_obstacle, user_name
from orchestrator.user_paths import cache_root

ROOM = 10 * 1024**3
"""Free bytes below which a build with a compiler in it may well fail."""
KVM_DEVICE = Path("/dev/kvm")
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")


@dataclass(frozen=True, kw_only=True)
class HostCheck:
    """One thing looked at: `status` is ok|absent|warning|error, `remedy` "" when there is nothing to do.

    absent: it isn't there, and nothing needs it.
    """

    name: str
    status: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True, kw_only=True)
class HostReport:
    """What was looked at, and of the engines that answer who they are and what they can do."""

    checks: tuple[HostCheck, ...]
    engines: tuple[tuple[EngineInfo, EngineCapabilities], ...]


def check_host() -> HostReport:
    """Every check, engines first. A private Podman may be started for a moment to see whether it works."""
    survey = candidates()
    checks = [_engine(finding) for finding in survey.findings]
    for look in (_python, _user_namespaces, _tools, _disk, _proxies, _certificates, _qemu):
        checks += look()
    return HostReport(checks=tuple(checks), engines=survey.answering)


def _engine(finding: Finding) -> HostCheck:
    # A note with a remedy is about an engine that isn't there, beside one that is (or can be started).
    fine = "absent" if finding.remedy else "ok"
    status = {Severity.NOTE: fine, Severity.WARNING: "warning", Severity.ERROR: "error"}[finding.severity]
    return HostCheck(
        name=finding.code.replace("-", " "),
        status=status,
        detail=finding.message,
        remedy=finding.remedy if status in ("warning", "error") else "",
    )


def _python() -> Iterator[HostCheck]:
    yield HostCheck(name="python", status="ok", detail=".".join(str(part) for part in sys.version_info[:3]))


def _user_namespaces() -> Iterator[HostCheck]:
    """What a private Podman and a base with `bootstrap:` need of a user who isn't root; root can do without."""
    if os.geteuid() == 0:
        done = process.run(["unshare", "--user", "true"])
        detail = "" if done.status == 0 else "; install scripts of Debian packages run as root of this machine"
        yield HostCheck(
            name="user namespaces", status="absent" if detail else "ok", detail=f"not needed by root{detail}"
        )
        return
    obstacle = find_obstacle()
    if obstacle is None:
        yield HostCheck(name="user namespaces", status="ok", detail=f"user {user_name()} has ranges of ids for them")
        return
    detail = f"{obstacle.reason}: a base with `bootstrap:` cannot be made, and Podman may not work"
    yield HostCheck(name="user namespaces", status="warning", detail=detail, remedy=obstacle.remedy)


# Program, its Debian package, and what is not possible without it.
_TOOLS = (
    ("git", "git", "the Gevulot shim cannot be fetched from git"),
    ("mmdebstrap", "mmdebstrap", "a base with `bootstrap:` cannot be made if no registry answers"),
)


def _tools() -> Iterator[HostCheck]:
    for name, package, loss in _TOOLS:
        path = process.which(name)
        if path is None:
            yield HostCheck(
                name=name, status="warning", detail=f"not installed: {loss}", remedy=f"apt-get install {package}"
            )
        else:
            yield HostCheck(name=name, status="ok", detail=_version([path, "--version"]))


def _version(arguments: list[str]) -> str:
    try:
        done = process.run(arguments, timeout=10)
    except (OSError, TimeoutError):
        return arguments[0]
    return (done.stdout or done.stderr).strip().split("\n")[0] or arguments[0]


def _disk() -> Iterator[HostCheck]:
    for name, path in (("disk, cache", cache_root()), ("disk, here", Path.cwd())):
        there = next(folder for folder in (path, *path.parents) if folder.exists())
        free = shutil.disk_usage(there).free
        low = free < ROOM
        yield HostCheck(
            name=name,
            status="warning" if low else "ok",
            detail=f"{free / 1024**3:.1f} GiB free at {path}",
            remedy="free some space: `orchestrator clean`, and the engine's own `system prune`" if low else "",
        )


def _proxies() -> Iterator[HostCheck]:
    names = [name for proxy in PROXIES for name in (proxy, proxy.upper()) if os.environ.get(name)]
    local = [name for name in names if any(host in os.environ[name] for host in ("localhost", "127.0.0.1", "[::1]"))]
    local = [name for name in local if "no_proxy" not in name.lower()]
    if local:
        yield HostCheck(
            name="proxies",
            status="warning",
            detail=f"{', '.join(local)} names this machine itself, which build steps cannot reach by that name",
            remedy="set network.http-proxy and network.https-proxy in project.yaml to an address they can reach",
        )
    else:
        yield HostCheck(name="proxies", status="ok", detail=f"from {', '.join(names)}" if names else "none set")


def _certificates() -> Iterator[HostCheck]:
    path = ca_bundle()
    count = path.read_bytes().count(b"BEGIN CERTIFICATE")
    if count:
        yield HostCheck(name="certificates", status="ok", detail=f"{count} in {path}, given to every build step")
    else:
        yield HostCheck(
            name="certificates",
            status="warning",
            detail=f"{path} contains no certificate",
            remedy="apt-get install ca-certificates, or set SSL_CERT_FILE to your bundle",
        )


def _qemu() -> Iterator[HostCheck]:
    path = process.which("qemu-system-x86_64")
    if path is None:
        yield HostCheck(
            name="qemu",
            status="warning",
            detail="not installed: images cannot be booted here",
            remedy="apt-get install qemu-system-x86",
        )
        return
    yield HostCheck(name="qemu", status="ok", detail=_version([path, "--version"]))
    yield _kvm(path)


def _kvm(qemu: str) -> HostCheck:
    """As `boot --accel auto` finds it: a machine must start and do what Nanos does first, the device isn't enough."""
    try:
        choose(qemu, "kvm")
    except EngineError as error:
        detail = f"{error.message}; `boot` uses QEMU's emulation, which is slower"
        closed = KVM_DEVICE.exists() and not os.access(KVM_DEVICE, os.R_OK | os.W_OK)
        remedy = (
            f"add yourself to the group of {KVM_DEVICE} (usermod -aG kvm $USER, then log in again)" if closed else ""
        )
        return HostCheck(name="kvm", status="warning" if closed else "absent", detail=detail, remedy=remedy)
    return HostCheck(name="kvm", status="ok", detail="works: `boot` uses it")
