"""The configuration file: JSON, strict about keys and types, lenient about what follows the value."""

from __future__ import annotations

import ipaddress
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from .console import UsageMistakeError, fatal
from .schema import ANY_TABLE, BOOL, INT, LIST, STRING, STRUCTS, TABLE

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(kw_only=True)
class Config:
    """A decoded configuration; keys in the schema's spelling, missing and null ones absent."""

    values: dict[str, Json] = field(default_factory=dict)
    folder: str = "."  # of the configuration file, as given: what MapDirs and Mounts are relative to

    def text(self, name: str) -> str:
        """A string, empty when not set."""
        value = self.values.get(name)
        return value if isinstance(value, str) else ""

    def flag(self, name: str) -> bool:
        """A boolean."""
        return self.values.get(name) is True

    def texts(self, name: str) -> list[str]:
        """A list of strings."""
        value = self.values.get(name)
        return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []

    def table(self, name: str) -> dict[str, str]:
        """A mapping of strings."""
        value = self.values.get(name)
        if not isinstance(value, dict):
            return {}
        return {key: item for key, item in value.items() if isinstance(item, str)}

    def anything(self, name: str) -> dict[str, Json]:
        """A mapping of any values."""
        value = self.values.get(name)
        return value if isinstance(value, dict) else {}

    def inner(self, name: str) -> Config:
        """A nested configuration."""
        return Config(values=self.anything(name))

    def inners(self, name: str) -> list[Config]:
        """A list of nested configurations."""
        value = self.values.get(name)
        return [Config(values=item) for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def load(name: str) -> Config:
    """Read `name`. UsageMistakeError for what JSON or the schema forbids; a missing file ends the run with 1."""
    try:
        text = Path(name).read_bytes().decode("utf-8", "replace")
    except OSError as error:
        reason = (error.strerror or "").lower()
        fatal(
            f"error reading config: open {name}: {reason}\nIf you are trying to use interpolation in your\n"
            "config's JSON set 'ops_render_config=true' in your ENV"
        )
    if os.environ.get("ops_render_config") == "true":  # noqa: SIM112 — the name that ops reads
        text = re.sub(r"\$\{(\w+)\}|\$(\w+)", lambda match: os.environ.get(match[1] or match[2], ""), text)
    try:
        values = _struct("Config", _parse(text), "")
    except ValueError as error:
        raise UsageMistakeError(
            f"failed converting configuration file: {error}\n"
            "See more details at https://nanovms.gitbook.io/ops/configuration"
        ) from error
    config = Config(values=values, folder=str(Path(name).parent))
    run = config.anything("RunConfig")
    for key in ("IPAddress", "Gateway", "NetMask"):
        if key in run and not is_address(str(run[key])):
            run[key] = ""
    return config


def is_address(text: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _parse(text: str) -> Json:
    if not text.strip():
        raise ValueError("EOF")
    try:
        # ops stops reading after the first value, so rubbish behind it goes unnoticed.
        value: Json = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text.lstrip())[0]
    except json.JSONDecodeError as error:
        at = error.pos + len(text) - len(text.lstrip())
        if at >= len(text.rstrip()) or "Unterminated" in error.msg:
            raise ValueError("unexpected EOF") from error
        while text[at].isspace():
            at += 1
        expected = "object key string" if "property name" in error.msg else "value"
        raise ValueError(
            f"invalid character '{text[at]}' looking for beginning of {expected} ~ error near "
            f"'{text[at : at + 11]}' (offset {at + 1}) line: {text.count(chr(10), 0, at) + 1}"
        ) from error
    return value


def _no_constant(name: str) -> Json:
    raise ValueError(f"invalid character '{name[0]}' looking for beginning of value")


def _struct(struct: str, value: Json, where: str) -> dict[str, Json]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _mismatch(value, f"types.{struct}", where)
    names = {name.lower(): name for name in STRUCTS[struct]}
    result: dict[str, Json] = {}
    for written, item in value.items():
        name = names.get(written.lower())
        if name is None:
            raise ValueError(f'json: unknown field "{written}"')
        if item is not None:
            result[name] = _field(STRUCTS[struct][name], item, f"{struct}.{where}{name}")
    return result


def _field(kind: str | tuple[str, str], value: Json, where: str) -> Json:
    if isinstance(kind, tuple):
        inner = where.split(".", 1)[1] + "."
        if kind[0] == "struct":
            return _struct(kind[1], value, inner)
        if not isinstance(value, list):
            raise _mismatch(value, f"[]types.{kind[1]}", where)
        return [_struct(kind[1], item, inner) for item in value]
    if kind in (LIST, TABLE):
        items = value if isinstance(value, list if kind == LIST else dict) else None
        if items is None:
            raise _mismatch(value, kind, where)
        for item in items.values() if isinstance(items, dict) else items:
            if not isinstance(item, str | None):
                raise _mismatch(item, STRING, where)
        return value
    wanted = {STRING: str, BOOL: bool, INT: int, ANY_TABLE: dict}[kind]
    if not isinstance(value, wanted) or (kind == INT and isinstance(value, bool)):
        raise _mismatch(value, kind, where)
    return value


def _mismatch(value: Json, kind: str, where: str) -> ValueError:
    if isinstance(value, bool):
        written = "bool"
    elif isinstance(value, int | float):
        written = f"number {value}" if kind == INT else "number"
    else:
        written = "string" if isinstance(value, str) else "array" if isinstance(value, list) else "object"
    place = f"Go struct field {where} of type {kind}" if where else f"Go value of type {kind}"
    return ValueError(f"json: cannot unmarshal {written} into {place}")
