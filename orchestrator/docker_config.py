"""The docker command's own configuration: its directory, and which context `docker context use` chose."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from orchestrator.text import parse_json


def docker_folder() -> Path:
    """DOCKER_CONFIG, or ~/.docker."""
    return Path(os.environ.get("DOCKER_CONFIG") or Path(os.environ.get("HOME") or Path.home()) / ".docker")


def chosen_context() -> str:
    """The name of the context in use, "" where none was chosen. A configuration that can't be read chooses none."""
    with suppress(OSError, ValueError):
        document = parse_json((docker_folder() / "config.json").read_text(encoding="utf-8"))
        name = document.get("currentContext") if isinstance(document, dict) else ""
        return name if isinstance(name, str) else ""
    return ""
