"""The linkers of this machine besides GNU ld."""

from __future__ import annotations

from pathlib import Path

OLD_LLD = 14
"""Debian bookworm's own lld, which pads no segment."""


def newest_lld() -> Path | None:
    """The newest ld.lld that Debian's versioned packages brought, if it is newer than the release's own."""
    by_version = {int(path.parts[3].removeprefix("llvm-")): path for path in Path("/usr/lib").glob("llvm-*/bin/ld.lld")}
    return by_version[max(by_version)] if by_version and max(by_version) > OLD_LLD else None


def lld_flags() -> tuple[str, str]:
    """What has gcc link with it."""
    lld = newest_lld()
    assert lld is not None, "the package lld-19 is missing: .ci/setup test"
    return f"-B{lld.parent}", "-fuse-ld=lld"
