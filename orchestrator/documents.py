"""Documents that programs write and read again (receipt, lock, tasks, records): JSON, bounded, checked by a model."""

from __future__ import annotations

import os
import stat
import types
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ConfigDict, FailFast, TypeAdapter, ValidationError

from orchestrator.amounts import size
from orchestrator.suggest import did_you_mean, nearest, shown

NOT_JSON: Final = "is not JSON"
MOST_BYTES: Final = 4 << 20
_MOST_PROBLEMS: Final = 20
T = TypeVar("T")
Many = Annotated[tuple[T, ...], FailFast()]
"""A list of such. Of a list of a million wrong things the first is told, and no others are looked at."""


class Document(BaseModel):
    """A part of such a document: what is written has its keys and no others; types are taken as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


@dataclass(frozen=True, kw_only=True)
class DocumentProblem:
    """One thing wrong; `field` is its dotted path, "" for the whole document."""

    field: str
    message: str
    remedy: str = ""

    @property
    def said(self) -> str:
        """Where and what, without the remedy."""
        return f"{self.field}: {self.message}" if self.field else self.message

    def __str__(self) -> str:
        return f"{self.said}; {self.remedy}" if self.remedy else self.said


class DocumentError(ValueError):
    """What was read is not such a document. `problems` has one at least; as text it is the first, in one line."""

    def __init__(self, *problems: DocumentProblem) -> None:
        super().__init__(str(problems[0]))
        self.problems = problems


def parse_document(kind: type[T], data: str | bytes, *, newer: bool = False, limit: int = MOST_BYTES) -> T:
    """`data` as a `kind`. DocumentError otherwise, whatever the bytes are: nesting, numbers and length are bounded.

    `newer`: keys that the model doesn't know are kept and not looked at; a newer version may write more than this one.
    """
    if len(data) > limit:
        raise DocumentError(DocumentProblem(field="", message=f"is larger than {size(limit)}"))
    try:
        return TypeAdapter(kind).validate_json(data, extra="allow" if newer else None)
    except ValidationError as error:
        rows = error.errors(include_url=False)[:_MOST_PROBLEMS]
        raise DocumentError(*(_problem(kind, cast("dict[str, Any]", row)) for row in rows)) from error


def read_document(path: Path, kind: type[T], *, newer: bool = False, limit: int = MOST_BYTES, links: bool = True) -> T:
    """The document in a file. OSError where it can't be read; DocumentError as of `parse_document`, and for what is
    not a plain file (or, without `links`, a link): a pipe would be waited for."""
    return parse_document(kind, read_bounded(path, limit, links=links), newer=newer, limit=limit)


def read_bounded(path: Path, limit: int = MOST_BYTES, *, links: bool = True) -> bytes:
    """The bytes of a plain file that holds no more than `limit`. OSError, or DocumentError for any other."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if links else os.O_NOFOLLOW)
    if not links and not stat.S_ISREG(path.lstat().st_mode):
        raise DocumentError(DocumentProblem(field="", message="is not a file"))
    with os.fdopen(os.open(path, flags), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise DocumentError(DocumentProblem(field="", message="is not a file"))
        data = file.read(limit + 1)
    if len(data) > limit:
        raise DocumentError(DocumentProblem(field="", message=f"is larger than {size(limit)}"))
    return data


def plain(value: Any) -> Any:
    """A model as JSON-able data: keys that were set, in the model's order, then those that it doesn't know."""
    if isinstance(value, BaseModel):
        names = {name: info.alias or name for name, info in type(value).model_fields.items()}
        known = {alias: plain(getattr(value, name)) for name, alias in names.items() if name in value.model_fields_set}
        return known | (value.model_extra or {})
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


_WORDS: Final = {
    "missing": "is missing",
    "string_type": "must be text",
    "string_pattern_mismatch": "does not have the expected form",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "dataclass_type": "must be an object",
    "string_too_short": "must not be empty",
}


_BOUNDS: Final = {"greater_than_equal": "at least", "less_than_equal": "at most"}


def _problem(kind: Any, row: dict[str, Any]) -> DocumentProblem:
    code, context = row["type"], row.get("ctx", {})
    field, owner = _field_of(kind, row["loc"])
    if code == "json_invalid":
        return DocumentProblem(field="", message=f"{NOT_JSON}: {context['error']}")
    if code == "extra_forbidden":
        known = [info.alias or name for name, info in owner.model_fields.items()] if owner is not None else []
        above, _, name = field.rpartition(".")
        return DocumentProblem(field=above, message=f"unknown key {shown(name)}", remedy=did_you_mean(name, known))
    if code == "literal_error":
        value, expected = row["input"], context["expected"]
        close = nearest(value, expected.replace("'", "").replace(" or ", ", ").split(", ")) if _text(value) else None
        message = f"is {shown(value)}, must be {expected.replace(chr(39), '')}"
        return DocumentProblem(field=field, message=message, remedy=f"did you mean `{close}`?" if close else "")
    if code == "value_error":
        return DocumentProblem(field=field, message=str(context["error"]))
    if code in _BOUNDS:
        bound = next(value for name, value in context.items() if name in ("ge", "le"))
        return DocumentProblem(field=field, message=f"is {shown(row['input'])}, must be {_BOUNDS[code]} {bound}")
    if code in _WORDS:
        return DocumentProblem(field=field, message=_WORDS[code])
    words = row["msg"].removeprefix("Input should be ").removeprefix("Value should be ")
    return DocumentProblem(field=field, message=f"is {shown(row['input'])}, must be {words}")


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _field_of(kind: Any, loc: tuple[str | int, ...]) -> tuple[str, type[BaseModel] | None]:
    """The dotted path, without the names by which pydantic tells the members of a union apart; the model that has
    the last key."""
    text, at, owner = "", [kind], None
    for step in loc:
        members = [member for whole in at for member in _members(whole)]
        models = [member for member in members if isinstance(member, type) and issubclass(member, BaseModel)]
        if chosen := [member for member in models if member.__name__ == step and len(members) > 1]:
            at = list(chosen)
            continue
        if step == "[key]":  # pydantic's word for the key of a table, not what it holds
            continue
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += f".{shown(step)}" if text else shown(step)
        owner = models[0] if models else None
        at = [inner for member in members for inner in _inner(member, step)]
    return text, owner


def _members(kind: Any) -> Iterator[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _members(arguments[0])
    elif origin in (Union, types.UnionType):
        for argument in arguments:
            yield from _members(argument)
    elif kind is not type(None):
        yield kind


def _inner(kind: Any, step: str | int) -> Iterator[Any]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            if step in (name, info.alias):
                yield info.annotation
    elif get_origin(kind) is not Literal:
        yield from [argument for argument in get_args(kind) if argument is not Ellipsis][-1:]
