"""By what we know what we made: the label in a container engine, and the beginning of an export."""

from __future__ import annotations

LABEL = "org.gevulot.orchestrator"
"""Every image and container that we make carries this label: the build's id, `base`, or `cache` for the layers that an
engine keeps (set in containerfiles/). `clean` looks for it."""
EXPORT = "orchestrator-cache"
"""Name of the first member of every export of the cache, which is a tar."""
BASE = "base"
"""The label's value for images that many builds begin with: bases that were made here, packages on one."""
CACHE = "cache"
"""The label's value for layers that an engine keeps."""
