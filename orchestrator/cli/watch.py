"""`build --watch`: build again whenever the files of a project have changed, until somebody presses Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.cli.console import say

if TYPE_CHECKING:
    from orchestrator.build.watched import Look

_INTERVAL = 0.4
"""Seconds between two looks, at least."""
_SHARE = 10
"""A look is followed by a pause this many times as long: large contexts cost a tenth of a core."""
_SETTLED = 0.3
"""Seconds without a further change after which editors, checkouts and generators are taken to have finished."""
_PATIENCE = 10.0
"""Seconds after which a build begins although files still change."""
_NAMED = 3
"""Changed files that are named."""


def watch(projects: Sequence[Path], build: Callable[[Sequence[Path]], None]) -> None:
    """Build all projects, then for ever those whose files have changed since their last build began.

    `build` says itself how it ended. A change during a build starts the next one after it: what the build has done by
    then is in the engine's cache. Returns never; KeyboardInterrupt ends it.
    """
    looks: dict[Path, Look] = {}
    again = list(projects)
    while True:
        looks |= _built(again, build)
        named = f"{len(projects)} projects" if len(projects) > 1 else str(projects[0])
        say(f"watching {named} for changes; Ctrl-C ends")
        changed = _wait(looks)
        say(f"--- {datetime.now():%H:%M:%S} {_said(changed)}")
        again = [project for project, names in changed.items() if names]


def _built(projects: Sequence[Path], build: Callable[[Sequence[Path]], None]) -> dict[Path, Look]:
    """Build; how the files were when it began, but for the locks, which it may have written."""
    from orchestrator.build.watched import lock_name, look_at

    looks = {project: dict(look_at(project)) for project in projects}
    build(projects)
    for project, look in looks.items():
        lock = lock_name(project)
        look.pop(lock, None)
        look |= {name: stamp for name, stamp in look_at(project).items() if name == lock}
    return dict(looks)


def _wait(looks: Mapping[Path, Look]) -> dict[Path, list[str]]:
    """The paths that changed in each project, once something has and it has settled."""
    from orchestrator.build.watched import changes, look_at

    seen: dict[Path, Look] = dict(looks)
    since: float | None = None
    while True:
        began = time.monotonic()
        now = {project: look_at(project) for project in looks}
        ended = time.monotonic()
        changed = {project: changes(looks[project], now[project]) for project in looks}
        if not any(changed.values()):
            since = None
        elif since is None:
            since = ended
        elif now == seen or ended - since > _PATIENCE:
            return changed
        seen = now
        time.sleep(max(_INTERVAL if since is None else _SETTLED, (ended - began) * _SHARE))


def _said(changed: Mapping[Path, Sequence[str]]) -> str:
    """Which files changed, in a line."""
    names = list(dict.fromkeys(name for names in changed.values() for name in names))
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more} changed"
