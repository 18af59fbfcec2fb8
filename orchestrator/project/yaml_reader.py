"""YAML text to plain data with the line of every field. Reads more strictly than PyYAML's own loader.

Duplicate keys, foreign tags, several documents, alias loops and alias bombs are findings, all at once; text that
YAML 1.1 would turn into a date stays text; keys are always text (`on:` is the key "on").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from orchestrator.errors import Finding
from orchestrator.findings import Findings
from orchestrator.suggest import shown

MAX_VALUES = 20_000
"""Values of one file, aliases counted each time they are used: more is an alias bomb, not a project."""
MAX_DEPTH = 64
MAX_NUMBER = 40
"""Characters of a number: 128 bits in decimal."""

_OCTAL_OR_BASE_60 = re.compile(r"[-+]?(?:0[0-7_]+|[0-9][0-9_]*(?::[0-5]?[0-9])+)")
_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"


@dataclass(frozen=True, kw_only=True)
class YamlDocument:
    """`data`: what the file says. `lines`: dotted field -> 1-based line of its key (or list item).

    `raw`: dotted field -> the text of an unquoted scalar that YAML reads as something other than text.
    `content_lines`: dotted field -> line of a block scalar's first line of content.
    """

    data: Any
    lines: Mapping[str, int]
    raw: Mapping[str, str]
    content_lines: Mapping[str, int]
    findings: tuple[Finding, ...]


def join(parent: str, key: str) -> str:
    """`build` + `run` -> `build.run`."""
    return f"{parent}.{key}" if parent else key


def is_changed_number(raw: str) -> bool:
    """Whether YAML 1.1 reads a number as another than it looks like: 010 as octal, 12:30 as base 60."""
    return bool(_OCTAL_OR_BASE_60.fullmatch(raw))


def read(text: str, file: str) -> YamlDocument:
    """One YAML document. Never raises for bad text: `findings` says what is wrong (`data` may then lack parts)."""
    reader = _YamlReader(file)
    try:
        node = reader.compose(text)
    except yaml.YAMLError as error:
        node = None
        reader.add(**_syntax(error, text))
    except RecursionError:
        node = None
        reader.add(code="yaml-depth", line=None, message="is nested too deeply", remedy="flatten it")
    data = reader.value(node, "", 0, ()) if node is not None else None
    return YamlDocument(
        data=data,
        lines=reader.lines,
        raw=reader.raw,
        content_lines=reader.content_lines,
        findings=tuple(reader.findings.collected),
    )


class _Composer(yaml.SafeLoader):
    """PyYAML's composer with a bound on depth: its own recursion would end the program's stack."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > 2 * MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, "is nested too deeply", _mark(self))
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _YamlReader:
    """Walks the node graph once; collects data, lines and findings."""

    def __init__(self, file: str) -> None:
        self.findings = Findings(file=file)
        self.lines: dict[str, int] = {}
        self.raw: dict[str, str] = {}
        self.content_lines: dict[str, int] = {}
        self.values = 0
        self.too_many = False
        self.constructor = yaml.constructor.SafeConstructor()

    def add(self, *, code: str, line: int | None, message: str, remedy: str, field: str | None = None) -> None:
        self.findings.error(code, field or "", message, remedy, line=line)

    def compose(self, text: str) -> yaml.Node | None:
        loader = _Composer(text)
        try:
            if not loader.check_node():
                return None
            node = loader.get_node()
            if loader.check_node():
                self.add(
                    code="yaml-documents",
                    line=_mark(loader).line + 1,
                    message="a second document begins here",
                    remedy="keep one document per file; remove the line `---`",
                )
            return node
        finally:
            loader.dispose()

    def value(self, node: yaml.Node, path: str, depth: int, above: tuple[int, ...]) -> Any:
        self.values += 1
        if self.values > MAX_VALUES or depth > MAX_DEPTH:
            if not self.too_many:
                self.too_many = True
                self.add(
                    code="yaml-size",
                    line=self.lines.get(path, _line(node)),
                    field=path,
                    message=f"is more than {MAX_VALUES} values, or {MAX_DEPTH} levels deep, once aliases are followed",
                    remedy="write it out without aliases to aliases",
                )
            return None
        if id(node) in above:
            self.add(
                code="yaml-loop",
                line=self.lines.get(path, _line(node)),
                field=path,
                message="an alias refers to a value that contains it",
                remedy="write the value out instead of the alias",
            )
            return None
        inside = (*above, id(node))
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path, depth, inside)
        if isinstance(node, yaml.SequenceNode):
            return self.sequence(node, path, depth, inside)
        return self.scalar(node, path) if isinstance(node, yaml.ScalarNode) else None

    def sequence(self, node: yaml.SequenceNode, path: str, depth: int, above: tuple[int, ...]) -> Any:
        self.known_tag(node, path, f"{_TAG}seq")
        items = []
        for index, item in enumerate(node.value):
            field_name = f"{path}[{index}]"
            self.lines[field_name] = _line(item)
            items.append(self.value(item, field_name, depth + 1, above))
        return items

    def mapping(self, node: yaml.MappingNode, path: str, depth: int, above: tuple[int, ...]) -> dict[str, Any]:
        self.known_tag(node, path, f"{_TAG}map")
        merged: dict[str, Any] = {}
        own: dict[str, Any] = {}
        first: dict[str, int] = {}
        for key_node, value_node in node.value:  # merges first: the line of an own key then wins
            if key_node.tag == _MERGE:
                for source in self.merge_sources(value_node, path, depth, above):
                    merged = {**source, **merged}
        for key_node, value_node in node.value:
            line = _line(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.add(code="yaml-key", line=line, field=path, message="a key must be text", remedy="quote the key")
                continue
            if key_node.tag == _MERGE:
                continue
            self.clean(key_node, path)
            key = key_node.value
            field_name = join(path, key)
            if key in first:
                self.add(
                    code="duplicate-key",
                    line=line,
                    field=field_name,
                    message=f"is given twice (first on line {first[key]})",
                    remedy="keep one of them",
                )
                continue
            first[key] = line
            self.lines[field_name] = line
            own[key] = self.value(value_node, field_name, depth + 1, above)
        return {**merged, **own}

    def merge_sources(self, node: yaml.Node, path: str, depth: int, above: tuple[int, ...]) -> list[dict[str, Any]]:
        """What `<<:` brings in, the strongest first."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        sources = []
        for source in nodes:
            if not isinstance(source, yaml.MappingNode):
                self.add(
                    code="yaml-merge",
                    line=_line(node),
                    field=join(path, "<<"),
                    message="merges something that is not a mapping",
                    remedy="give it an alias of a mapping, such as `<<: *name`",
                )
                continue
            merged = self.value(source, path, depth + 1, above)
            if isinstance(merged, dict):
                sources.append(merged)
        return sources

    def scalar(self, node: yaml.ScalarNode, path: str) -> Any:
        if node.style in ("|", ">"):
            self.content_lines[path] = node.start_mark.line + 2
        self.clean(node, path)
        plain = node.style is None
        tag = node.tag.removeprefix(_TAG)
        if tag in ("str", "timestamp", "value"):  # a date in a version or a path is text to us
            return node.value
        if tag in ("bool", "int", "float", "null"):
            try:
                # To Python a number may have any length, and its own text then has a limit; ours are a few digits.
                value = self.constructor.construct_object(node, deep=True) if len(node.value) <= MAX_NUMBER else None
                if value is None and tag != "null":
                    raise ValueError("a number that long is none")
            except (ValueError, ArithmeticError, yaml.YAMLError, KeyError, IndexError):
                # PyYAML's own conversion fails on e.g. `!!int x` and on `0b`
                self.add(
                    code="yaml-value",
                    line=_line(node),
                    field=path,
                    message=f"`{shown(node.value)}` cannot be read as {tag}",
                    remedy="quote it if it is meant as text",
                )
                return None
            if plain and path:
                self.raw[path] = node.value
            return value
        self.known_tag(node, path, f"{_TAG}str")
        return None

    def clean(self, node: yaml.ScalarNode, path: str) -> None:
        """Escapes in double quotes can make what no file, image or terminal takes."""
        if "\0" in node.value or any("\ud800" <= c <= "\udfff" for c in node.value):
            message = "contains a NUL character or half of a surrogate pair"
            self.add(code="yaml-character", line=_line(node), field=path, message=message, remedy="remove the escape")

    def known_tag(self, node: yaml.Node, path: str, expected: str) -> None:
        if node.tag != expected:
            self.add(
                code="yaml-tag",
                line=_line(node),
                field=path,
                message=f"the YAML tag `{shown(node.tag.replace(_TAG, '!!'))}` is not allowed here",
                remedy="remove the tag and write the plain value",
            )


def _mark(loader: yaml.SafeLoader) -> yaml.Mark:
    event = loader.peek_event()  # type: ignore[no-untyped-call]
    mark: yaml.Mark = event.start_mark
    return mark


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _syntax(error: yaml.YAMLError, text: str) -> dict[str, Any]:
    """A YAML syntax error in our words: {code, line, message, remedy}."""
    if isinstance(error, yaml.reader.ReaderError):
        return {
            "code": "yaml-character",
            "line": text.count("\n", 0, error.position) + 1,
            "message": f"the character U+{_codepoint(error):04X} is not allowed in YAML",
            "remedy": "remove it, or write it as an escape in double quotes",
        }
    if not isinstance(error, yaml.MarkedYAMLError):
        return {"code": "yaml-syntax", "line": None, "message": "is not YAML", "remedy": "see the example of `init`"}
    mark = error.problem_mark or error.context_mark
    if error.context_mark is not None and _begins_earlier(error):
        mark = error.context_mark  # where the quote or the key begins, not where the parser gave up
    line = mark.line + 1 if mark else None
    column = mark.column + 1 if mark else 0
    message, remedy = _words(error, text, line)
    where = f" (column {column})" if column else ""
    return {"code": "yaml-syntax", "line": line, "message": message + where, "remedy": remedy}


def _begins_earlier(error: yaml.MarkedYAMLError) -> bool:
    whole = f"{error.context or ''} {error.problem or ''}"
    return ("quoted scalar" in whole and "end of stream" in whole) or "could not find expected ':'" in whole


def _codepoint(error: yaml.reader.ReaderError) -> int:
    character = error.character
    return ord(character) if isinstance(character, str) else int(character)


def _words(error: yaml.MarkedYAMLError, text: str, line: int | None) -> tuple[str, str]:
    problem = str(error.problem or "")
    lines = text.splitlines()
    at = lines[line - 1] if line is not None and line <= len(lines) else ""
    indent = at[: len(at) - len(at.lstrip())]
    if "\\t" in problem or "\t" in indent:
        return "a tab is used for indentation", "indent with spaces; YAML allows no tabs there"
    table = {
        "nested too deeply": ("is nested too deeply", "flatten it"),
        "found undefined alias": ("an alias is used that no anchor defines", "define it first with `&name`"),
        "duplicate anchor": ("an anchor is defined twice", "give the second another name"),
        "could not find expected ':'": ("a key has no `:` after it", "write `key: value`"),
        "mapping values are not allowed here": (
            "a `:` is not allowed here",
            "check the indentation of this line, or quote the value if it holds `: `",
        ),
        "while scanning a quoted scalar": ("a quoted text is not closed", "add the closing quote"),
        "expected <block end>": ("the indentation does not match the lines above", "align it with its neighbours"),
        "cannot start any token": ("a value begins with a character that YAML reserves", "quote the value"),
        "expected a comment or a line break": ("text follows `|` or `>`", "move it to the next line"),
        "unknown escape character": ("a backslash in double quotes is not a known escape", "use single quotes"),
        "undefined tag handle": ("a YAML tag is not allowed here", "quote the value if it begins with `!`"),
    }
    whole = f"{error.context or ''} {problem}"
    if "expected ',' or" in problem and error.context_mark is not None:
        message = f"the bracket of line {error.context_mark.line + 1} is not closed, or a comma is missing"
        return message, "check the brackets and commas"
    for part, words in table.items():
        if part in whole:
            return words
    return "is not valid YAML here", "check quotes, colons and indentation of this line and the one above"
