"""A rehearsal in a container of an engine that does not see this machine's files, nor shares its memory.

A program's calls are answered through an open file that it passes over a socket, which no copy replaces: so who answers
them goes there, too. The container gets this machine's Python with this program, the image and the workspace, and in
it runs what `--engine none` runs here. What it leaves is fetched, and nothing stays there.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from orchestrator import files
from orchestrator.archive import ArchiveError, Meter, UnpackLimits, read_tar, translate_errors
from orchestrator.documents import DocumentError
from orchestrator.engine.base import Container, ContainerRequest, Leftover, RunningEngine
from orchestrator.errors import EngineError, ExitCode, InputError, OrchestratorError, ProgramError, UsageError
from orchestrator.events import Emit, Notice
from orchestrator.label import LABEL
from orchestrator.run.elsewhere.errand import (
    ANSWER,
    ERRAND,
    IMAGE,
    MOST_ANSWER,
    PACKAGES,
    WORKSPACE,
    Errand,
    FailedErrand,
    Rehearsed,
    read_answer,
    read_messages,
)
from orchestrator.run.elsewhere.own_python import OwnPython, own_python
from orchestrator.run.elsewhere.returned import return_workspace
from orchestrator.run.elsewhere.sent_files import below, tar_chunks
from orchestrator.run.sandbox.outcome import OutputSink
from orchestrator.temporary import own_directory

_OURS: Final = 512 << 20
"""Bytes of memory for what answers the program, beside the program's own."""
_THREADS: Final = 64
_GRACE: Final = 30.0
"""Seconds after the program's time in which the answer must be there."""
_COMMAND: Final = (
    f"import sys; sys.path.insert(0, {PACKAGES!r});"
    " from orchestrator.run.elsewhere.agent import main; main(sys.argv[1])"
)
_ERRORS: Final = {ExitCode.USAGE: UsageError, ExitCode.INPUT: InputError, ExitCode.PROGRAM: ProgramError}


@dataclass(frozen=True, kw_only=True)
class Luggage:
    """What goes there: the image, and the workspace, which comes back if `back`. What it shows goes to `sink`."""

    image: Path
    workspace: Path
    back: bool
    sink: OutputSink | None


def rehearse_elsewhere(engine: RunningEngine, errand: Errand, luggage: Luggage, emit: Emit) -> Rehearsed:
    """Do the errand there. EngineError where that can't be; what the rehearsal there raises is raised here."""
    build_id = f"rehearse-{secrets.token_hex(4)}"
    python = own_python()
    with _image(engine, python, build_id) as image:
        request = ContainerRequest(
            image=image,
            command=(python.executable, "-I", "-c", _COMMAND, ":".join(python.libraries)),
            build_id=build_id,
            memory=(errand.memory << 20) + _OURS,
            processes=errand.threads + _THREADS,
            nested=True,
        )
        with engine.open_container(request) as container:
            container.put(tar_chunks([(IMAGE, luggage.image), *below(luggage.workspace, WORKSPACE)]))
            container.put(tar_chunks([(ERRAND, errand.model_dump_json().encode())]))
            _start(engine, container)
            said = _follow(container, errand, luggage.sink, emit)
            answer = _answer(container, said)
            if luggage.back:
                with container.open_archive(WORKSPACE) as stream:
                    return_workspace(stream, luggage.workspace)
    if isinstance(answer, FailedErrand):
        kind = _ERRORS.get(ExitCode(answer.exit_code), EngineError)
        raise kind(answer.message, remedy=answer.remedy)
    return replace(answer, outcome=replace(answer.outcome, ran_on=engine.info.kind))


@contextmanager
def _image(engine: RunningEngine, python: OwnPython, build_id: str) -> Iterator[str]:
    """An image of nothing but this machine's Python and this program; removed at the end."""
    tag = f"localhost/orchestrator-rehearsal:{build_id}"
    with engine.protect(build_id):
        with own_directory("python") as folder:
            tar = folder / "python.tar"
            with files.create(tar) as sink:
                for chunk in tar_chunks(python.members):
                    sink.write(chunk)
            image = engine.import_rootfs(tar, tag, {LABEL: build_id})
        try:
            yield tag
        finally:
            with suppress(EngineError):
                engine.remove(Leftover(kind="image", id=image, name=tag, build_id=build_id))


def _start(engine: RunningEngine, container: Container) -> None:
    try:
        container.start()
    except EngineError as error:  # another architecture, say
        raise EngineError(
            f"the rehearsal could not begin: this machine's Python does not start in a container of"
            f" {engine.info.kind} at {engine.info.endpoint}: {error.message}",
            remedy="run the orchestrator on the engine's machine",
        ) from error


def _follow(container: Container, errand: Errand, sink: OutputSink | None, emit: Emit) -> str:
    """To its end; what Python itself wrote to stderr."""
    said = bytearray()
    late = threading.Timer(errand.timeout - errand.spent + _GRACE, _kill, [container])
    late.daemon = True
    with container.output() as output:
        late.start()
        try:
            for message in read_messages(_stdout(output, said)):
                if message.kind == "notice":
                    emit(Notice(text=message.text))
                elif sink is not None:
                    sink(message.kind, message.data)
        except (DocumentError, ValueError) as error:
            raise _no_answer(f"what it says is damaged ({error})") from error
        finally:
            late.cancel()
    return said.decode(errors="replace")


def _stdout(output: Iterator[tuple[str, bytes]], errors: bytearray) -> Iterator[bytes]:
    for stream, data in output:
        if stream == "stdout":
            yield data
        else:
            errors += data
            del errors[: -64 * 1024]


def _kill(container: Container) -> None:
    with suppress(EngineError):
        container.kill()


def _answer(container: Container, said: str) -> Rehearsed | FailedErrand:
    try:
        with container.open_archive(ANSWER) as stream, translate_errors():
            limits = UnpackLimits(size=2 * MOST_ANSWER)
            with read_tar(Meter(stream=stream, limits=limits)) as tar:
                for member in tar:
                    return read_answer(tar.small(member, MOST_ANSWER))
    except (OrchestratorError, ArchiveError, DocumentError, ValueError) as error:
        problem = container.problem() or str(error)
        raise _no_answer(problem, said) from error
    raise _no_answer("its answer is empty", said)


def _no_answer(problem: str, said: str = "") -> EngineError:
    return EngineError(
        f"the rehearsal on the engine did not come to its end: {problem}",
        remedy="try another --engine (none, podman, docker); `orchestrator doctor` shows which can be used",
        detail="\n".join(said.strip().splitlines()[-12:]),
    )
