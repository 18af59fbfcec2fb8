"""A build request with its context."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.containerfile.context import BuildContext, ContextListing
from orchestrator.engine.base import BuildRequest


def with_context(request: BuildRequest, context: BuildContext) -> BuildRequest:
    """The request with a context, as it is now."""
    listing = ContextListing(context)
    return replace(request, context=listing.stream(), context_size=listing.size, files=listing)
