"""Files of `stage.files` that no build step makes: of this machine, or downloaded. They go straight into the image."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from orchestrator.errors import InputError
from orchestrator.inputs import trees
from orchestrator.inputs.access import Access
from orchestrator.inputs.download import fetch
from orchestrator.inputs.grounds import ground_of_download
from orchestrator.inputs.store import key_of
from orchestrator.project.stage_files import StagedFile
from orchestrator.resolved import Input, file_input_name, redact_url

RECENT_NS: Final = 2_000_000_000
"""Some file systems count in such steps."""


def resolve_staged_file(access: Access, entry: StagedFile, root: Path) -> Input:
    """The file of an entry with `from` (relative to `root`) or `url`. InputError when it isn't there."""
    if entry.url is not None:
        return _download(access, entry, entry.url)
    written = entry.host or ""
    path = (root / written).absolute()
    try:
        if not path.is_file():
            raise InputError(f"there is no file {path}", remedy="correct the path")
        digest, size = _digest(access, path, written)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", remedy="check its permissions") from error
    pin = {"sha256": digest, "size": str(size)}
    name = file_input_name(entry.guest_path)
    return Input(name=name, kind="file", source=written, pin=pin, path=path, ground="local")


def _digest(access: Access, path: Path, written: str) -> tuple[str, int]:
    """SHA-256 and size. The cache knows those of a file that is as it was; packing compares them with its bytes."""
    before = path.stat()
    stamp = f"{before.st_dev}:{before.st_ino}:{before.st_size}:{before.st_mtime_ns}:{before.st_ctime_ns}"
    name = key_of("hashed", stamp)
    if (record := access.store.named(name)) is not None:
        return record["key"].removeprefix("sha256-"), before.st_size
    with access.step(f"hash {written}"):
        digest, size = trees.file_digest(path)
    # What has just been written to may be written to once more without another stamp.
    if time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > RECENT_NS and size == before.st_size:
        access.store.name(name, f"sha256-{digest}")
    return digest, size


def _download(access: Access, entry: StagedFile, url: str) -> Input:
    name, shown = file_input_name(entry.guest_path), redact_url(url)
    kept = fetch(access, url, sha256=entry.sha256, name=name, title=f"download {shown}")
    pin = {"sha256": kept.sha256, "size": str(kept.size)}
    ground = ground_of_download(access, url, kept, entry.sha256)
    return Input(name=name, kind="file", source=shown, pin=pin, path=kept.path, ground=ground)
