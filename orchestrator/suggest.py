"""The nearest right name for a misspelt one, and the words around it."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher

# Below this a suggestion misleads more than it helps ("tags" for "args"); found by trying the real key names.
CLOSE_ENOUGH = 0.66


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `word`, case and `-`/`_` apart; None when none is close.

    Of equally near candidates the first in alphabetical order is taken, so that messages are stable.
    """
    if not word or len(word) > 200:  # difflib is quadratic; no key of ours is near that long
        return None
    folded = _fold(word)
    best: tuple[float, str] | None = None
    for candidate in sorted(set(candidates)):
        score = SequenceMatcher(None, folded, _fold(candidate), autojunk=False).ratio()
        if score >= CLOSE_ENOUGH and (best is None or score > best[0]):
            best = (score, candidate)
    return best[1] if best else None


def is_slip(word: str, right: str) -> bool:
    """Whether `word` is `right` but for case, `-`/`_` or one letter: no other meaning needs to be looked for."""
    word, right = _fold(word), _fold(right)
    if abs(len(word) - len(right)) > 1:
        return False
    start = next((i for i, (a, b) in enumerate(zip(word, right, strict=False)) if a != b), min(len(word), len(right)))
    rest, other = word[start:], right[start:]
    return rest in (other, other[1:]) or other == rest[1:] or rest[1:] == other[1:] or _swapped(rest, other)


def _swapped(word: str, right: str) -> bool:
    return word[:2] == right[1::-1] and word[2:] == right[2:]


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """A remedy: "did you mean `program`?", or else the known names (all of up to 16, otherwise "")."""
    names = sorted(set(candidates))
    close = nearest(word, names)
    if close is not None:
        return f"did you mean `{close}`?"
    return f"known here: {', '.join(names)}" if 0 < len(names) <= 16 else ""


def shown(value: object, limit: int = 60) -> str:
    """A value from outside on one line, control characters escaped, cut to `limit` characters."""
    text = value if isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _fold(word: str) -> str:
    return word.lower().replace("_", "-")
