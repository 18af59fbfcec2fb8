"""Every symbolic link of the packed tree, followed as the guest follows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestrator.errors import Finding, warning
from orchestrator.image.reader import SYMLINK_HOPS
from orchestrator.nanos.verify.subject import Subject

_SHOWN: Final = 5
KERNEL_DIRECTORIES: Final = ("/proc", "/dev", "/sys")
"""What the kernel itself fills when the guest runs."""


def check_links(subject: Subject) -> Iterator[Finding]:
    """Each leads to something in the image, to what the kernel fills, or to where a mount will be.

    A warning, not an error: real trees hold links that nobody opens (`python3` of a virtual environment), and ops packs
    them. But on a root file system that is only read, one that leads nowhere can never lead anywhere.
    """
    elsewhere = frozenset({*KERNEL_DIRECTORIES, *subject.mount_points})
    nowhere, endless = [], []
    for path, link in subject.symlinks.items():
        trace = subject.rootfs.trace(path, stop=elsewhere)
        if trace.end == "endless":
            endless.append(f"{path} -> {link.target}")
        elif trace.end == "missing":
            # Said where the text doesn't: it is relative, or leads there through other links.
            absent = "" if trace.path == link.target else f" (the image has no {trace.path})"
            nowhere.append(f"{path} -> {link.target}{absent}")
    if nowhere:
        yield warning(
            "link-dangling",
            _told(nowhere, "leads nowhere in the image", "lead nowhere in the image"),
            "add its target to stage.files, or leave the link out",
        )
    if endless:
        yield warning(
            "link-endless",
            _told(endless, "goes in a circle", "go in circles") + f" or through more than {SYMLINK_HOPS} links",
            "point it directly at a file or directory",
        )


def _told(shown: list[str], one: str, several: str) -> str:
    if len(shown) == 1:
        return f"the link {shown[0]} {one}"
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    return f"{len(shown)} links {several}: {', '.join(shown[:_SHOWN])}{more}"
