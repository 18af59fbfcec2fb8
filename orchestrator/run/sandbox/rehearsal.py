"""A rehearsal from beginning to end: the image's tree, a sandbox to run in, the program, its result."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from orchestrator.elf.closure import GuestLoader
from orchestrator.elf.nanos import check_kernel_loading
from orchestrator.errors import Finding
from orchestrator.events import Emit, Notice, ignore
from orchestrator.guest.files import make_skeleton
from orchestrator.image.reader import Image, open_image
from orchestrator.image.tree import File
from orchestrator.inspection import extract_tree
from orchestrator.receipt.read import guest_limits, read_receipt, takes_task_files
from orchestrator.receipt.receipt import Receipt
from orchestrator.rpc import socket_directory
from orchestrator.run.elsewhere.errand import Errand, Rehearsed
from orchestrator.run.elsewhere.remote_rehearsal import Luggage, rehearse_elsewhere
from orchestrator.run.node.files import prepare, read_result, read_task
from orchestrator.run.node.local_node import LocalNode, answers, serving
from orchestrator.run.node.task import Task
from orchestrator.run.outcome import Outcome, Violation
from orchestrator.run.sandbox import sandboxes
from orchestrator.run.sandbox.bpf import filter_program
from orchestrator.run.sandbox.gpus import HostGpus, copy_facts, host_gpus, swap_driver_libraries
from orchestrator.run.sandbox.launcher import LaunchSettings, launcher
from orchestrator.run.sandbox.limits import counts_by_namespace, disk_limit, resource_limits
from orchestrator.run.sandbox.outcome import GuestMachine, OpenedPath, OutputSink, Program, SandboxLimits, VsockHandler
from orchestrator.run.sandbox.owner import lend_folder, program_id
from orchestrator.run.sandbox.packed_program import machine_of, program_of
from orchestrator.run.sandbox.rules import GuestRules
from orchestrator.run.sandbox.sandboxes import Folders, UnseenFilesError
from orchestrator.run.sandbox.supervisor import Bounds, CannotBeginError, Sandbox, supervise, too_late
from orchestrator.run.sandbox.trace import Missing, find_missing, find_used
from orchestrator.run.sandbox.tree import hostname, make_mount_points
from orchestrator.run.sandbox.view import SKELETON, View
from orchestrator.run.sandbox.vsock import Bridge
from orchestrator.run.sandbox.watches import free_space
from orchestrator.temporary import own_directory

if TYPE_CHECKING:
    from orchestrator.engine.base import RunningEngine


@dataclass(frozen=True, kw_only=True)
class RehearseOptions:
    """How to rehearse. None: as the image's receipt says. `engine`: auto|none|docker|podman|private|URL.

    `workspace`: a directory that is /workspace and stays; None = a temporary one. `timeout`: seconds from the start,
    preparation included, of which `spent` are over already. `disk`: MiB that the program may add to its workspace
    (None: see limits.disk_limit). `vsock` connects the program's vsock (None refuses it). `task` may be None with
    `files` given: then they only lie in the workspace.
    """

    engine: str = "auto"
    timeout: float = 300.0
    spent: float = 0.0
    memory: int | None = None
    cpus: int | None = None
    disk: int | None = None
    threads: int = 4096
    runtime: str | None = None
    task: Path | None = None
    files: tuple[Path, ...] = ()
    workspace: Path | None = None
    trace: bool = False
    gpus: bool = False
    vsock: VsockHandler | None = None
    sink: OutputSink | None = None


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What came of it. `run` is how the program ended; `opened` (paths), `used` (the image's files among them) and
    `missing` only with a trace; `swapped`: the driver libraries that were this machine's, not the image's; `damaged`:
    what the guest's kernel does to the program or its loader, which Linux doesn't."""

    run: Outcome
    limits: SandboxLimits
    machine: GuestMachine
    opened: tuple[OpenedPath, ...] = ()
    swapped: tuple[str, ...] = ()
    missing: Missing | None = None
    used: tuple[str, ...] = ()
    damaged: tuple[Finding, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """How the program ended; not ok where the guest's kernel would not have loaded it whole."""
        if not self.run.ok or not self.damaged:
            return self.run
        reason = "the program ran here, but Nanos would not load all of it"
        damage = [Violation(code=finding.code, message=str(finding)) for finding in self.damaged]
        return replace(self.run, ok=False, reason=reason, violations=(*self.run.violations, *damage))

    @property
    def ok(self) -> bool:
        """The program ended with 0, answered its task if it had one, and the guest's kernel would load it whole."""
        return self.failure is None

    @property
    def failure(self) -> str | None:
        """Why it failed, for a person; None where it is ok. What it answered explains more than how it was loaded."""
        return self.run.failure or self.outcome.failure

    @property
    def notes(self) -> tuple[str, ...]:
        """How it differed from the guest, for people."""
        lines = []
        if self.swapped:
            lines.append(f"this machine's driver libraries stood in for the image's: {', '.join(self.swapped)}")
        if not self.machine.exact:
            claimed, table = self.machine.version, self.machine.guest.version
            lines.append(f"this image's Nanos is {claimed}; it is rehearsed as {table}, the nearest that is known")
        return tuple(lines)

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        run = self.run
        document = run.to_dict() | {"ok": self.ok, "reason": self.failure or run.reason, "engine": run.ran_on}
        document["peak_memory_from"] = run.counted
        document["errors"] = [violation.message for violation in run.errors]
        document |= {name: run.output.get(name, b"").decode(errors="replace") for name in ("stdout", "stderr")}
        document["limits"] = asdict(self.limits)
        document["message"] = run.reason
        document["guest"] = {"nanos": self.machine.version, "table": self.machine.guest.version}
        document["swapped"] = list(self.swapped)
        document["damaged"] = [
            {"code": finding.code, "message": finding.message, "remedy": finding.remedy} for finding in self.damaged
        ]
        if self.missing is not None:
            document["missing"] = self.missing.to_dict()
        return document


Rehearse = Callable[[Path, RehearseOptions, Emit], Rehearsal]
"""Runs an image's program from its own tree, as `rehearse` does."""


def rehearse(path: Path, options: RehearseOptions, emit: Emit = ignore) -> Rehearsal:
    """Run the image's program from its own tree. EngineError where no sandbox can be had, UsageError for the rest."""
    deadline = time.monotonic() + options.timeout - options.spent
    receipt = read_receipt(path)
    local = takes_task_files(receipt, options.runtime)
    with (
        open_image(path) as image,
        own_directory("rehearse") as temporary,
        socket_directory("rehearse") as sockets,
    ):
        program = program_of(image)
        task = read_task(options.task, options.files, program.workspace) if options.task is not None else None
        node_at = sockets / "node.sock" if not local and options.vsock is None else None
        if node_at is not None:
            options = replace(options, vsock=partial(answers, node_at))
        folders = _folders(temporary, sockets, image, program, options)
        limits = _limits(receipt, options, folders.workspace)
        machine = machine_of(image, program, limits)
        _lay_out(image, folders, deadline, machine)
        prepare(folders.workspace, task, options.files, local=local)
        gpus = host_gpus() if options.gpus else None
        swapped = swap_driver_libraries(folders.tree, gpus.libraries) if gpus else ()
        if gpus:
            copy_facts(folders.launcher / SKELETON)
        node = LocalNode(task=task, workspace=folders.workspace, workspace_at=program.workspace)
        bounds = Bounds(limits=limits, workspace=folders.workspace, deadline=deadline, sink=options.sink)
        with (
            lend_folder(folders.tree, folders.user, back=False),
            lend_folder(folders.workspace, folders.user, back=options.workspace is not None),
            serving(node, node_at) if node_at is not None else nullcontext(),
        ):
            job = _Job(image=path.absolute(), task=task, local=local, has_node=node_at is not None)
            rehearsed = _Attempts(folders, machine, bounds, options, gpus, job).run(emit)
        run, opened = rehearsed.outcome, rehearsed.opened
        if task is not None and run.result is None:
            run = replace(run, result=read_result(folders.workspace) if local else node.outcome)
        return Rehearsal(
            run=run,
            opened=opened,
            limits=rehearsed.limits,
            machine=machine,
            swapped=swapped,
            missing=find_missing(image.rootfs, opened) if options.trace else None,
            used=find_used(image.rootfs, opened) if options.trace else (),
            damaged=_find_damage(image, program),
        )


def _find_damage(image: Image, program: Program) -> tuple[Finding, ...]:
    """What Nanos's own loader would make of the program: Linux's, which ran it here, keeps to its file."""
    rootfs = image.rootfs

    def open_file(path: str) -> BinaryIO | None:
        node = rootfs.lookup(path)
        return cast("BinaryIO", rootfs.open_file(node)) if isinstance(node, File) else None

    loader = GuestLoader(open_file, program=program.path, environment=program.environment)
    return tuple(check_kernel_loading(loader, rootfs.attributes))


def _limits(receipt: Receipt | None, options: RehearseOptions, workspace: Path) -> SandboxLimits:
    memory, cpus = guest_limits(receipt, memory=options.memory, cpus=options.cpus)
    disk = disk_limit(options.disk, free_space(workspace))
    return SandboxLimits(memory=memory, cpus=cpus, timeout=options.timeout, disk=disk, threads=options.threads)


def _folders(temporary: Path, sockets: Path, image: Image, program: Program, options: RehearseOptions) -> Folders:
    folders = Folders(
        tree=temporary / "tree",
        workspace=(options.workspace or temporary / "workspace").absolute(),
        launcher=sockets / "launcher",
        workspace_at=program.workspace,
        hostname=hostname(image.rootfs),
        user=program_id(),
    )
    folders.workspace.mkdir(parents=True, exist_ok=True)
    # What is in `temporary` and `sockets` is open to the program's user; they themselves are ours alone.
    for path in (folders.tree, folders.launcher):
        path.mkdir()
        path.chmod(0o755)
    return folders


def _lay_out(image: Image, folders: Folders, deadline: float, machine: GuestMachine) -> None:
    def on_time() -> None:
        if time.monotonic() > deadline:
            raise too_late(machine.limits.timeout)

    extract_tree(image.rootfs, folders.tree, on_time)
    make_mount_points(folders.tree, folders.workspace_at)
    make_skeleton(machine.guest, folders.tree, folders.launcher / SKELETON, machine.program.path)


@dataclass(frozen=True, kw_only=True)
class _Job:
    """What an engine elsewhere is sent; `has_node`: a stand-in of the node answers, and not a handler of a caller's."""

    image: Path
    task: Task | None
    local: bool
    has_node: bool


@dataclass(frozen=True)
class _Attempts:
    """One rehearsal, in the sandbox that can be had."""

    folders: Folders
    machine: GuestMachine
    bounds: Bounds
    options: RehearseOptions
    gpus: HostGpus | None
    job: _Job

    def run(self, emit: Emit) -> Rehearsed:
        """How it went, and what the program opened."""
        engine = self.options.engine
        if engine in ("none", "auto"):
            # No engine needs to be found or imported, and nothing has run when a sandbox can't begin.
            try:
                return self._attempt(self._outside, "none", own_count=self._counted_apart())
            except CannotBeginError as error:
                if engine == "none":
                    raise
                emit(Notice(text=f"{error.message}; using a container engine instead"))
        from orchestrator.engine.select import connect  # late: the engines' libraries take a while

        connected = connect(engine, emit=emit)
        try:
            return self._in_engine(connected, emit)
        finally:
            connected.close()

    def _in_engine(self, engine: RunningEngine, emit: Emit) -> Rehearsed:
        capabilities, name = engine.capabilities, engine.info.kind
        if capabilities.shares_files is False:
            return self._elsewhere(engine, emit)
        if "memory" not in capabilities.limits:
            emit(
                Notice(
                    text=f"{name.capitalize()} cannot limit memory here; what the program uses is checked every 50 ms"
                )
            )
        inside = partial(self._inside, engine)
        try:
            return self._attempt(inside, name, own_count=self.folders.user is not None)
        except UnseenFilesError:
            return self._elsewhere(engine, emit)

    def _elsewhere(self, engine: RunningEngine, emit: Emit) -> Rehearsed:
        """With what it needs sent there."""
        options, limits, job = self.options, self.bounds.limits, self.job
        if options.gpus or (options.vsock is not None and not job.has_node):
            what = "--gpus uses" if options.gpus else "its sockets are answered by"
            raise CannotBeginError(
                f"{engine.info.kind} at {engine.info.endpoint} does not see this machine's files: it is on another"
                f" machine, or in a mount namespace of its own, and {what} what this machine has",
                remedy="rehearse on that machine, or here with --engine none",
            )
        emit(Notice(text=f"{engine.info.kind} does not see this machine's files; the program is sent there"))
        errand = Errand(
            timeout=limits.timeout,
            spent=max(0.0, limits.timeout - (self.bounds.deadline - time.monotonic())),
            memory=limits.memory,
            cpus=limits.cpus,
            disk=options.disk,
            threads=limits.threads,
            local=job.local,
            trace=options.trace,
            shows=self.bounds.sink is not None,
            task=job.task,
        )
        luggage = Luggage(
            image=job.image,
            workspace=self.folders.workspace,
            back=options.workspace is not None,
            sink=self.bounds.sink,
        )
        return rehearse_elsewhere(engine, errand, luggage, emit)

    def _attempt(
        self, where: Callable[[], AbstractContextManager[Sandbox]], name: str, *, own_count: bool
    ) -> Rehearsed:
        rules = self._rules()
        instructions = filter_program(self.machine.guest, rules.asked, in_container=name != "none")
        self._write_launcher(instructions, own_count)
        try:
            with where() as sandbox:
                outcome = replace(supervise(sandbox, rules, self.bounds), ran_on=name)
                return Rehearsed(outcome=outcome, opened=rules.opened, limits=self.bounds.limits)
        finally:
            rules.close()

    def _rules(self) -> GuestRules:
        folders, options = self.folders, self.options
        view = View(
            tree=folders.tree,
            skeleton=folders.launcher / SKELETON,
            share=folders.workspace,
            share_at=folders.workspace_at,
            beyond=options.gpus,
        )
        bridge = Bridge(options.vsock or (lambda _cid, _port: None))
        return GuestRules(machine=self.machine, view=view, bridge=bridge, trace=options.trace)

    def _write_launcher(self, instructions: bytes, own_count: bool) -> None:
        program, limits = self.machine.program, self.bounds.limits
        started = LaunchSettings(
            filter_program=instructions,
            path=os.fsencode(program.path),
            arguments=[os.fsencode(argument) for argument in program.arguments],
            environment={os.fsencode(k): os.fsencode(v) for k, v in program.environment.items()},
            cwd=os.fsencode(program.cwd),
            limits=resource_limits(disk=limits.disk, threads=limits.threads, own_count=own_count),
        )
        executable = self.folders.launcher / "launcher"
        executable.write_bytes(launcher(started))
        executable.chmod(0o755)

    def _counted_apart(self) -> bool:
        return self.folders.user is not None or counts_by_namespace()

    def _outside(self) -> AbstractContextManager[Sandbox]:
        log = self.folders.tree.parent / "jail.log"
        return sandboxes.open_namespace_sandbox(self.folders, self.bounds.limits, log, devices=self._devices)

    def _inside(self, engine: RunningEngine) -> AbstractContextManager[Sandbox]:
        build_id = f"rehearse-{secrets.token_hex(4)}"
        limits = self.bounds.limits
        return sandboxes.open_container_sandbox(engine, self.folders, limits, build_id=build_id, devices=self._devices)

    @property
    def _devices(self) -> tuple[str, ...]:
        return self.gpus.devices if self.gpus else ()
