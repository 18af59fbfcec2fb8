"""Writes what a trace found missing into project.yaml, leaving every other character as it is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from orchestrator.errors import UsageError
from orchestrator.files import write_text
from orchestrator.rehearse.trace import Missing


def fix_project(path: Path, missing: Missing) -> tuple[str, ...]:
    """Add libraries to `stage.extra` and files to `stage.files`; returns what was added, as `stage.extra: NAME`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UsageError(f"can't read {path}: {error}", remedy="give the project.yaml of the image") from error
    added: list[str] = []
    for key, values in (("extra", missing.libraries), ("files", [each.lstrip("/") for each in missing.files])):
        has = [node.value for node in _items(_value(_stage(path, text), key))]
        new = [each for each in values if each not in has]
        if new:
            text = _with(path, text, key, new)
            added += [f"stage.{key}: {each}" for each in new]
    if added:
        write_text(path, text)
    return tuple(added)


def _stage(path: Path, text: str) -> yaml.Node | None:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {error}", remedy="`check` says more") from error
    if not isinstance(root, yaml.MappingNode):
        raise UsageError(f"{path}: not a mapping", remedy="give the project.yaml of the image")
    return _value(root, "stage")


def _value(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _items(node: yaml.Node | None) -> Sequence[yaml.Node]:
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _with(path: Path, text: str, key: str, new: Sequence[str]) -> str:
    stage = _stage(path, text)
    # YAML of JSON's strings: any name is written rightly.
    words = [_word(each) for each in new]
    if stage is None:
        return f"{text.rstrip()}\nstage:\n  {key}: [{', '.join(words)}]\n"
    if not isinstance(stage, yaml.MappingNode) or not stage.value:
        raise UsageError(f"{path}: stage is empty", remedy=f"write it yourself: {key}: [{', '.join(words)}]")
    items = _value(stage, key)
    if items is None:
        return _with_key(text, stage, f"{key}: [{', '.join(words)}]")
    if not isinstance(items, yaml.SequenceNode):
        raise UsageError(f"{path}: stage.{key} is not a list", remedy="`check` says more")
    if items.flow_style:
        at = items.value[-1].end_mark.index if items.value else items.start_mark.index + 1
        return text[:at] + (", " if items.value else "") + ", ".join(words) + text[at:]
    last = items.value[-1]
    dash = " " * items.start_mark.column + "- "
    return _after_line(text, last.end_mark.index, [f"{dash}{word}" for word in words])


def _with_key(text: str, stage: yaml.MappingNode, line: str) -> str:
    if stage.flow_style:
        at = stage.value[-1][1].end_mark.index
        return f"{text[:at]}, {line}{text[at:]}"
    at = stage.start_mark.index  # the first key: ours goes before it, where no value's end is in doubt
    return f"{text[:at]}{line}\n{' ' * stage.start_mark.column}{text[at:]}"


def _after_line(text: str, index: int, lines: Sequence[str]) -> str:
    end = text.find("\n", index)
    end = len(text) if end < 0 else end
    return text[:end] + "".join(f"\n{line}" for line in lines) + text[end:]


def _word(text: str) -> str:
    return str(yaml.safe_dump(text, default_flow_style=True, allow_unicode=True, width=100000)).split("\n")[0]
