"""What git knows of this tree, for copies of it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support.cli import ROOT


def list_files(target: Path) -> None:
    """Write the names of the files that are there, each ended by a zero byte, as `tar --null -T` takes them."""
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    names = (name for name in listing.split(b"\0") if name and os.path.lexists(ROOT / os.fsdecode(name)))
    target.write_bytes(b"".join(name + b"\0" for name in names))
