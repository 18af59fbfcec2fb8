"""The least engine that bases and resolution need. Satisfies the Protocol where they use it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

from orchestrator.engine.base import BuildRequest, EngineInfo, EnginePlace, Leftover
from orchestrator.engine.capabilities import EngineCapabilities
from orchestrator.errors import InputError
from orchestrator.events import Emit
from orchestrator.resolved import ImageSettings
from orchestrator.staged import ImageFiles
from tests.support.fake_engine import CAPABILITIES
from tests.support.images import layer, loaded, saved_image


class ImageEngine:
    """`local` and `registry`: reference -> digest. A pull that isn't in the registry fails."""

    def __init__(
        self, local: Mapping[str, str] | None = None, registry: Mapping[str, str] | None = None, endpoint: str = "fake"
    ) -> None:
        self.local = dict(local or {})
        self.registry = dict(registry or {})
        self.pulls: list[str] = []
        self.loads: list[tuple[Path, str]] = []
        self.imports: list[tuple[Path, str, dict[str, str]]] = []
        self.endpoint = endpoint
        self.ids: dict[str, str] = {}

    @property
    def info(self) -> EngineInfo:
        return EngineInfo(kind="podman", version="0", api_version="0", builder="buildah", endpoint=self.endpoint)

    @property
    def capabilities(self) -> EngineCapabilities:
        return CAPABILITIES

    def places(self) -> tuple[EnginePlace, ...]:
        """Nowhere."""
        return ()

    @contextmanager
    def protect(self, build_id: str) -> Iterator[None]:
        yield

    def in_use(self) -> frozenset[str]:
        return frozenset()

    def end_killed(self) -> None:
        pass

    def image_digest(self, reference: str) -> str | None:
        return self.local.get(reference)

    def image_id(self, reference: str) -> str:
        return self.ids.get(reference, "")

    def image_settings(self, reference: str) -> ImageSettings:
        return ImageSettings(platform="linux/amd64")

    def pull(self, reference: str, emit: Emit) -> str:
        self.pulls.append(reference)
        if reference not in self.registry:
            raise InputError(f"{reference}: connection refused\nlong story")
        self.local[reference] = self.registry[reference]
        return self.registry[reference]

    def import_rootfs(self, tar: Path, tag: str, labels: Mapping[str, str]) -> str:
        self.imports.append((tar, tag, dict(labels)))
        self.local[tag] = "sha256:imported"
        return "sha256:imported"

    def save(self, image: str, target: Path) -> None:
        target.write_bytes(saved_image([layer(self.local[image])]))

    def load(self, archive: Path, tag: str) -> str:
        self.loads.append((archive, tag))
        image_id, names, _ = loaded(archive.read_bytes())
        for name in (tag, *names):
            self.local[name] = self.ids[name] = image_id
        return image_id

    def build(self, request: BuildRequest, emit: Emit) -> str:
        raise NotImplementedError

    def open_archive(self, image: str, path: str, build_id: str) -> AbstractContextManager[BinaryIO]:
        raise NotImplementedError

    def open_image(self, image: str, build_id: str) -> AbstractContextManager[ImageFiles]:
        raise NotImplementedError

    def leftovers(self) -> list[Leftover]:
        return []

    def remove(self, leftover: Leftover) -> None:
        raise NotImplementedError

    def close(self) -> None:
        pass
