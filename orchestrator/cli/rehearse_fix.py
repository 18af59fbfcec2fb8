"""rehearse --fix: what the trace found missing goes into project.yaml, as far as the next build will find it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.cli.console import say
from orchestrator.errors import OrchestratorError
from orchestrator.events import ignore

if TYPE_CHECKING:
    from orchestrator.run.sandbox.lookup import Lookup
    from orchestrator.run.sandbox.rehearsal import Rehearsal

_SHOWN = 8
"""How many names of one reason a line has."""


def fix(project: Path, engine: str, done: Rehearsal, *, quiet: bool) -> dict[str, Any]:
    """Write what helps, and say so on stderr unless `quiet`; for --json what was added, what was not, and why."""
    from orchestrator.containerfile.ignore import left_out_by
    from orchestrator.run.sandbox.addable import choose
    from orchestrator.run.sandbox.fix import comes_in_image, context_of, fix_project
    from orchestrator.run.sandbox.lookup import ContextLookup, UnknownLookup

    assert done.missing is not None
    context, in_image = context_of(project), comes_in_image(project)
    nearby: Lookup = UnknownLookup() if in_image else ContextLookup(context, left_out_by(context))
    with ExitStack() as stack:
        closer = _once(lambda: _container(stack, project, engine, quiet=quiet) or nearby)
        choice = choose(done.missing, nearby, closer, succeeded=done.ok)
    added = fix_project(project, libraries=choice.libraries, entries=choice.entries)
    if not quiet:
        for line in added:
            say(f"{project}: added {line}")
        for reason, names in choice.left.items():
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            say(f"{project}: not added: {', '.join(map(_printable, names[:_SHOWN]))}{more}: {reason}")
        if not added:
            say(f"{project}: unchanged")
    left = [{"name": name, "reason": reason} for reason, names in choice.left.items() for name in names]
    return {"added": list(added), "not_added": left}


def _printable(name: str) -> str:
    """A name that a terminal can show."""
    return name if name.isprintable() else ascii(name)


def _once(make: Callable[[], Lookup]) -> Callable[[], Lookup]:
    made: list[Lookup] = []

    def get() -> Lookup:
        made.extend([] if made else [make()])
        return made[0]

    return get


def _container(stack: ExitStack, project: Path, engine: str, *, quiet: bool) -> Lookup | None:
    """The container that the image's files were gathered in; None, and a word why, where it can't be had."""
    from contextlib import closing

    from orchestrator.build.check import check_project
    from orchestrator.build.pipeline import open_staging
    from orchestrator.cli.progress import make_progress
    from orchestrator.engine.select import connect
    from orchestrator.run.sandbox.lookup import WORK_DIRECTORY, ContainerLookup

    if engine == "none":
        return None
    try:
        checked = check_project(project)
        emit = ignore if quiet else stack.enter_context(make_progress("auto")).emit
        connected = stack.enter_context(closing(connect(engine, emit=emit)))
        staging = stack.enter_context(open_staging(checked, connected, emit=emit))
    except OrchestratorError as error:
        if not quiet:
            say(f"note: failed to find out what the build of {project} contains: {error.message}")
        return None
    return ContainerLookup(
        staging.open_archive,
        tuple(directory for directory in staging.directories if "*" not in directory),
        top="" if checked.loaded.project.build.finished else WORK_DIRECTORY,
    )
