"""The project's own files, read and judged: what `check` does, and what every other command starts from.

A module of its own, because `check` runs beside an editor: nothing here imports an engine, a template or a download.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from orchestrator.containerfile.ignore import left_out_by as read_left_out
from orchestrator.errors import Finding, Severity, UsageError
from orchestrator.findings import Findings
from orchestrator.image_kind import GuestSettings, ImageKind
from orchestrator.kinds import kind_of_project
from orchestrator.project.finished import read_containerfile
from orchestrator.project.foresight import foresee
from orchestrator.project.load import LoadedProject, ProjectError, load_project
from orchestrator.project.outside import check_outside, secrets_in_context
from orchestrator.project.paths import check_paths
from orchestrator.project.secrets import read_secrets
from orchestrator.project.user_settings import with_user_settings

Read = TypeVar("Read")


@dataclass(frozen=True, kw_only=True)
class CheckedProject:
    """A project whose own files are right: what `check` proves and every other command starts from."""

    loaded: LoadedProject
    kind: ImageKind
    settings: GuestSettings
    findings: tuple[Finding, ...]


def check_project(path: Path, *, trust: bool = False) -> CheckedProject:
    """Validate project.yaml, manifest and paths: no engine, no network, nothing written.

    UsageError holds every error of all three; warnings and notes come back in `findings`. With `trust`, or where the
    user's settings say so, none of them tells what the project takes from outside its directory.
    """
    try:
        loaded = with_user_settings(load_project(path))
    except ProjectError as error:
        raise _with_errors_elsewhere(error) from error
    checked, findings = _examine(loaded, trust=trust)
    if checked is None or any(finding.severity is Severity.ERROR for finding in findings):
        raise UsageError(f"{path} cannot be built", findings=findings)
    return checked


def _examine(loaded: LoadedProject, *, trust: bool) -> tuple[CheckedProject | None, list[Finding]]:
    """What there is to say about a project's manifest and paths; no CheckedProject where the manifest has errors."""
    kind = kind_of_project(loaded.project)
    loaded = replace(loaded, unused_inputs=kind.unused_inputs)
    path, findings = loaded.path, list(loaded.warnings)
    own = _collect(lambda: read_containerfile(loaded), path, findings)
    loaded = replace(loaded, containerfile=own)
    left_out_by = _collect(lambda: read_left_out(loaded.root / loaded.project.build.context), path, findings)
    findings += check_paths(loaded, left_out_by or (lambda _path: ""))
    findings += foresee(loaded, left_out_by or (lambda _path: "")).collected
    findings += () if trust or loaded.trusted else check_outside(loaded)
    findings += secrets_in_context(loaded, left_out_by)
    settings = _collect(lambda: kind.read_settings(loaded), path, findings)
    if settings is None:
        return None, findings
    findings += settings.findings
    findings += settings.left_out(left_out_by) if left_out_by is not None else ()
    return CheckedProject(loaded=loaded, kind=kind, settings=settings, findings=tuple(findings)), findings


def _with_errors_elsewhere(error: ProjectError) -> UsageError:
    """The same with the errors of manifest and paths that don't depend on those of project.yaml itself."""
    partial = error.partial
    if partial is None:
        return error
    path, (_, findings) = partial.loaded.path, _examine(partial.loaded, trust=True)
    more = [finding for finding in findings if finding.severity is Severity.ERROR and partial.blames(finding)]
    of_project = Findings(collected=[*error.findings, *(finding for finding in more if finding.file == str(path))])
    elsewhere = [finding for finding in more if finding.file != str(path)]
    return UsageError(f"{path} cannot be built", findings=(*of_project.failure().findings, *elsewhere))


def require_secrets(checked: CheckedProject) -> None:
    """UsageError, with lines, when a secret of the project isn't there. `build` says the same, but later."""
    read_secrets(checked.loaded)


def _collect(read: Callable[[], Read], path: Path, findings: list[Finding]) -> Read | None:
    """What `read` gives; None, and its errors among `findings`, when something is wrong with what it reads."""
    try:
        return read()
    except UsageError as error:
        unplaced = Findings(file=str(path))
        unplaced.error("unreadable", "", error.message, error.remedy)
        findings += error.findings or unplaced.collected
    return None
