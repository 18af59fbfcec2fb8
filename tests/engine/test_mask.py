"""Secrets in a step's output: hidden however the output is cut into chunks."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.mask import HIDDEN, MIN_LINE, Mask
from orchestrator.engine.steps import MAX_LINE, Steps
from tests.support.engines import Events

SECRET = "s3cr3t-Äpfel-0123456789"
KEY = "-----BEGIN KEY-----\nAAAABBBBCCCC\n}\nDDDDEEEEFFFF\n-----END KEY-----\n"


def shown(chunks: list[str], mask: Mask) -> str:
    """Everything that a user may see of a step that wrote `chunks` and then failed."""
    events = Events()
    steps = Steps(events, mask)
    step = steps.start("1", stage="a", title="RUN it")
    for chunk in chunks:
        steps.output("1", chunk)
    tail = step.text()
    steps.finish("1", error=f"it said {''.join(chunks)}")
    return "\n".join([tail, step.text(), step.error, *(str(event) for event in events.seen)])


@given(
    before=st.text(max_size=60),
    after=st.text(max_size=60),
    cuts=st.lists(st.integers(0, 200), max_size=6),
    pad=st.sampled_from([0, 0, MAX_LINE - 10, MAX_LINE, 2 * MAX_LINE - 5]),
)
def test_a_secret_is_hidden_however_it_is_cut(before: str, after: str, cuts: list[int], pad: int) -> None:
    text = "x" * pad + before + SECRET + after
    places = sorted({0, len(text), *(min(pad + cut, len(text)) for cut in cuts)})
    chunks = [text[start:end] for start, end in pairwise(places)]
    assert SECRET not in shown(chunks, Mask([SECRET.encode()]))


def test_colours_inside_of_a_secret_do_not_uncover_it() -> None:
    half = len(SECRET) // 2
    assert SECRET not in shown([f"{SECRET[:half]}\x1b[31m{SECRET[half:]}\n"], Mask([SECRET.encode()]))


def test_a_secret_of_several_lines_is_hidden_line_by_line() -> None:
    seen = shown([f"key:\n{KEY}"], Mask([KEY.encode()]))
    for line in KEY.splitlines():
        assert (line in seen) == (len(line) < MIN_LINE)


def test_one_secret_within_another() -> None:
    mask = Mask([b"abc", b"abcdef", b"", b"\n"])
    assert mask("abcdef abc ab") == f"{HIDDEN} {HIDDEN} ab"


@given(st.text())
def test_without_secrets_nothing_is_hidden(text: str) -> None:
    assert Mask()(text) == text
