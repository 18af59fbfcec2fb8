"""project.yaml from disk to a validated Project; every error of the file at once, each with its line and remedy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import Finding, UsageError
from orchestrator.findings import Findings, nearest_line
from orchestrator.project import yaml_reader
from orchestrator.project.containerfile import Containerfile
from orchestrator.project.project import Project
from orchestrator.project.validation import Checker, top_level
from orchestrator.resolved import ImageSettings, InputName, ScriptSettings

MAX_BYTES = 256 * 1024
"""A project.yaml is a page of text; more is a mistake (an image, an archive) and would keep the parser busy."""


@dataclass(frozen=True, kw_only=True)
class LoadedProject:
    """A valid project and where it came from.

    `path` is as the user gave it, `root` the file's directory (absolute): relative host paths are relative to it.
    `lines`: dotted field in yaml's own names (`build.secrets[0].id`, `gpu-assets.url`, `manifest.Env.HOME`)
    -> 1-based line. `raw`: dotted field -> an unquoted value as it is written, where YAML reads it as something
    other than text. `run_line`: line of the first line of `build.run`'s own text.
    `own_mirrors`: those that the user's settings name, whom we trust more than a project. `trusted`: they name the
    project's directory, or one above. `unused_inputs`: what its kind of image does without, and nobody resolves.
    `staged`: there is no project.yaml, but a tree with everything where the guest will have it.
    `containerfile`: the user's own, read; `image`: what the finished image says of its program, once there is one;
    `script`: how the program is started, once the build container has said that it is a script.
    """

    project: Project
    path: Path
    root: Path
    text: str
    lines: Mapping[str, int]
    raw: Mapping[str, str]
    run_line: int
    warnings: tuple[Finding, ...] = ()
    own_mirrors: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False
    unused_inputs: frozenset[InputName] = frozenset()
    staged: bool = False
    containerfile: Containerfile | None = None
    image: ImageSettings | None = None
    script: ScriptSettings | None = None

    def line(self, name: str) -> int | None:
        """The line of the field `name`, or of the nearest thing above it that the file has."""
        return nearest_line(self.lines, name)

    def findings(self) -> Findings:
        """Collects what is wrong with the project; nothing yet."""
        return Findings(file=str(self.path), lines=self.lines)


# A part of a project, or the code of an error -> the keys that decide it besides the part itself.
_DECIDED_BY = {
    "gevulot": {"runtime"},
    "gpu-assets": {"cuda", "resources"},
    "ops": {"packer"},
    "stage": {"build"},
    "newer-ops": {"ops"},
    "gone-key": {"ops"},
    "gpu-klib": {"cuda", "resources"},
    "map-name": {"build"},
    "passthrough-unknown": {"nanos"},
}


@dataclass(frozen=True, kw_only=True)
class PartialProject:
    """A project with errors, for whoever looks for more of them: `broken` top-level keys have stand-in values."""

    loaded: LoadedProject
    broken: frozenset[str]

    def blames(self, finding: Finding) -> bool:
        """Whether `finding` stays right whatever the broken keys will say."""
        of_project = finding.file == str(self.loaded.path)
        part = top_level(finding.field or "build") if of_project else "manifest"
        return not self.broken & {part, *_DECIDED_BY.get(part, ()), *_DECIDED_BY.get(finding.code, ())}


class ProjectError(UsageError):
    """project.yaml itself has errors, all in `findings`. `partial` is what can be looked at all the same."""

    def __init__(self, error: UsageError, partial: PartialProject | None) -> None:
        super().__init__(error.message, remedy=error.remedy, findings=error.findings)
        self.partial = partial


def lock_path(project_file: Path) -> Path:
    """Beside the project: project.yaml → project.lock, project.ops.yaml → project.ops.lock."""
    return project_file.with_suffix(".lock")


def load_project(path: Path) -> LoadedProject:
    """Read and validate `path`. Raises ProjectError whose `findings` hold all that is wrong; reads nothing else.

    UsageError for a file that can't be read at all.
    """
    text = read_text(path, what="a project file", limit=MAX_BYTES)
    shown = str(path)
    document = yaml_reader.read(text, shown)
    findings = Findings(file=shown, collected=list(document.findings))
    if not isinstance(document.data, dict):
        if not findings.collected:
            _not_a_mapping(findings, document.data, text)
        raise findings.failure()
    checker = Checker(file=shown, document=document)
    project = checker.check()
    findings.extend(checker.errors.collected)

    def loaded(project: Project) -> LoadedProject:
        return LoadedProject(
            project=project,
            path=path,
            root=path.absolute().parent,
            text=text,
            lines=document.lines,
            raw=document.raw,
            run_line=document.content_lines.get("build.run", document.lines.get("build.run", 1)),
            warnings=tuple(checker.warnings.collected),
        )

    if findings.collected or project is None:
        rest = checker.partial()
        partial = PartialProject(loaded=loaded(rest[0]), broken=rest[1]) if rest is not None else None
        raise ProjectError(findings.failure(), partial)
    return loaded(project)


def read_text(path: Path, *, what: str, limit: int, keep_bom: bool = False) -> str:
    """The text of a small UTF-8 file, without a leading BOM. UsageError when it can't be had."""
    try:
        if path.is_dir():
            raise _unreadable(path, "is a directory", f"give the path of {what} in it")
        with path.open("rb") as handle:
            data = handle.read(limit + 1)
    except FileNotFoundError as error:
        raise _unreadable(path, "does not exist", "check the path; `init` writes a new project") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise _unreadable(path, f"cannot be read ({reason})", "check the path and its permissions") from error
    if len(data) > limit:
        raise _unreadable(path, f"is larger than {limit // 1024} KiB", f"check that it is {what}")
    try:
        return data.decode("utf-8" if keep_bom else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"is not UTF-8 text (byte 0x{data[error.start]:02x})"
        raise _unreadable(path, message, "save the file as UTF-8", line=line) from error


def _unreadable(path: Path, message: str, remedy: str, line: int | None = None) -> UsageError:
    finding = Findings(file=str(path)).error("unreadable", "", message, remedy, line=line)
    return UsageError(f"{path} {message}", remedy=remedy, findings=(finding,))


def _not_a_mapping(findings: Findings, data: Any, text: str) -> None:
    empty = data is None
    kind = "a list" if isinstance(data, list) else "a single value"
    findings.error(
        "empty-file" if empty else "not-a-mapping",
        "",
        "is empty" if empty else f"holds {kind} where `key: value` lines are expected",
        "`init` writes a commented project.yaml to start from",
        line=None if empty else _first_line(text),
    )


def _first_line(text: str) -> int:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip() and not line.lstrip().startswith(("#", "---", "%")):
            return number
    return 1
