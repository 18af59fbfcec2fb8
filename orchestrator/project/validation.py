"""Plain data to a Project. Unknown keys are found here; pydantic finds the rest, and is put into our words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from orchestrator.findings import Findings
from orchestrator.project import mirrors, schema
from orchestrator.project.project import Project
from orchestrator.project.wrong_value import MissingChoiceError, WrongValueError
from orchestrator.project.yaml_reader import YamlDocument, is_changed_number, join
from orchestrator.suggest import did_you_mean, is_slip, nearest, shown

_VERSION_FIELDS = (
    "cuda", "base.bootstrap.cuda", "gevulot.base.bootstrap.cuda", "nanos.version", "ops.version",
)  # fmt: skip
MAX_UNKNOWN = 100


@dataclass(kw_only=True)
class Checker:
    """Validates one document; `errors` and `warnings` fill as it goes."""

    file: str
    document: YamlDocument
    errors: Findings = field(init=False)
    warnings: Findings = field(init=False)
    # Fields that an unknown key was probably meant to be: to call them missing too would say one thing twice.
    meant: set[str] = field(default_factory=set)
    unknown: int = 0
    known: dict[str, Any] = field(default_factory=dict)
    """The document without unknown keys."""
    refused: set[str] = field(default_factory=set)
    """Top-level keys in which the model refuses something."""

    def __post_init__(self) -> None:
        self.errors = Findings(file=self.file, lines=self.document.lines, otherwise=1)
        self.warnings = replace(self.errors, collected=[])

    def check(self) -> Project | None:
        """The Project, or None when `errors` says why there is none."""
        data = self.known = self._known_keys(self.document.data, [Project], "")
        self._versions()
        self._numbers()
        try:
            project = Project.model_validate(data)
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self.refused.add(top_level(_field(detail, data)[0]))
                self._translate(detail, data)
            return None
        return project if not self.errors.collected else None

    def partial(self) -> tuple[Project, frozenset[str]] | None:
        """After `check`: a Project with stand-in values for the top-level keys that have errors, and those keys."""
        said = (*self.document.findings, *self.errors.collected)
        broken = {top_level(finding.field or "") for finding in said} | self.refused
        if "" in broken:
            return None
        broken |= {top_level(field) for field in self.meant if field}
        kept = {key: value for key, value in self.known.items() if key not in broken}
        try:
            return Project.model_validate({**_STAND_INS, **kept}), frozenset(broken)
        except ValidationError:
            return None

    def _known_keys(self, data: Any, models: list[type[BaseModel]], path: str) -> Any:
        """`data` without the keys that no model knows, each of which has become an error."""
        if not isinstance(data, dict) or not models:
            return data
        known = {key: annotation for model in models for key, annotation in schema.keys(model).items()}
        kept: dict[str, Any] = {}
        for key, value in data.items():
            if key not in known:
                self._unknown(key, path, known)
                continue
            inner = join(path, key)
            items = schema.item_models(known[key])
            if items and isinstance(value, list):
                kept[key] = [self._known_keys(v, items, f"{inner}[{i}]") for i, v in enumerate(value)]
            else:
                kept[key] = self._known_keys(value, schema.models_in(known[key]), inner)
        return kept

    def _unknown(self, key: str, path: str, known: Mapping[str, Any]) -> None:
        self.unknown += 1
        if self.unknown > MAX_UNKNOWN:  # something else than a project; each look for the nearest name takes a while
            if self.unknown == MAX_UNKNOWN + 1:
                remedy = "is this a project file? `init` writes one to start from"
                self.errors.error(
                    "unknown-key", "", f"more than {MAX_UNKNOWN} unknown keys; the rest is not listed", remedy
                )
            return
        where = f"under `{path}`" if path else "at the top level"
        message = f"unknown key {where}"
        close, other, elsewhere = nearest(key, known), schema.other_name(key, path), schema.parents_of_key(key)
        if key.startswith("x-") and not path:
            remedy = "remove it; keys of your own (`x-…`) are not allowed, but any known key can have an anchor"
        elif close is not None and is_slip(key, close):
            remedy = did_you_mean(key, known)
            self.meant.add(join(path, close))
        elif other is not None:
            remedy = other
        elif elsewhere:
            message = f"is not a key {where}"
            remedy = _belongs(elsewhere)
            self.meant |= {join(parent, key) for parent in elsewhere}
        else:
            remedy = did_you_mean(key, known)
            self.meant.add(join(path, close or ""))
        self.errors.error("unknown-key", join(path, shown(key)), message, remedy)

    def _versions(self) -> None:
        """A version without quotes is a number to YAML: 12.10 would become 12.1."""
        for name in _VERSION_FIELDS:
            raw = self.document.raw.get(name)
            value = self._at(name)
            if raw is None or not isinstance(value, int | float) or isinstance(value, bool):
                continue
            if str(value) != raw:
                message = f"YAML reads {shown(raw)} as the number {value}"
                self.errors.error("unquoted-version", name, message, f'quote it: "{shown(raw)}"')
            else:
                message = f"YAML reads {raw} as a number"
                self.warnings.warning("unquoted-version", name, message, f'quote it: "{raw}"')

    def _numbers(self) -> None:
        """Where a number is wanted, nobody means what YAML 1.1 makes of 010 or 12:30."""
        for name, raw in self.document.raw.items():
            value = self._at(name) if name.startswith("resources.") else None
            if isinstance(value, int) and not isinstance(value, bool) and is_changed_number(raw):
                message = f"YAML reads {shown(raw)} as the number {value}"
                self.errors.error("changed-number", name, message, "write it in plain decimal digits")

    def _at(self, name: str) -> Any:
        value = self.document.data
        for part in name.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        return value

    def _translate(self, detail: ErrorDetails, data: Any) -> None:
        """One pydantic error as a finding."""
        path, plain = _field(detail, data)
        if any(e.field == path and e.code in ("unquoted-version", "changed-number") for e in self.errors.collected):
            return  # said already, and better
        if any(finding.field == path for finding in self.document.findings):
            return  # the reader could make nothing of it, and has said so
        if path == "mirrors" and detail["type"] == "value_error":
            for key, wrong in mirrors.problems(self._at(path)):
                self.errors.error("bad-value", join(path, key), wrong.message, wrong.remedy)
            return
        if detail["type"] == "missing" and path in self.meant:
            return
        error = (detail.get("ctx") or {}).get("error")
        if isinstance(error, MissingChoiceError) and any(join(path, key) in self.meant for key in error.choices):
            return  # one of them is there, misspelt
        message, remedy = self._words(detail, path, plain)
        if path == "manifest":  # a union: pydantic reports each branch
            message = f"must be the path of a manifest or a mapping of ops's keys, not {_kind(detail.get('input'))}"
            remedy = "write `manifest: manifest.json`, or the keys below it"
        code = "missing-key" if detail["type"] == "missing" else "bad-value"
        if self.errors.error(code, path, message, remedy) in self.errors.collected[:-1]:
            self.errors.collected.pop()  # the branches of a union repeat themselves

    def _words(self, detail: ErrorDetails, path: str, plain: str) -> tuple[str, str]:
        kind = detail["type"]
        value = detail.get("input")
        context = detail.get("ctx") or {}
        example = schema.EXAMPLES.get(plain, "")
        remedy = f"write `{example}`" if example else ""
        if kind == "missing":
            return "is missing", remedy or "add it"
        if kind == "value_error":
            wrong = context.get("error")
            if isinstance(wrong, WrongValueError):
                return wrong.message, wrong.remedy or remedy
            return str(wrong or "is not allowed"), remedy
        if kind == "literal_error":
            return self._choice(str(context.get("expected", "")), self.document.raw.get(path, value))
        if kind == "string_pattern_mismatch":
            last = plain.rsplit(".", 1)[-1]
            must = schema.PATTERNS.get(plain) or schema.PATTERNS.get(last) or "of another form"
            return f"`{shown(value)}` is not allowed here", f"it must be {must}"
        if kind in ("string_too_short", "too_short"):
            return "is empty", remedy or "give it a value or remove the key"
        if kind in ("greater_than_equal", "less_than_equal"):
            bound = context.get("ge", context.get("le"))
            word = "at least" if kind == "greater_than_equal" else "at most"
            return f"{shown(self.document.raw.get(path, value))} is out of range", f"it must be {word} {bound}"
        return self._wrong_type(_EXPECTED.get(kind, "another kind of value"), value, path, remedy)

    def _wrong_type(self, expected: str, value: Any, path: str, remedy: str) -> tuple[str, str]:
        raw = self.document.raw.get(path)
        if value is None:
            return "is empty", remedy or f"give it {expected}, or remove the key"
        if expected == "text" and raw is not None and isinstance(value, bool | int | float):
            reads = f"{value}".lower() if isinstance(value, bool) else f"the number {value}"
            return f"YAML reads {shown(raw)} as {reads}, not as text", f'quote it: "{shown(raw)}"'
        if expected == "a whole number" and isinstance(value, str):
            return f"must be a whole number, not the text `{shown(value)}`", "write digits only, without quotes or unit"
        return f"must be {expected}, not {_kind(value, raw)}", remedy or f"give it {expected}"

    @staticmethod
    def _choice(expected: str, value: Any) -> tuple[str, str]:
        choices = [part.strip(" '") for part in expected.replace(" or ", ", ").split(",")]
        close = nearest(value, choices) if isinstance(value, str) else None
        *others, last = (f"`{c}`" for c in choices)
        names = f"{', '.join(others)} or {last}" if others else last
        return f"must be {names}, not `{shown(value)}`", f"did you mean `{close}`?" if close else f"write {names}"


_STAND_INS = {"name": "unreadable", "build": {"run": "true", "program": "unreadable"}}
"""Values for the keys that every project must have."""


def top_level(name: str) -> str:
    """The first key of a dotted field: `build` of `build.secrets[0].id`."""
    return re.split(r"[.\[]", name, maxsplit=1)[0]


def _belongs(parents: Sequence[str]) -> str:
    """Where a key belongs that stands in the wrong place."""
    if parents == [""]:
        return "it belongs at the top level"
    return f"it belongs under {' or '.join(f'`{parent}`' for parent in parents)}"


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping (`key: value` lines)",
    "model_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
}


def _kind(value: Any, raw: str | None = None) -> str:
    """What a value is, in words; a scalar as it is written (`raw`) where YAML reads it as something else."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list", dict: "a mapping"}
    name = names.get(type(value), "nothing")
    return f"{name} (`{shown(value if raw is None else raw)}`)" if isinstance(value, str | int | float) else name


def _field(detail: ErrorDetails, data: Any) -> tuple[str, str]:
    """Dotted field with list indexes, and the same without; a union's branch names in `loc` are dropped."""
    path = plain = ""
    value = data
    location = detail["loc"]
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(part, int) and isinstance(value, list):
            path, value = f"{path}[{part}]", value[part] if part < len(value) else None
        elif isinstance(part, str) and isinstance(value, dict) and (part in value or detail["type"] == "missing"):
            path, plain = join(path, part), join(plain, part)
            value = value.get(part)
        elif isinstance(part, str) and last and plain.endswith("base"):
            plain = join(plain, part)  # `base: REF` stands for `base: {image: REF}`
    return path, plain
