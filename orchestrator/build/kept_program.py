"""The result of stage `program`, kept as an image: what a build without a network begins with."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from orchestrator.containerfile.assemble import program_parts, script_parts
from orchestrator.containerfile.context import BuildContext, Content, Part
from orchestrator.containerfile.render import render_program, render_step
from orchestrator.engine.base import Engine
from orchestrator.inputs.bases import load_image
from orchestrator.inputs.image_archive import read_image
from orchestrator.inputs.store import CacheEntry, Store, key_of
from orchestrator.plan.plan import Plan
from orchestrator.project.load import LoadedProject
from orchestrator.resolved import Inputs, checksums, identity

STAGE = "program"
TAG = "localhost/orchestrator/program"


def program_key(loaded: LoadedProject, plan: Plan, inputs: Inputs) -> str:
    """The cache key of the stage: its text, all that it copies, and its base's pin. Reads every source file.

    How this machine reaches the network doesn't count, nor what an engine calls the base, nor whether the step was
    given the packages that its sources name by checksum, or caches.
    """
    plan = replace(plan, dependencies=None, caches=("cargo",))
    base = identity(inputs.base) if inputs.base is not None else plan.base
    step = script_parts(render_step(plan))
    context = BuildContext(parts=[*step, *_packages(inputs), *program_parts(loaded, plan, inputs)])
    return key_of(
        "program", render_program(replace(plan, base=base, packages_image="")), context.digest(), platform.machine()
    )


def _packages(inputs: Inputs) -> list[Part]:
    """What says which packages are installed; not their files, which need not be here."""
    if inputs.packages is None:
        return []
    return [Content(path="packages.sha256", data=checksums(inputs.packages.debs).encode())]


def program_tag(key: str) -> str:
    """What the stage's image is called in an engine."""
    return f"{TAG}:{key.rpartition('-')[2][:12]}"


def keep_program(store: Store, engine: Engine, key: str) -> CacheEntry:
    """The image `program_tag(key)` of the engine, as an entry of the cache."""

    def fill(target: Path) -> Mapping[str, str]:
        engine.save(program_tag(key), target)
        return {"source": "the built program stage"}

    return store.put(key, fill)


def load_program(store: Store, engine: Engine, key: str) -> str | None:
    """The image of the stage in the engine, loaded from the cache if it must be; None when neither has it."""
    tag = program_tag(key)
    with store.lock(f"import-{engine.info.kind}-{key}"):
        if engine.image_digest(tag) is not None:
            return tag
        entry = store.get(key)
        if entry is None:
            return None
        # What it holds is as its maker says. That it is an image, and has this one name in the engine, is seen to.
        load_image(store, engine, read_image(entry.path), tag)
    return tag
