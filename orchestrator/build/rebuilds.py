"""A build that is made to be compared with another one: the same inputs and sources, other conditions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from orchestrator.build.container_build import forget, packed_stage, run_containerfile
from orchestrator.build.dependencies import with_dependencies
from orchestrator.build.finish import pack
from orchestrator.build.packages import with_packages
from orchestrator.build.prepare import assemble_context
from orchestrator.build.state import BuildJob
from orchestrator.digest import Digests, file_digests
from orchestrator.events import Emit, Event, Notice, StepOutput
from orchestrator.plan.plan import Factor, Rebuild
from orchestrator.project.build_step import DOWNLOAD_CACHES
from orchestrator.project.project import Project

if TYPE_CHECKING:
    from orchestrator.provenance.records import Records

_WORDS: Mapping[Factor, str] = {
    "cores": "on one core",
    "locale": "with another LANG",
    "umask": "with another umask",
    "path": "at another path",
}
_VARIED = re.compile(r"^varied: (\w+) \((.*)\)$", re.MULTILINE)
_STAGED = re.compile(r"^staged: (/.*?) <- (.*) \(\d+ \w+\)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class RebuiltImage:
    """What a rebuild gave. `varied`: what the base let it vary, and how; `staged`: guest path → where it is from in the
    container (a directory's path ends with "/")."""

    image: Path
    digests: Digests
    records: Records
    varied: Mapping[str, str]
    staged: Mapping[str, str]


def factors_of(project: Project, *, path: bool) -> tuple[Factor, ...]:
    """What a rebuild varies: what the environment leaves open, and with `path` also the directory of the build."""
    factors: tuple[Factor, ...] = ("locale", "cores")
    if project.reproducible == "none":
        factors = ("umask", *factors)
    return (*factors, "path") if path else factors


def rebuild(job: BuildJob, target: Path, factors: tuple[Factor, ...], *, no_cache: bool) -> RebuiltImage:
    """Run the project's steps again and write the image to `target`; nothing else is written.

    The user's step runs in any case, the others from the engine's cache unless `no_cache`. Errors: those of a build.
    """
    words = [_WORDS[factor] for factor in factors]
    info = job.order.engine.info
    conditions = f" {', '.join(words)}" if words else ""
    job.order.emit(Notice(text=f"building {job.plan.name} again, to compare: on {info.kind}{conditions}"))
    seen = _Seen(emit=job.order.emit)
    order = replace(
        job.order,
        options=replace(job.order.options, no_cache=no_cache),
        build_id=uuid4().hex,
        emit=seen.record,
    )
    again = replace(job, order=order)
    if job.plan.program_image and not job.plan.finished:
        # What a bundle brought for the step stays aside: it is the step that is asked about.
        again = with_dependencies(with_packages(replace(again, plan=replace(job.plan, program_image=""))))
    number = order.build_id[:12]
    caches = tuple(name for name in again.plan.caches if name in DOWNLOAD_CACHES)
    again = replace(again, plan=replace(again.plan, rebuild=Rebuild(number=number, varied=factors), caches=caches))
    with order.engine.protect(order.build_id):
        image_id = run_containerfile(again, assemble_context(again), packed_stage(again.plan))
        try:
            _, records = pack(again, image_id, target)
        finally:
            forget(again, image_id)
    return RebuiltImage(
        image=target, digests=file_digests(target), records=records, varied=seen.varied, staged=seen.staged
    )


@dataclass(kw_only=True)
class _Seen:
    """What the scripts say of themselves, read off the steps' output as it passes."""

    emit: Emit
    varied: dict[str, str] = field(default_factory=dict)
    staged: dict[str, str] = field(default_factory=dict)

    def record(self, event: Event) -> None:
        """Take note of one event, and pass it on."""
        if isinstance(event, StepOutput):
            self.varied |= dict(_VARIED.findall(event.text))
            self.staged |= dict(_STAGED.findall(event.text))
        self.emit(event)
