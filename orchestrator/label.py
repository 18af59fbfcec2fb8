"""The label of all that we make in a container engine."""

from __future__ import annotations

LABEL = "org.gevulot.orchestrator"
"""Every image and container that we make carries this label: the build's id, `base`, or `cache` for the layers that an
engine keeps (set in containerfiles/). `clean` looks for it."""
BASE = "base"
"""The label's value for images that many builds begin with: bases that were made here, packages on one."""
