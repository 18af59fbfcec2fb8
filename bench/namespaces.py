"""Machines that are network namespaces of this one, with lines between them and addresses of their own. As root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

NETWORK = "10.77"


@dataclass(frozen=True)
class Line:
    """Two machines that reach each other, and nobody else by this line; `here` and `there` are names, "" = the one that
    this process is on. `number` is unlike any other's."""

    number: int
    here: str
    there: str

    @property
    def addresses(self) -> tuple[str, str]:
        """Of both."""
        return f"{NETWORK}.{self.number}.1", f"{NETWORK}.{self.number}.2"


@contextmanager
def connected(machines: Sequence[str], lines: Sequence[Line]) -> Iterator[None]:
    """Make them, and remove them at the end. What the machine's firewall says of bridges is not asked."""

    def clear() -> None:
        for name in machines:
            _ip("netns", "del", name, check=False)
        for line in lines:  # those that ended in no namespace
            _ip("link", "del", f"flt{line.number}a", check=False)

    clear()
    try:
        for name in machines:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        for line in lines:
            ends = (f"flt{line.number}a", f"flt{line.number}b")
            _ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
            for end, machine, address in zip(ends, (line.here, line.there), line.addresses, strict=True):
                inside = ["-n", machine] if machine else []
                if machine:
                    _ip("link", "set", end, "netns", machine)
                _ip(*inside, "addr", "add", f"{address}/30", "dev", end)
                _ip(*inside, "link", "set", end, "up")
        yield
    finally:
        clear()


def on(machine: str) -> list[str]:
    """What a command begins with that runs there. Not `ip netns exec`, which hides this machine's cgroups."""
    return ["nsenter", f"--net=/run/netns/{machine}"]


def _ip(*words: str, check: bool = True) -> None:
    subprocess.run(["ip", *words], check=check, capture_output=not check)
