"""Packs the stand-in `ops` into one executable file: `python -m tests.standins.make_ops OUT`."""

from __future__ import annotations

import io
import stat
import sys
import zipfile
from pathlib import Path

import orchestrator
from tests.standins.ops.behaviour import BEHAVIOURS, BUILT_IN

PACKAGE = "ops_standin"
MARKER = "GEVULOT-ORCHESTRATOR-STAND-IN: ops"
_SOURCES = Path(__file__).parent / "ops"
_ORCHESTRATOR = Path(orchestrator.__file__).parent
_MAIN = f"import sys\nfrom {PACKAGE}.cli import main\nsys.exit(main(sys.argv[1:]))\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)
# Debian's python3-minimal lacks these modules of the standard library.
_BEYOND_MINIMAL = (
    "json/__init__.py", "json/decoder.py", "json/encoder.py", "json/scanner.py", "dataclasses.py", "tarfile.py",
    "gzip.py", "shutil.py", "_compression.py",
)  # fmt: skip


def make_ops(
    out: Path,
    *,
    behaviour: str = "good",
    interpreter: str = "/usr/bin/env python3",
    for_minimal_python: bool = False,
) -> Path:
    """Write the executable `out` (same bytes every time) and return it.

    `behaviour` is built in and gives way to the environment and to `.ops/standin-behaviour`. It runs on any Python
    ≥ 3.11; `for_minimal_python` packs the modules that Debian's python3-minimal lacks, out of the running Python,
    which must then be of the same minor version as the one that will run it.
    """
    if behaviour not in BEHAVIOURS:
        raise ValueError(f"unknown behaviour {behaviour!r}; known: {', '.join(BEHAVIOURS)}")
    members = {"__main__.py": _MAIN.encode()}
    for path in sorted(_SOURCES.glob("*.py")):
        members[f"{PACKAGE}/{path.name}"] = path.read_bytes()
    members[f"{PACKAGE}/{BUILT_IN}"] = behaviour.encode()
    for path in [
        _ORCHESTRATOR / "__init__.py",
        _ORCHESTRATOR / "errors.py",
        _ORCHESTRATOR / "stub_kernel.py",
        _ORCHESTRATOR / "values.py",
        _ORCHESTRATOR / "watermark.py",
        *sorted((_ORCHESTRATOR / "image").glob("*.py")),
    ]:
        members[f"orchestrator/{path.relative_to(_ORCHESTRATOR)}"] = path.read_bytes()
    if for_minimal_python:
        library = Path(io.__file__).parent
        members.update({name: (library / name).read_bytes() for name in _BEYOND_MINIMAL})
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, members[name])
    out.parent.mkdir(parents=True, exist_ok=True)
    # Compressed, the marker inside would not be found by who looks for stand-ins.
    out.write_bytes(f"#!{interpreter}\n# {MARKER} of 0.1.43\n".encode() + body.getvalue())
    out.chmod(out.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    return out


if __name__ == "__main__":
    print(make_ops(Path(sys.argv[1])))
