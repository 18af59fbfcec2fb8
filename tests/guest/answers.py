"""Answers to the probes' questions: read from a log, kept in a file, compared."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

STOPS = "STOPS"
_NAMED = re.compile(r"^([a-z0-9_]{1,25} +|[a-z0-9_]{26,} )(?=\S|$)(.*)$")
_ANSWER = re.compile(r"^(ok|FAIL|SIGNAL)(?: (.*))?$")
_WIDTH = 27


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`outcome` is ok|FAIL|SIGNAL|STOPS; `detail` is the rest of the line, errno's name first for FAIL."""

    outcome: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.outcome} {self.detail}".rstrip()


Answers = Mapping[str, Answer]


@dataclass(frozen=True, kw_only=True)
class Log:
    """What one run answered; `open` is the question that it did not get an answer to, `ended` whether it came to
    its end."""

    answers: Answers
    open: str | None
    ended: bool


def read_log(text: str) -> Log:
    """A run's output. The kernel's own lines may stand between and within the program's."""
    answers: dict[str, Answer] = {}
    waiting: str | None = None
    for whole in text.splitlines():
        line = whole
        if line.strip() == "END":
            return Log(answers=answers, open=None, ended=True)
        named = _NAMED.match(line)
        if named and (len(named[1]) == _WIDTH or len(named[1].rstrip()) >= _WIDTH - 1):
            waiting = named[1].strip()
            line = named[2]
        answer = _ANSWER.match(line.strip())
        if waiting is not None and answer:
            answers[waiting] = Answer(outcome=answer[1], detail=(answer[2] or "").strip())
            waiting = None
    return Log(answers=answers, open=waiting, ended=False)


def read_answers(path: Path) -> dict[str, Answer]:
    """A file of answers: one a line, `#` begins a comment."""
    answers = {}
    for line in path.read_text().splitlines():
        if line and not line.startswith("#"):
            name, outcome, *rest = line.split(None, 2)
            answers[name] = Answer(outcome=outcome, detail=rest[0] if rest else "")
    return answers


def answers_text(answers: Answers, header: Iterable[str]) -> str:
    """The file's text."""
    lines = [f"# {line}".rstrip() for line in header]
    return "\n".join([*lines, *(f"{name:26} {answer}" for name, answer in answers.items())]) + "\n"


def differences(guest: Answers, rehearsal: Answers) -> dict[str, tuple[Answer, Answer | None]]:
    """The rows in which they don't agree; None: the rehearsal has no answer."""
    rows: dict[str, tuple[Answer, Answer | None]] = {}
    for name, answer in guest.items():
        other = rehearsal.get(name)
        same = other == answer or (other is not None and answer.outcome == other.outcome == STOPS)
        if not same:
            rows[name] = (answer, other)
    return rows
