"""What ops 0.1.43 would write into the image for a manifest: the root tuple and the files it always adds.

The native packer writes this; `verify` compares with it. Measured by reading images that ops made.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from orchestrator.nanos.manifest.effective import NET_MASK, EffectiveManifest, guest_program, is_address
from orchestrator.values import Value

# What ops writes, byte for byte: two spaces after `nameserver`, no newline at the end of the other two.
_PASSWD = b"root:x:0:0:root:/root:/bin/nobash"
_HOSTNAME = b"uniboot"


def root_attributes(
    effective: EffectiveManifest, *, image_name: str, nanos_version: str, ops_version: str
) -> dict[str, Value]:
    """The root tuple without `children`, as ops writes it (entry order is ours; ops's own is random).

    `image_name` is as for `-i`: ops takes its base name up to the first dot. `ops_version` is what the binary
    calls itself: vendor releases their number, own builds "".
    """
    name = PurePosixPath(image_name).name.split(".")[0]
    root: dict[str, Value] = {
        "program": guest_program(effective.program_argument),
        "arguments": [effective.program_argument, *effective.args],
        "environment": _environment(effective, name, nanos_version, ops_version),
    }
    if effective.mounts:
        root["mounts"] = dict(effective.mounts)
    if effective.klibs:
        root["klibs"] = "bootfs"
    if effective.reboot_on_exit:
        root["reboot_on_exit"] = "t"
    root.update(dict.fromkeys(effective.debug_flags, "t"))
    if effective.no_trace:
        root["notrace"] = list(effective.no_trace)
    root.update(_network(effective.run_config))
    root.update({key: _value(value) for key, value in effective.passthrough.items()})
    return root


def extra_files(effective: EffectiveManifest) -> dict[str, bytes]:
    """Guest path without the leading `/` -> content of the files ops always adds. A staged file of that path wins."""
    resolv = "".join(f"nameserver  {server}\n" for server in effective.name_servers)
    return {
        "etc/resolv.conf": resolv.encode("utf-8", "surrogateescape"),
        "etc/passwd": _PASSWD,
        "proc/sys/kernel/hostname": _HOSTNAME,
    }


def _environment(
    effective: EffectiveManifest, image_name: str, nanos_version: str, ops_version: str
) -> dict[str, Value]:
    environment: dict[str, Value] = {
        "USER": "root",
        "PWD": "/",
        "OPS_VERSION": ops_version,
        "NANOS_VERSION": nanos_version,
        "NANOS_ARCH": "amd64",
        "IMAGE_NAME": image_name,
    }
    environment.update(effective.env)
    if "RADAR_KEY" in effective.env:
        environment.setdefault("RADAR_IMAGE_NAME", image_name)
    ports = effective.run_config.get("Ports")
    if ports:
        environment["OPS_PORT"] = ",".join(ports)
    return environment


def _network(run_config: dict[str, Any]) -> dict[str, Value]:
    """Static addresses. ops blanks an address it can't parse, then still writes the empty text."""
    attributes: dict[str, Value] = {}
    address, address6 = _address(run_config, "IPAddress"), run_config.get("IPv6Address", "")
    if address or address6:
        attributes = {
            "ipaddr": address,
            "netmask": NET_MASK,
            "gateway": _address(run_config, "Gateway"),
            "ip6addr": address6,
        }
    for number, nic in enumerate(run_config.get("Nics") or (), start=1):
        addresses: dict[str, Value] = {
            "ipaddr": nic.get("IPAddress", ""),
            "netmask": nic.get("NetMask", ""),
            "gateway": nic.get("Gateway", ""),
        }
        if number == 1:
            attributes = {**addresses, "ip6addr": ""}
        else:
            attributes[f"en{number}"] = addresses
    return attributes


def _address(run_config: dict[str, Any], key: str) -> str:
    text = str(run_config.get(key, ""))
    return text if is_address(text) else ""


def _value(value: Any) -> Value:
    if isinstance(value, dict):
        return {str(key): _value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_value(item) for item in value]
    return value if value is None or isinstance(value, int) else str(value)
