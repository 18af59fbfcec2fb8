"""The CI system that runs us: annotations at the lines of project.yaml, and the summary of a job."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final

import click

from orchestrator.cli.console import as_user_error, say
from orchestrator.cli.runner_log import command_text, on_github
from orchestrator.errors import Finding, OrchestratorError, Severity, error
from orchestrator.files import make_directory, open_for_append
from orchestrator.text import one_line

ANNOTATIONS: Final = ("auto", "github", "gitlab", "none")
CODE_QUALITY: Final = "gl-code-quality-report.json"
"""Where GitLab's pipelines look for a report of code quality, in the directory of the sources."""
_PROJECT: Final = "project.yaml"
"""Where a finding is shown that is about no file of the sources: a report has no place for it."""
_LEVEL: Final = {Severity.ERROR: "error", Severity.WARNING: "warning"}


@dataclass(frozen=True, kw_only=True)
class Runner:
    """No CI system, or one that wants nothing. `summary`: a file to append a job's summary to, if there is one."""

    summary: Path | None = None
    folds: ClassVar[str] = "none"
    """How its log folds lines, as `progress.make_progress` takes it."""

    def annotate(self, findings: Iterable[Finding], files: Iterable[Path] = ()) -> None:
        """Show errors and warnings where the system shows such things. `files`: all that were looked at."""

    def summarise(self, text: str) -> None:
        """Append Markdown to the job's summary. What cannot be written is said, and fails no build."""
        if self.summary is None:
            return
        try:
            make_directory(self.summary.parent)
            with open_for_append(self.summary) as file:
                file.write(text.encode(errors="backslashreplace"))
        except OSError as reason:
            say(f"warning: failed to write the summary to {self.summary}: {reason.strerror}; check the path")


@dataclass(frozen=True, kw_only=True)
class GithubRunner(Runner):
    """Workflow commands on stderr, which the runner reads as it reads stdout."""

    folds: ClassVar[str] = "github"

    def annotate(self, findings: Iterable[Finding], files: Iterable[Path] = ()) -> None:  # noqa: ARG002
        """A command each; notes are for the log alone."""
        for finding in findings:
            level = _LEVEL.get(finding.severity)
            if level is None:
                continue
            path = _in_sources(finding.file, "GITHUB_WORKSPACE")
            place = {"file": path, "line": str(finding.line or "") if path else "", "title": _title(finding)}
            words = ",".join(f"{key}={_property(value)}" for key, value in place.items() if value)
            click.echo(f"::{level} {words}::{command_text(str(replace(finding, file=None)))}", err=True)


@dataclass(frozen=True, kw_only=True)
class GitlabRunner(Runner):
    """A report of code quality, which a merge request shows beside its lines."""

    folds: ClassVar[str] = "gitlab"

    def annotate(self, findings: Iterable[Finding], files: Iterable[Path] = ()) -> None:
        """Written also where there is nothing to report: a job that promised a report has to have one."""
        from orchestrator.cli.code_quality import write_report  # late: models take a while, and few want them

        rows = [
            (row, _in_sources(row.file, "CI_PROJECT_DIR") or _PROJECT) for row in findings if row.severity in _LEVEL
        ]
        looked_at = [_in_sources(str(file), "CI_PROJECT_DIR") for file in files]
        path = _sources("CI_PROJECT_DIR") / CODE_QUALITY
        try:
            write_report(path, rows, looked_at)
        except OSError as reason:
            say(f"warning: failed to write {path}: {reason.strerror}; check the directory")


def runner_of(annotations: str, summary: Path | None = None) -> Runner:
    """The runner that `--annotations` names; `auto` is the one whose environment this is."""
    if annotations == "auto":
        gitlab = os.environ.get("GITLAB_CI") == "true"
        annotations = "github" if on_github() else "gitlab" if gitlab else "none"
    if annotations == "github":
        named = os.environ.get("GITHUB_STEP_SUMMARY")
        return GithubRunner(summary=summary or (Path(named) if named else None))
    return GitlabRunner(summary=summary) if annotations == "gitlab" else Runner(summary=summary)


def findings_of(failure: BaseException, project: Path | None = None) -> tuple[Finding, ...]:
    """What to annotate of a failure: its findings, or itself, at the project's file where no line is known."""
    known = as_user_error(failure) if isinstance(failure, OSError) else failure
    if isinstance(known, OrchestratorError):
        if known.findings:
            return known.findings
        said = error(f"exit-{int(known.exit_code)}", known.message, known.remedy)
    elif isinstance(failure, Exception):
        said = error("bug", f"{type(failure).__name__}: {failure}", "this is a bug in orchestrator; report it")
    else:  # interrupted, or ended
        return ()
    return (said if project is None else replace(said, file=str(project)),)


def _title(finding: Finding) -> str:
    return one_line(finding.code)


def _property(text: str) -> str:
    """A property of a workflow command, which may not contain what separates them either."""
    return command_text(text).replace(":", "%3A").replace(",", "%2C")


def _sources(variable: str) -> Path:
    """The directory of the sources, which GitHub and GitLab name by a variable each; else the current one."""
    named = {"GITHUB_WORKSPACE": os.environ.get("GITHUB_WORKSPACE"), "CI_PROJECT_DIR": os.environ.get("CI_PROJECT_DIR")}
    return Path(os.path.realpath(named[variable] or "."))


def _in_sources(file: str | None, variable: str) -> str:
    """A file's path in the repository, whose directory this variable names; "" for one that is elsewhere."""
    if not file:
        return ""
    top, path = _sources(variable), Path(os.path.realpath(file))
    return path.relative_to(top).as_posix() if path.is_relative_to(top) else ""
