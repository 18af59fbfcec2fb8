"""What says of itself that it can be made again: directories with a CACHEDIR.TAG, as cargo's `target/` has.

Tools that copy trees leave such directories out (the tag is an agreement of theirs: "Cache Directory Tagging
Specification"). In a build context a cache of the host would be believed: it is older than what it is used for.
"""

from __future__ import annotations

from pathlib import Path

TAG = "CACHEDIR.TAG"
SIGNATURE = b"Signature: 8a477f597d28d172789f06886806bc55"
NINJA_LOG = ".ninja_log"
"""ninja compares the times in it with those of files, and takes what a `restat` rule made for new when they are later:
always, in a context, whose times are none of the host's. Without it ninja runs every command again."""


def is_cache(directory: Path) -> bool:
    """Whether a directory has a valid tag."""
    tag = directory / TAG
    try:
        if tag.is_symlink() or not tag.is_file():
            return False
        with tag.open("rb") as stream:
            return stream.read(len(SIGNATURE)) == SIGNATURE
    except OSError:
        return False
