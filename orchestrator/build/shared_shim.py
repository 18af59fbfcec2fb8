"""The finished shim in a shared cache: taken before it would be built, put there when it was."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from orchestrator.errors import InputError
from orchestrator.inputs.store import CacheEntry, Store
from orchestrator.inputs.transfer import read_entry, write_entry
from orchestrator.shared_cache.results import SharedResults, SignedResult
from orchestrator.temporary import OwnDirectory

_SUFFIX = ".tar.zst"
"""After the entry's key, by which its tree is known again."""


class _NotTakenError(Exception):
    """The shared cache has no such shim, or not the right one."""


def bring_shim(store: Store, name: str, results: SharedResults) -> SignedResult | None:
    """Make the cache's `name` (see `kept_shim.shim_name`) stand for the shim that a trusted key signed for, if there is
    one and the cache has none; what was signed, if it does then."""
    if store.kept(name) is not None or (result := results.find(_key(name))) is None:
        return None

    def fill(target: Path) -> Mapping[str, str]:
        (file,) = result.files
        packed = target.with_name("packed")
        if not results.fetch(result, file, packed):
            raise _NotTakenError
        try:
            read_entry(file.removesuffix(_SUFFIX), packed, target)
        except InputError as error:
            results.refuse(result, error.message)
            raise _NotTakenError from error
        finally:
            packed.unlink()
        return {"source": f"the built Gevulot shim, by the shared cache {results.shown}"}

    if not _is_shim(result):
        results.refuse(result, "its files are not those of a shim")
        return None
    try:
        store.keep(name, fill)
    except _NotTakenError:
        return None
    return result


def offer_shim(name: str, entry: CacheEntry, results: SharedResults) -> None:
    """Put a finished shim there, unless it is there."""
    if not results.lacks(_key(name)):
        return
    try:
        with OwnDirectory("shared-shim") as folder:
            packed = folder / f"{entry.key}{_SUFFIX}"
            write_entry(entry, packed)
            results.offer(_key(name), {packed.name: packed})
    except OSError as error:
        results.stop_writing(error)


def _is_shim(result: SignedResult) -> bool:
    (file, *others) = result.files or ("",)
    return not others and file.startswith("sha256-") and file.endswith(_SUFFIX)


def _key(name: str) -> str:
    return hashlib.sha256(f"shim-1 {name}".encode()).hexdigest()
