"""ops's configuration (its JSON manifest) as data: every key, its type, since when, and what it does in a build.

Sources: facts measured with ops 0.1.41-0.1.46; the releases' own key lists for `since` and `until`.
Keys are matched as Go's decoder does, letter case apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Release = tuple[int, int, int]


class ValueKind(StrEnum):
    """The JSON type that a key takes, in the words of an error message."""

    TEXT = "text"
    FLAG = "true or false"
    NUMBER = "a whole number"
    TEXTS = "a list of strings"
    TABLE = "an object whose values are strings"
    ANY = "an object"
    OBJECT = "an object with known keys"
    OBJECTS = "a list of objects with known keys"


class Effect(StrEnum):
    """What a key does to an image that `ops build` makes."""

    IMAGE = "image"  # ends up in the image
    INPUT = "input"  # says where the build finds things
    RUN = "run"  # counts only for `ops run`: not in the image, not seen by the node
    CLOUD = "cloud"  # counts only for cloud providers
    IGNORED = "ignored"  # overwritten or never read by `ops build`
    FORBIDDEN = "forbidden"  # does damage in a build


@dataclass(frozen=True, kw_only=True)
class ManifestKey:
    """One key. `since`/`until`: first and last release with it; `keys`: of the object (or of each in the list)."""

    kind: ValueKind
    effect: Effect
    since: Release = (0, 1, 6)
    until: Release | None = None
    keys: Mapping[str, ManifestKey] | None = None


def _key(kind: ValueKind, effect: Effect, since: int = 6, until: int | None = None) -> ManifestKey:
    return ManifestKey(kind=kind, effect=effect, since=(0, 1, since), until=None if until is None else (0, 1, until))


def _run(kind: ValueKind, since: int = 6) -> ManifestKey:
    return _key(kind, Effect.RUN, since)


def _cloud(kind: ValueKind = ValueKind.TEXT, since: int = 6) -> ManifestKey:
    return _key(kind, Effect.CLOUD, since)


_NIC = {
    "IPAddress": _key(ValueKind.TEXT, Effect.IMAGE, 33),
    "IPv6Address": _key(ValueKind.TEXT, Effect.IGNORED, 33),
    "NetMask": _key(ValueKind.TEXT, Effect.IMAGE, 33),
    "Gateway": _key(ValueKind.TEXT, Effect.IMAGE, 33),
    "BridgeName": _run(ValueKind.TEXT, 33),
}

RUN_CONFIG: Mapping[str, ManifestKey] = {
    "Accel": _run(ValueKind.FLAG),
    "AtExit": _run(ValueKind.TEXT, 38),
    "AttachVolumeOnInstanceCreate": _run(ValueKind.FLAG, 40),
    "Background": _run(ValueKind.FLAG, 20),
    "BackgroundDetach": _run(ValueKind.FLAG, 45),
    "BridgeIPAddress": _run(ValueKind.TEXT, 41),
    "BridgeName": _run(ValueKind.TEXT, 19),
    "Bridged": _run(ValueKind.FLAG),
    "CPUs": _run(ValueKind.NUMBER, 16),
    "CanIPForward": _run(ValueKind.FLAG, 35),
    "Debug": _run(ValueKind.FLAG, 14),
    "GPUType": _run(ValueKind.TEXT, 35),
    "GPUs": _run(ValueKind.NUMBER, 35),
    "Gateway": _key(ValueKind.TEXT, Effect.IMAGE, 16),
    "GdbPort": _run(ValueKind.NUMBER, 8),
    "IPAddress": _key(ValueKind.TEXT, Effect.IMAGE, 20),
    "IPv6Address": _key(ValueKind.TEXT, Effect.IMAGE, 22),
    "ImageName": _key(ValueKind.TEXT, Effect.IGNORED),  # we name the image with -i, which wins
    "InstanceGroup": _run(ValueKind.TEXT, 26),
    "InstanceName": _run(ValueKind.TEXT, 15),
    "JSON": _run(ValueKind.FLAG, 29),
    "Kernel": _run(ValueKind.TEXT, 37),
    "Memory": _run(ValueKind.TEXT),
    "Mgmt": _run(ValueKind.TEXT, 40),
    "Mounts": _run(ValueKind.TEXTS, 13),
    "NetMask": _key(ValueKind.TEXT, Effect.IMAGE, 16),
    "Nics": ManifestKey(kind=ValueKind.OBJECTS, effect=Effect.IMAGE, since=(0, 1, 33), keys=_NIC),
    "Ports": _key(ValueKind.TEXTS, Effect.IMAGE, 15),
    "QMP": _run(ValueKind.FLAG, 39),
    "ShowDebug": _run(ValueKind.FLAG, 15),
    "ShowErrors": _run(ValueKind.FLAG, 14),
    "ShowWarnings": _run(ValueKind.FLAG, 14),
    "TapName": _run(ValueKind.TEXT),
    "ThreadsPerCore": _run(ValueKind.NUMBER, 40),
    "UDPPorts": _run(ValueKind.TEXTS, 15),
    "Verbose": _run(ValueKind.FLAG),
    "Vga": _run(ValueKind.FLAG, 26),
    "VolumeSizeInGb": _run(ValueKind.NUMBER, 16),
}

_TAG = {
    "key": _cloud(),
    "value": _cloud(),
    "attribute": ManifestKey(
        kind=ValueKind.OBJECT,
        effect=Effect.CLOUD,
        since=(0, 1, 40),
        keys={
            name: _cloud(ValueKind.FLAG, 40)
            for name in ("image_label", "instance_label", "instance_network", "instance_metadata")
        },
    ),
}

_VOLUME = {
    "name": _cloud(since=42),
    "iops": _cloud(ValueKind.NUMBER, 42),
    "size": _cloud(ValueKind.NUMBER, 42),
    "throughput": _cloud(ValueKind.NUMBER, 42),
    "typeof": _cloud(since=42),
}

CLOUD_CONFIG: Mapping[str, ManifestKey] = {
    "BucketName": _cloud(),
    "BucketNamespace": _cloud(since=21),
    "ConfidentialVM": _cloud(ValueKind.FLAG, 40),
    "DedicatedHostID": _cloud(since=37),
    "DomainName": _cloud(since=20),
    "EnableIPv6": _cloud(ValueKind.FLAG, 22),
    "Flavor": _cloud(since=8),
    "ImageName": _key(ValueKind.TEXT, Effect.IGNORED),  # always recomputed by `ops build`
    "ImageType": _cloud(since=21),
    "InstanceProfile": _cloud(since=30),
    "KMS": _cloud(since=40),
    "Platform": _cloud(),
    "ProjectID": _cloud(),
    "RootVolume": ManifestKey(kind=ValueKind.OBJECT, effect=Effect.CLOUD, since=(0, 1, 42), keys=_VOLUME),
    "SecurityGroup": _cloud(since=20),
    "SkipImportVerify": _cloud(ValueKind.FLAG, 39),
    "Spot": _cloud(ValueKind.FLAG, 36),
    "StaticIP": _cloud(since=31),
    "Subnet": _cloud(since=20),
    "Tags": ManifestKey(kind=ValueKind.OBJECTS, effect=Effect.CLOUD, since=(0, 1, 20), keys=_TAG),
    "UserData": _cloud(since=45),
    "VPC": _cloud(since=20),
    "Zone": _cloud(),
}

# In the order in which we write them: what a reader looks for first comes first.
CONFIG: Mapping[str, ManifestKey] = {
    "Program": _key(ValueKind.TEXT, Effect.IMAGE),
    "Args": _key(ValueKind.TEXTS, Effect.IMAGE),
    "Env": _key(ValueKind.TABLE, Effect.IMAGE),
    "Files": _key(ValueKind.TEXTS, Effect.IMAGE),
    "Dirs": _key(ValueKind.TEXTS, Effect.IMAGE),
    "MapDirs": _key(ValueKind.TABLE, Effect.IMAGE),
    "Mounts": _key(ValueKind.TABLE, Effect.IMAGE, 13),
    "Klibs": _key(ValueKind.TEXTS, Effect.IMAGE, 37),
    "KlibDir": _key(ValueKind.TEXT, Effect.INPUT, 31),
    "ManifestPassthrough": _key(ValueKind.ANY, Effect.IMAGE, 22),
    "RebootOnExit": _key(ValueKind.FLAG, Effect.IMAGE, 16),
    "Debugflags": _key(ValueKind.TEXTS, Effect.IMAGE),
    "NoTrace": _key(ValueKind.TEXTS, Effect.IMAGE),
    "NameServers": _key(ValueKind.TEXTS, Effect.IMAGE, 29),
    "BaseVolumeSz": _key(ValueKind.TEXT, Effect.IMAGE, 16),
    "Uefi": _key(ValueKind.FLAG, Effect.IMAGE, 21),
    "TFSv4": _key(ValueKind.FLAG, Effect.IMAGE, 39),
    "TargetRoot": _key(ValueKind.TEXT, Effect.INPUT),
    "RunConfig": ManifestKey(kind=ValueKind.OBJECT, effect=Effect.RUN, keys=RUN_CONFIG),
    "CloudConfig": ManifestKey(kind=ValueKind.OBJECT, effect=Effect.CLOUD, keys=CLOUD_CONFIG),
    "TargetConfig": _key(ValueKind.TABLE, Effect.CLOUD, 33),
    "Boot": _key(ValueKind.TEXT, Effect.IGNORED),  # blanked by --nanos-version, which we always give
    "Kernel": _key(ValueKind.TEXT, Effect.IGNORED),
    "UefiBoot": _key(ValueKind.TEXT, Effect.IGNORED, 21),  # recomputed
    "LocalFilesParentDirectory": _key(ValueKind.TEXT, Effect.IGNORED, 23),  # set from the -c file's directory
    "NanosVersion": _key(ValueKind.TEXT, Effect.IGNORED, 20),
    "NightlyBuild": _key(ValueKind.FLAG, Effect.FORBIDDEN),
    "Force": _key(ValueKind.FLAG, Effect.IGNORED),
    "BuildDir": _key(ValueKind.TEXT, Effect.FORBIDDEN, 8),
    "DisableArgsCopy": _key(ValueKind.FLAG, Effect.IGNORED, 29),
    "home": _key(ValueKind.TEXT, Effect.IGNORED, 41),
    "ProgramPath": _key(ValueKind.TEXT, Effect.IGNORED, 16),
    "Version": _key(ValueKind.TEXT, Effect.IGNORED),
    "Language": _key(ValueKind.TEXT, Effect.IGNORED, 24),
    "Runtime": _key(ValueKind.TEXT, Effect.IGNORED, 24, 42),
    "Description": _key(ValueKind.TEXT, Effect.IGNORED, 24),
    "PackageBaseURL": _key(ValueKind.TEXT, Effect.IGNORED, 24),
    "PackageManifestURL": _key(ValueKind.TEXT, Effect.IGNORED, 24),
    "VolumesDir": _key(ValueKind.TEXT, Effect.IGNORED, 20),
}

# Root-tuple keys that the kernel of Nanos 0.1.51, or a klib of the release, reads: what ManifestPassthrough can
# usefully hold.
KERNEL_KEYS = frozenset((
    "arguments", "azure", "chrony", "cloud_init", "cloudwatch", "consoles", "coredumplimit", "cwd",
    "debug_exit", "debugsyscalls", "digitalocean", "environment", "exec_protection", "exec_wait_for_ip4_secs",
    "exec_wait_for_ip6_secs", "expected_exit_code", "fault", "firewall", "gateway", "gcp", "gdb",
    "idle_on_exit", "ingest_kernel_symbols", "ingest_program_symbols", "ip6addr", "ipaddr", "klib_test",
    "klibs", "ltrace", "missing_files", "mmap_min_addr", "mounts", "mtu", "netconsole_ip", "netconsole_port",
    "netmask", "noaslr", "notrace", "ntp_max_freq_ppm", "ntp_max_slew_ppm", "ntp_poll_max", "ntp_poll_min",
    "ntp_reset_threshold", "ntp_servers", "program", "program_overwrite", "readonly_rootfs", "reboot_on_exit",
    "sandbox", "so_rcvbuf", "special_files", "static_map_program", "syscall_summary", "syslog", "telnet_mgmt",
    "trace", "tracelog", "tun", "uname",
))  # fmt: skip

# The same of newer releases, with the first that reads each (found in the sources' history: `git tag --contains`).
NEWER_KERNEL_KEYS: Mapping[str, Release] = {
    "log_level": (0, 1, 53),
    "transparent_hugepage": (0, 1, 53),
    "userdata": (0, 1, 55),
}
ALL_KERNEL_KEYS = KERNEL_KEYS | NEWER_KERNEL_KEYS.keys()

# Keys of the root tuple that ops fills from the rest of the manifest; a passthrough silently replaces them.
ROOT_FROM_MANIFEST: Mapping[str, str] = {
    "program": "Program",
    "arguments": "Args",
    "environment": "Env",
    "mounts": "Mounts",
    "klibs": "Klibs",
}

SECTIONS: Mapping[str, Mapping[str, ManifestKey]] = {"": CONFIG, "RunConfig": RUN_CONFIG, "CloudConfig": CLOUD_CONFIG}


def canonical(name: str, keys: Mapping[str, ManifestKey]) -> str | None:
    """The key's own spelling for `name` in any letter case, or None when there is no such key."""
    if name in keys:
        return name
    folded = name.casefold()
    return next((key for key in keys if key.casefold() == folded), None)


def sections_with_key(name: str) -> list[str]:
    """The sections ("" is the top level) that have a key of this name, letter case apart."""
    return [section for section, keys in SECTIONS.items() if canonical(name, keys) is not None]


def parse_release(version: str) -> Release | None:
    """`0.1.43` -> (0, 1, 43); None for anything else (a commit, a local build)."""
    parts = version.split(".")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 9 for p in parts):
        return None
    return int(parts[0]), int(parts[1]), int(parts[2])
