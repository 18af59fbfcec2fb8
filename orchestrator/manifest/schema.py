"""ops's configuration (its JSON manifest) as data: every key, its type, since when, and what it does in a build.

Sources: facts measured with ops 0.1.41-0.1.46; the releases' own key lists for `since` and `until`.
Keys are matched as Go's decoder does, letter case apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Release = tuple[int, int, int]


class Kind(StrEnum):
    """The JSON type that a key takes, in the words of an error message."""

    TEXT = "text"
    FLAG = "true or false"
    NUMBER = "a whole number"
    TEXTS = "a list of texts"
    TABLE = "an object whose values are texts"
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

    kind: Kind
    effect: Effect
    since: Release = (0, 1, 6)
    until: Release | None = None
    keys: Mapping[str, ManifestKey] | None = None


def _key(kind: Kind, effect: Effect, since: int = 6, until: int | None = None) -> ManifestKey:
    return ManifestKey(kind=kind, effect=effect, since=(0, 1, since), until=None if until is None else (0, 1, until))


def _run(kind: Kind, since: int = 6) -> ManifestKey:
    return _key(kind, Effect.RUN, since)


def _cloud(kind: Kind = Kind.TEXT, since: int = 6) -> ManifestKey:
    return _key(kind, Effect.CLOUD, since)


_NIC = {
    "IPAddress": _key(Kind.TEXT, Effect.IMAGE, 33),
    "IPv6Address": _key(Kind.TEXT, Effect.IGNORED, 33),
    "NetMask": _key(Kind.TEXT, Effect.IMAGE, 33),
    "Gateway": _key(Kind.TEXT, Effect.IMAGE, 33),
    "BridgeName": _run(Kind.TEXT, 33),
}

RUN_CONFIG: Mapping[str, ManifestKey] = {
    "Accel": _run(Kind.FLAG),
    "AtExit": _run(Kind.TEXT, 38),
    "AttachVolumeOnInstanceCreate": _run(Kind.FLAG, 40),
    "Background": _run(Kind.FLAG, 20),
    "BackgroundDetach": _run(Kind.FLAG, 45),
    "BridgeIPAddress": _run(Kind.TEXT, 41),
    "BridgeName": _run(Kind.TEXT, 19),
    "Bridged": _run(Kind.FLAG),
    "CPUs": _run(Kind.NUMBER, 16),
    "CanIPForward": _run(Kind.FLAG, 35),
    "Debug": _run(Kind.FLAG, 14),
    "GPUType": _run(Kind.TEXT, 35),
    "GPUs": _run(Kind.NUMBER, 35),
    "Gateway": _key(Kind.TEXT, Effect.IMAGE, 16),
    "GdbPort": _run(Kind.NUMBER, 8),
    "IPAddress": _key(Kind.TEXT, Effect.IMAGE, 20),
    "IPv6Address": _key(Kind.TEXT, Effect.IMAGE, 22),
    "ImageName": _key(Kind.TEXT, Effect.IGNORED),  # we name the image with -i, which wins
    "InstanceGroup": _run(Kind.TEXT, 26),
    "InstanceName": _run(Kind.TEXT, 15),
    "JSON": _run(Kind.FLAG, 29),
    "Kernel": _run(Kind.TEXT, 37),
    "Memory": _run(Kind.TEXT),
    "Mgmt": _run(Kind.TEXT, 40),
    "Mounts": _run(Kind.TEXTS, 13),
    "NetMask": _key(Kind.TEXT, Effect.IMAGE, 16),
    "Nics": ManifestKey(kind=Kind.OBJECTS, effect=Effect.IMAGE, since=(0, 1, 33), keys=_NIC),
    "Ports": _key(Kind.TEXTS, Effect.IMAGE, 15),
    "QMP": _run(Kind.FLAG, 39),
    "ShowDebug": _run(Kind.FLAG, 15),
    "ShowErrors": _run(Kind.FLAG, 14),
    "ShowWarnings": _run(Kind.FLAG, 14),
    "TapName": _run(Kind.TEXT),
    "ThreadsPerCore": _run(Kind.NUMBER, 40),
    "UDPPorts": _run(Kind.TEXTS, 15),
    "Verbose": _run(Kind.FLAG),
    "Vga": _run(Kind.FLAG, 26),
    "VolumeSizeInGb": _run(Kind.NUMBER, 16),
}

_TAG = {
    "key": _cloud(),
    "value": _cloud(),
    "attribute": ManifestKey(
        kind=Kind.OBJECT,
        effect=Effect.CLOUD,
        since=(0, 1, 40),
        keys={
            name: _cloud(Kind.FLAG, 40)
            for name in ("image_label", "instance_label", "instance_network", "instance_metadata")
        },
    ),
}

_VOLUME = {
    "name": _cloud(since=42),
    "iops": _cloud(Kind.NUMBER, 42),
    "size": _cloud(Kind.NUMBER, 42),
    "throughput": _cloud(Kind.NUMBER, 42),
    "typeof": _cloud(since=42),
}

CLOUD_CONFIG: Mapping[str, ManifestKey] = {
    "BucketName": _cloud(),
    "BucketNamespace": _cloud(since=21),
    "ConfidentialVM": _cloud(Kind.FLAG, 40),
    "DedicatedHostID": _cloud(since=37),
    "DomainName": _cloud(since=20),
    "EnableIPv6": _cloud(Kind.FLAG, 22),
    "Flavor": _cloud(since=8),
    "ImageName": _key(Kind.TEXT, Effect.IGNORED),  # always recomputed by `ops build`
    "ImageType": _cloud(since=21),
    "InstanceProfile": _cloud(since=30),
    "KMS": _cloud(since=40),
    "Platform": _cloud(),
    "ProjectID": _cloud(),
    "RootVolume": ManifestKey(kind=Kind.OBJECT, effect=Effect.CLOUD, since=(0, 1, 42), keys=_VOLUME),
    "SecurityGroup": _cloud(since=20),
    "SkipImportVerify": _cloud(Kind.FLAG, 39),
    "Spot": _cloud(Kind.FLAG, 36),
    "StaticIP": _cloud(since=31),
    "Subnet": _cloud(since=20),
    "Tags": ManifestKey(kind=Kind.OBJECTS, effect=Effect.CLOUD, since=(0, 1, 20), keys=_TAG),
    "UserData": _cloud(since=45),
    "VPC": _cloud(since=20),
    "Zone": _cloud(),
}

# In the order in which we write them: what a reader looks for first comes first.
CONFIG: Mapping[str, ManifestKey] = {
    "Program": _key(Kind.TEXT, Effect.IMAGE),
    "Args": _key(Kind.TEXTS, Effect.IMAGE),
    "Env": _key(Kind.TABLE, Effect.IMAGE),
    "Files": _key(Kind.TEXTS, Effect.IMAGE),
    "Dirs": _key(Kind.TEXTS, Effect.IMAGE),
    "MapDirs": _key(Kind.TABLE, Effect.IMAGE),
    "Mounts": _key(Kind.TABLE, Effect.IMAGE, 13),
    "Klibs": _key(Kind.TEXTS, Effect.IMAGE, 37),
    "KlibDir": _key(Kind.TEXT, Effect.INPUT, 31),
    "ManifestPassthrough": _key(Kind.ANY, Effect.IMAGE, 22),
    "RebootOnExit": _key(Kind.FLAG, Effect.IMAGE, 16),
    "Debugflags": _key(Kind.TEXTS, Effect.IMAGE),
    "NoTrace": _key(Kind.TEXTS, Effect.IMAGE),
    "NameServers": _key(Kind.TEXTS, Effect.IMAGE, 29),
    "BaseVolumeSz": _key(Kind.TEXT, Effect.IMAGE, 16),
    "Uefi": _key(Kind.FLAG, Effect.IMAGE, 21),
    "TFSv4": _key(Kind.FLAG, Effect.IMAGE, 39),
    "TargetRoot": _key(Kind.TEXT, Effect.INPUT),
    "RunConfig": ManifestKey(kind=Kind.OBJECT, effect=Effect.RUN, keys=RUN_CONFIG),
    "CloudConfig": ManifestKey(kind=Kind.OBJECT, effect=Effect.CLOUD, keys=CLOUD_CONFIG),
    "TargetConfig": _key(Kind.TABLE, Effect.CLOUD, 33),
    "Boot": _key(Kind.TEXT, Effect.IGNORED),  # blanked by --nanos-version, which we always give
    "Kernel": _key(Kind.TEXT, Effect.IGNORED),
    "UefiBoot": _key(Kind.TEXT, Effect.IGNORED, 21),  # recomputed
    "LocalFilesParentDirectory": _key(Kind.TEXT, Effect.IGNORED, 23),  # set from the -c file's directory
    "NanosVersion": _key(Kind.TEXT, Effect.IGNORED, 20),
    "NightlyBuild": _key(Kind.FLAG, Effect.FORBIDDEN),
    "Force": _key(Kind.FLAG, Effect.IGNORED),
    "BuildDir": _key(Kind.TEXT, Effect.FORBIDDEN, 8),
    "DisableArgsCopy": _key(Kind.FLAG, Effect.IGNORED, 29),
    "home": _key(Kind.TEXT, Effect.IGNORED, 41),
    "ProgramPath": _key(Kind.TEXT, Effect.IGNORED, 16),
    "Version": _key(Kind.TEXT, Effect.IGNORED),
    "Language": _key(Kind.TEXT, Effect.IGNORED, 24),
    "Runtime": _key(Kind.TEXT, Effect.IGNORED, 24, 42),
    "Description": _key(Kind.TEXT, Effect.IGNORED, 24),
    "PackageBaseURL": _key(Kind.TEXT, Effect.IGNORED, 24),
    "PackageManifestURL": _key(Kind.TEXT, Effect.IGNORED, 24),
    "VolumesDir": _key(Kind.TEXT, Effect.IGNORED, 20),
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
