"""README's table of commands, and what the program has."""

from __future__ import annotations

import re
from pathlib import Path

import click

from orchestrator.cli.main import COMMANDS, cli

README = Path(__file__).resolve().parents[2] / "README.md"


def rows() -> list[str]:
    """The first cell of each row, as README has it."""
    table = README.read_text().partition("\n## Commands\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?) \| ", table.replace(r"\|", "¦"), re.MULTILINE)
    assert cells
    return cells


def find(words: list[str]) -> click.Command:
    command: click.Command = cli
    for word in words:
        context = click.Context(command)
        inner = command.get_command(context, word) if isinstance(command, click.Group) else None
        if inner is None:
            break
        command = inner
    assert command is not cli, words
    return command


def test_readme_has_every_command_and_no_other_options() -> None:
    named = set()
    for text in re.findall("`([^`]+)`", " ".join(rows())):
        command = find(re.findall(r"[a-z-]+", text.partition("[")[0]))
        named.add(text.split()[0])
        known = {option for parameter in command.params for option in parameter.opts}
        asked = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", text))
        assert asked <= known, text
    assert named == set(COMMANDS)
