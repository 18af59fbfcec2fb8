"""nvcc and cuobjdump of CUDA 13.0, as pip has them: a tree like /usr/local/cuda, kept between runs."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path

TOOLKIT = "cuda-toolkit[nvcc,cudart,crt,nvvm,cccl]==13.0.2"
CUOBJDUMP = "nvidia-cuda-cuobjdump"


def cuda_tree() -> Path:
    """The toolkit's directory, fetched with pip the first time."""
    top = Path(tempfile.gettempdir()) / "orchestrator-tests-cuda-13.0"
    top.mkdir(exist_ok=True)
    tree = top / "nvidia/cu13"
    with (top / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (top / ".whole").exists():
            command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(top), "--upgrade"]
            subprocess.run([*command, TOOLKIT, CUOBJDUMP], check=True)
            for program in [*(tree / "bin").iterdir(), *(tree / "nvvm/bin").iterdir()]:
                if program.is_file():
                    program.chmod(0o755)
            for link, target in (("lib/libcudart.so", "libcudart.so.13"), ("lib64", "lib")):
                if not (tree / link).is_symlink():
                    (tree / link).symlink_to(target)
            (top / ".whole").touch()
    return tree
