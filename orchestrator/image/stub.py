"""Placeholder, replaced in the next commit."""

MARKER = b"gevulot-orchestrator-stub-kernel"
