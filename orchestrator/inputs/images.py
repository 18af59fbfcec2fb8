"""What bases need of a container engine: to look for images, to pull them, to take them in. `engine/` has it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from orchestrator.events import Emit


class StoreInfo(Protocol):
    """Which engine it is."""

    @property
    def kind(self) -> str:
        """docker|podman."""
        ...

    @property
    def endpoint(self) -> str:
        """Where it answers, as a URL."""
        ...


class ImageStore(Protocol):
    """The images of an engine. EngineError from any of them when the engine fails."""

    @property
    def info(self) -> StoreInfo:
        """Who answers."""
        ...

    def image_digest(self, reference: str) -> str | None:
        """The repo digest, or else the image id, of a local image (`sha256:…`); None when it isn't there."""
        ...

    def image_id(self, reference: str) -> str:
        """The digest of a local image's settings (`sha256:…`), "" when it isn't there or the engine has another."""
        ...

    def pull(self, reference: str, emit: Emit) -> str:
        """Pull, return the digest (`sha256:…`). PullError when the registry doesn't answer or refuses."""
        ...

    def import_rootfs(self, tar: Path, tag: str, labels: Mapping[str, str]) -> str:
        """Make an image from a root file system's tar; returns the image id."""
        ...

    def load(self, archive: Path, tag: str) -> str:
        """Take an image out of an archive, name it `tag`; returns its id. InputError: no such."""
        ...
