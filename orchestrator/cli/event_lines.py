"""What `--progress json` writes, a line an event: names and fields that scripts rely on, apart from our own classes.

Version 1. Within a version an event may get further fields, and there may be further events: readers pass over what
they don't know. Whatever else changes is a new version.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from pydantic import Field, TypeAdapter

from orchestrator.documents import Document
from orchestrator.events import ENDED_BY_OTHERS, Event, Notice, StepFinished, StepOutput, StepProgress, StepStarted
from orchestrator.project.reference import descriptions
from orchestrator.text import parse_json

VERSION: Final = 1


class _Line(Document):
    version: Literal[1] = VERSION
    """Of this schema."""
    time: float
    """When it was, in seconds since 1970, UTC."""


class StepStartedLine(_Line):
    """A step began."""

    event: Literal["step-started"] = "step-started"
    """The kind of event."""
    id: str
    """Of the step, unique in one build; later events of the step have it too."""
    stage: str
    """The Containerfile's stage, or a phase of the build: `pull`, `inputs`, `context`, `pack`, `verify`, `receipt` …"""
    title: str
    """What it does: the Containerfile's instruction, or words."""


class StepOutputLine(_Line):
    """A step wrote something."""

    event: Literal["step-output"] = "step-output"
    """The kind of event."""
    id: str
    """Of the step."""
    text: str
    """Whole lines, joined by newlines, without the last one's; secrets are masked, escape sequences are not."""


class StepProgressLine(_Line):
    """How far a step is."""

    event: Literal["step-progress"] = "step-progress"
    """The kind of event."""
    id: str
    """Of the step."""
    done: int
    """How much is done."""
    total: int
    """Of how much; 0 where that is not known."""
    unit: str
    """What is counted; `B` for bytes."""


class StepFinishedLine(_Line):
    """A step ended."""

    event: Literal["step-finished"] = "step-finished"
    """The kind of event."""
    id: str
    """Of the step."""
    status: Literal["done", "cached", "failed", "stopped"]
    """`cached`: taken from an earlier build. `stopped`: ended because of another's failure or by the user."""
    seconds: float
    """How long it took."""
    error: str
    """Why it failed; empty for one that did not."""


class NoticeLine(_Line):
    """Something that the user should read."""

    event: Literal["notice"] = "notice"
    """The kind of event."""
    level: Literal["note", "warning"]
    """Warnings are repeated at the end of the build and kept in the receipt."""
    text: str
    """One paragraph."""


EventLine = StepStartedLine | StepOutputLine | StepProgressLine | StepFinishedLine | NoticeLine
LINES: Final = (StepStartedLine, StepOutputLine, StepProgressLine, StepFinishedLine, NoticeLine)


def line_of(event: Event, now: Callable[[], float] = time.time) -> EventLine:
    """The line that says it. Not validated: a name in it may be no text in any encoding."""
    at = round(now(), 3)
    match event:
        case StepStarted(id=key, stage=stage, title=title):
            return StepStartedLine.model_construct(time=at, id=key, stage=stage, title=title)
        case StepOutput(id=key, text=text):
            return StepOutputLine.model_construct(time=at, id=key, text=text)
        case StepProgress(id=key, done=done, total=total, unit=unit):
            return StepProgressLine.model_construct(time=at, id=key, done=done, total=total, unit=unit)
        case StepFinished():
            seconds = round(event.seconds, 3)
            status = _status(event)
            error = event.error if status == "failed" else ""
            return StepFinishedLine.model_construct(time=at, id=event.id, status=status, seconds=seconds, error=error)
        case Notice(text=text, level=level):
            return NoticeLine.model_construct(time=at, level="warning" if level == "warning" else "note", text=text)


def _status(event: StepFinished) -> Literal["done", "cached", "failed", "stopped"]:
    if event.error:
        return "stopped" if event.error in ENDED_BY_OTHERS else "failed"
    return "cached" if event.cached else "done"


_PARSED: Final[TypeAdapter[EventLine]] = TypeAdapter(Annotated[EventLine, Field(discriminator="event")])


def event_of(line: str) -> Event | None:
    """The event that a line says; None for anything else, as what a later version says."""
    try:
        # A name in it that is no text in any encoding is for people to see, and no reason to lose the event.
        said = _PARSED.validate_json(json.dumps(parse_json(line), ensure_ascii=False).encode("utf-8", "replace"))
    except ValueError:  # pydantic's too
        return None
    match said:
        case StepStartedLine(id=key, stage=stage, title=title):
            return StepStarted(id=key, stage=stage, title=title)
        case StepOutputLine(id=key, text=text):
            return StepOutput(id=key, text=text)
        case StepProgressLine(id=key, done=done, total=total, unit=unit):
            return StepProgress(id=key, done=done, total=total, unit=unit)
        case StepFinishedLine(id=key, seconds=seconds, status=status, error=error):
            error = error or (ENDED_BY_OTHERS[0] if status == "stopped" else "")
            return StepFinished(id=key, seconds=seconds, cached=status == "cached", error=error)
        case NoticeLine(text=text, level=level):
            return Notice(text=text, level=level)


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a line."""
    schema = TypeAdapter(EventLine).json_schema()
    for model in LINES:
        texts, table = descriptions(_Line) | descriptions(model), schema["$defs"][model.__name__]
        table.pop("title", None)
        table["required"] = list(table["properties"])
        # Readers pass over what they don't know.
        table.pop("additionalProperties", None)
        for field, key in table["properties"].items():
            key.pop("title", None)
            key.pop("default", None)
            key["description"] = texts[field]
    title = f"A line of `orchestrator build --progress json`, version {VERSION}"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **schema}


def markdown() -> str:
    """docs/events.md."""
    parts = [_PAGE]
    for model in LINES:
        texts = descriptions(_Line) | descriptions(model)
        parts.append(
            f"## {model.model_fields['event'].default}\n\n{model.__doc__}\n\n| field | type | |\n|---|---|---|\n"
        )
        for name, info in model.model_fields.items():
            kind = getattr(info.annotation, "__name__", "")
            values = getattr(info.annotation, "__args__", ())
            shown = " or ".join(f"`{value}`" for value in values) if kind == "Literal" or values else _TYPES[kind]
            parts[-1] += f"| `{name}` | {shown} | {texts[name]} |\n"
    return "\n".join(parts)


_PAGE: Final = """\
# Events of a build

`orchestrator build --progress json` writes one JSON object a line to stderr while it runs. A line
that does not begin with `{` is text for people: notes before the build, an error at its end. The
result is on stdout, with `--json` as one document.

    {"version": 1, "time": 1764201600.25, "event": "step-started", "id": "7", "stage": "program", "title": "RUN make"}
    {"version": 1, "time": 1764201601.5, "event": "step-output", "id": "7", "text": "cc -o prog prog.c"}
    {"version": 1, "time": 1764201602.0, "event": "step-finished", "id": "7", "status": "done", \
"seconds": 1.75, "error": ""}

This is version 1. Within a version, events may get further fields, and there may be further events:
pass over what you do not know. Anything else that changes is a new version. `orchestrator schema
events` prints the JSON Schema of a line. Steps run side by side, so the lines of several are mixed.
"""
_TYPES: Final = {"str": "text", "int": "number", "float": "number"}
