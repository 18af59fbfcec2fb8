"""workflow.json as `gevulot-cli exec --tasks` takes it (docs/facts/gevulot.md, 3)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from orchestrator.documents import Document, DocumentError, Many, parse_document
from orchestrator.errors import UsageError
from orchestrator.findings import Findings


class Argument(Document):
    """Two words of the command line; empty ones are dropped."""

    name: str
    value: str


class OutsideFile(Document):
    """A file from outside. `local_path`: a file, or with `file_url` the BLAKE3 (hex) of what lies there."""

    local_path: str
    vm_path: str
    file_url: str | None = None


class ParentFile(Document):
    """A file of the result of the program before. The node goes by `file_name` alone."""

    source_program: str
    file_name: str


class OutsideInput(Document):
    """As the node writes an input from outside."""

    Input: OutsideFile


class ParentInput(Document):
    """As the node writes an input from the program before."""

    Output: ParentFile


def _which(value: Any) -> str:
    from_parent = isinstance(value, ParentInput) or (isinstance(value, dict) and "Output" in value)
    return ParentInput.__name__ if from_parent else OutsideInput.__name__


Source = Annotated[
    Annotated[OutsideInput, Tag(OutsideInput.__name__)] | Annotated[ParentInput, Tag(ParentInput.__name__)],
    Discriminator(_which),
]
"""An input of either kind: which, its one key says."""


class WorkflowStep(Document):
    """One program of the chain. `program` is its hash; for us also an image, or a name for one."""

    program: Annotated[str, Field(min_length=1)]
    cmd_args: Many[Argument] = ()
    inputs: Many[Source] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """As the program gets them: names and values in turn, without empty ones."""
        return tuple(word for argument in self.cmd_args for word in (argument.name, argument.value) if word)


def read_workflow(path: Path) -> tuple[WorkflowStep, ...]:
    """The steps of a file. UsageError with every finding, by its field in the document."""
    remedy = 'write [{"program": …, "cmd_args": […], "inputs": […]}, …]; README, "Rehearse"'
    try:
        steps = parse_document(Many[WorkflowStep], path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}", remedy="give a workflow's JSON file") from error
    except DocumentError as error:
        findings = Findings(file=str(path))
        for problem in error.problems:
            findings.error("workflow", problem.field, problem.message, problem.remedy or remedy)
        raise UsageError(f"{path} is no workflow", remedy=remedy, findings=findings.collected) from error
    names = [step.program for step in steps]
    if not steps:
        raise UsageError(f"{path} holds no step", remedy=remedy)
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        raise UsageError(f"{path}: program {twice} occurs twice", remedy="the node allows each program once")
    if any(isinstance(step_input, ParentInput) for step_input in steps[0].inputs):
        raise UsageError(f"{path}: the first program has no program before it", remedy="give it Input files")
    return steps
