"""The tests that need no container engine, on the Pythons of later Debian releases: `make test-pythons`.

Each release's root is made by mmdebstrap, once, in the user's cache directory; a run sees it through an overlay, with a
copy of what git knows of this tree. Needs root, a network, and 3 GB of disk.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.engines.machines import PATH, make_root
from tests.support.cli import ROOT
from tests.support.tree import list_files

RELEASES = ("trixie", "sid")
"""Debian 13 has Python 3.13, sid 3.14."""
_PACKAGES = (
    "python3,python3-venv,git,ca-certificates,mmdebstrap,podman,runc,crun,busybox-static,gcc,libc6-dev,binutils,"
    "musl-tools,lld,mold,cargo,rustc,nasm,binutils-aarch64-linux-gnu,qemu-system-x86,util-linux,uidmap,slirp4netns,"
    "passt,fuse-overlayfs,netavark,iproute2,procps,file,openssh-client,make,xz-utils,zstd,docker-registry,xxd"
)
_SELECTED = ("-m", "not engine and not slow", "-n", "2", "--dist", "loadscope", "tests")
_OURS = ("PYTHON", "PIP_FIND_LINKS", "VIRTUAL_ENV", "XDG_", "CARGO_HOME", "RUSTUP", "GOPATH", "GOROOT")
"""Variables that name files of this machine."""


def run(release: str, arguments: Sequence[str]) -> int:
    """Pytest's exit status there; what it prints comes as it is."""
    chroot = make_root(f"python-{release}", release, _PACKAGES)
    with tempfile.TemporaryDirectory(prefix=f"pythons-{release}-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        folder.chmod(0o755)
        list_files(folder / "files")
        script = [str(Path(__file__).with_name("machine.sh")), str(chroot), place, str(ROOT), *arguments]
        namespaces = ["--mount", "--pid", "--fork", "--kill-child"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        environment |= {"HOME": "/work/home", "TMPDIR": "/work/tmp", "PATH": PATH, "LANG": "C.UTF-8"}
        return subprocess.run(["unshare", *namespaces, "sh", *script], env=environment, check=False).returncode


def main(arguments: Sequence[str]) -> int:
    """`[RELEASE…] [-- PYTEST'S ARGUMENTS…]`: the highest exit status."""
    words = list(arguments)
    more = words[words.index("--") + 1 :] if "--" in words else []
    releases = (words[: words.index("--")] if "--" in words else words) or RELEASES
    if unknown := set(releases) - set(RELEASES):
        print(f"unknown releases: {', '.join(sorted(unknown))}; known: {', '.join(RELEASES)}", file=sys.stderr)
        return 2
    if os.geteuid() != 0 or shutil.which("mmdebstrap") is None:
        print("make test-pythons needs root and mmdebstrap", file=sys.stderr)
        return 2
    return max(run(release, more or _SELECTED) for release in releases)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
