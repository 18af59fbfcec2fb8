"""The generations of GPUs: project.yaml names them, and the checks of GPU files know their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Capability = tuple[int, int]
"""A compute capability: (8, 6) of sm_86."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """A generation of GPUs. `cards`: compute capabilities of its PC cards; `minimum_driver`: the first driver branch
    that knows it."""

    name: str
    cards: tuple[Capability, ...]
    minimum_driver: int


# Capabilities: CUDA C++ Programming Guide, "Compute Capabilities", and NVIDIA's list "CUDA GPU Compute Capability"
# (Jetson's and Orin's 8.7 and Thor's 11.0 left out: no PC card). First driver branches: the drivers' release notes;
# Ada and Hopper came with 520, which CUDA 11.8 brought.
_ALL: Final = (
    Family(name="turing", cards=((7, 5),), minimum_driver=450),
    Family(name="ampere", cards=((8, 0), (8, 6)), minimum_driver=450),
    Family(name="ada", cards=((8, 9),), minimum_driver=520),
    Family(name="hopper", cards=((9, 0),), minimum_driver=520),
    Family(name="blackwell", cards=((10, 0), (12, 0)), minimum_driver=570),
)
FAMILIES: Final[Mapping[str, Family]] = {family.name: family for family in _ALL}
FAMILY_NAMES: Final = tuple(FAMILIES)
