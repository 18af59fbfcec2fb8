"""Patterns of an ignore file against whole paths: `**`, `*`, `?`, `[a-z]` and `[^a-z]`, in linear time.

Whoever wrote the file is not trusted with our time. A regular expression with two stars in one name tries each place
of the first with each of the second, and so on; such patterns are followed in all their places at once instead.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

Matcher = Callable[[str, int], bool]
"""Whether a path matches, or a directory above it whose own path has this many characters at least."""

_TOKEN = re.compile(r"\*\*/?|\*|\?|\\.|\[\^?(?:\\.|[^\]\\])+\]|.", re.DOTALL)


@lru_cache(maxsize=4096)
def matcher(pattern: str) -> Matcher:
    """What says of a path whether `pattern` matches it or what is above. re.error for a pattern that means nothing."""
    tokens = [token.group() for token in _TOKEN.finditer(pattern)]
    whole = re.compile("".join(_regex(tokens)), re.DOTALL)
    if _is_plain(tokens):
        return lambda path, least: any(whole.fullmatch(path, 0, end) for end in _ends(path, least))
    return _Automaton(tokens).match


def _ends(path: str, least: int) -> Iterator[int]:
    """Where `path` ends, and each directory above it."""
    end = len(path)
    while end >= max(least, 1):
        yield end
        end = path.rfind("/", 0, end)


def _is_plain(tokens: Iterable[str]) -> bool:
    """Whether a regular expression has next to nothing to try: one star a name, and one `**`."""
    deep = stars = 0
    for token in tokens:
        if token == "/":
            stars = 0
        elif token.startswith("**"):
            deep, stars = deep + 1, 0 if token.endswith("/") else stars + 1
        elif token == "*":
            stars += 1
        if stars > 1 or deep > 1:
            return False
    return True


def _regex(tokens: list[str]) -> Iterable[str]:
    for number, token in enumerate(tokens):
        if token.startswith("**"):
            yield ".*" if number == len(tokens) - 1 else "(?:.*/)?"
        elif token == "*":
            yield "[^/]*"
        elif token == "?" or token.startswith("["):
            yield _one_of(token)
        else:
            yield re.escape(token[-1])


def _one_of(token: str) -> str:
    """`?` or a class, as an expression for one character that isn't a slash."""
    if token == "[":
        raise re.error("unclosed bracket")
    return "[^/]" if token == "?" else "(?!/)" + token.replace("[[", "[\\[")


@dataclass(frozen=True)
class _State:
    """Where a match can stand: `takes` a character and goes on to the next, or stays. `skip`: also in these states."""

    takes: Callable[[str], bool] | None = None
    stays: Callable[[str], bool] | None = None
    skip: tuple[int, ...] = ()


class _Automaton:
    """A pattern as a list of states; a path is read once, with the set of all states that the match can be in."""

    def __init__(self, tokens: list[str]) -> None:
        self._states: list[_State] = []
        for number, token in enumerate(tokens):
            here = len(self._states)
            if token.startswith("**") and number == len(tokens) - 1:
                self._states.append(_State(stays=_anything, skip=(here + 1,)))
            elif token.startswith("**"):  # nothing, or anything up to a slash
                self._states.append(_State(skip=(here + 1, here + 2)))
                self._states.append(_State(stays=_anything, takes=_slash))
            elif token == "*":
                self._states.append(_State(stays=_no_slash, skip=(here + 1,)))
            else:
                self._states.append(_State(takes=_taker(token)))

    def match(self, path: str, least: int) -> bool:
        """A `Matcher`, in time proportional to the path's length times the pattern's."""
        standing = self._closed({0})
        for position, character in enumerate(path):
            if character == "/" and position >= max(least, 1) and len(self._states) in standing:
                return True
            after = set()
            for number in standing:
                state = self._states[number] if number < len(self._states) else _State()
                if state.takes is not None and state.takes(character):
                    after.add(number + 1)
                if state.stays is not None and state.stays(character):
                    after.add(number)
            if not after:
                return False
            standing = self._closed(after)
        return len(self._states) in standing

    def _closed(self, standing: set[int]) -> set[int]:
        left = list(standing)
        while left:
            number = left.pop()
            for skipped in self._states[number].skip if number < len(self._states) else ():
                if skipped not in standing:
                    standing.add(skipped)
                    left.append(skipped)
        return standing


def _taker(token: str) -> Callable[[str], bool]:
    if token == "?":
        return _no_slash
    if token.startswith("["):
        one = re.compile(_one_of(token), re.DOTALL)
        return lambda character: one.fullmatch(character) is not None
    return token[-1].__eq__


def _anything(_character: str) -> bool:
    return True


def _slash(character: str) -> bool:
    return character == "/"


def _no_slash(character: str) -> bool:
    return character != "/"
