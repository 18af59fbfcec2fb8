"""The likely cause of a difference between two versions of a file, as far as their bytes say. Pure.

What both versions agree in is left aside: of each text in one only, the other's counterpart is the text that becomes
the same once times (or paths, or marks of a language) are masked. What no mask explains is for an experiment to say:
see `build/rebuilds.py`.
"""

from __future__ import annotations

import calendar
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Final, Literal

Kind = Literal[
    "time stamp", "build path", "locale", "parallelism", "map order", "random numbers", "umask", "engine", "package",
    "input", "packer", "unknown",
]  # fmt: skip

MOST_BYTES: Final = 64 * 1024 * 1024
"""Of each version: what is looked at."""
_SHOWN: Final = 60
_NEAR: Final = timedelta(days=2)  # a zone is up to 14 hours from UTC, and a build may take a while
_MOST_RUNS: Final = 1000
_BLOCK: Final = 4096
_MOST_TEXTS: Final = 50
_UTF8: Final = rb"(?:[\t\x20-\x7e]|[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3})"
_TEXT: Final = re.compile(_UTF8 + rb"{4,}")
_BUILD_ID: Final = re.compile(rb"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0.{20}", re.DOTALL)
_MONTH: Final = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*"
_CLOCK: Final = r"\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?(?: ?[AP]M)?"
_ZONE: Final = r"(?: ?(?:Z|UTC|GMT|[+-]\d{2}:?\d{2}))?"
_TIME: Final = re.compile(
    rf"(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,? +)?"
    rf"(?:\d{{4}}-\d{{2}}-\d{{2}}|{_MONTH} +\d{{1,2}}(?:,? +\d{{4}})?|\d{{1,2}}[ -]{_MONTH}[ -]\d{{4}})"
    rf"(?:[T, ]+{_CLOCK})?{_ZONE}(?: +\d{{4}})?|{_CLOCK}{_ZONE}|(?<!\d)\d{{10,19}}(?!\d)"
)
_DATES: Final = ("%Y-%m-%d", "%b %d %Y", "%d %b %Y")
_PATH: Final = re.compile(r"(?<![\w/])/[\w.+@%=,~-]+(?:/[\w.+@%=,~-]+)+/?")
_QUOTES: Final = str.maketrans(dict.fromkeys('\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb\u00b4`"', "'"))
_FOREIGN: Final = re.compile(r"(?:[^\x00-\x7f]|\?|\\[0-7]{3}|\\x[0-9a-f]{2}|\\u[0-9a-f]{4})+")


@dataclass(frozen=True, kw_only=True)
class Cause:
    """What made a file differ; `evidence` is what shows it, for people (may be empty)."""

    kind: Kind
    evidence: str = ""


def cause_of(one: bytes, other: bytes, built: Sequence[datetime]) -> Cause | None:
    """What the bytes of two versions say by themselves; None when they don't. `built`: about when each was made."""
    if one[:2] == other[:2] == b"\x1f\x8b":
        head = _stamp(one[:10], other[:10], built)
        return head or cause_of(_unzipped(one), _unzipped(other), built)
    one, other = _looked_at(one), _looked_at(other)
    mine, theirs = _only_in(one, other), _only_in(other, one)
    for kind, mask in _masks(built):
        for text, counterpart in _pairs(mine, theirs, mask):
            return Cause(kind=kind, evidence=f"{_quoted(text)} / {_quoted(counterpart)}")
    if collated := _collated(one, other):
        return collated
    return _stamp(one, other, built)


def cause_of_names(one: Sequence[str], other: Sequence[str], built: Sequence[datetime]) -> Cause | None:
    """What names say that only one version of a directory has each, without the directories above them."""
    mine, theirs = ("\n".join(names) for names in (one, other))
    cause = cause_of(mine.encode(), theirs.encode(), built)
    if cause is None and one and len(one) == len(other):
        return Cause(kind="random numbers", evidence=f"in names: {_quoted(one[0])} / {_quoted(other[0])}")
    return cause


def is_reordered(one: bytes, other: bytes) -> bool:
    """Whether two versions hold the same words in another order, but for a few that one of them has alone."""
    mine, theirs = _words(_looked_at(one)), _words(_looked_at(other))
    common = Counter(mine) & Counter(theirs)
    alone = len(mine) + len(theirs) - 2 * common.total()
    pairs = zip(_only(common, mine), _only(common, theirs), strict=True)
    return sum(word != counterpart for word, counterpart in pairs) > 2 * alone


def _only(common: Counter[bytes], words: list[bytes]) -> list[bytes]:
    """The words that both have, in the order of this one."""
    left, kept = Counter(common), []
    for word in words:
        if left[word] > 0:
            left[word] -= 1
            kept.append(word)
    return kept


def _words(data: bytes) -> list[bytes]:
    """Of a text all words; of anything else those within what can be read."""
    return re.findall(rb"[\w.-]+", data if _is_text(data) else b"\n".join(_TEXT.findall(data)))


def first_texts(one: bytes, other: bytes) -> str:
    """A text that each version has and the other has not, the two that are most alike; "" where there are none."""
    mine, theirs = _only_in(_looked_at(one), _looked_at(other)), _only_in(_looked_at(other), _looked_at(one))
    for text in mine[:_MOST_TEXTS]:
        if near := get_close_matches(text[:_SHOWN], theirs[:_MOST_TEXTS], n=1):
            return f"{_quoted(text)} / {_quoted(near[0])}"
    return ""


def _looked_at(data: bytes) -> bytes:
    """What of a version is compared. A build id is a hash: it follows from the rest."""
    return _BUILD_ID.sub(b"", data[:MOST_BYTES])


def _is_text(data: bytes) -> bool:
    return b"\0" not in data[:8000]


def _texts(data: bytes) -> list[bytes]:
    return data.split(b"\n") if _is_text(data) else _TEXT.findall(data)


def _only_in(one: bytes, other: bytes) -> list[str]:
    """Texts that `one` has (more often), in their order."""
    texts = _texts(one)
    more = Counter(texts) - Counter(_texts(other))
    alone = []
    for text in texts:
        if more[text] > 0:
            more[text] -= 1
            alone.append(text.decode("utf-8", "replace"))
    return alone


Mask = Callable[[str], str]


def _masks(built: Sequence[datetime]) -> Iterator[tuple[Kind, Mask]]:
    yield "time stamp", lambda text: _TIME.sub(lambda time: "\0T" if _is_near(time[0], built) else time[0], text)
    yield "build path", lambda text: _PATH.sub("\0P", text)
    yield "locale", _without_language
    # A time that is of no build: the same moment told in two zones.
    yield "locale", lambda text: _TIME.sub(lambda time: time[0] if time[0].isdigit() else "\0T", text)


def _pairs(mine: list[str], theirs: list[str], mask: Mask) -> Iterator[tuple[str, str]]:
    """Texts of both sides that `mask` makes the same."""
    counterparts: dict[str, list[str]] = {}
    for text in theirs:
        counterparts.setdefault(mask(text), []).append(text)
    for text in mine:
        if same := counterparts.get(mask(text)):
            yield text, same[0]


def _without_language(text: str) -> str:
    """Without what a locale decides: quotes, decimal marks, marks between thousands, letters beyond ASCII."""
    text = re.sub(r"(?<=\d)[\u00a0\u202f ](?=\d{3}(?!\d))", "", text.translate(_QUOTES))
    return _FOREIGN.sub("?", re.sub(r"(?<=\d)[.,'](?=\d)", "", text))


def _is_near(text: str, built: Sequence[datetime]) -> bool:
    """Whether a text that looks like a time may be the time of a build. A clock's time without a day may always be."""
    when = _moment(text)
    return when is None or any(abs(when - moment) < _NEAR for moment in built)


def _moment(text: str) -> datetime | None:
    """The day of a date, or the moment of a number of seconds (or ms, µs, ns) since 1970; None for a clock's time."""
    if text.isdigit():
        number = int(text) / 10 ** (len(text) - 10)
        # tar writes octal digits.
        octal = int(text, 8) if len(text) == 11 and not set(text) & {"8", "9"} else None
        return datetime.fromtimestamp(octal if octal is not None else number, UTC)
    year = re.search(r"\d{4}-\d{2}-\d{2}|(?<!\d)\d{4}(?![\d:])", text)
    day = re.search(rf"{_MONTH} +\d{{1,2}}|\d{{1,2}}[ -]{_MONTH}", text)
    spelled = year[0] if year and "-" in year[0] else f"{day[0]} {year[0]}" if day and year else ""
    spelled = re.sub(rf"({_MONTH})", lambda month: month[0][:3], spelled).replace("-", " " if day else "-")
    for form in _DATES:
        try:
            return datetime.strptime(re.sub(r" +", " ", spelled), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _collated(one: bytes, other: bytes) -> Cause | None:
    """The same lines, sorted by bytes in one and as a language sorts in the other."""
    if not (_is_text(one) and _is_text(other)):
        return None
    mine, theirs = (data.decode("utf-8", "replace").strip("\n").split("\n") for data in (one, other))
    if len(mine) < 3 or Counter(mine) != Counter(theirs) or mine == theirs:
        return None
    for by_bytes, by_language in ((mine, theirs), (theirs, mine)):
        if by_bytes == sorted(by_bytes) and [*map(_key, by_language)] == sorted(map(_key, by_language)):
            return Cause(kind="locale", evidence="sorted by bytes in one, as a language sorts in the other")
    return None


def _key(line: str) -> str:
    return re.sub(r"[\W_]", "", line).casefold()


def _stamp(one: bytes, other: bytes, built: Sequence[datetime]) -> Cause | None:
    """A binary time: seconds since 1970 in four or eight bytes, where two versions of one length differ."""
    if len(one) != len(other):
        return None
    for at in _differing(one, other):
        for start in range(max(0, at - 7), at + 1):
            for form, size in (("<I", 4), (">I", 4), ("<Q", 8), (">Q", 8)):
                if start + size > len(one) or start + size <= at:
                    continue
                moments = [struct.unpack_from(form, data, start)[0] for data in (one, other)]
                if all(_is_stamp(moment, built) for moment in moments):
                    shown = " / ".join(f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M:%S}" for moment in moments)
                    return Cause(kind="time stamp", evidence=f"{shown}, as a number of seconds at byte {start}")
    return None


def _is_stamp(seconds: int, built: Sequence[datetime]) -> bool:
    return any(abs(seconds - calendar.timegm(moment.timetuple())) < _NEAR.total_seconds() for moment in built)


def _differing(one: bytes, other: bytes) -> Iterator[int]:
    """Where runs of differing bytes begin, the first ones."""
    runs, before = 0, -2
    for block in range(0, len(one), _BLOCK):
        if one[block : block + _BLOCK] == other[block : block + _BLOCK]:
            continue
        for at in range(block, min(block + _BLOCK, len(one))):
            if one[at] == other[at]:
                continue
            if at != before + 1:
                yield at
                runs += 1
            if runs == _MOST_RUNS:
                return
            before = at


def _unzipped(data: bytes) -> bytes:
    try:
        return zlib.decompressobj(31).decompress(data, MOST_BYTES)
    except zlib.error:
        return b""


def _quoted(text: str) -> str:
    text = text.strip()
    return f'"{text[:_SHOWN]}…"' if len(text) > _SHOWN else f'"{text}"'
