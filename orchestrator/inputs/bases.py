"""Base images: taken as they are here, pulled, or made from Debian packages where no registry answers."""

from __future__ import annotations

import functools
import os
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator import process
from orchestrator.engine.base import LABEL, Engine
from orchestrator.errors import InputError
from orchestrator.events import Notice
from orchestrator.inputs.access import Access
from orchestrator.inputs.model import Input, InputName, redirect
from orchestrator.inputs.store import Entry, key_of
from orchestrator.project.model import Base, Bootstrap, Project

CUDA_IMAGE = "docker.io/nvidia/cuda:{version}-devel-ubuntu22.04"
BOOTSTRAP_TAG = "localhost/orchestrator/base"
SOURCE_DATE_EPOCH = 1_577_836_800  # 2020-01-01: the same packages give the same tar
PULL_MEMORY = 900.0
"""Seconds for which a failed pull is not tried again in this process."""

# mmdebstrap copies these two from the host; engines bring their own.
_FORGET_HOST = 'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"'


def program_base(project: Project) -> Base:
    """The base that the program is built in: `base`, or the CUDA devel image that `cuda` names."""
    if project.cuda is not None and "base" not in project.model_fields_set:
        return Base(image=CUDA_IMAGE.format(version=project.cuda))
    return project.base


def resolve_base(access: Access, base: Base, engine: Engine, name: InputName = "base") -> Input:
    """The base as an image of `engine`: there already, pulled, or else made as `bootstrap` says.

    Errors: InputError when it can't be had in any of these ways; EngineError when the engine fails.
    """
    reference = redirect(base.image, access.mirrors)
    digest = engine.image_digest(reference)
    if digest is not None and not access.refresh:
        return _image(name, base, reference, digest)
    failure = _failed_pulls.reason(engine, reference)
    if failure is None:
        try:
            return _image(name, base, reference, engine.pull(reference, access.emit))
        except InputError as error:
            failure = error.message.removeprefix(f"image {reference} can't be had: ")
            _failed_pulls.remember(engine, reference, failure)
    if digest is not None:
        access.emit(Notice(text=f"{reference} could not be pulled; using the one that is here", level="warning"))
        return _image(name, base, reference, digest)
    if base.bootstrap is None:
        raise InputError(
            f"{reference} could not be pulled: {failure}",
            remedy="log in or check the network; or give the base as {image: …, bootstrap: {debian: bookworm,"
            " packages: […]}} to make it from Debian packages",
        )
    return _bootstrapped(access, base, base.bootstrap, engine, _Asked(name=name, failure=failure))


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """Which base was asked for, and why it could not be pulled."""

    name: InputName
    failure: str


def _image(name: InputName, base: Base, reference: str, digest: str) -> Input:
    return Input(name=name, kind="image", source=base.image, pin={"digest": digest}, reference=reference)


def _bootstrapped(access: Access, base: Base, bootstrap: Bootstrap, engine: Engine, asked: _Asked) -> Input:
    short = asked.failure.strip().splitlines()[0][:160] if asked.failure.strip() else "no reason given"
    access.emit(
        Notice(
            text=f"{base.image} could not be pulled ({short}); using a base made from Debian"
            f" {bootstrap.debian} packages instead",
            level="warning",
        )
    )
    entry = debian_rootfs(access, bootstrap)
    tag = f"{BOOTSTRAP_TAG}:{entry.sha256[:12]}"
    # Two builds at once would import the same 200 MB twice.
    with access.store.lock(f"import-{engine.info.kind}-{entry.sha256[:12]}"):
        if engine.image_digest(tag) is None:
            with access.step(f"import {tag}"):
                engine.import_rootfs(entry.path, tag, {LABEL: "base"})
    days = int((time.time() - entry.created) // 86400)
    when = {0: "today", 1: "a day ago"}.get(days, f"{days} days ago")
    return Input(
        name=asked.name,
        kind="bootstrap",
        source=base.image,
        pin={"sha256": entry.sha256, "size": str(entry.size), "suite": bootstrap.debian},
        path=entry.path,
        reference=tag,
        packages=_packages_in(entry.path, entry.sha256),
        note=f"made from Debian {bootstrap.debian} packages {when}, because {base.image} could not be pulled: {short}",
    )


def debian_rootfs(access: Access, bootstrap: Bootstrap) -> Entry:
    """A Debian root file system as a tar in the cache; made by mmdebstrap when it isn't there.

    The same tar serves every engine, so that images agree. Errors: InputError.
    """
    if process.which("mmdebstrap") is None:
        raise InputError(
            "mmdebstrap is not installed, and the base has to be made from Debian packages",
            remedy="install the package mmdebstrap",
        )
    version = _tool_version()
    packages = sorted(set(bootstrap.packages))
    with access.step(f"make a Debian {bootstrap.debian} base") as step:
        step.cached = True

        def fill(target: Path) -> Mapping[str, str]:
            step.cached = False
            _mmdebstrap(access, bootstrap.debian, packages, target)
            return {"source": f"debian {bootstrap.debian}", "include": " ".join(packages), "tool": version}

        name = key_of("bootstrap", bootstrap.debian, *packages, version)
        return access.store.keep(name, fill, refresh=access.refresh)


def _mmdebstrap(access: Access, suite: str, packages: list[str], target: Path) -> None:
    include = (f"--include={','.join(packages)}",) if packages else ()
    arguments = [
        *_contained(), "mmdebstrap", "--variant=minbase", "--format=tar", "--skip=output/dev", *include,
        f"--customize-hook={_FORGET_HOST}", "--", suite, str(target),
    ]  # fmt: skip
    try:
        done = process.run(
            arguments,
            # A file system that a build tool can read on any host: no host's locale, no host's umask surprises.
            env={"SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH), "LC_ALL": "C.UTF-8"},
            timeout=access.limits.total,
        )
    except TimeoutError as error:
        raise InputError(f"the Debian base: {error}", remedy="check the network and the proxy settings") from error
    if done.status != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "Err:"))]
        tail = "\n".join(lines[-8:]) or done.tail(8)
        raise InputError(f"the Debian base could not be made:\n{tail}", remedy=_mend(done.stderr, access.store.root))
    if not target.is_file():
        raise InputError("mmdebstrap wrote no file", remedy="run it by hand to see why")


def _contained() -> list[str]:
    """As root, a command prefix that gives mmdebstrap namespaces of its own, where the system allows.

    It mounts /proc, /sys and the host's /dev/shm in its work directory under /tmp. Killed (our time limit, SIGKILL),
    it would leave them mounted there, and who then clears /tmp clears the host's /dev/shm. So the mounts are to go
    with the process, and its children with it. (Not as root, mmdebstrap does this itself.)
    """
    prefix = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0 or process.which("unshare") is None or process.run([*prefix, "true"]).status != 0:
        return []
    return [*prefix, "--"]


def _mend(output: str, cache: Path) -> str:
    if "No space left on device" in output:
        return f"free some room in {tempfile.gettempdir()} and in {cache}"
    if "Unable to locate package" in output:
        return "correct the names under bootstrap.packages"
    if any(word in output for word in ("subuid", "unshare", "CLONE_NEWUSER", "newuidmap")):
        return "run as root, or give your user a range in /etc/subuid and /etc/subgid and install uidmap"
    return "check the network and the proxy settings (apt must reach a Debian mirror), and the packages' names"


# Asked for every base of every project; each answer takes a good part of a second.
@functools.cache
def _tool_version() -> str:
    return process.run(["mmdebstrap", "--version"]).stdout.strip()


@functools.lru_cache(maxsize=16)
def _packages_in(tar: Path, sha256: str) -> tuple[str, ...]:  # noqa: ARG001 - the key: a path's content changes
    return packages_of(tar)


def packages_of(tar: Path) -> tuple[str, ...]:
    """`name=version` of every installed package of a Debian root file system's tar, sorted."""
    try:
        with tarfile.open(tar) as archive:
            status = archive.extractfile("./var/lib/dpkg/status")
            text = status.read().decode(errors="replace") if status is not None else ""
    except (tarfile.TarError, KeyError, OSError) as error:
        raise InputError(f"{tar}: no list of packages in it ({error})", remedy="remove it from the cache") from error
    found = []
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            found.append(f"{fields.get('Package', '')}={fields.get('Version', '')}")
    return tuple(sorted(found))


class _FailedPulls:
    """Pulls that failed in this process: two builds, or two bases, must not both wait for a dead registry."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failed: dict[tuple[str, str], tuple[float, str]] = {}

    def reason(self, engine: Engine, reference: str) -> str | None:
        """Why the pull failed lately, or None."""
        with self._lock:
            when, reason = self._failed.get((engine.info.endpoint, reference), (0.0, ""))
        return reason if when and time.monotonic() - when < PULL_MEMORY else None

    def remember(self, engine: Engine, reference: str, reason: str) -> None:
        """Note a failed pull."""
        with self._lock:
            self._failed[(engine.info.endpoint, reference)] = (time.monotonic(), reason)


_failed_pulls = _FailedPulls()
