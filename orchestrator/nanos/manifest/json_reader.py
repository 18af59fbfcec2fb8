"""JSON text to plain data with the line of every field. As strict as Go's decoder, and says more.

`json` gives positions only for its first error. Comments, trailing commas and duplicate keys are stepped over, so
that all of them are found at once; anything else ends the reading.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from orchestrator.errors import Finding
from orchestrator.findings import Findings
from orchestrator.suggest import shown

MAX_DEPTH = 64
MAX_VALUES = 100_000
_SPACE = re.compile(r"[ \t\r\n]*")
_WORD = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?(?![0-9A-Za-z.+_-])")
_NUMBER_LIKE = re.compile(r"[-+.0-9][0-9A-Za-z.+_-]*")
_SURROGATE = re.compile("[\ud800-\udfff]")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, kw_only=True)
class JsonDocument:
    """`data` (None when it can't be read), `lines`: dotted field -> 1-based line, and what is wrong.

    `raw`: dotted field -> a number or word as it is written.
    """

    data: Any
    lines: Mapping[str, int]
    raw: Mapping[str, str]
    findings: tuple[Finding, ...]


class _StopError(Exception):
    """The text can't be read on from here."""


def read(text: str, file: str) -> JsonDocument:
    """Parse one JSON value. Never raises for bad text."""
    reader = _JsonReader(text, file)
    try:
        data = reader.document()
    except _StopError:
        data = None
    return JsonDocument(data=data, lines=reader.lines, raw=reader.raw, findings=tuple(reader.findings.collected))


class _JsonReader:
    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.at = 0
        self.values = 0
        self.lines: dict[str, int] = {}
        self.raw: dict[str, str] = {}
        self.findings = Findings(file=file)
        self._line_at = 0
        self._line = 1

    def line(self) -> int:
        """The 1-based line of the current place (which only moves forward)."""
        self._line += self.text.count("\n", self._line_at, self.at)
        self._line_at = self.at
        return self._line

    def add(self, code: str, message: str, remedy: str, field: str = "") -> None:
        self.findings.error(code, field, message, remedy, line=self.line())

    def stop(self, message: str, remedy: str, field: str = "") -> NoReturn:
        self.add("json-syntax", message, remedy, field)
        raise _StopError

    def document(self) -> Any:
        self.space()
        if self.at == len(self.text):
            self.stop("is empty", "write an object: { … }")
        value = self.value("", 0)
        self.space()
        if self.at < len(self.text):
            self.stop(f"text follows the end of the JSON value: {self.here()}", "remove it")
        return value

    def here(self) -> str:
        rest = self.text[self.at : self.at + 20].splitlines()
        return f"`{shown(rest[0], 20)}`" if rest and rest[0] else "the end of the line"

    def space(self) -> None:
        """Skip white space; comments are an error each, and skipped too."""
        while True:
            match = _SPACE.match(self.text, self.at)
            self.at = match.end() if match else self.at
            pair = self.text[self.at : self.at + 2]
            if pair == "//" or pair[:1] == "#":
                self.add("json-comment", "JSON has no comments", "remove it; ops would print its usage and exit 0")
                end = self.text.find("\n", self.at)
            elif pair == "/*":
                self.add("json-comment", "JSON has no comments", "remove it; ops would print its usage and exit 0")
                end = self.text.find("*/", self.at + 2)
                end = end + 2 if end >= 0 else end
            else:
                return
            self.at = end if end >= 0 else len(self.text)

    def value(self, path: str, depth: int) -> Any:
        self.values += 1
        if depth > MAX_DEPTH or self.values > MAX_VALUES:
            self.stop("is nested too deeply or has too many values", "a manifest is a small file; check it")
        first = self.text[self.at : self.at + 1]
        if first == "{":
            return self.object(path, depth)
        if first == "[":
            return self.array(path, depth)
        if first == '"':
            return self.string(path)
        begins = self.at
        value = self.literal(path)
        self.raw[path] = self.text[begins : self.at]
        return value

    def object(self, path: str, depth: int) -> dict[str, Any]:
        self.at += 1
        members: dict[str, Any] = {}
        first_lines: dict[str, int] = {}
        while not self.closed("}", path):
            if self.text[self.at : self.at + 1] != '"':
                self.bad_key(path)
            line = self.line()
            key = self.string(path)
            field = f"{path}.{key}" if path else key
            if key in members:
                message = f"is given twice (first on line {first_lines[key]})"
                self.add("duplicate-key", message, "keep one of them; ops would take the last", field)
            else:
                first_lines[key] = line
                self.lines[field] = line
            self.space()
            if self.text[self.at : self.at + 1] != ":":
                self.stop("a `:` is missing after the key", f"write `{json.dumps(shown(key))}: value`", field)
            self.at += 1
            self.space()
            members[key] = self.value(field, depth + 1)
            self.separator("}", path)
        return members

    def array(self, path: str, depth: int) -> list[Any]:
        self.at += 1
        items: list[Any] = []
        while not self.closed("]", path):
            field = f"{path}[{len(items)}]"
            self.lines[field] = self.line()
            items.append(self.value(field, depth + 1))
            self.separator("]", path)
        return items

    def closed(self, bracket: str, path: str) -> bool:
        self.space()
        if self.text[self.at : self.at + 1] == bracket:
            self.at += 1
            return True
        if self.at == len(self.text):
            self.stop(f"the file ends before a closing `{bracket}`", "add it", path)
        return False

    def separator(self, bracket: str, path: str) -> None:
        """After a value: a comma (not before the bracket) or the bracket, which is left in place."""
        self.space()
        mark = self.text[self.at : self.at + 1]
        if mark == bracket:
            return
        if mark != ",":
            if self.at == len(self.text):
                self.stop(f"the file ends before a closing `{bracket}`", "add it", path)
            self.stop(f"a comma is missing before {self.here()}", "put a `,` after the value above", path)
        comma = self.at
        self.at += 1
        self.space()
        if self.text[self.at : self.at + 1] == bracket:
            message = f"there is a comma before the closing `{bracket}`"
            line = self.text.count("\n", 0, comma) + 1
            self.findings.error("json-comma", path, message, "remove it; JSON allows no trailing comma", line=line)

    def string(self, path: str) -> str:
        try:
            value, end = _DECODER.raw_decode(self.text, self.at)
        except (json.JSONDecodeError, ValueError) as error:
            at = getattr(error, "pos", self.at)
            reason = str(getattr(error, "msg", ""))
            self.at = max(self.at, min(at, len(self.text))) if "Unterminated" not in reason else self.at
            if "Unterminated" in reason:
                self.stop("a string is not closed", 'add the closing `"`', path)
            if "control character" in reason:
                self.stop(
                    "a string contains a line break or control character", "write it as an escape, such as \\n", path
                )
            self.stop("a backslash does not begin a known escape", "write `\\\\` for a backslash", path)
        if _SURROGATE.search(value):
            self.stop("a string contains half of a surrogate pair", "write the character itself", path)
        self.at = end
        return str(value)

    def literal(self, path: str) -> Any:
        word = _WORD.match(self.text, self.at)
        if word is not None:
            return self.word(word[0], path)
        number = _NUMBER.match(self.text, self.at)
        if number is not None:
            return self.number(number, path)
        like = _NUMBER_LIKE.match(self.text, self.at)
        if like is not None:
            self.stop(f"`{shown(like[0])}` is not a JSON number", "write plain decimal digits, or quote it", path)
        if self.text[self.at : self.at + 1] == "'":
            self.stop("a string is in single quotes", "use double quotes", path)
        return self.stop(f"a value is missing before {self.here()}", "write a value or remove the key", path)

    def word(self, word: str, path: str) -> bool | None:
        words = {"true": True, "false": False, "null": None}
        if word in words:
            self.at += len(word)
            return words[word]
        near = {"True": "true", "False": "false", "None": "null", "nil": "null", "undefined": "null"}
        if word in near:
            self.stop(f"`{word}` is not JSON", f"write `{near[word]}`", path)
        if word in ("NaN", "Infinity"):
            self.stop(f"`{word}` is not a JSON number", "write a number or remove the key", path)
        return self.stop(f"the text `{shown(word)}` is not quoted", "put it in double quotes", path)

    def number(self, match: re.Match[str], path: str) -> int | float:
        if len(match[0]) > 40:  # also keeps int() and float() away from absurd sizes
            self.stop("a number has more than 40 digits", "write a smaller number, or quote it", path)
        self.at = match.end()
        parsed = float(match[0]) if match[2] or match[3] else int(match[0])
        if parsed in (float("inf"), float("-inf")):
            self.stop(f"`{match[0]}` is too large for a number", "write a smaller number, or quote it", path)
        return parsed

    def bad_key(self, path: str) -> NoReturn:
        if self.text[self.at] == "'":
            self.stop("a key is in single quotes", "use double quotes", path)
        if self.text[self.at] == ",":
            self.stop("there is nothing before a comma", "remove it", path)
        self.stop(f"a key is not quoted: {self.here()}", "put keys in double quotes", path)
