"""Root file systems of Debian packages, by mmdebstrap: of the newest ones, or again of those that a lock names."""

from __future__ import annotations

import functools
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator import archive as reading
from orchestrator import files, process
from orchestrator.errors import InputError
from orchestrator.inputs.access import Access, differs, not_in_cache
from orchestrator.inputs.bootstrap_sandbox import BootstrapSandbox, open_sandbox
from orchestrator.inputs.cuda import PREFIX, add_toolkit
from orchestrator.inputs.store import CacheEntry, key_of
from orchestrator.inputs.trees import file_digest
from orchestrator.project import mirrors
from orchestrator.project.bases import Base, Bootstrap
from orchestrator.resolved import InputName, Pin, debian_mirror, redact

SOURCE_DATE_EPOCH = 1_577_836_800  # 2020-01-01: the same packages give the same tar
_PREFERENCES_AT = "/etc/apt/preferences.d/orchestrator-lock"
# apt reads them in lower case, what it calls in either.
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
_STATUS, _STATUS_SIZE = "./var/lib/dpkg/status", 256 * 2**20
_LIMITS = reading.UnpackLimits(members=5_000_000)
# Names of our own files in mmdebstrap's place.
_TAR, _PREFERENCES, _SUMS = "base.tar", "preferences", "debs"
# What apt's index says of each package that it installed. Nothing, where a mirror's index can't be asked: then the
# versions have to do.
_DEB_SUMS = (
    'APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-cache show $(dpkg-query --admindir="$1/var/lib/dpkg" --show'
    " --showformat '${{Package}}=${{Version}}\\n') 2>/dev/null"
    " | grep -E '^(Package|Version|SHA256): ' > {target} || true"
)
_SNAPSHOT = re.compile(r"/(\d{8}T\d{6}Z)(?:/|$)")
_DEB = re.compile(r"([a-z0-9][a-z0-9+.-]*=[0-9A-Za-z.+:~-]+) ([0-9a-f]{64})")
# mmdebstrap copies these two from the host; engines bring their own.
_FORGET_HOST = 'rm -f "$1/etc/resolv.conf" "$1/etc/hostname"'


def bootstrap_rootfs(access: Access, bootstrap: Bootstrap) -> CacheEntry:
    """A Debian root file system as a tar in the cache; made by mmdebstrap when it isn't there.

    The same tar serves every engine, so that images agree. Errors: InputError.
    """
    rootfs = _Rootfs(access=access, bootstrap=bootstrap)
    cuda = (f"cuda={bootstrap.cuda}",) if bootstrap.cuda else ()
    name = key_of("bootstrap", bootstrap.debian, *rootfs.packages, rootfs.mirror, *cuda)
    with access.step(f"make a Debian {bootstrap.debian} base{rootfs.with_cuda}") as step:
        step.cached = True

        def fill(target: Path) -> Mapping[str, str]:
            step.cached = False
            return rootfs.make(target)

        return access.store.keep(name, fill, newer_than=access.newer_than)


def restore_rootfs(access: Access, base: Base, name: InputName, pin: Pin) -> CacheEntry:
    """The tar that the lock names: kept, or made again of exactly its packages."""
    expected = pin.values["sha256"]
    suite = base.bootstrap.debian if base.bootstrap else pin.values.get("suite", "")
    with access.step(f"make the Debian {suite} base that the lock names") as step:
        step.cached = True

        def fill(target: Path) -> Mapping[str, str]:
            step.cached = False
            if base.bootstrap is None:
                raise InputError(
                    f"the lock has a base made from Debian packages for {base.image}, but project.yaml has none",
                    remedy=f"`orchestrator lock PROJECT.YAML --upgrade {name}`",
                )
            info = _Rootfs(access=access, bootstrap=base.bootstrap, pinned=pin.packages).make(target)
            actual, _ = file_digest(target)
            if actual != expected:
                raise differs(_other_packages(_debs(pin.packages), packages_of(target)), name, expected, actual)
            return info

        return access.store.keep(key_of("bootstrap-locked", expected), fill, expected=expected)


def _debs(packages: tuple[str, ...]) -> tuple[str, ...]:
    """`name=version` of a lock's Debian packages, without the sha256 of the .deb."""
    return tuple(package.partition(" ")[0] for package in packages if not package.startswith(PREFIX))


def _other_packages(wanted: tuple[str, ...], actual: tuple[str, ...]) -> str:
    """In words: how a base that was made again differs from the one that was locked."""
    other = [package for package in actual if package not in set(wanted)]
    if not other:
        return "the base, made again from the same packages, differs: the sha256 of the tar is"
    shown = ", ".join(other[:5]) + (" …" if len(other) > 5 else "")
    return f"the base cannot be made again: the mirror has other versions now ({shown}); the sha256 of the tar is"


@dataclass(frozen=True, kw_only=True)
class _Rootfs:
    """One run of mmdebstrap. `pinned`, as in a lock, are versions that apt must take where it has them."""

    access: Access
    bootstrap: Bootstrap
    pinned: tuple[str, ...] = ()

    @property
    def packages(self) -> list[str]:
        return sorted(set(self.bootstrap.packages))

    @property
    def with_cuda(self) -> str:
        return f" with CUDA {self.bootstrap.cuda}" if self.bootstrap.cuda else ""

    @property
    def mirror(self) -> str:
        return debian_mirror(self.bootstrap.debian, self.access.mirrors)

    def make(self, target: Path) -> Mapping[str, str]:
        """Write the tar; returns what is worth recording. Errors: InputError."""
        suite = self.bootstrap.debian
        if self.access.offline:
            raise not_in_cache(f"the Debian {suite} base{self.with_cuda} ({', '.join(self.packages) or 'no packages'})")
        if process.which("mmdebstrap") is None:
            raise InputError(
                "mmdebstrap is not installed, but the base must be made from Debian packages",
                remedy="install the package mmdebstrap",
            )
        if self.mirror and (wrong := mirrors.problem("debian:", self.mirror)):
            raise InputError(f"mirrors: debian: {redact(wrong.message)}", remedy=wrong.remedy)
        if redact(self.mirror) != self.mirror:
            raise InputError(
                f"mirrors: debian: {redact(self.mirror)}: apt would write its credentials into the base",
                remedy="remove the credentials and put them into apt's auth.conf",
            )
        version = process.run(["mmdebstrap", "--version"]).stdout.strip()
        trusted = not self.mirror or self.mirror in self.access.own_mirrors.values()
        with open_sandbox(self.access.emit, trusted=trusted) as where:
            files.write_new(where.outside / _PREFERENCES, _preferences(_debs(self.pinned)).encode())
            _mmdebstrap(self.access, self._arguments(where))
            where.take(_TAR, target)
            sums = target.with_name(_SUMS)
            debs = _deb_sums(sums.read_text(errors="replace")) if where.take(_SUMS, sums) else ""
            sums.unlink(missing_ok=True)
        if not target.is_file():
            raise InputError("mmdebstrap wrote no file", remedy="run it by hand to see why")
        facts = {"source": f"debian {suite}", "include": " ".join(self.packages), "tool": version, "debs": debs}
        facts |= self._add_cuda(target)
        match = _SNAPSHOT.search(self.mirror)
        return {**facts, "snapshot": match[1]} if match else facts

    def _add_cuda(self, target: Path) -> dict[str, str]:
        if self.bootstrap.cuda is None:
            return {}
        pinned = tuple(package for package in self.pinned if package.startswith(PREFIX))
        return {"python": "\n".join(add_toolkit(self.access, self.bootstrap.cuda, target, pinned, SOURCE_DATE_EPOCH))}

    def _arguments(self, where: BootstrapSandbox) -> list[str]:
        include = (f"--include={','.join(self.packages)}",) if self.packages else ()
        pinning = (
            (
                f"--setup-hook=upload {shlex.quote(str(where.inside / _PREFERENCES))} {_PREFERENCES_AT}",
                f'--customize-hook=rm -f "$1{_PREFERENCES_AT}"',
            )
            if self.pinned
            else ()
        )
        hooks = (_FORGET_HOST, _DEB_SUMS.format(target=shlex.quote(str(where.inside / _SUMS))))
        # An address and nothing else (`project/mirrors.py`): mmdebstrap makes `deb ADDRESS SUITE main` of it, with the
        # keyring of the suite where this host's apt doesn't trust it anyway.
        mirror = (self.mirror,) if self.mirror else ()
        return [
            *where.command, "mmdebstrap", f"--mode={where.mode}", "--variant=minbase", "--format=tar",
            "--skip=output/dev", *include, *pinning, *(f"--customize-hook={hook}" for hook in hooks),
            "--", self.bootstrap.debian, str(where.inside / _TAR), *mirror,
        ]  # fmt: skip


def _preferences(pinned: tuple[str, ...]) -> str:
    """apt's preferences for exactly these versions. Priority 1001: also where that is a step back."""
    paragraphs = (package.split("=", 1) for package in pinned)
    return "\n".join(f"Package: {name}\nPin: version {version}\nPin-Priority: 1001\n" for name, version in paragraphs)


def _mmdebstrap(access: Access, arguments: list[str]) -> None:
    try:
        done = process.run(
            arguments,
            env=_environment(),
            inherit=False,
            timeout=access.limits.total,
        )
    except TimeoutError as error:
        raise InputError(
            f"failed to make the Debian base: {error}", remedy="check the network and the proxy settings"
        ) from error
    if done.status != 0:
        lines = [line for line in done.stderr.splitlines() if line.startswith(("E:", "W:", "Err:"))]
        tail = "\n".join(lines[-8:]) or done.tail(8)
        raise InputError(f"failed to make the Debian base:\n{tail}", remedy=_mend(done.stderr, access.store.root))


def _environment() -> dict[str, str]:
    """All that mmdebstrap, and so the packages' scripts, see of ours: the caller's tokens are none of their business.

    The locale is no host's, so that the file system is the same on any.
    """
    proxies = (name for proxy in _PROXIES for name in (proxy, proxy.upper()))
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", *proxies) if name in os.environ}
    return {**kept, "SOURCE_DATE_EPOCH": str(SOURCE_DATE_EPOCH), "LC_ALL": "C.UTF-8"}


def _mend(output: str, cache: Path) -> str:
    if "No space left on device" in output:
        # Not gettempdir(): it writes a file to find out, and fails where the disk is full.
        return f"free some space in {os.environ.get('TMPDIR', '/tmp')} and in {cache}"
    if "Unable to locate package" in output:
        return "correct the names under bootstrap.packages"
    if any(word in output for word in ("subuid", "unshare", "CLONE_NEWUSER", "newuidmap", "pick chroot mode")):
        return "run as root, or give your user a range in /etc/subuid and /etc/subgid and install uidmap"
    return "check the network and the proxy settings (apt must reach a Debian mirror), and the package names"


def _deb_sums(index: str) -> str:
    """`name=version sha256`, a line each, of the lines Package, Version and SHA256 of apt's index."""
    rows: set[str] = set()
    name = version = ""
    for line in index.split("\n"):
        key, _, value = line.partition(": ")
        if key == "Package":
            name, version = value, ""
        elif key == "Version":
            version = value
        elif key == "SHA256" and name and version:
            rows.add(f"{name}={version} {value}")
    return "\n".join(sorted(row for row in rows if _DEB.fullmatch(row)))


def locked_packages(entry: CacheEntry) -> tuple[str, ...]:
    """What a lock says of a base's packages: `name=version sha256:HEX` of the .deb, or `name=version` where unknown.

    Python packages, which CUDA is from, follow: `pypi:name=version sha256:HEX` of the wheel.
    """
    sums = {match[1]: match[2] for line in entry.info.get("debs", "").split("\n") if (match := _DEB.fullmatch(line))}
    debs = packages_in(entry.path, entry.sha256)
    python = [package for package in entry.info.get("python", "").split("\n") if package]
    return (*(f"{package} sha256:{sums[package]}" if package in sums else package for package in debs), *python)


@functools.lru_cache(maxsize=16)
def packages_in(tar: Path, sha256: str) -> tuple[str, ...]:  # noqa: ARG001 - the key: a path's content changes
    """`packages_of`, asked once for each content: it takes a good part of a second."""
    return packages_of(tar)


def packages_of(tar: Path) -> tuple[str, ...]:
    """`name=version` of every installed package of a Debian root file system's tar, sorted."""
    try:
        with (
            tar.open("rb") as stream,
            reading.translate_errors(),
            reading.read_tar(reading.unpack(stream, _LIMITS)) as archive,
        ):
            status = next((member for member in archive if member.name == _STATUS), None)
            if status is None:
                raise reading.ArchiveError(f"there is no {_STATUS}")
            text = archive.small(status, _STATUS_SIZE).decode(errors="replace")
    except (reading.ArchiveError, OSError) as error:
        raise InputError(f"{tar} has no list of packages ({error})", remedy="remove it from the cache") from error
    packages = []
    for paragraph in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in paragraph.split("\n") if ": " in line and line[0] != " ")
        if fields.get("Status", "").endswith(" installed"):
            packages.append(f"{fields.get('Package', '')}={fields.get('Version', '')}")
    return tuple(sorted(packages))
