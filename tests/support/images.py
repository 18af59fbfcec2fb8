"""Images saved as archives, as Docker and Podman write them, and as somebody might who means ill."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any


def digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def layer(text: str) -> bytes:
    """A layer that holds one file of that text."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo("file")
        member.size = len(text)
        tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def settings(layers: Sequence[bytes], **more: Any) -> bytes:
    """The settings (config) of an image of these layers."""
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]}, **more}).encode()


def archive(members: Mapping[str, bytes | tuple[bytes, str]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, what in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(what, bytes):
                info.size = len(what)
                tar.addfile(info, io.BytesIO(what))
            else:
                info.type, info.linkname = what
                tar.addfile(info)
    return out.getvalue()


def saved_image(
    layers: Sequence[bytes],
    config: bytes | None = None,
    tags: Sequence[str] = (),
    extra: Mapping[str, bytes] | None = None,
) -> bytes:
    """A `docker save` archive of one image."""
    config = settings(layers) if config is None else config
    names = [f"{number}/layer.tar" for number in range(len(layers))]
    manifest = [{"Config": "config.json", "RepoTags": list(tags), "Layers": names}]
    files = {"config.json": config, **dict(zip(names, layers, strict=True)), **(extra or {})}
    return archive({**files, "manifest.json": json.dumps(manifest).encode()})


def loaded(data: bytes) -> tuple[str, list[str], list[bytes]]:
    """(id, names, layers) of an archive, as an engine takes it."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar if member.isreg()}  # type: ignore[union-attr]
    (entry,) = json.loads(files["manifest.json"])
    return digest(files[entry["Config"]]), entry["RepoTags"], [files[name] for name in entry["Layers"]]
