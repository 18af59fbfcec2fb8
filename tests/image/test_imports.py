"""The package is carried into containers that have Python and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import orchestrator.image


def test_standard_library_only() -> None:
    package = Path(orchestrator.image.__file__).parent
    names = [f"orchestrator.image.{file.stem}" for file in sorted(package.glob("[!_]*.py"))]
    assert len(names) > 5
    program = f"import sys; sys.path.insert(0, {str(package.parents[1])!r}); import {', '.join(names)}"
    # -I and -S: no site-packages, no environment.
    subprocess.run([sys.executable, "-I", "-S", "-c", program], check=True)
