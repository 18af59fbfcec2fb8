"""The manifest that is built with, and typed answers about it for the planner and the packers. Pure data."""

from __future__ import annotations

import ipaddress
import json
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from orchestrator.errors import Finding
from orchestrator.nanos.manifest.schema import CONFIG, RUN_CONFIG

DEFAULT_NAME_SERVERS = ("8.8.8.8",)
NET_MASK = "255.255.255.0"
"""What `ops build` always writes beside a static address: its own --netmask default wins over the manifest's."""
_SIZE = re.compile(r"([0-9]{1,18})([kKmMgG]?)")
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


@dataclass(frozen=True, kw_only=True)
class EffectiveManifest:
    """Defaults, project.yaml and the user's manifest, merged and checked.

    `data` is in ops's own keys and a fixed key order; `findings` are warnings and notes (errors were raised);
    `origin` maps the user's own fields (`Env.HOME`) to their 1-based line in `file`.
    """

    data: Mapping[str, Any]
    findings: tuple[Finding, ...] = ()
    origin: Mapping[str, int] = field(default_factory=dict)
    file: str | None = None

    @property
    def text(self) -> str:
        """The JSON text to give to `ops build -c`: the same data give the same text."""
        return json.dumps(self.data, indent=2, ensure_ascii=False) + "\n"

    @property
    def program_argument(self) -> str:
        """`Program` verbatim: argv[0] of the guest program, and the host path relative to ops's directory."""
        return str(self.data.get("Program", ""))

    @property
    def program(self) -> str:
        """The program's path in the guest, without the leading `/`."""
        return guest_program(self.program_argument).lstrip("/")

    @property
    def args(self) -> tuple[str, ...]:
        """Arguments after argv[0]."""
        return self._texts("Args")

    @property
    def env(self) -> dict[str, str]:
        """The user's environment (without what ops adds)."""
        return self._table("Env")

    @property
    def files(self) -> tuple[str, ...]:
        """`Files`: host path relative to ops's directory = guest path."""
        return self._texts("Files")

    @property
    def dirs(self) -> tuple[str, ...]:
        """`Dirs`: trees copied to the guest path that the text gives."""
        return self._texts("Dirs")

    @property
    def map_dirs(self) -> dict[str, str]:
        """`MapDirs`: host directory + basename glob -> guest directory."""
        return self._table("MapDirs")

    @property
    def klibs(self) -> tuple[str, ...]:
        """Klibs of the boot file system, with those that ops adds by itself (tls, radar)."""
        names = list(self._texts("Klibs"))
        if "cloud_init" in names:
            names.append("tls")
        if "RADAR_KEY" in self.env:
            names += ["tls", "radar"]
        return tuple(dict.fromkeys(names))

    @property
    def klib_dir(self) -> str | None:
        """Host directory of the klibs; None = the Nanos release's own."""
        return self.data.get("KlibDir") or None

    @property
    def mounts(self) -> dict[str, str]:
        """Mounts as ops 0.1.42 and newer writes them: `{"%0": "/workspace"}`."""
        return renumber_mounts(self._table("Mounts"))

    @property
    def mount_points(self) -> tuple[str, ...]:
        """Guest directories that the mounts need, sorted, without the leading `/`."""
        return tuple(sorted({path.split(":")[0].strip("/") for path in self._table("Mounts").values()} - {""}))

    @property
    def passthrough(self) -> dict[str, Any]:
        """`ManifestPassthrough`: copied onto the root tuple, last."""
        return dict(self.data.get("ManifestPassthrough", {}))

    @property
    def name_servers(self) -> tuple[str, ...]:
        """Name servers of /etc/resolv.conf."""
        return self._texts("NameServers") or DEFAULT_NAME_SERVERS

    @property
    def reboot_on_exit(self) -> bool:
        """Whether the guest reboots when the program fails."""
        return bool(self.data.get("RebootOnExit", False))

    @property
    def debug_flags(self) -> tuple[str, ...]:
        """Root keys that are set to "t"."""
        return self._texts("Debugflags")

    @property
    def no_trace(self) -> tuple[str, ...]:
        """System calls left out of a trace."""
        return self._texts("NoTrace")

    @property
    def base_volume_size(self) -> int | None:
        """Least size of the whole image in bytes, rounded up to 512; None = as small as it can be."""
        return volume_size(str(self.data.get("BaseVolumeSz", "")))

    @property
    def tfs_v4(self) -> bool:
        """Write the file systems in the older encoding."""
        return bool(self.data.get("TFSv4", False))

    @property
    def uefi(self) -> bool:
        """Add an EFI system partition."""
        return bool(self.data.get("Uefi", False))

    @property
    def run_config(self) -> dict[str, Any]:
        """`RunConfig`."""
        return dict(self.data.get("RunConfig", {}))

    def _texts(self, key: str) -> tuple[str, ...]:
        return tuple(self.data.get(key, ()))

    def _table(self, key: str) -> dict[str, str]:
        return dict(self.data.get(key, {}))


def guest_program(program: str) -> str:
    """ops's rule for the program's absolute guest path: "/" + path, a leading `./` removed, then cleaned."""
    parts = program.split("/")
    if parts[0] == ".":
        parts = parts[1:]
    return posixpath.normpath("/" + "/".join(parts)).replace("//", "/")


def renumber_mounts(mounts: Mapping[str, str]) -> dict[str, str]:
    """ops >= 0.1.42: every key that is no local volume becomes `%N`, N counting from 0 in the keys' byte order.

    A build container has no volumes, so all keys are renumbered. ops joins the -c file's directory to relative keys
    before it sorts; ours is `.`, so that only cleans them.
    """
    shares: dict[str, str] = {}
    for key, guest in mounts.items():
        host = key if key.startswith("/") else posixpath.normpath(key)
        shares[host] = guest
    ordered = sorted(shares, key=lambda host: host.encode("utf-8", "surrogateescape"))
    return {f"%{number}": shares[host] for number, host in enumerate(ordered)}


def volume_size(text: str) -> int | None:
    """`512m` -> bytes, rounded up to a sector; None when ops would ignore it (it takes one of k, m, g)."""
    match = _SIZE.fullmatch(text)
    if match is None:
        return None
    size = int(match[1]) * _UNITS[match[2].lower()]
    return -(-size // 512) * 512


def is_address(text: str) -> bool:
    """An IPv4 or IPv6 address as Go's parser takes it (no zone)."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def canonical_order(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same data with keys in the schema's order, and objects inside sorted by key."""
    ordered = {key: data[key] for key in CONFIG if key in data}
    ordered |= {key: data[key] for key in sorted(data) if key not in CONFIG}
    return {key: _sorted(value) if key != "RunConfig" else _run_config(value) for key, value in ordered.items()}


def _run_config(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _sorted(value[key]) for key in [*RUN_CONFIG, *sorted(set(value) - set(RUN_CONFIG))] if key in value}


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value
