"""What a bundle holds besides the built stages: the inputs as entries of the cache, images that were pulled as well."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from orchestrator.dependencies.packages import TakenPackages
from orchestrator.engine.base import Engine
from orchestrator.inputs.bases import saved_key
from orchestrator.inputs.store import CacheEntry, Store
from orchestrator.resolved import Inputs


@dataclass(frozen=True, kw_only=True)
class Bundled:
    """What a bundle holds: `packages` of the sources' lock files, and everything else entry by entry."""

    entries: tuple[CacheEntry, ...]
    packages: tuple[TakenPackages, ...] = ()


def input_keys(store: Store, inputs: Inputs) -> list[str]:
    """The keys of everything that was fetched. What lies in the user's own directories goes with these."""
    keys = []
    for resolved in inputs:
        keys += [f"sha256-{deb.sha256}" for deb in resolved.debs] if resolved.kind == "debs" else []
        if resolved.kind == "git":
            keys.append(f"git-{resolved.pin['commit']}")
        elif resolved.kind in ("archive", "bootstrap", "file"):
            keys.append(f"sha256-{resolved.pin['sha256']}")
    # A file of the user's own (ops.path) is in no cache, and goes with the project.
    return [key for key in keys if store.get(key) is not None]


def keep_images(store: Store, engine: Engine, inputs: Inputs) -> list[str]:
    """Images that came from a registry, saved as entries; their keys."""
    keys = []
    for resolved in (inputs.base, inputs.gevulot_base, inputs.image):
        if resolved is None or resolved.kind != "image":
            continue
        reference, key = resolved.reference, saved_key(resolved.pin["digest"])

        def fill(target: Path, reference: str = reference) -> Mapping[str, str]:
            engine.save(reference, target)
            return {"source": reference}

        store.put(key, fill)
        keys.append(key)
    return sorted(set(keys))
