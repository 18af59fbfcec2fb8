"""Every path to data that ships with the program, named once."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
"""The program's own code."""
# A wheel carries the data inside the package (pyproject: force-include); a checkout has it beside.
_DATA = PACKAGE / "_data" if (PACKAGE / "_data").is_dir() else PACKAGE.parent

CONTAINERFILES = _DATA / "containerfiles"
"""Jinja2 templates, one file a stage."""

SCRIPTS = CONTAINERFILES / "scripts"
"""POSIX shell scripts that run inside the build container."""

MANIFESTS = _DATA / "manifests"
"""Default ops manifests, `cpu.json` and `gpu.json`, and the receipt's JSON schema."""
