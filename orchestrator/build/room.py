"""Whether a build fits: what it needs at least of each file system that it writes to, before its steps run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from orchestrator.amounts import size
from orchestrator.build.state import BuildJob
from orchestrator.containerfile.assemble import AssembledContext
from orchestrator.engine.build import MAKE_ROOM
from orchestrator.errors import BuildStepError, EngineError
from orchestrator.events import Notice
from orchestrator.files import free_space, mount_point


@dataclass(frozen=True, kw_only=True)
class _Need:
    """`amount` bytes in `place`, for `what`; `ours`: in a place that the user chose for the result."""

    place: Path
    amount: int
    what: str
    ours: bool = False


def check_fits(job: BuildJob, made: AssembledContext, output: Path) -> None:
    """An error where a build cannot fit, in the user's words; a warning where the last image of the name would not.

    What is counted is certain: the context, and the files that go straight into the image. Errors: EngineError for
    the engine's file systems, BuildStepError for the output's.
    """
    systems: dict[int, list[_Need]] = {}
    for need in (*_of_engine(job, made), _of_image(job, output)):
        systems.setdefault(need.place.stat().st_dev, []).append(need)
    for needs in systems.values():
        place, free, total = needs[0].place, free_space(needs[0].place), sum(need.amount for need in needs)
        if total > free:
            parts = ", ".join(f"{size(need.amount)} for {need.what}" for need in needs if need.amount)
            has = f"the disk at {mount_point(place)} has {size(free)} free"
            message = f"{has}, and the build needs at least {size(total)}: {parts}"
            if all(need.ours for need in needs if need.amount):
                raise BuildStepError(message, remedy="free space there, or use another -o")
            raise EngineError(message, remedy=MAKE_ROOM)
    _warn_of_last(job, output)


def _of_engine(job: BuildJob, made: AssembledContext) -> Iterator[_Need]:
    places = job.order.engine.places()
    amount = sum(member.size for member in made.context.members()) if places else 0
    for place in places:
        yield _Need(place=place.path, amount=amount, what=f"the build context in {place.name}")


def _of_image(job: BuildJob, output: Path) -> _Need:
    amount = sum(int(staged.pin["size"]) for staged in job.inputs.staged_files)
    return _Need(place=output, amount=amount, what="the files of stage.files in the image", ours=True)


def _warn_of_last(job: BuildJob, output: Path) -> None:
    """The image of before stays until the new one is whole."""
    try:
        last = (output / f"{job.plan.name}.img").stat().st_blocks * 512
    except OSError:
        return
    if last > (free := free_space(output)):
        text = f"{output} has {size(free)} free, and the last image of this name took {size(last)}"
        job.order.emit(Notice(text=text, level="warning"))
