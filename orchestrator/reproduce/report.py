"""What is told of an image that was not built again as it was: a line a difference, the first differing file first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.errors import Finding
from orchestrator.findings import Findings
from orchestrator.reproduce.causes import Cause, Kind

MOST_SHOWN: Final = 20
_REMEDIES: Final[dict[Kind, str]] = {
    "time stamp": "take the time from SOURCE_DATE_EPOCH, or leave it out",
    "build path": "build in a directory with a fixed name, or map it away (-ffile-prefix-map, --remap-path-prefix)",
    "locale": "keep LC_ALL and TZ as `reproducible: environment` sets them, or set them in the script",
    "parallelism": "sort the output of parallel jobs, and make nothing depend on nproc",
    "map order": "sort the entries of hash tables and directories before writing them",
    "random numbers": "use a fixed seed, or take the value from the sources",
    "umask": "set the modes (chmod), or keep `reproducible: environment`",
    "engine": "compare both images with `inspect`; does the step look at its container, user or file system?",
    "package": "pin the base and its packages, and build again",
    "input": "compare both images with `inspect`",
    "packer": "use packer: native, which writes the same bytes for the same files",
    "unknown": "compare both versions with `inspect IMAGE cat`; does the step look at the CPU or the date?",
}


@dataclass(frozen=True, kw_only=True)
class Author:
    """Who wrote a file: the field of project.yaml that is behind it, the step, the package that owns it ("" = none)."""

    field: str
    step: str
    package: str = ""


@dataclass(frozen=True, kw_only=True)
class ExplainedDifference:
    """One file (or other part) of the image that differs. `path` is a guest path, `how` says in what it differs."""

    path: str
    how: str
    author: Author
    cause: Cause

    @property
    def message(self) -> str:
        """All of it in one line."""
        package = f"of package {self.author.package}" if self.author.package else "of no package"
        how = f" ({self.how})" if self.how else ""
        shown = f" ({self.cause.evidence})" if self.cause.evidence else ""
        author = f"written by {self.author.step}, {package}"
        return f"{self.path} differs{how}; {author}; likely cause: {self.cause.kind}{shown}"

    @property
    def remedy(self) -> str:
        """What helps against the cause."""
        return _REMEDIES[self.cause.kind]


def report_differences(
    differences: Sequence[ExplainedDifference], findings: Findings, run_line: int
) -> tuple[Finding, ...]:
    """The differences as findings of project.yaml, in their order; `run_line` is where build.run's script begins."""
    for difference in differences[:MOST_SHOWN]:
        line = run_line if difference.author.field == "build.run" else None
        code = f"differs-{difference.cause.kind.replace(' ', '-')}"
        findings.error(code, difference.author.field, difference.message, difference.remedy, line=line)
    if (more := len(differences) - MOST_SHOWN) > 0:
        findings.error("differs-more", "", f"{more} more files differ", "fix the ones listed and build again")
    return tuple(findings.collected)
