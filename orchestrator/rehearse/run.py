"""A rehearsal from beginning to end: the image's tree, a place to run in, the program, its result."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, cast

from orchestrator.elf.closure import GuestLoader
from orchestrator.elf.nanos import loaded_by_kernel
from orchestrator.errors import Finding, UsageError
from orchestrator.events import Emit, ignore
from orchestrator.image.reader import Image, open_image
from orchestrator.image.tree import File
from orchestrator.inspection import extract_tree
from orchestrator.node.files import prepare, read_result, read_task
from orchestrator.node.model import WORKSPACE, Result
from orchestrator.node.standin import NodeStandIn, answers, serving
from orchestrator.receipt import read_receipt, receipt_limits, takes_task_files
from orchestrator.rehearse import places
from orchestrator.rehearse.bpf import filter_program
from orchestrator.rehearse.gpus import HostGpus, host_gpus, swap_driver_libraries
from orchestrator.rehearse.launcher import launcher
from orchestrator.rehearse.model import Limits, OutputSink, Program, Run, VsockHandler
from orchestrator.rehearse.places import Folders
from orchestrator.rehearse.rules import Rules
from orchestrator.rehearse.supervisor import CannotBegin, Place, listening, supervise
from orchestrator.rehearse.trace import Missing, missing
from orchestrator.rehearse.vsock import Bridge
from orchestrator.rpc import socket_directory


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to rehearse. None: as the image's receipt says. `engine`: auto|none|docker|podman|private|URL.

    `workspace`: a directory that is /workspace and stays; None = a temporary one. `vsock` connects the program's
    vsock (None refuses it). `task` may be None with `files` given: then they only lie in the workspace.
    """

    engine: str = "auto"
    timeout: float = 300.0
    memory: int | None = None
    cpus: int | None = None
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
    """What came of it. `place` is where it ran; `missing` only with a trace, `result` only with a task; `swapped`:
    the driver libraries that were this machine's, not the image's; `damaged`: what the guest's kernel does to the
    program or its loader, which Linux doesn't."""

    run: Run
    limits: Limits
    place: str
    swapped: tuple[str, ...] = ()
    result: Result | None = None
    missing: Missing | None = None
    damaged: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """The program ended with 0, answered its task if it had one, and the guest's kernel would load it whole."""
        return self.failure is None

    @property
    def failure(self) -> str | None:
        """Why it failed, for a person; None where it is ok."""
        answer = self.result.error if self.result is not None and self.run.ok else None
        return answer or self.program_failure

    @property
    def program_failure(self) -> str | None:
        """The same, whatever it answered to its task."""
        if not self.run.ok:
            return self.run.words(self.limits)
        return "the program ran here, but Nanos would not load it whole" if self.damaged else None

    def to_dict(self) -> dict[str, Any]:
        """For --json."""
        document = self.run.to_dict() | {"ok": self.ok, "engine": self.place}
        document["limits"] = {"memory": self.limits.memory, "cpus": self.limits.cpus, "timeout": self.limits.timeout}
        document["message"] = self.run.words(self.limits)
        document["swapped"] = list(self.swapped)
        document["damaged"] = [
            {"code": each.code, "message": each.message, "remedy": each.remedy} for each in self.damaged
        ]
        if self.result is not None:
            document["result"] = self.result.to_dict()
        if self.missing is not None:
            document["missing"] = self.missing.to_dict()
        return document


def rehearse(path: Path, options: Options, emit: Emit = ignore) -> Rehearsal:
    """Run the image's program from its own tree. EngineError where no place can be had, UsageError for the rest."""
    receipt = read_receipt(path)
    memory, cpus = receipt_limits(receipt, memory=options.memory, cpus=options.cpus)
    limits = Limits(memory=memory, cpus=cpus, timeout=options.timeout)
    local = takes_task_files(receipt, options.runtime)
    with (
        open_image(path) as image,
        tempfile.TemporaryDirectory(prefix="rehearse-") as temporary,
        socket_directory("rehearse-") as sockets,
    ):
        program = program_of(image)
        task = read_task(options.task, options.files, program.workspace) if options.task is not None else None
        node_at = sockets / "node.sock" if not local and options.vsock is None else None
        if node_at is not None:
            options = replace(options, vsock=partial(answers, node_at))
        folders = _folders(Path(temporary), sockets, image, program, options)
        prepare(folders.workspace, task, options.files, local=local)
        gpus = host_gpus() if options.gpus else None
        swapped = swap_driver_libraries(folders.tree, gpus.libraries) if gpus else ()
        node = NodeStandIn(task=task, workspace=folders.workspace, workspace_at=program.workspace)
        with serving(node, node_at) if node_at is not None else nullcontext():
            run, place = _run(folders, program, limits, options, emit, gpus)
        result = read_result(folders.workspace) if local else node.outcome
        return Rehearsal(
            run=run,
            limits=limits,
            place=place,
            swapped=swapped,
            result=result if task is not None else None,
            missing=missing(image.rootfs, run.opened) if options.trace else None,
            damaged=_damaged(image, program),
        )


def _damaged(image: Image, program: Program) -> tuple[Finding, ...]:
    """What Nanos's own loader would make of the program: Linux's, which ran it here, keeps to its file."""
    rootfs = image.rootfs

    def open_file(path: str) -> BinaryIO | None:
        node = rootfs.lookup(path)
        return cast("BinaryIO", rootfs.open_file(node)) if isinstance(node, File) else None

    loader = GuestLoader(open_file, program=program.path, environment=program.environment)
    return tuple(loaded_by_kernel(loader, rootfs.attributes))


def program_of(image: Image) -> Program:
    """What an image runs. UsageError when it names no program."""
    root = image.rootfs.attributes
    name, arguments, environment = root.get("program"), root.get("arguments"), root.get("environment")
    if not isinstance(name, str) or not name:
        raise UsageError("the image names no program", remedy="`inspect IMAGE manifest` shows what it holds")
    path = "/" + name.lstrip("/")
    words = [str(each) for each in arguments] if isinstance(arguments, list) else []
    mounts, cwd = root.get("mounts"), root.get("cwd")
    places_ = [str(each) for each in mounts.values()] if isinstance(mounts, dict) else []
    return Program(
        path=path,
        arguments=tuple(words or [path]),
        environment={str(k): str(v) for k, v in environment.items()} if isinstance(environment, dict) else {},
        cwd=cwd if isinstance(cwd, str) and cwd else "/",
        workspace=next((each.rstrip("/") for each in places_ if len(each) > 1 and each.startswith("/")), WORKSPACE),
    )


def _folders(temporary: Path, sockets: Path, image: Image, program: Program, options: Options) -> Folders:
    folders = Folders(
        tree=temporary / "tree",
        workspace=(options.workspace or temporary / "workspace").absolute(),
        launcher=sockets / "launcher",
        workspace_at=program.workspace,
    )
    extract_tree(image.rootfs, folders.tree)
    folders.make_mount_points()
    folders.workspace.mkdir(parents=True, exist_ok=True)
    folders.launcher.mkdir()
    executable = folders.launcher / "launcher"
    executable.write_bytes(
        launcher(
            filter_program=filter_program(every_open=options.trace, sockets_are_bridged=options.vsock is not None),
            path=os.fsencode(program.path),
            arguments=[os.fsencode(each) for each in program.arguments],
            environment={os.fsencode(k): os.fsencode(v) for k, v in program.environment.items()},
            cwd=os.fsencode(program.cwd),
        )
    )
    for path in (executable, folders.launcher, sockets, temporary, folders.tree):
        path.chmod(0o755)
    return folders


def _run(
    folders: Folders, program: Program, limits: Limits, options: Options, emit: Emit, gpus: HostGpus | None
) -> tuple[Run, str]:
    devices = gpus.devices if gpus else ()

    def attempt(where: Callable[[], AbstractContextManager[Place]]) -> Run:
        bridge = Bridge(options.vsock) if options.vsock is not None else None
        rules = Rules(workspace=program.workspace, trace=options.trace, bridge=bridge)
        try:
            (folders.launcher / "socket").unlink(missing_ok=True)
            with listening(folders.launcher) as server, where() as place:
                return supervise(server, place, rules, limits, options.sink)
        finally:
            if bridge is not None:
                bridge.close()

    def outside() -> AbstractContextManager[Place]:
        return places.namespaces(folders, limits, folders.tree.parent / "jail.log", devices=devices)

    if options.engine == "none":
        return attempt(outside), "none"
    if options.engine == "auto":
        # No engine needs to be found or imported, and nothing has run when a place can't begin.
        with suppress(CannotBegin):
            return attempt(outside), "none"
    from orchestrator.engine.select import connect  # late: the engines' libraries take a while

    engine = connect(options.engine, emit=emit)
    try:
        build_id = f"rehearse-{secrets.token_hex(4)}"
        run = attempt(lambda: places.container(engine, folders, limits, build_id=build_id, devices=devices))
        return run, engine.info.kind
    finally:
        engine.close()
