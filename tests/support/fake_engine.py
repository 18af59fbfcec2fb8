"""An engine for unit tests: builds are scripted, archives come out of a dict. It starts nothing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, BinaryIO

from orchestrator.engine.base import BuildRequest, Engine, EngineInfo, EnginePlace, Leftover
from orchestrator.engine.capabilities import SESSION_SERVICES, EngineCapabilities
from orchestrator.engine.reasons import image_error
from orchestrator.errors import BuildStepError, EngineError
from orchestrator.events import Emit, Event
from orchestrator.label import LABEL
from orchestrator.resolved import ImageSettings
from orchestrator.staged import ImageFiles, StagedEntry

CAPABILITIES = EngineCapabilities(
    api_version="1.41", buildkit=True, session=SESSION_SERVICES, context_sync=False, mounts=True, ssh="type=ssh",
    parallel=True, registry_cache=True, storage="overlay2", cgroup="2", limits=("memory", "pids"),
    rootless=False, remote=False, shares_files=True,
)  # fmt: skip
INFO = EngineInfo(kind="docker", version="0.0", api_version="1.41", builder="buildkit", endpoint="unix:///fake.sock")


@dataclass(frozen=True, kw_only=True)
class Scripted:
    """What one build does: emits `events`, then raises `error`, or else makes an image holding `files`.

    `files` maps an absolute path to content, or to a `tarfile.TarInfo` for what is no plain file.
    """

    files: Mapping[str, bytes | tarfile.TarInfo] = field(default_factory=dict)
    events: Sequence[Event] = ()
    error: BaseException | None = None


@dataclass(kw_only=True)
class FakeEngine:
    """Satisfies `Engine`. `builds` are taken in order, the last one again and again.

    `images` maps references that are there locally to digests; `registry` the same for those that can be pulled.
    What was asked for is kept: `requests` (contexts read into `contexts`), `pulled`, `imported`, `opened`,
    `loaded`.
    """

    builds: list[Scripted] = field(default_factory=lambda: [Scripted()])
    info: EngineInfo = INFO
    capabilities: EngineCapabilities = CAPABILITIES
    images: dict[str, str] = field(default_factory=dict)
    registry: dict[str, str] = field(default_factory=dict)
    requests: list[BuildRequest] = field(default_factory=list)
    contexts: list[bytes] = field(default_factory=list)
    pulled: list[str] = field(default_factory=list)
    imported: list[tuple[Path, str]] = field(default_factory=list)
    opened: list[tuple[str, str]] = field(default_factory=list)
    loaded: list[str] = field(default_factory=list)
    settings: dict[str, ImageSettings] = field(default_factory=dict)
    closed: bool = False
    _files: dict[str, Mapping[str, bytes | tarfile.TarInfo]] = field(default_factory=dict)
    _leftovers: list[Leftover] = field(default_factory=list)

    def places(self) -> tuple[EnginePlace, ...]:
        """Nowhere."""
        return ()

    @contextmanager
    def protect(self, build_id: str) -> Iterator[None]:
        """Nobody else uses it."""
        yield

    def end_killed(self) -> None:
        """Nobody is killed."""

    def in_use(self) -> frozenset[str]:
        """Nothing."""
        return frozenset()

    def image_digest(self, reference: str) -> str | None:
        """From `images`."""
        self._alive()
        return self.images.get(reference)

    def image_id(self, reference: str) -> str:
        """As an engine whose ids are of another kind."""
        return ""

    def image_settings(self, reference: str) -> ImageSettings:
        """From `settings`, else nothing said."""
        self._alive()
        return self.settings.get(reference, ImageSettings(platform="linux/amd64"))

    def pull(self, reference: str, emit: Emit) -> str:
        """From `registry`, else InputError."""
        self._alive()
        self.pulled.append(reference)
        if reference not in self.registry:
            raise image_error(reference, "no registry")
        self.images[reference] = self.registry[reference]
        return self.images[reference]

    def import_rootfs(self, tar: Path, tag: str, labels: Mapping[str, str]) -> str:
        """An image whose id is the digest of the tar."""
        self._alive()
        self.imported.append((tar, tag))
        image = _digest(tar.read_bytes())
        self.images[tag] = image
        self._leave(image, tag, labels.get(LABEL))
        return image

    def save(self, image: str, target: Path) -> None:
        """An archive of one layer, with the scripted files; the image's digest is in its settings."""
        self._alive()
        layer = layer_of(self._files.get(image, {}))
        config = json.dumps({"rootfs": {"diff_ids": [_digest(layer)]}, "digest": self.images[image]}).encode()
        manifest = json.dumps([{"Config": "config", "Layers": ["layer"]}]).encode()
        target.write_bytes(_tar({"manifest.json": manifest, "config": config, "layer": layer}))

    def load(self, archive: Path, tag: str) -> str:
        """The image that `save` wrote."""
        self._alive()
        with tarfile.open(archive) as tar:
            (manifest,) = json.load(_member(tar, "manifest.json"))
            config = json.load(_member(tar, manifest["Config"]))
        self.images[tag] = config["digest"]
        self.loaded.append(tag)
        return self.images[tag]

    def build(self, request: BuildRequest, emit: Emit) -> str:
        """The next of `builds`."""
        self._alive()
        self.requests.append(request)
        self.contexts.append(b"".join(request.context))
        scripted = self.builds.pop(0) if len(self.builds) > 1 else self.builds[0]
        for event in scripted.events:
            emit(event)
        if scripted.error is not None:
            raise scripted.error
        image = _digest(repr((request.tag, len(self.requests))).encode())
        self.images[request.tag] = self.images[image] = image
        self._files[image] = self._files[request.tag] = scripted.files
        self._leave(image, request.tag, request.build_id)
        return image

    @contextmanager
    def open_archive(self, image: str, path: str, build_id: str) -> Iterator[BinaryIO]:
        """A tar of the scripted files at or below `path`, named as an engine names them: from `path`'s last part."""
        self._alive()
        self.opened.append((image, path))
        wanted, files = path.rstrip("/"), self._files.get(image, {})
        inside = {name: item for name, item in files.items() if name == wanted or name.startswith(f"{wanted}/")}
        if not inside and wanted:
            raise BuildStepError(f"the built image has no {path}", remedy="check where the build puts it")
        root = wanted.rpartition("/")[2]
        yield io.BytesIO(_tar({f"{root}{name[len(wanted) :]}": item for name, item in inside.items()}))

    @contextmanager
    def open_image(self, image: str, build_id: str) -> Iterator[ImageFiles]:
        """The scripted files."""
        yield _Files(engine=self, image=image, build_id=build_id)

    def leftovers(self) -> list[Leftover]:
        """Images built or imported with our label and not removed."""
        self._alive()
        return list(self._leftovers)

    def remove(self, leftover: Leftover) -> None:
        """Forget it."""
        self._alive()
        self._leftovers = [item for item in self._leftovers if item.id != leftover.id]
        self.images = {name: image for name, image in self.images.items() if image != leftover.id}

    def ask_ahead(self) -> None:
        """It knows already."""

    def close(self) -> None:
        """No further call is answered."""
        self.closed = True

    def _leave(self, image: str, tag: str, build_id: str | None) -> None:
        if build_id is not None:
            self._leftovers.append(Leftover(kind="image", id=image, name=tag, build_id=build_id, size=1))

    def _alive(self) -> None:
        if self.closed:
            raise EngineError("the fake engine is closed", remedy="keep it open")


@dataclass(frozen=True, kw_only=True)
class _Files:
    engine: FakeEngine
    image: str
    build_id: str

    def open_archive(self, path: str) -> AbstractContextManager[BinaryIO]:
        return self.engine.open_archive(self.image, path, self.build_id)

    def open_file(self, path: str) -> BinaryIO | None:
        return None

    def sorted_entries(self, path: str) -> Iterator[StagedEntry] | None:
        return None


def layer_of(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """The layer of an image of these files."""
    return _tar({name.lstrip("/"): data for name, data in files.items()})


def _member(tar: tarfile.TarFile, name: str) -> IO[bytes]:
    content = tar.extractfile(name)
    assert content is not None
    return content


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _tar(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, item in sorted(files.items()):
            if isinstance(item, tarfile.TarInfo):
                item.name = name.lstrip("/")
                tar.addfile(item)
            else:
                member = tarfile.TarInfo(name.lstrip("/"))
                member.size, member.mode = len(item), 0o755
                tar.addfile(member, io.BytesIO(item))
    return buffer.getvalue()


_satisfies: type[Engine] = FakeEngine  # checked by mypy
