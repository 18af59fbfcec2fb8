"""A key of everything that decides an image, the same on every machine. No engine is asked, and nothing is fetched.

What the network says at build time is no part of it, as for a build that has nothing to do (`last_build`).
"""

from __future__ import annotations

import hashlib
import json
import platform
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from orchestrator import __version__
from orchestrator.build.check import CheckedProject
from orchestrator.build.last_build import local_inputs
from orchestrator.build.stamps import COMPILED
from orchestrator.containerfile.context import BuildContext
from orchestrator.containerfile.sources import user_sources
from orchestrator.errors import OrchestratorError
from orchestrator.inputs.trees import digest_tree, file_digest, walk
from orchestrator.lock.project_lock import LockedInput, ProjectLock, lock_text, read_lock
from orchestrator.lock.resolve import FINISHED, is_of
from orchestrator.project.load import LoadedProject, lock_path
from orchestrator.resources import CONTAINERFILES, MANIFESTS, PACKAGE

_OF_THIS_MACHINE: Final = {"mirrors", "network"}
"""Keys of project.yaml that say how bytes come here, not which: every input has its pin."""
_FORM: Final = "image-1"
"""Another one when what is kept under a key changes."""


def image_key(checked: CheckedProject, signed_by: str = "") -> str | None:
    """64 hex digits; None where an image is decided by what other machines can't know.

    That is so without a lock that says everything, with an image that only an engine here has, with what a
    Containerfile takes from outside unpinned, with local inputs that aren't as they were locked, and with secrets or an
    ssh agent, which are a machine's own. `signed_by`: the id of the key that signs the image's provenance.
    """
    loaded, build = checked.loaded, checked.loaded.project.build
    try:
        lock = read_lock(lock_path(loaded.path))
        if lock is None or build.secrets or build.ssh or not is_of(lock, loaded) or _is_local_image(lock):
            return None
        if loaded.containerfile is not None and loaded.containerfile.unpinned:
            return None
        if any(not _as_locked(lock, *local) for local in _local_digests(loaded)):
            return None
        return _digest(checked, lock, signed_by)
    except (OSError, OrchestratorError):  # the build says it, with the place in project.yaml
        return None


def _digest(checked: CheckedProject, lock: ProjectLock, signed_by: str) -> str:
    from orchestrator.build.pipeline import render_text

    loaded, context = checked.loaded, BuildContext(parts=[user_sources(checked.loaded)])
    image = loaded.project.build.image is not None
    parts = [
        _FORM,
        __version__,
        platform.machine(),
        loaded.project.model_dump_json(exclude=_OF_THIS_MACHINE),
        checked.settings.text,
        render_text(checked),
        loaded.containerfile.text if loaded.containerfile is not None else "",  # its own context may leave it out
        lock_text(lock),
        *(digest for _, digest in _local_digests(loaded)),
        *(("", "") if image else (context.digest(), context.order_key())),
        program_digest(),
        signed_by,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _is_local_image(lock: ProjectLock) -> bool:
    """Whether the finished image with the program is what some machine's engine had under a name, of no registry."""
    image = lock.entries.get(FINISHED)
    return image is not None and image.ground == "engine"


def _local_digests(loaded: LoadedProject) -> Iterator[tuple[str, str]]:
    """Name and SHA-256 of inputs that are the user's own files and directories, as locks have them."""
    for name, path, skip in local_inputs(loaded.project):
        at = loaded.root / path
        yield name, digest_tree(at, skip) if at.is_dir() else file_digest(at)[0]


def _as_locked(lock: ProjectLock, name: str, digest: str) -> bool:
    locked = {str(name): entry for name, entry in lock.entries.items()}.get(name)
    return locked is not None and digest in _contents(locked)


def _contents(entry: LockedInput) -> set[str]:
    return {value for key, value in entry.resolved.items() if key in ("sha256", "tree-sha256")}


def program_digest() -> str:
    """Digest of our own code and data."""
    whole = hashlib.sha256()
    for root in (PACKAGE, CONTAINERFILES, MANIFESTS):
        for name, digest in _files(root):
            whole.update(f"{root.name}/{name}\0{digest}\0".encode())
    return whole.hexdigest()


def _files(root: Path) -> Iterator[tuple[str, str]]:
    # A wheel has the data inside the package.
    for name, status in walk(root, ("_data",)):
        if stat.S_ISREG(status.st_mode) and COMPILED not in name.split("/"):
            yield name, file_digest(root / name)[0]
