"""The built shim, kept in the input cache: the next project with the same sources, base and flags takes it."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from orchestrator.containerfile.render import render_rust_scripts
from orchestrator.errors import InputError
from orchestrator.files import create
from orchestrator.inputs.archives import extract
from orchestrator.inputs.store import CacheEntry, Store, key_of
from orchestrator.plan.plan import Plan
from orchestrator.resolved import Inputs, identity
from orchestrator.resources import CONTAINERFILES

STAGE = "gevulot"
RESULT = "/build/gevulot"
TEMPLATES = ("_macros.j2", "gevulot-shim.j2")
CHUNK = 1024 * 1024


class NotKeptError(InputError):
    """The stage's result can't be an entry of the cache (it holds a link out of the tree, say)."""


OpenResult = Callable[[], AbstractContextManager[BinaryIO]]
"""Builds the shim's stage and opens a tar stream of `RESULT` in it."""


def shim_name(plan: Plan, inputs: Inputs) -> str:
    """The cache's name for the shim of a plan: everything that decides its bytes, and nothing of the project else.

    Both the sources and the base are resolved. The runtime doesn't count: it is a matter of the sources.
    """
    if plan.shim is None or inputs.gevulot is None or inputs.gevulot_base is None:
        raise ValueError("a shim needs its sources and its base")
    templates = [(CONTAINERFILES / name).read_text(encoding="utf-8") for name in TEMPLATES]
    templates += render_rust_scripts(plan).values()
    parts = (
        identity(inputs.gevulot),
        identity(inputs.gevulot_base),
        *plan.shim.packages,
        *(deb.sha256 for deb in (inputs.gevulot_packages.debs if inputs.gevulot_packages is not None else ())),
    )
    return key_of("shim", *parts, "workspace" if plan.shim.workspace else "ffi", platform.machine(), *templates)


def take_shim(store: Store, name: str, open_result: OpenResult, *, newer_than: float = 0.0) -> CacheEntry:
    """The shim that `name` stands for; built by one process while others wait, or anew when older than `newer_than`.

    Errors: NotKeptError; those of the build.
    """

    def fill(target: Path) -> Mapping[str, str]:
        archive = target.with_name("shim.tar")
        with open_result() as stream, create(archive) as sink:
            shutil.copyfileobj(stream, sink, CHUNK)
        try:
            extract(archive, target, name="the built shim")
        except InputError as error:
            raise NotKeptError(error.message, remedy=error.remedy) from error
        archive.unlink()
        return {"source": "the built Gevulot shim"}

    return store.keep(name, fill, newer_than=newer_than)


def with_shim(plan: Plan, shim: CacheEntry) -> Plan:
    """The plan that copies the finished shim."""
    if plan.shim is None:
        raise ValueError("this plan has no shim")
    return replace(plan, shim=replace(plan.shim, prebuilt=shim.path))
