"""The builds of one command: one after the other or several at a time, and what is said of them in the end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from orchestrator.amounts import seconds, size
from orchestrator.cli.build_processes import BuildProcesses, StoppedError
from orchestrator.cli.console import answer, answer_json, exit_code_of, failure_document_of, say, say_failure
from orchestrator.cli.runner import Runner, findings_of
from orchestrator.errors import VerificationError
from orchestrator.events import Emit, Notice

if TYPE_CHECKING:
    from orchestrator.build.check import CheckedProject
    from orchestrator.build.last_build import Asked, LastBuild
    from orchestrator.build.result import Result
    from orchestrator.cli.fleet_builds import FleetOptions
    from orchestrator.cli.shown_steps import Progress
    from orchestrator.project.registry_caches import RegistryCaches
    from orchestrator.receipt.receipt import Receipt
    from orchestrator.shared_cache.choice import CacheChoice


@dataclass(frozen=True, kw_only=True)
class WantedBuild:
    """A build to do, and its place among those asked for. `before` is the one that its image must equal; `whole`: it is
    not to be made of an earlier image."""

    number: int
    asked: Asked
    last: LastBuild
    before: Result | None
    whole: bool = False

    @property
    def name(self) -> str:
        """The project's."""
        return self.asked.checked.loaded.project.name


@dataclass(frozen=True, kw_only=True)
class EndedBuild:
    """How a build ended, with a result or a failure; with neither it never did: it was not begun, or was stopped.

    `seconds` is None for one that had nothing to do.
    """

    result: Result | None = None
    failure: Exception | None = None
    seconds: float | None = None

    @property
    def state(self) -> str:
        """In a word or two, for a person."""
        if self.failure is not None:
            return f"failed (exit {exit_code_of(self.failure)})"
        if self.result is None:
            return "not built"
        if self.seconds is not None and self.result.document.taken is not None:
            return "taken"
        return "unchanged" if self.seconds is None else "built"

    @property
    def word(self) -> str:
        """In a word, for programs: failed, stopped, or as `state` has it."""
        return "failed" if self.failure is not None else "stopped" if self.result is None else self.state


@dataclass(kw_only=True)
class Builds:
    """All builds of one command, by their number; `ended` grows as they end."""

    checked: Sequence[CheckedProject] = ()
    ended: dict[int, EndedBuild] = field(default_factory=dict)
    earlier: dict[str, Receipt] = field(default_factory=dict)
    """The receipts that were there before, by project name."""

    @property
    def rows(self) -> list[tuple[CheckedProject, EndedBuild]]:
        """Every project and how its build ended, as they were asked for."""
        return [(checked, self.ended.get(number, EndedBuild())) for number, checked in enumerate(self.checked)]

    @property
    def failures(self) -> list[Exception]:
        """Of those that failed."""
        return [ended.failure for _, ended in self.rows if ended.failure is not None]


@contextmanager
def answering(builds: Builds, runner: Runner, *, as_json: bool) -> Iterator[None]:
    """Say what was built, however it ends; with --json one document also of a failure. The CI system is told as well.

    The failure of a single project is raised. Where some of several failed, the process ends with the highest of
    their exit codes.
    """
    worst: Exception | None = None
    try:
        yield
        worst = max(builds.failures, key=exit_code_of, default=None)
        if worst is not None and len(builds.checked) == 1:
            raise worst
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            say("the interrupted build wrote no image; `orchestrator clean` removes what it left behind")
        _answer(builds, failure_document_of(error), as_json=as_json)
        _tell(runner, builds, error)
        raise
    _answer(builds, {"ok": True} if worst is None else failure_document_of(worst), as_json=as_json)
    _tell(runner, builds, worst)
    if worst is not None:
        sys.exit(exit_code_of(worst))


def _answer(builds: Builds, document: Mapping[str, Any], *, as_json: bool) -> None:
    results = [(ended, ended.result) for _, ended in builds.rows if ended.result is not None]
    for ended, result in results:
        _say_built(result, ended.seconds)
    if len(builds.checked) > 1:
        for checked, ended in builds.rows:
            if ended.failure is not None:
                say(f"{checked.loaded.project.name}: failed after {seconds(ended.seconds or 0.0)}")
                say_failure(ended.failure)
        for line in _table(builds):
            say(line)
    if not as_json:
        for _, result in results:
            answer(str(result.image))
        return
    from orchestrator.receipt.receipt import receipt_document

    several = _of_several(builds) if len(builds.checked) > 1 else {}
    unchanged = [result.document.name for ended, result in results if ended.seconds is None]
    built = [receipt_document(result.document) for _, result in results]
    answer_json({**document, **several, "unchanged": unchanged, "built": built})


def _tell(runner: Runner, builds: Builds, failure: BaseException | None) -> None:
    """Annotations and summary. What `check` warned of is at its lines; other warnings are in the summary."""
    warned = [finding for checked in builds.checked for finding in checked.findings]
    failed = [(ended.failure, checked.loaded.path) for checked, ended in builds.rows if ended.failure is not None]
    findings = [finding for error, path in failed for finding in findings_of(error, path)]
    if failure is not None and not failed:
        findings += findings_of(failure)
    runner.annotate([*findings, *warned], [checked.loaded.path for checked in builds.checked])
    if runner.summary is not None:
        from orchestrator.cli.build_summary import SummaryRow, summarise

        rows = [
            SummaryRow(
                name=checked.loaded.project.name,
                state=ended.state,
                seconds=ended.seconds,
                receipt=ended.result.document if ended.result is not None else None,
                failure=ended.failure,
                before=builds.earlier.get(checked.loaded.project.name),
            )
            for checked, ended in builds.rows
        ]
        runner.summarise(summarise(rows, failure))


def _of_several(builds: Builds) -> dict[str, Any]:
    """What only the document of several projects has: each failure, and what was not built."""
    failed = [
        {
            "name": checked.loaded.project.name,
            "project": str(checked.loaded.path),
            **failure_document_of(ended.failure),
        }
        for checked, ended in builds.rows
        if ended.failure is not None
    ]
    not_built = [
        checked.loaded.project.name for checked, ended in builds.rows if ended.failure is None and ended.result is None
    ]
    return {"failed": failed, "not_built": not_built}


def _table(builds: Builds) -> list[str]:
    """Lines with a row for each project."""
    rows = [("project", "result", "time", "image")]
    for checked, ended in builds.rows:
        image = ended.result.document.image if ended.result is not None else None
        shown = f"{image.path} ({size(image.size)}, BLAKE3 {image.blake3[:12]}…)" if image is not None else ""
        took = seconds(ended.seconds) if ended.seconds is not None else ""
        rows.append((checked.loaded.project.name, ended.state, took, shown))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return [
        f"{name:<{widths[0]}}  {state:<{widths[1]}}  {took:>{widths[2]}}  {image}".rstrip()
        for name, state, took, image in rows
    ]


def _say_built(result: Result, took: float | None) -> None:
    receipt = result.document
    if took is None:
        say(f"{receipt.name}: nothing has changed since it was built and verified ({receipt.finished})")
    elif receipt.taken is not None:
        say(f"{receipt.name}: taken from {receipt.taken.cache} and verified in {seconds(took)}")
        say(f"  built     elsewhere ({receipt.finished}), signed by key {receipt.taken.signed_by[:16]}…")
    else:
        fleet = receipt.fleet
        where = f" by {fleet.worker} of the fleet {fleet.scheduler}" if fleet is not None else ""
        say(f"{receipt.name}: built{where} and verified in {seconds(took)}")
    say(f"  image     {receipt.image.path} ({size(receipt.image.size)})")
    say(f"  BLAKE3    {receipt.image.blake3}")
    say(f"  receipt   {result.receipt}")
    if not receipt.bootable:
        say("  NOT BOOTABLE as a program: its kernel is a stand-in")
    if receipt.rebuild is not None:
        varied = ", ".join(f"{factor}: {how}" for factor, how in receipt.rebuild.varied.items())
        say(f"  built twice, with the same bytes, on {receipt.rebuild.engine.kind} too ({varied})")
    for stand_in in receipt.stand_ins:
        say(f"  stand-in  {stand_in.path}: {stand_in.text}")
    for stage in receipt.taken_stages:
        say(f"  taken     stage {stage.stage} from {stage.cache}, signed by key {stage.signed_by[:16]}…")
    for row in receipt.inputs:
        if row.kind == "bootstrap":
            say(f"  {row.name:<9} {row.note}")
    for warning in receipt.warnings:
        say(f"  warning   {warning.text}")


@dataclass(frozen=True, kw_only=True)
class BuildManner:
    """How the builds of one command are done: `jobs` at a time, by processes with the command's own `options`."""

    progress: str
    layers: RegistryCaches
    folds: str = "none"
    no_cache: bool = False
    begin: str = ""
    shell: bool = False
    jobs: int = 1
    fail_fast: bool = False
    options: tuple[str, ...] = ()
    cache: CacheChoice | None = None
    fleet: FleetOptions | None = None


def build_all(wanted: Sequence[WantedBuild], builds: Builds, manner: BuildManner) -> None:
    """Build them; how each ended goes to `builds` at once. What isn't a failure of one of them is raised."""
    from orchestrator.cli.folded_progress import make_build_progress

    with make_build_progress(manner.progress, manner.folds) as shown:
        if manner.fleet is not None:
            _in_fleet(wanted, builds, manner, manner.fleet, shown.emit)
        elif manner.jobs == 1 or len(wanted) == 1:
            _in_turn(wanted, builds, manner, shown)
        else:
            processes = BuildProcesses(manner.options, shown.emit)
            _side_by_side(wanted, builds, processes, shown.emit, jobs=manner.jobs, fail_fast=manner.fail_fast)
        shown.failed = bool(builds.failures)


def _in_turn(wanted: Sequence[WantedBuild], builds: Builds, manner: BuildManner, shown: Progress) -> None:
    """One after the other, on one engine."""
    from orchestrator.build.state import BuildOptions
    from orchestrator.cli.logged_builds import LoggedBuilds
    from orchestrator.cli.own_builds import OwnBuilds

    first, logged = wanted[0].asked, LoggedBuilds(shown.emit)
    emit = logged.emit
    with ExitStack() as stack:

        def shell(image: str, step: str) -> None:
            with shown.paused():
                say(f"`{step}` failed; this shell is in the state before it, without its caches and secrets")
                own.engine.open_shell(image, uuid4().hex, offline=first.offline)

        options = BuildOptions(no_cache=manner.no_cache, begin=manner.begin, layers=manner.layers,
                               shell=shell if manner.shell else None)  # fmt: skip
        own = OwnBuilds.prepare(first, emit, stack, options, manner.cache)

        def build(one: WantedBuild) -> Result:
            return own.build(one.asked, one.last, whole=one.whole)

        for number, one in enumerate(wanted, start=1):
            if len(wanted) > 1:
                emit(Notice(text=f"building {one.name} ({number} of {len(wanted)})"))
            with logged.build(one.name, str(one.asked.checked.loaded.path.absolute())) as log:
                ended = builds.ended[one.number] = _build_one(one, build)
                log.finish(ended.word, "" if ended.failure is None else str(ended.failure))
            if ended.failure is not None and number < len(wanted):
                if manner.fail_fast:
                    return
                emit(Notice(text=f"{one.name} failed; the other projects go on", level="warning"))
            if ended.result is not None and ended.failure is None:
                own.share(one.asked, ended.result)


def _build_one(one: WantedBuild, build: Callable[[WantedBuild], Result]) -> EndedBuild:
    """Do one build, however it ends."""
    began, result = time.monotonic(), None
    try:
        result = build(one)
        one.last.remember(result)
        if one.before is not None:
            _require_same(one.before, result)
    except StoppedError:
        return EndedBuild()
    except Exception as error:  # noqa: BLE001 - the others are built all the same, and this is said at the end
        return EndedBuild(result=result, failure=error, seconds=time.monotonic() - began)
    return EndedBuild(result=result, seconds=time.monotonic() - began)


def _require_same(before: Result, now: Result) -> None:
    """VerificationError where a build of the same things gave another image."""
    old, new = before.document.image.blake3, now.document.image.blake3
    if old != new:
        raise VerificationError(
            f"{now.image}: nothing that decides the image has changed, but its BLAKE3 was {old} and is now {new}",
            remedy="a step of the build gives other bytes each time, or reads from the network; pin what it reads",
        )


class _Builders(Protocol):
    """What builds single projects, several at a time."""

    def build(self, asked: Asked) -> Result:
        """Build one. StoppedError after `stop`."""

    def stop(self) -> None:
        """End those that run; none begins any more."""


_MOST_ORDERS = 64
"""Projects that a fleet is asked for at a time."""


def _in_fleet(
    wanted: Sequence[WantedBuild], builds: Builds, manner: BuildManner, fleet: FleetOptions, emit: Emit
) -> None:
    """All at a time, on as many machines as there are; `local`: as many as `--jobs` says, by default one a core."""
    from orchestrator.cli.fleet_builds import FleetBuilds, connected_fleet, usual_slots
    from orchestrator.fleet.client import FleetOrder
    from orchestrator.fleet.messages import JobOptions

    first = wanted[0].asked
    options = JobOptions(locked=first.locked, offline=first.offline, no_cache=manner.no_cache, begin=manner.begin,
                         fresh=any(one.before is not None for one in wanted))  # fmt: skip
    slots = manner.jobs if manner.jobs > 1 else usual_slots(len(wanted))
    with connected_fleet(fleet, engine=first.engine, slots=slots, emit=emit) as client:
        order = FleetOrder(options=options, labels=fleet.labels)
        builders = FleetBuilds(client, order, emit)
        _side_by_side(wanted, builds, builders, emit, jobs=_MOST_ORDERS, fail_fast=manner.fail_fast)


def _side_by_side(
    wanted: Sequence[WantedBuild], builds: Builds, builders: _Builders, emit: Emit, *, jobs: int, fail_fast: bool
) -> None:
    """Several at a time, each in a process of its own, here or elsewhere.

    An interrupt reaches Python's main thread only, and the umask is a whole process's: threads would share both. What
    is equal work is left to one of them by the locks that any two builds on this machine have.
    """
    with ThreadPoolExecutor(jobs, "build") as pool, _stopped_with_us(builders, pool):
        futures = {pool.submit(_build_one, one, lambda one: builders.build(one.asked)): one for one in wanted}
        for done, future in enumerate(as_completed(futures), start=1):
            one = futures[future]
            ended = builds.ended[one.number] = future.result()
            if ended.failure is not None and done < len(wanted):
                if fail_fast:
                    builders.stop()
                else:
                    emit(Notice(text=f"{one.name} failed; the other projects go on", level="warning"))


@contextmanager
def _stopped_with_us(builders: _Builders, pool: ThreadPoolExecutor) -> Iterator[None]:
    """Interrupted, stop the builds and wait until they have cleaned up; at a second time they are told so again."""
    try:
        yield
    except BaseException:
        builders.stop()
        try:
            pool.shutdown()
        except KeyboardInterrupt:
            builders.stop()
            raise
        raise
