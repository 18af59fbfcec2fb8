"""A guest without a virtual machine: a program in a root of its own, with /workspace mounted as the shim expects it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# In a mount namespace of its own, so nothing stays mounted. The host's libraries stand in for the image's.
_ENTER = """
set -eu
root=$1; shift
for name in usr lib lib64; do
    if [ -L "/$name" ]; then ln -sfn "$(readlink "/$name")" "$root/$name"
    elif [ -d "/$name" ]; then mkdir -p "$root/$name"; mount --rbind "/$name" "$root/$name"; fi
done
mkdir -p "$root/proc"
mount --rbind /proc "$root/proc"
if [ -d "$root/workspace" ]; then mount --bind "$root/workspace" "$root/workspace"; fi
exec chroot "$root" "$@"
"""


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A program that ended: status (negative = signal) and what it printed."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Guest:
    """A root directory. Guest paths are given without their leading slash."""

    root: Path

    @property
    def workspace(self) -> Path:
        """/workspace in the guest; without it nothing is mounted there."""
        return self.root / "workspace"

    def put(self, source: Path, guest_path: str) -> None:
        """Copy a file of the host into the guest."""
        target = self.root / guest_path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)

    def run(self, program: str, **environment: str) -> Ended:
        """Run the program at guest path `program`; libraries in /lib-own are found before the host's."""
        # A user namespace gives an ordinary user the right to mount; root has it already.
        unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
        done = subprocess.run(
            [*unshare, "sh", "-c", _ENTER, "sh", str(self.root), f"/{program}"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LD_LIBRARY_PATH": "/lib-own", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return Ended(
            status=done.returncode,
            stdout=done.stdout.decode(errors="replace"),
            stderr=done.stderr.decode(errors="replace"),
        )

    def give_task(self, *args: str, files: tuple[str, ...] = (), ascii_only: bool = True) -> None:
        """Write /workspace/task.json, and take away the last result."""
        self.workspace.mkdir(exist_ok=True)
        (self.workspace / "task_result.json").unlink(missing_ok=True)
        task = {"id": "task-1", "args": args, "files": files}
        (self.workspace / "task.json").write_text(json.dumps(task, ensure_ascii=ascii_only))

    def result(self) -> Any:
        """What /workspace/task_result.json says."""
        return json.loads((self.workspace / "task_result.json").read_text())

    def data(self) -> str:
        """The data of a result that is `Ok`, as text."""
        return bytes(self.result()["Ok"]["data"]).decode()
