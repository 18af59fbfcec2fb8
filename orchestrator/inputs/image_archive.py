"""An image that was saved as an archive: what it is, proved by hashes, and the archive made anew for an engine.

What a bundle brings may be anything. An engine that loads an archive gives it every name that stands in it, a base's
say; so only settings and layers are taken over, under one name of ours.
"""

from __future__ import annotations

import hashlib
import io
import json
import posixpath
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from orchestrator import archive as reading
from orchestrator import files
from orchestrator.errors import InputError
from orchestrator.text import parse_json

_SMALL = 4 * 2**20
"""Manifests and settings of images are below this (registries take manifests of 4 MiB)."""
_SMALL_TOTAL = 64 * 2**20
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True)
class SavedImage:
    """The one image of an archive whose layers are those that its settings name.

    `ids` are all digests (`sha256:…`) that stand for it: of its settings (what engines call the image's id), and of
    manifests and indexes that the archive holds and that lead to these. `layers` are names of members, in order.
    """

    path: Path
    config: bytes
    layers: tuple[str, ...]
    ids: frozenset[str]

    @property
    def id(self) -> str:
        """The digest of its settings."""
        return _sha256(self.config)


def read_image(path: Path) -> SavedImage:
    """The image of an archive that `Engine.save` wrote. InputError for anything else, and for other layers."""
    try:
        with reading.translate_errors():
            return _image(path, _contents(path))
    except reading.ArchiveError as error:
        raise InputError(f"{path} is not an image archive: {error}", remedy="make the bundle again") from error


def write_image(image: SavedImage, tag: str, target: Path) -> None:
    """The same image as an archive that holds nothing else, named `tag`; `target` is a new file."""
    wanted: dict[str, str] = {}
    with (
        reading.translate_errors(), files.create(target) as sink, _members(image.path) as members,
        tarfile.open(fileobj=sink, mode="w") as tar,
    ):  # fmt: skip
        for member, content in members:
            name = posixpath.normpath(member.name)
            if name not in image.layers or name in wanted:
                continue
            wanted[name] = f"{len(wanted)}.tar"
            _add(tar, wanted[name], content, member.size)
        _add_settings(tar, image.config, [wanted[name] for name in image.layers], tag)


def write_layers(config: bytes, layers: Sequence[Path], tag: str, target: Path) -> None:
    """An image of these settings and the files of its layers, in order, as such an archive."""
    names = {path: f"{number}.tar" for number, path in enumerate(dict.fromkeys(layers))}
    with files.create(target) as sink, tarfile.open(fileobj=sink, mode="w") as tar:
        for path, name in names.items():
            with path.open("rb") as content:
                _add(tar, name, content, path.stat().st_size)
        _add_settings(tar, config, [names[path] for path in layers], tag)


def read_layers(image: SavedImage) -> Iterator[tuple[str, reading.Meter]]:
    """The SHA-256 and the bytes, unpacked, of each of its layers, once each, as they lie in the archive."""
    digests = dict(zip(image.layers, layer_digests(image.config), strict=True))
    with reading.translate_errors(), _members(image.path) as members:
        for member, content in members:
            if (digest := digests.pop(posixpath.normpath(member.name), "")) != "":
                yield digest, reading.unpack(content, reading.UnpackLimits())


def layer_digests(config: bytes) -> tuple[str, ...]:
    """The SHA-256 of each layer that an image's settings name, unpacked, in order. InputError for no such settings."""
    settings = _parse(config)
    rootfs = settings.get("rootfs") if isinstance(settings, dict) else None
    named = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    digests = [_DIGEST.fullmatch(one) for one in named if isinstance(one, str)] if isinstance(named, list) else []
    if not isinstance(named, list) or None in digests or len(digests) != len(named):
        raise InputError("these are no settings of an image", remedy="make it again")
    return tuple(match[1] for match in digests if match is not None)


def _add_settings(tar: tarfile.TarFile, config: bytes, layers: Sequence[str], tag: str) -> None:
    name = f"{_sha256(config).removeprefix('sha256:')}.json"
    _add(tar, name, io.BytesIO(config), len(config))
    text = json.dumps([{"Config": name, "RepoTags": [tag], "Layers": layers}]).encode()
    _add(tar, "manifest.json", io.BytesIO(text), len(text))


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    info = tarfile.TarInfo(name)
    info.size = size
    tar.addfile(info, content)


@dataclass(kw_only=True)
class _Contents:
    """`small` files whole; of all files the digest, and that of what they unpack to; links by their targets."""

    small: dict[str, bytes]
    inner: dict[str, str]
    links: dict[str, str]


@contextmanager
def _members(path: Path) -> Iterator[Iterator[tuple[tarfile.TarInfo, IO[bytes]]]]:
    with path.open("rb") as stream, reading.read_tar(reading.unpack(stream, reading.UnpackLimits())) as tar:
        yield ((member, tar.content(member)) for member in tar if member.isreg())


def _contents(path: Path) -> _Contents:
    contents, total = _Contents(small={}, inner={}, links={}), 0
    with path.open("rb") as stream, reading.read_tar(reading.unpack(stream, reading.UnpackLimits())) as tar:
        for member in tar:
            name = posixpath.normpath(member.name)
            if member.issym() or member.islnk():
                # Docker saves a layer that is there twice as a link to the first.
                above = posixpath.dirname(name) if member.issym() else ""
                contents.links[name] = posixpath.normpath(posixpath.join(above, member.linkname))
            elif member.isreg():
                small = member.size <= _SMALL and total + member.size <= _SMALL_TOTAL
                data = tar.content(member)
                if small:
                    contents.small[name] = data.read()
                    total += member.size
                    data = io.BytesIO(contents.small[name])
                contents.inner[name] = _unpacked_digest(data)
    return contents


def _unpacked_digest(stream: IO[bytes]) -> str:
    """The digest of a layer as it is unpacked: archives hold them plain, or as a registry has them."""
    digest = hashlib.sha256()
    layer = reading.unpack(stream, reading.UnpackLimits())
    while data := layer.read(reading.CHUNK):
        digest.update(data)
    return f"sha256:{digest.hexdigest()}"


def _image(path: Path, contents: _Contents) -> SavedImage:
    entries = _parse(contents.small.get("manifest.json", b""))
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
        raise reading.ArchiveError("it does not hold exactly one image")
    config_at, layers_at = entries[0].get("Config"), entries[0].get("Layers")
    if not isinstance(config_at, str) or not isinstance(layers_at, list):
        raise reading.ArchiveError("its manifest names no settings and layers")
    config = contents.small.get(posixpath.normpath(config_at))
    layers = tuple(_follow(contents.links, layer) for layer in layers_at if isinstance(layer, str))
    settings = _parse(config or b"")
    rootfs = settings.get("rootfs") if isinstance(settings, dict) else None
    named = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if config is None or [contents.inner.get(layer) for layer in layers] != named:
        raise reading.ArchiveError("its layers are not those that its settings name", refused=True)
    return SavedImage(path=path, config=config, layers=layers, ids=_ids(contents.small, _sha256(config)))


def _follow(links: Mapping[str, str], name: str) -> str:
    name = posixpath.normpath(name)
    for _ in range(8):
        name = links.get(name, name)
    return name


def _ids(small: Mapping[str, bytes], config: str) -> frozenset[str]:
    """`config`, the manifests that name it, the indexes that name these."""
    documents = {_sha256(data): _parse(data) for data in small.values()}
    ids = {config}
    for digest, document in documents.items():
        if isinstance(document, dict) and _digest_in(document.get("config")) == config:
            ids.add(digest)
    for digest, document in documents.items():
        inner = document.get("manifests") if isinstance(document, dict) else None
        if isinstance(inner, list) and ids & {_digest_in(descriptor) for descriptor in inner}:
            ids.add(digest)
    return frozenset(ids)


def _digest_in(value: Any) -> str:
    digest = value.get("digest") if isinstance(value, dict) else None
    return digest if isinstance(digest, str) else ""


def _parse(data: bytes) -> Any:
    try:
        return parse_json(data)
    except ValueError:
        return None


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
