"""workflow.json as `gevulot-cli exec --tasks` takes it (facts of Gevulot, section 3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from orchestrator.errors import UsageError
from orchestrator.findings import Findings


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Argument(_Model):
    """Two words of the command line; empty ones are dropped."""

    name: str
    value: str


class GivenFile(_Model):
    """A file from outside. `local_path`: a file, or with `file_url` the BLAKE3 (hex) of what lies there."""

    local_path: str
    vm_path: str
    file_url: str | None = None


class ParentFile(_Model):
    """A file of the result of the program before. The node goes by `file_name` alone."""

    source_program: str
    file_name: str


class Given(_Model):
    """As the node writes an input from outside."""

    Input: GivenFile


class FromParent(_Model):
    """As the node writes an input from the program before."""

    Output: ParentFile


class Step(_Model):
    """One program of the chain. `program` is its hash; for us also an image, or a name for one."""

    program: Annotated[str, Field(min_length=1)]
    cmd_args: tuple[Argument, ...] = ()
    inputs: tuple[Given | FromParent, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """As the program gets them: names and values in turn, without empty ones."""
        return tuple(word for each in self.cmd_args for word in (each.name, each.value) if word)


_STEPS = TypeAdapter(tuple[Step, ...])


def read_workflow(path: Path) -> tuple[Step, ...]:
    """The steps of a file. UsageError with every finding, by its place in the document."""
    remedy = 'write [{"program": …, "cmd_args": […], "inputs": […]}, …]; README, "Rehearse"'
    try:
        document = path.read_bytes()
        json.loads(document)
        steps = _STEPS.validate_json(document)
    except OSError as error:
        raise UsageError(f"can't read {path}: {error.strerror}", remedy="give a workflow's JSON file") from error
    except ValidationError as error:
        findings = Findings(file=str(path))
        for row in error.errors():
            findings.error("workflow", ".".join(str(each) for each in row["loc"]), row["msg"].lower(), remedy)
        raise UsageError(f"{path} is no workflow", remedy=remedy, findings=findings.found) from error
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}", remedy=remedy) from error
    names = [step.program for step in steps]
    if not steps:
        raise UsageError(f"{path} holds no step", remedy=remedy)
    if (twice := next((name for name in names if names.count(name) > 1), None)) is not None:
        raise UsageError(f"{path}: program {twice} occurs twice", remedy="the node allows each program once")
    if any(isinstance(each, FromParent) for each in steps[0].inputs):
        raise UsageError(f"{path}: the first program has no program before it", remedy="give it Input files")
    return steps
