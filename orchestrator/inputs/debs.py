"""Debian packages that are installed on a base: which ones apt would take, locked, and fetched as .deb files."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from orchestrator.errors import InputError
from orchestrator.events import ignore
from orchestrator.files import write_new
from orchestrator.inputs.access import Access, not_in_cache
from orchestrator.inputs.download import fetch
from orchestrator.inputs.store import CacheEntry, key_of
from orchestrator.resolved import DEB_PATTERN, Deb, Input, InputName, Pin, identity, redact_url

SNAPSHOTS = "https://snapshot.debian.org/archive"
"""Keeps what Debian's mirrors had, by time: https://snapshot.debian.org/."""
KNOWN_FOR = 24 * 3600.0
"""Seconds for which what apt said is not asked again; then a mirror may have dropped what it named."""
_WORKERS = 4
_URI = re.compile(r"'(?P<url>[^']+)' (?P<file>\S+) (?P<size>[0-9]+) ")
_ARCHIVE = re.compile(r"/(debian(?:-security|-debug)?)/(pool/.+)")
_SNAPSHOT = re.compile(r"/(\d{8}T\d{6}Z)/")


@dataclass(frozen=True, kw_only=True)
class Listed:
    """What apt on a base says. `uris`: `apt-get install --print-uris`; `records`: `apt-cache show` of each of these.

    `unlike` says why the base has no apt that could be asked ("" = it has).
    """

    uris: str = ""
    records: str = ""
    unlike: str = ""


class PackageLister(Protocol):
    """Asks apt on a base, after an update of its index, what installing packages would download."""

    def __call__(self, base: Input, names: Sequence[str]) -> Listed:
        """InputError when apt can't say: no index, no such package."""
        ...


def resolve_packages(
    access: Access, base: Input, names: Sequence[str], name: InputName, lister: PackageLister
) -> Input:
    """What has to be installed on `base` so that it has the packages `names`: as the lock says, else as apt says now.

    Errors: InputError when the base has no apt, apt knows no such package, or the lock is of another base.
    """
    pin = access.pins.get(name)
    if pin is not None and pin.values["base"] != identity(base):
        if base.name in access.pins:
            raise InputError(
                f"the lock has Debian packages for the {base.name} {pin.values['base']}, and names the {base.name}"
                f" {identity(base)}",
                remedy=f"`orchestrator lock PROJECT.YAML --upgrade {name}`",
            )
        pin = None  # the base is a new one
    if pin is not None:
        return _input(name, names, pin)
    return replace(_input(name, names, _pin(access, base, names, lister)), ground="signature")


def locked_packages(pins: Mapping[str, Pin], names: Sequence[str], name: InputName, base: InputName) -> Input | None:
    """What the lock says, for an image that was not looked at. None where it is of another base."""
    pin, base_pin = pins.get(name), pins.get(base)
    if pin is None or base_pin is None or base_pin.kind != "image":
        return None
    return _input(name, names, pin)


def _input(name: InputName, names: Sequence[str], pin: Pin) -> Input:
    return Input(
        name=name, kind="debs", source=" ".join(sorted(set(names))), pin=dict(pin.values), packages=pin.packages
    )


def fetch_debs(access: Access, resolved: Input) -> Input:
    """An input of kind `debs` with its files, from the cache or the mirrors, each the one that its sha256 names.

    Errors: InputError for one that no mirror has any more.
    """
    debs = resolved.debs
    missing = [deb for deb in debs if access.store.get(f"sha256-{deb.sha256}") is None]
    if missing:
        total, done = sum(deb.size for deb in missing), 0
        many = f"{len(missing)} Debian packages" if len(missing) > 1 else f"the Debian package {missing[0].name}"
        with access.step(f"download {many}") as step, ThreadPoolExecutor(_WORKERS, "debs") as pool:
            futures = [(deb, pool.submit(_fetch, access, deb, resolved)) for deb in missing]
            try:
                for deb, future in futures:
                    future.result()
                    done += deb.size
                    step.progress(done, total)
            except BaseException:
                access.cancelled.set()
                raise
    return replace(resolved, files={deb.file: _fetch(access, deb, resolved) for deb in debs})


def _fetch(access: Access, deb: Deb, resolved: Input) -> Path:
    quiet = replace(access, emit=ignore, refresh=False)
    try:
        return fetch(quiet, deb.url, sha256=deb.sha256).path
    except InputError as error:
        again = (
            None if access.offline or access.cancelled.is_set() else _snapshot(deb, resolved.pin.get("snapshot", ""))
        )
        if again is not None:
            try:
                return fetch(quiet, again, sha256=deb.sha256).path
            except InputError as later:
                error = InputError(f"{error.message}; {later.message}", remedy=error.remedy)
        if access.offline:
            raise
        raise InputError(
            f"{deb.name} {deb.version}, which project.lock pins, could not be fetched: {error.message}",
            remedy="if no mirror has this version any more, accept the present one: `orchestrator lock PROJECT.YAML"
            f" --upgrade {resolved.name}`; else check the network and the proxy settings",
        ) from error


def _snapshot(deb: Deb, time_of: str) -> str | None:
    """The address of a .deb in Debian's archive of snapshots; None where it can't be there, or is there already."""
    match = _ARCHIVE.search(urlsplit(deb.url).path)
    if match is None or not time_of or _SNAPSHOT.search(deb.url):
        return None
    return f"{SNAPSHOTS}/{match[1]}/{time_of}/{match[2]}"


def _pin(access: Access, base: Input, names: Sequence[str], lister: PackageLister) -> Pin:
    values = {"base": identity(base)}
    installed = {package.partition("=")[0] for package in base.packages}
    if set(names) <= installed:
        return Pin(kind="debs", values=values)
    shown = ", ".join(sorted(set(names)))
    with access.step(f"find the Debian packages for {shown}") as step:
        step.cached = True

        def fill(target: Path) -> dict[str, str]:
            step.cached = False
            if access.offline:
                raise not_in_cache(f"which Debian packages {shown} on {base.source} needs")
            listed = lister(base, sorted(set(names)))
            if listed.unlike:
                raise InputError(
                    f"{base.source} is not a Debian-like image ({listed.unlike}), so it cannot have packages",
                    remedy="use a Debian or Ubuntu image, or one that already contains what the step needs",
                )
            lines = [str(deb) for deb in _debs(listed)]
            write_new(target, "\n".join(lines).encode())
            now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            return {"source": f"which packages {shown} needs on {base.source}", "snapshot": now}

        key, newest = (
            key_of("debs", identity(base), *sorted(set(names))),
            max(access.newer_than, time.time() - KNOWN_FOR),
        )
        entry = access.store.keep(key, fill, newer_than=newest)
        lines = _lines(entry)
        if lines is None and not access.offline:  # another version wrote it, or a bundle brought it
            entry = access.store.keep(key, fill, newer_than=math.inf)
            lines = _lines(entry)
    if lines is None:
        raise InputError(
            f"{entry.key} in the cache is not a list of packages",
            remedy="build once with a network, or copy the project's lock here",
        )
    # A mirror that is a snapshot says which one; of any other only the time is known at which it had them.
    fixed = {match[1] for line in lines if (match := _SNAPSHOT.search(line))}
    snapshot = fixed.pop() if len(fixed) == 1 else entry.info.get("snapshot", "")
    known = {"snapshot": snapshot} if re.fullmatch(r"\d{8}T\d{6}Z", snapshot) else {}
    return Pin(kind="debs", values=values | known, packages=lines)


def _lines(entry: CacheEntry) -> tuple[str, ...] | None:
    """The packages of a list in the cache; None where it is no such list."""
    lines = tuple(entry.path.read_text(encoding="utf-8", errors="replace").splitlines())
    return lines if all(re.fullmatch(DEB_PATTERN, line) for line in lines) else None


def _debs(listed: Listed) -> list[Deb]:
    """What apt would download, each with the sha256 that the signed index gives. Sorted."""
    records = list(_records(listed.records))
    debs = []
    for line in listed.uris.splitlines():
        uri = _URI.match(line)
        if uri is None:
            continue
        url = uri["url"]
        if urlsplit(url).scheme not in {"http", "https"}:
            raise InputError(
                f"apt on the base would download {redact_url(url)}, which cannot be fetched from here",
                remedy="remove that source from the base's /etc/apt, or install the package in the base itself",
            )
        path = unquote(urlsplit(url).path)
        same = [record for record in records if path.endswith("/" + record["Filename"].removeprefix("./"))]
        sums = {record["SHA256"] for record in same}
        if len(sums) != 1:
            raise InputError(
                f"apt's index on the base gives {len(sums) or 'no'} sha256 for {redact_url(url)}",
                remedy="check the package sources of the base",
            )
        deb = Deb(
            name=same[0]["Package"],
            version=same[0]["Version"],
            sha256=sums.pop(),
            size=int(uri["size"]),
            url=redact_url(url),
        )
        if re.fullmatch(DEB_PATTERN, str(deb)) is None:
            raise InputError(
                f"apt on the base reported a package in an unexpected form: {deb}",
                remedy="check the package sources of the base",
            )
        debs.append(deb)
    return sorted(debs, key=str)


def _records(text: str) -> Iterator[dict[str, str]]:
    """The records of an index, those with all the fields that are needed. A record begins with its Package."""
    record: dict[str, str] = {}
    for line in (*text.split("\n"), "Package: "):
        key, _, value = line.partition(": ")
        if key == "Package":
            if {"Package", "Version", "SHA256", "Filename"} <= record.keys():
                yield record
            record = {}
        record[key] = value
