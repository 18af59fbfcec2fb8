"""A tree that was staged by hand, packed, verified and told of in a receipt: `pack`. No engine, and no build step."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import ValidationError

from orchestrator.build.ahead import import_ahead
from orchestrator.build.check import CheckedProject
from orchestrator.build.finish import only_build_of, pack_files
from orchestrator.build.result import Result
from orchestrator.build.staged_tree import STAGE, StagedTree, open_tree
from orchestrator.build.state import PackJob, PackOrder
from orchestrator.build.write_image import ImageTarget, Recorder, TreeOrigin, write_image
from orchestrator.containerfile.render import render_manifest
from orchestrator.errors import UsageError
from orchestrator.events import Emit
from orchestrator.image_kind import Packing
from orchestrator.inputs.resolve import ResolveOptions, resolve_inputs
from orchestrator.kinds import kind_of_project
from orchestrator.lock.resolve import LockPolicy, resolve_locked
from orchestrator.plan.make import make_plan
from orchestrator.project.load import LoadedProject
from orchestrator.project.project import Project
from orchestrator.receipt.receipt import EngineUsed
from orchestrator.receipt.record import Warnings
from orchestrator.resolved import Input, Inputs, OneInputName, file_input_name
from orchestrator.suggest import nearest, shown

if TYPE_CHECKING:
    from orchestrator.provenance.dsse import SigningKey
    from orchestrator.provenance.records import Records

NO_ENGINE = EngineUsed(kind="none", version="", builder="none", private=False)
_USED = {"nanos", "nanos-common"}
"""Inputs that are packed beside the tree."""


@dataclass(frozen=True, kw_only=True)
class PackAsked:
    """What `pack` is asked for. `offline`: nothing is fetched."""

    tree: Path
    output: Path
    offline: bool = False
    sign: SigningKey | None = None


def project_of_tree(tree: Path, program: str, *, name: str = "", nanos: str = "", manifest: str = "") -> CheckedProject:
    """The project that a tree would have: `program` is its path there, `nanos` a version, a directory or `stub`.

    UsageError for what no project.yaml could say.
    """
    document: dict[str, Any] = {
        "name": name or _name(tree),
        "build": {"program": program.lstrip("/")},
        "packer": "native",
    }
    if nanos:
        key = "kernel" if nanos == "stub" else "path" if Path(nanos).is_dir() else "version"
        document["nanos"] = {key: nanos}
    if manifest:
        document["manifest"] = manifest
    try:
        project = Project.model_validate(document)
    except ValidationError as error:
        raise _wrong_option(error) from error
    here = Path.cwd()
    loaded = LoadedProject(
        project=project, path=here / "project.yaml", root=here, text="", lines={}, raw={}, run_line=1, staged=True
    )
    kind = kind_of_project(project)
    settings = kind.read_settings(loaded)
    return CheckedProject(loaded=loaded, kind=kind, settings=settings, findings=tuple(settings.findings))


def pack_tree(checked: CheckedProject, asked: PackAsked, emit: Emit) -> Result:
    """Pack `asked.tree`, verify it, write the image and its receipt, or leave all as they were.

    Errors: UsageError for a tree that isn't one, or without the program; those of inputs and of `build_project` after
    the build.
    """
    unused = frozenset(name for name in get_args(OneInputName) if name not in _USED) | checked.loaded.unused_inputs
    loaded = replace(checked.loaded, unused_inputs=unused)
    name = loaded.project.name
    if loaded.project.packer != "native":
        raise UsageError(f"{loaded.path}: `pack` is the native packer, and the project says packer: ops",
                         remedy="write `packer: native`, or use `build`")  # fmt: skip
    recorder = Recorder(warned=Warnings(checked.findings))
    tell = recorder.listening(emit)
    with only_build_of(asked.output, name, tell), open_tree(asked.tree, asked.output) as tree:
        _require_program(tree, checked.settings.program)
        inputs = _inputs(loaded, asked, tell)
        if not tree.is_container:  # whoever staged it has put the files there that no build step makes
            inputs = replace(inputs, staged_files=())
        plan = make_plan(loaded, checked.settings, inputs)
        order = PackOrder(loaded=loaded, kind=checked.kind, settings=checked.settings, emit=tell)
        job = PackJob(order=order, inputs=inputs, plan=plan)
        origin = TreeOrigin(
            engine=NO_ENGINE, containerfile="", manifest=render_manifest(plan), context_sha256=_tree_digest
        )
        target = ImageTarget(directory=asked.output, sign=asked.sign)
        packed = replace(job, inputs=replace(inputs, staged_files=(*inputs.staged_files, *_placed(tree))))

        def pack_into(image: Path, ready: Callable[[int], None]) -> tuple[Packing, Records]:
            import_ahead(checked.kind)
            return pack_files(packed, tree, image, ready)

        return write_image(job, origin, recorder, target, pack_into)


def _inputs(loaded: LoadedProject, asked: PackAsked, emit: Emit) -> Inputs:
    """What is packed beside the tree; of a project, as its lock says."""
    if loaded.staged:
        inputs = resolve_inputs(loaded, None, emit, ResolveOptions(offline=asked.offline))
    else:
        inputs = resolve_locked(loaded, None, emit, LockPolicy(offline=asked.offline))
    return Inputs(nanos=inputs.nanos, nanos_common=inputs.nanos_common, staged_files=inputs.staged_files)


def _placed(tree: StagedTree) -> Iterator[Input]:
    """The tree's large files go from where they lie straight into the image, as those of `stage.files` do.

    Nothing says what they must be, so their SHA-256 is left open.
    """
    for at, path in tree.placed.items():
        pin = {"size": str(tree.entries[at].size), "sha256": ""}
        yield Input(name=file_input_name(at), kind="file", source=str(path), pin=pin, path=path)


def _require_program(tree: StagedTree, program: str) -> None:
    """UsageError where the tree has no such file; an image without its program would only fail verification."""
    prefix = f"{STAGE}/" if tree.is_container else ""
    entry = tree.entries.get(prefix + program)
    if entry is not None and entry.kind != "directory":
        return
    files = [path.removeprefix(prefix) for path, entry in tree.entries.items() if entry.kind == "file"]
    same = next((path for path in files if path.rpartition("/")[2] == program.rpartition("/")[2]), None)
    close = same or nearest(program, files[:10000])
    what = "is a directory in" if entry is not None else "is not in"
    raise UsageError(
        f"/{program} {what} {tree.path}",
        remedy=f"did you mean --program {close}?" if close else "give the program's path in the tree",
    )


def _tree_digest(packing: Packing) -> str:
    """SHA-256 of what was packed: paths and contents."""
    lines = (f"{path}\0{size}\0{digest}\n" for path, (size, digest) in sorted(packing.contents.items()))
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def _name(tree: Path) -> str:
    stem = re.sub(r"(\.(tar|tgz|gz|xz|zst|bz2))+$", "", tree.resolve().name)
    return re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_")[:128] or "program"


_MUST: Mapping[str, str] = {
    "name": "letters, digits, `-` and `_`, at most 128",
    "nanos": "a version such as 0.1.51, a directory with kernel.img, or `stub`",
    "build": "a path in the tree, without `..`",
    "manifest": "a file",
}


def _wrong_option(error: ValidationError) -> UsageError:
    """Of the first option whose value no project.yaml could have."""
    detail = error.errors(include_url=False)[0]
    key = str(detail["loc"][0])
    option = "--program" if key == "build" else f"--{key}"
    return UsageError(f"{option}: `{shown(detail['input'])}` is not allowed here", remedy=f"it must be {_MUST[key]}")
