"""The result of a stage in a shared cache: taken before its steps would run, put there when they have.

It is an image as an engine saves it: its settings, and each layer that is no input (those that the lock pins are taken
as inputs). What a trusted key signed are the settings and the packed layers; a layer is given to the engine only with
the SHA-256 that the settings name. Engines take and give such images by themselves, so this is the same on all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import zstandard

from orchestrator import archive as reading
from orchestrator.build.state import BuildOrder, StageImage, phase
from orchestrator.errors import InputError, OrchestratorError
from orchestrator.events import Emit, Notice
from orchestrator.files import create, make_directory, write_new
from orchestrator.inputs.bases import load_archive
from orchestrator.inputs.image_archive import layer_digests, read_image, read_layers, write_layers
from orchestrator.inputs.store import Store, key_of
from orchestrator.receipt.receipt import TakenStage

if TYPE_CHECKING:
    from orchestrator.engine.base import Engine
    from orchestrator.shared_cache.results import SharedResults, SignedResult

_SETTINGS: Final = "settings.json"
_PACKED: Final = ".tar.zst"
"""After a layer's SHA-256."""
_MOST_SETTINGS: Final = 4 * 2**20
"""Bytes of an image's settings."""
_LEVEL: Final = 3
_LIMITS = reading.UnpackLimits(size=64 * 2**30)


def is_shareable(order: BuildOrder) -> bool:
    """Whether all that decides a stage with the user's own steps is in its key: a secret or an agent isn't, and neither
    is what their Containerfile takes from outside unpinned."""
    loaded = order.loaded
    own = loaded.containerfile
    return not (loaded.project.build.secrets or loaded.project.build.ssh or (own is not None and own.unpinned))


@dataclass(frozen=True, kw_only=True)
class SharedStages:
    """The stages of an engine's builds in a shared cache (`results` None: in none). `store` knows whose they are."""

    engine: Engine
    store: Store
    results: SharedResults | None
    emit: Emit

    @classmethod
    def of(cls, order: BuildOrder) -> Self:
        """Of one build."""
        return cls(engine=order.engine, store=order.store, results=order.options.results, emit=order.emit)

    def take(self, image: StageImage) -> bool:
        """Give the engine the image that a trusted key signed for, if there is one; whether it did."""
        if self.results is None or not self.results.readable:
            return False
        with phase(self.emit, "shared", f"look for the stage {image.stage} in the shared cache"):
            result = self.results.find(image.shared_key)
        if result is None:
            return False
        try:
            with phase(self.emit, "shared", f"take the stage {image.stage} from the shared cache"):
                self._load(image, self.results, result)
        except _NotTakenError:
            return False
        self.remember_taken(image, self.results, result)
        return True

    def remember_taken(self, image: StageImage, results: SharedResults, result: SignedResult) -> None:
        """The stage's result is another machine's."""
        told = {"cache": results.shown, "result": result.key, "signed_by": result.signed_by}
        self.store.name(_taken_name(image), image.key, told)

    def taken(self, image: StageImage) -> tuple[TakenStage, ...]:
        """What a receipt says of a stage whose result is here: nothing where this machine made it."""
        told = self.store.named(_taken_name(image))
        if told is None:
            return ()
        row = {"stage": image.stage, "cache": told["cache"], "key": told["result"], "signed_by": told["signed_by"]}
        return (TakenStage.model_validate(row),)

    def forget_taken(self, image: StageImage) -> None:
        """This machine has made it itself."""
        self.store.forget(_taken_name(image))

    def has_run(self, image: StageImage) -> bool:
        """Whether an engine of this kind has run the stage's steps here, as `remember_run` says."""
        return self.store.named(self._run_name(image)) is not None

    def remember_run(self, image: StageImage) -> None:
        """The engine has run the steps, and keeps their layers."""
        self.store.name(self._run_name(image), image.key)

    def offer(self, image: StageImage, making: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        """Put a stage's result there, unless it is there; while the context `making()` lasts, the engine has its image.
        What fails is a warning."""
        if self.results is None or not self.results.lacks(image.shared_key):
            return
        try:
            with (
                phase(self.emit, "shared", f"put the stage {image.stage} into the shared cache"),
                making(),
                self._folder(image) as folder,
            ):
                saved = folder / "image.tar"
                self.engine.save(image.tag, saved)
                self.results.offer(image.shared_key, _written(self.store, saved, folder))
        except (OSError, OrchestratorError) as error:
            reason = error.message if isinstance(error, OrchestratorError) else error.strerror or str(error)
            text = f"the stage {image.stage} was not put into the shared cache: {reason}"
            self.emit(Notice(text=text, level="warning"))

    def _load(self, image: StageImage, results: SharedResults, result: SignedResult) -> None:
        with self._folder(image) as folder:
            try:
                config = _settings(results, result, folder)
                digests = layer_digests(config)
                layers = {digest: _layer(self.store, results, result, digest, folder) for digest in digests}
                archive = folder / "image.tar"
                write_layers(config, [layers[digest] for digest in digests], image.tag, archive)
                load_archive(self.engine, archive, image.tag, f"sha256:{hashlib.sha256(config).hexdigest()}")
            except InputError as error:
                results.refuse(result, error.message)
                raise _NotTakenError from error

    @contextmanager
    def _folder(self, image: StageImage) -> Iterator[Path]:
        """A new directory for one stage at a time."""
        key = key_of("shared-stage", image.key)
        with self.store.lock(key, "takes or gives the same stage"), self.store.temporary(key) as folder:
            make_directory(folder)
            yield folder

    def _run_name(self, image: StageImage) -> str:
        return f"ran-{self.engine.info.kind}-{image.key}"


class _NotTakenError(Exception):
    """The shared cache has not all of it, or not as it should be."""


def _settings(results: SharedResults, result: SignedResult, folder: Path) -> bytes:
    """The image's settings. InputError for what is none, and for files that are not those of such an image."""
    settings = folder / _SETTINGS
    if _SETTINGS not in result.files or result.files[_SETTINGS].size > _MOST_SETTINGS:
        raise InputError("its files are not those of a stage")
    if not results.fetch(result, _SETTINGS, settings):
        raise _NotTakenError
    config = settings.read_bytes()
    if not {name.removesuffix(_PACKED) for name in result.files} <= {_SETTINGS, *layer_digests(config)}:
        raise InputError("its files are not those of a stage")
    return config


def _layer(store: Store, results: SharedResults, result: SignedResult, digest: str, folder: Path) -> Path:
    """A layer, unpacked: an input that is here, or from the cache. InputError where it has another digest."""
    name = f"{digest}{_PACKED}"
    if name not in result.files:
        entry = store.get(f"sha256-{digest}")
        if entry is None or not entry.path.is_file():
            raise _NotTakenError
        return entry.path
    packed, layer = folder / name, folder / f"{digest}.tar"
    if not results.fetch(result, name, packed):
        raise _NotTakenError
    actual = hashlib.sha256()
    try:
        with packed.open("rb") as raw, reading.translate_errors(), create(layer) as sink:
            stream = reading.unpack(raw, _LIMITS)
            while data := stream.read(reading.CHUNK):
                actual.update(data)
                sink.write(data)
    except reading.ArchiveError as error:
        raise InputError(f"a layer cannot be unpacked: {error}") from error
    packed.unlink()
    if actual.hexdigest() != digest:
        raise InputError(f"a layer's sha256 is {actual.hexdigest()}, not {digest}")
    return layer


def _written(store: Store, saved: Path, folder: Path) -> Mapping[str, Path]:
    """The files of an image that an engine saved. InputError where it saved something else."""
    image = read_image(saved)
    files = {_SETTINGS: folder / _SETTINGS}
    write_new(files[_SETTINGS], image.config)
    for digest, content in read_layers(image):
        if (entry := store.get(f"sha256-{digest}")) is not None and entry.path.is_file():
            continue
        files[f"{digest}{_PACKED}"] = folder / f"{digest}{_PACKED}"
        _pack(content, files[f"{digest}{_PACKED}"])
    return files


def _pack(content: reading.Meter, target: Path) -> None:
    compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
    with create(target) as sink, compressor.stream_writer(sink, closefd=False) as packed:
        while data := content.read(reading.CHUNK):
            packed.write(data)


def _taken_name(image: StageImage) -> str:
    return key_of("taken", image.shared_key)
