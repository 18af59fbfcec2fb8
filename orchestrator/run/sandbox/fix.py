"""Writes what a trace found missing into project.yaml, leaving every other character as it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import UsageError
from orchestrator.files import write_text
from orchestrator.run.sandbox.trace import yaml_word

_GIVE_PROJECT = "give the project.yaml of the image"


def fix_project(path: Path, *, libraries: Sequence[str] = (), entries: Sequence[str] = ()) -> tuple[str, ...]:
    """Add `libraries` to stage.extra and `entries` to stage.files; returns what was added, as `stage.extra: NAME`.

    UsageError, and nothing is written, where the file can't be read or is of a form that can't be added to.
    """
    text = _read(path)
    changed, added = text, []
    for key, values in (("extra", libraries), ("files", entries)):
        has = [node.value for node in _items(_value(_value(_root(path, changed), "stage"), key))]
        new = [name for name in dict.fromkeys(values) if name not in has]
        if new:
            changed = _Edit(path=path, text=changed, key=key, new=new).render()
            added += [f"stage.{key}: {name}" for name in new]
    if added:
        # A link stays one, and what it leads to keeps its mode.
        target = path.resolve()
        mode = target.stat().st_mode & 0o7777
        write_text(target, changed)
        target.chmod(mode)
    return tuple(added)


def context_of(path: Path) -> Path:
    """The directory that a project's build takes its sources from, whatever else is wrong with the file."""
    named = _value(_value(_root(path, _read(path)), "build"), "context")
    return path.parent / (named.value if isinstance(named, yaml.ScalarNode) and named.value else ".")


def comes_in_image(path: Path) -> bool:
    """Whether a project's program is in a finished image, and not in the context, as tolerantly."""
    build = _value(_root(path, _read(path)), "build")
    return any(_value(build, key) is not None for key in ("image", "containerfile"))


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")  # as bytes: line ends stay what they are
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}", remedy=_GIVE_PROJECT) from error


def _root(path: Path, text: str) -> yaml.MappingNode:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {error}", remedy="`check` says more") from error
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path}: not a mapping", remedy=_GIVE_PROJECT)
    return root


def _pair(node: yaml.Node | None, key: str) -> tuple[yaml.Node, yaml.Node] | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next(((name, value) for name, value in pairs if name.value == key), None)


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pair = _pair(node, key)
    return pair[1] if pair is not None else None


def _items(node: yaml.Node | None) -> Sequence[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []


@dataclass(frozen=True, kw_only=True)
class _Edit:
    """One list of `stage` with more items."""

    path: Path
    text: str
    key: str
    new: Sequence[str]

    @property
    def list(self) -> str:
        return f"[{', '.join(map(yaml_word, self.new))}]"

    def render(self) -> str:
        """The new text, read back: anchors, merges and documents in one line are easily broken by hand."""
        text = self._edited()
        try:
            right = yaml.safe_load(text) == self._expected()
        except yaml.YAMLError:
            right = False
        if not right:
            raise self._by_hand("is written in a way that cannot be added to")
        return text

    def _expected(self) -> Any:
        document = yaml.safe_load(self.text)
        stage = document.get("stage")
        stage = dict(stage) if isinstance(stage, Mapping) else {}
        return {**document, "stage": {**stage, self.key: [*(stage.get(self.key) or []), *self.new]}}

    def _by_hand(self, problem: str) -> UsageError:
        return UsageError(
            f"{self.path}: stage {problem}", remedy=f"write it yourself: stage: {{{self.key}: {self.list}}}"
        )

    def _edited(self) -> str:
        pair = _pair(_root(self.path, self.text), "stage")
        if pair is None:
            end = "" if not self.text or self.text.endswith("\n") else self._newline
            return f"{self.text}{end}stage:{self._newline}  {self.key}: {self.list}{self._newline}"
        name, stage = pair
        if _is_null(stage):
            return self._in_place(name, stage, f"{{{self.key}: {self.list}}}")
        if not isinstance(stage, yaml.MappingNode):
            raise self._by_hand("is not a mapping")
        items = _pair(stage, self.key)
        if items is None:
            return self._with_key(stage)
        if _is_null(items[1]):
            return self._in_place(*items, self.list)
        if not isinstance(items[1], yaml.SequenceNode):
            raise self._by_hand(f"has a {self.key} that is not a list")
        return self._with_items(items[1])

    @property
    def _newline(self) -> str:
        return "\r\n" if "\r\n" in self.text else "\n"

    def _in_place(self, name: yaml.Node, value: yaml.Node, new: str) -> str:
        """In place of nothing (`stage:`), or of a word for it (`stage: ~`)."""
        if value.value:
            return self.text[: value.start_mark.index] + new + self.text[value.end_mark.index :]
        at = self.text.index(":", name.end_mark.index) + 1
        return f"{self.text[:at]} {new}{self.text[at:]}"

    def _with_key(self, stage: yaml.MappingNode) -> str:
        line = f"{self.key}: {self.list}"
        if stage.flow_style:
            at = stage.value[-1][1].end_mark.index if stage.value else stage.start_mark.index + 1
            return f"{self.text[:at]}{', ' if stage.value else ''}{line}{self.text[at:]}"
        first = stage.value[0][0].start_mark  # ours goes before the first key, where no value's end is in doubt
        return f"{self.text[: first.index]}{line}{self._newline}{' ' * first.column}{self.text[first.index :]}"

    def _with_items(self, items: yaml.SequenceNode) -> str:
        words = [yaml_word(name) for name in self.new]
        if items.flow_style:
            at = items.value[-1].end_mark.index if items.value else items.start_mark.index + 1
            return self.text[:at] + (", " if items.value else "") + ", ".join(words) + self.text[at:]
        dash = " " * items.start_mark.column + "- "
        end = self.text.find("\n", items.value[-1].end_mark.index)
        end = len(self.text) if end < 0 else end - self.text[:end].endswith("\r")
        return self.text[:end] + "".join(f"{self._newline}{dash}{word}" for word in words) + self.text[end:]


def _is_null(node: yaml.Node) -> bool:
    return isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:null"
