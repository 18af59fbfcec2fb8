"""ops's home directory and the releases seeded in it. Nothing is ever downloaded."""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from .console import bare, fatal, fatal_bold, warn_of_lookup

_FOLDERS = ("images", "instances", "manifests", "networks", "composes", "volumes", "local_packages", "packages")


@dataclass(frozen=True, kw_only=True)
class Release:
    """A Nanos release on disk; `boot` and `efi` are None when it has none."""

    version: str
    kernel: Path
    boot: Path | None
    efi: Path | None
    klibs: Path


class Home:
    """`$OPS_HOME/.ops`, else `$HOME/.ops`. `local_version` is what latest.txt says, "0.0" without one."""

    def __init__(self) -> None:
        parent = os.environ.get("OPS_HOME") or os.environ.get("HOME")
        self.path = Path(parent) / ".ops" if parent else Path.cwd() / ".ops"
        for folder in _FOLDERS:
            (self.path / folder).mkdir(parents=True, exist_ok=True)
        latest = self.path / "latest.txt"
        self.local_version = latest.read_text().removesuffix("\n") if latest.exists() else "0.0"

    def look_up_version(self, *, online: bool) -> None:
        """What every command starts with. Offline it needs latest.txt, whatever else is seeded."""
        if online:
            return
        warn_of_lookup()
        if self.local_version == "0.0":
            fatal_bold("No local build found.")

    def release(self, version: str) -> Release:
        """The seeded release `version`, or latest.txt's when empty."""
        wanted = version or self.local_version
        folder = self.path / wanted
        if version and not folder.exists():
            fatal_bold(f'Get "https://nanos.invalid/release/{wanted}/": no such host')
        kernel = folder / "kernel.img"
        if not kernel.exists():
            fatal(f"error: {kernel}: stat {kernel}: no such file or directory\n")
        boot = folder / "boot.img"
        loaders = sorted(folder.glob("*.efi"))
        return Release(
            version=wanted,
            kernel=kernel,
            boot=boot if boot.exists() else None,
            efi=loaders[0] if loaders else None,
            klibs=folder / "klibs",
        )

    def common_files(self) -> dict[str, Path]:
        """Guest path → host file out of common.tar.gz. Without the archive ops goes on, and so do we."""
        common = self.path / "common"
        common.mkdir(exist_ok=True)
        archive = self.path / "common.tar.gz"
        if archive.exists():
            _extract(archive, common)
        else:
            (self.path / f"{os.getpid()}common.tar.gz").touch()  # what a failed download leaves
        paths = {
            "/lib/x86_64-linux-gnu/libnss_dns.so.2": common / "libnss_dns.so.2",
            "/etc/ssl/certs/ca-certificates.crt": common / "ca-certificates.crt",
        }
        return {guest: host for guest, host in paths.items() if host.exists()}

    def volume_exists(self, label: str) -> bool:
        """Whether a local volume has that name or id (a file NAME:ID.raw)."""
        volumes = [path.name.removesuffix(".raw").split(":") for path in (self.path / "volumes").iterdir()]
        return any(len(parts) > 1 and label in parts[:2] for parts in volumes)


def _extract(archive: Path, folder: Path) -> None:
    raw = archive.read_bytes()
    if len(raw) < 10:
        bare("unexpected EOF" if raw else "EOF")
    if raw[:2] != b"\x1f\x8b":
        bare("gzip: invalid header")
    target = folder
    try:
        with gzip.open(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as members:
            for member in members:
                source = members.extractfile(member) if member.isreg() and "/" not in member.name else None
                target = folder / member.name
                if source is not None:
                    target.write_bytes(source.read())
    except (EOFError, OSError, tarfile.TarError, zlib.error):
        bare(f"Failed tar file {target}, error is unexpected EOF")
