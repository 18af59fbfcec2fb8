"""Secrets in a step's output: hidden however the output is cut into chunks."""

from __future__ import annotations

import base64
import json
import random
import subprocess
import time
from itertools import pairwise
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.base import BuildRequest
from orchestrator.engine.build import mask_of
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


@pytest.mark.parametrize("password", ["s3cr3t-word", "s%40cr%3At"])
def test_the_password_of_a_proxy_is_hidden(password: str) -> None:
    """As in a step that prints its environment; the rest of the address tells what is wrong with it."""
    address = f"http://ci:{password}@proxy.example:3128"
    arguments = {"http_proxy": address, "HTTPS_PROXY": f"ci:{password}@proxy.example", "no_proxy": "example"}
    request = BuildRequest(context=(), containerfile="C", tag="t", build_id="b", build_args=arguments)
    seen = shown([f"http_proxy={address} {unquote(password)}\n"], mask_of(request))
    assert password not in seen and unquote(password) not in seen
    assert "http://ci:***@proxy.example:3128" in seen
    open_proxy = BuildRequest(context=(), containerfile="C", tag="t", build_id="b",
                              build_args={"http_proxy": "http://proxy.example:3128"})  # fmt: skip
    assert mask_of(open_proxy).reach == 0


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


ENCODED = {
    "quote": quote(SECRET),
    "quote everything": quote(SECRET, safe=""),
    "quote_plus": quote_plus(SECRET),
    "small letters": quote(SECRET).replace("%C3%84", "%c3%84"),
    "every byte": "".join(f"%{byte:02x}" for byte in SECRET.encode()),
    "hex": SECRET.encode().hex(),
    "HEX": SECRET.encode().hex().upper(),
    "JSON": json.dumps(SECRET),
}


@pytest.mark.parametrize("form", ENCODED)
def test_encoded_forms_are_hidden(form: str) -> None:
    seen = shown([f"token={ENCODED[form]};\n"], Mask([SECRET.encode() + b"\n"]))
    assert ENCODED[form].strip('"') not in seen
    assert f"token={HIDDEN}" in seen or f'token="{HIDDEN}' in seen


@given(before=st.binary(max_size=40), after=st.binary(max_size=40), url=st.booleans())
def test_base64_is_hidden_wherever_the_secret_begins(before: bytes, after: bytes, url: bool) -> None:
    secret = SECRET.encode()
    text = (base64.urlsafe_b64encode if url else base64.b64encode)(before + secret + after).decode()
    begins, ends = len(before) * 4 // 3, -(-(len(before) + len(secret)) * 4 // 3)
    inner = text[begins:ends][2:-2]
    seen = shown([f"Authorization: Basic {text}\n"], Mask([secret]))
    assert inner not in seen
    assert HIDDEN in seen


@pytest.mark.parametrize("tool", [["base64"], ["base64", "-w", "64"], ["xxd", "-p"], ["od", "-An", "-tx1"]])
def test_what_tools_print_of_a_key_file(tool: list[str]) -> None:
    key = f"-----BEGIN KEY-----\n{random.Random(1).randbytes(900).hex()}\n-----END KEY-----\n".encode()
    try:
        printed = subprocess.run(tool, input=key, capture_output=True, check=True).stdout.decode()
    except FileNotFoundError:
        pytest.skip(f"no {tool[0]} here")
    seen = shown([printed], Mask([key]))
    left = [row for row in printed.splitlines() if len(row) > 20 and row in seen]
    # What separates its digits is beyond a mask, and README says so.
    assert bool(left) == (tool[0] == "od")


def test_a_short_secret_is_not_looked_for_in_encoded_output() -> None:
    assert Mask([b"ab"])("6162 YWI= %61%62 ab") == f"6162 YWI= {HIDDEN} {HIDDEN}"


def test_many_lines_of_a_secret_and_of_output_take_no_time() -> None:
    lines = [random.Random(number).randbytes(33).hex() for number in range(60)]
    mask = Mask(["\n".join(lines).encode(), b"x" * 400_000])
    began = time.monotonic()
    for number in range(2000):
        mask(f"   Compiling crate-{number} v0.1.0 (/build/crates/crate-{number})")
    assert time.monotonic() - began < 2
