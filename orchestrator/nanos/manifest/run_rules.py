"""Rules about RunConfig: addresses that ops would blank, and resources that differ from project.yaml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.nanos.manifest.effective import NET_MASK, is_address
from orchestrator.nanos.manifest.report import Report
from orchestrator.nanos.manifest.schema import RUN_CONFIG, canonical
from orchestrator.project.project import Resources
from orchestrator.suggest import shown

_MEMORY = re.compile(r"([0-9]{1,12})([kKmMgG]?)")


def check(report: Report, run: Mapping[str, Any], field: str, resources: Resources) -> None:
    """`run`: the user's RunConfig, `field`: its name as written.

    Errors only for what would change the image; the rest is for `ops run`, which no node does.
    """
    spelled = {canonical(key, RUN_CONFIG): (f"{field}.{shown(key)}", value) for key, value in run.items()}
    for name in ("IPAddress", "Gateway", "NetMask", "IPv6Address"):
        where, value = spelled.get(name, ("", None))
        _address(report, where, value)
    where, mask = spelled.get("NetMask", ("", None))
    if isinstance(mask, str) and is_address(mask) and mask != NET_MASK:
        message = f"is ignored: `ops build` always writes {NET_MASK}"
        report.warning("net-mask", where, message, "put the address into `Nics`, whose NetMask is written")
    where, nics = spelled.get("Nics", ("", None))
    for index, nic in enumerate(nics if isinstance(nics, list) else []):
        for key, value in nic.items() if isinstance(nic, dict) else ():
            if key.casefold() != "bridgename":
                _address(report, f"{where}[{index}].{shown(key)}", value)
    where, kind = spelled.get("GPUType", ("", None))
    if isinstance(kind, str) and kind not in ("", "pci-passthrough"):
        message = f"`{shown(kind)}` is a cloud GPU; on a node the GPU is passed through"
        report.warning("gpu-type", where, message, "remove it, or write pci-passthrough")
    _resources(report, spelled, resources)


def _address(report: Report, where: str, value: Any) -> None:
    if isinstance(value, str) and value and not is_address(value):
        message = f"`{shown(value)}` is not an address; ops would silently leave it out"
        report.error("bad-address", where, message, "write one address, such as 10.0.0.2")


def _resources(report: Report, spelled: Mapping[str | None, tuple[str, Any]], resources: Resources) -> None:
    where, memory = spelled.get("Memory", ("", None))
    if isinstance(memory, str):
        size = memory_mib(memory)
        if size is None:
            report.warning("memory", where, f"`{shown(memory)}` is not a size", "remove it: `resources` sets it")
        elif size != resources.memory:
            _differs(report, where, f"{size:g} MiB", f"memory: {resources.memory}")
    for name, wanted in (("CPUs", resources.cpus), ("GPUs", resources.gpus)):
        where, number = spelled.get(name, ("", None))
        if not isinstance(number, int) or isinstance(number, bool):
            continue
        if number < 0:
            report.warning("out-of-range", where, f"{number} is below zero", "remove it: `resources` sets it")
        elif number != wanted:
            _differs(report, where, str(number), f"{name.lower()}: {wanted}")


def _differs(report: Report, where: str, value: str, wanted: str) -> None:
    message = f"is {value}, but project.yaml's resources say {wanted}; the node uses what the deployment says"
    report.warning("resources-differ", where, message, "remove it here: it is taken from `resources`")


def memory_mib(text: str) -> float | None:
    """ops's memory size (no unit = MiB) in MiB, or None."""
    match = _MEMORY.fullmatch(text)
    if match is None:
        return None
    return int(match[1]) * {"": 1.0, "k": 1 / 1024, "m": 1.0, "g": 1024.0}[match[2].lower()]
