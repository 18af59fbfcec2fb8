"""`report`: which receipts it finds, what the page then holds, and that nothing in a receipt is more than text.

How the page works in a browser: tests/report/browser.py (`make test-report`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.documents import MOST_BYTES
from orchestrator.report.contents import contents_text, report_contents
from orchestrator.report.receipts import ReadReceipts, read_receipts
from orchestrator.report.render import render_page
from tests.cli.conftest import cli, here
from tests.report.history import documents, write_history
from tests.support.receipts import receipt_document

__all__ = ["here"]
NOW = datetime(2026, 11, 27, tzinfo=UTC)


class Page(HTMLParser):
    """A page as a browser's parser reads it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {}
        self._open = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self._open = tag if dict(attrs).get("type") != "application/json" else "json"
            self.inside.setdefault(self._open, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = "" if tag in ("script", "style") else self._open

    def handle_data(self, data: str) -> None:
        if self._open:
            self.inside[self._open][-1] += data

    @property
    def contents(self) -> Any:
        """The JSON document that the page holds."""
        (text,) = self.inside["json"]
        return json.loads(text, parse_constant=pytest.fail)


def write(folder: Path, document: Mapping[str, Any] | str, name: str = "x") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.receipt.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def page_of(*places: Path) -> Page:
    return Page(render_page(report_contents(read_receipts(places), NOW), None))


def built(number: int = 0, **changes: Any) -> dict[str, Any]:
    at = f"2026-01-{number + 1:02}T03:04:05+00:00"
    return receipt_document("p", f"{number:064}") | {"finished": at} | changes


def words(contents: Any, numbers: list[int]) -> list[str]:
    return [contents["texts"][number] for number in numbers]


def test_a_page_of_what_lies_below_directories(here: Path) -> None:
    write_history(here / "runs", 30, projects=3)
    ended = cli("report", "runs", "-o", "out/page.html", "--no-charts", "--json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.json() == {"report": "out/page.html", "builds": 30, "projects": 3, "unused": 0}
    page = Page(Path("out/page.html").read_text())
    contents = page.contents
    assert [build["at"] for build in contents["builds"]] == sorted(build["at"] for build in contents["builds"])
    last, _ = list(documents(30, projects=3))[-1]
    shown = contents["builds"][-1]
    assert words(contents, [shown["project"], shown["blake3"]]) == [last["name"], last["image"]["blake3"]]
    assert (shown["size"], shown["engine"]) == (last["image"]["size"], last["engine"]["kind"])
    steps = [(*words(contents, contents["steps"][step]), seconds, cached) for step, seconds, cached in shown["stages"]]
    assert steps == [(row["stage"], row["step"], row["seconds"], int(row["cached"])) for row in last["stages"]]


def test_how_a_build_differs_from_the_one_before(tmp_path: Path) -> None:
    other = [{"name": "nanos", "kind": "stub", "source": "kernel: stub", "pin": {"version": "2"}}]
    write(tmp_path / "1", built(0))
    write(tmp_path / "2", built(1, image=built(0)["image"]))
    write(tmp_path / "3", built(2, inputs=other, manifest_sha256="1" * 64))
    contents = page_of(tmp_path).contents
    changes = [build["changes"] for build in contents["builds"]]
    assert changes[:2] == [None, []]
    assert words(contents, changes[2]) == ["nanos: stub → 2", "the manifest", "the image's content"]


def test_files_and_packages_are_those_of_the_bills_beside_the_receipts(tmp_path: Path) -> None:
    write_history(tmp_path, 12, projects=1)
    contents = page_of(tmp_path).contents
    rows: set[int] = set()
    for (_, bill), build in zip(documents(12, projects=1), contents["builds"], strict=True):
        part = contents["lists"][build["list"]]
        rows = (rows if part["base"] is not None else set()) - set(part["drop"]) | set(part["add"])
        names = {contents["texts"][contents["parts"][row][1]] for row in rows}
        billed = json.loads(bill)["components"]
        assert names == {row.get("purl", row["name"]).partition("@")[0] for row in billed}
    assert len(contents["lists"]) == len({bill for _, bill in documents(12, projects=1)})
    (tmp_path / "run-0011/target/groth16-prover.sbom.cdx.json").write_text("{}")  # not the receipt's own
    assert page_of(tmp_path).contents["builds"][-1]["list"] is None


def test_copies_of_a_receipt_are_one_build(tmp_path: Path) -> None:
    for folder in ("a", "b/c", "d"):
        write(tmp_path / folder, built())
    write(tmp_path / "e", built(1))
    (tmp_path / "e/again.receipt.json").symlink_to(tmp_path / "a/x.receipt.json")
    (tmp_path / "e/round").symlink_to(tmp_path)
    builds = page_of(tmp_path, tmp_path / "a", tmp_path / "a/x.receipt.json").contents["builds"]
    assert [build["copies"] for build in builds] == [3, 1]


FIRST_RECEIPT = {
    key: value for key, value in built().items() if key not in ("warnings", "attachments")
} | {"verification": {"ok": True, "checks": []}}  # fmt: skip


def test_receipts_of_the_first_version_and_of_a_later_one_are_read(tmp_path: Path) -> None:
    write(tmp_path / "1", FIRST_RECEIPT)
    write(tmp_path / "2", built(1, later={"deep": [1, {}]}))
    without_release = {key: value for key, value in built(2).items() if key not in ("nanos_version", "ops_version")}
    write(tmp_path / "3", without_release | {"kernel": {"name": "other", "version": "9"}})
    contents = page_of(tmp_path).contents
    assert (len(contents["builds"]), contents["unread"]) == (3, [])
    assert words(contents, [build["nanos"] for build in contents["builds"]]) == ["stub", "stub", "other 9"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("", "not a receipt: is not JSON"),
        ("[]", "not a receipt: must be an object"),
        ("[" * 100_000, "not a receipt: is not JSON: recursion"),
        (built(schema=2), "not a receipt: schema: is 2, must be 1"),
        (built(finished="soon"), "not a receipt; finished: is not a time"),
        (built(finished="0001-01-01T00:00:00+23:00"), "not a receipt; finished: is not a time"),
        ("x" * (MOST_BYTES + 1), "not a receipt: is larger than"),
    ],
)  # fmt: skip
def test_a_broken_one_is_named_with_the_reason_and_ends_nothing(
    here: Path, document: dict[str, Any] | str, reason: str
) -> None:
    write(Path("good"), built())
    path = write(Path("bad"), document)
    ended = cli("report", ".", "--no-charts")
    assert (ended.code, ended.text) == (0, "report.html\n")
    assert f"note: {path}: {reason}" in ended.err
    contents = Page(Path("report.html").read_text()).contents
    assert len(contents["builds"]) == 1
    ((file, why),) = [words(contents, row) for row in contents["unread"]]
    assert file == str(path) and why.startswith(reason)


def test_what_cannot_be_opened_is_named_too(here: Path) -> None:
    os.mkfifo("pipe.receipt.json")
    Path("gone.receipt.json").symlink_to("nowhere")
    ended = cli("report", ".", "--no-charts", "--json")
    assert ended.json() == {"report": "report.html", "builds": 0, "projects": 0, "unused": 2}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["empty"], "there is no receipt below empty"),
        (["nothing"], "there is no nothing"),
        ([], "Missing argument 'DIR…'"),
    ],
)
def test_where_there_is_nothing_to_show(here: Path, arguments: list[str], message: str) -> None:
    Path("empty").mkdir()
    ended = cli("report", *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert not Path("report.html").exists()


HOSTILE = (
    "</script><script>alert(1)</script>", "<!--<script>", "]]>", "<img src=x onerror=alert(1)>", "\u202egnp.txe",
    "a\u2028b\u2029c", "\x00\x1b[31m", "\ud7ff\ufeff", "{{ 7*7 }}{% raw %}", "&lt;&amp;", "'\"`${1}", "x" * 100_000,
)  # fmt: skip


def hostile_receipt(text: str, number: float) -> dict[str, Any]:
    """A receipt that has it wherever there may be any text."""
    finding = {"severity": "warning", "code": text, "message": text, "remedy": text}
    return receipt_document(
        text, "0" * 64, path=text, orchestrator=text, nanos_version=text, ops_version=text,
        inputs=[{"name": "base", "kind": "image", "source": text, "pin": {text: text}, "note": text}],
        stages=[{"stage": text, "step": text, "seconds": number, "cached": False}],
        engine={"kind": "docker", "version": text, "builder": "classic", "private": False},
        warnings=[{"source": "build", "text": text}], stand_ins=[{"path": text, "text": text}],
        verification={"image": text, "size": 1, "ok": True, "bootable": True, "stand_ins": [],
                      "checks": [{"id": text, "title": text, "ok": True, "detail": text, "findings": [finding]}]},
        attachments=[{"kind": "sbom", "file": f"../{text}", "sha256": "0" * 64}],
        smoke={"passed": True, "reason": text, "accel": "kvm", "seconds": number, "at": text},
        rehearsal={"passed": False, "reason": text, "engine": text, "seconds": number, "peak_memory": 10**30,
                   "at": text},
        taken={"cache": text, "key": text, "signed_by": "0" * 64, "at": text},
    )  # fmt: skip


EMPTY = Page(render_page(report_contents(ReadReceipts(builds=[], unused=[]), NOW), None))
HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def assert_harmless(page: Page) -> None:
    """Its elements and its scripts are those of a page of nothing, and its texts are short and show all they hold."""
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in EMPTY.tags]
    assert {key: page.inside[key] for key in ("script", "style")} == {
        key: EMPTY.inside[key] for key in ("script", "style")
    }
    texts = page.contents["texts"]
    assert not [text for text in texts if HIDDEN.search(text)]
    assert max(map(len, texts), default=0) < 5000


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_receipt_says_is_text(tmp_path: Path, text: str) -> None:
    write(tmp_path / "1", hostile_receipt(text, 1.0))
    write(tmp_path / "2", hostile_receipt(text, 2.0) | {"finished": "2026-02-02T00:00:00Z"})
    page = page_of(tmp_path)
    assert len(page.contents["builds"]) == 2
    assert_harmless(page)


def test_numbers_that_json_has_not(tmp_path: Path) -> None:
    huge = json.dumps(built(stages=[{"stage": "a", "step": "b", "seconds": 1.0, "cached": True}]))
    for number, seconds in enumerate(("Infinity", "NaN", "1e308")):
        write(tmp_path / str(number), huge.replace("1.0", seconds).replace('"size": 1,', f'"size": {10**30},'))
    assert_harmless(page_of(tmp_path))


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
@settings(max_examples=25, deadline=None)
def test_any_text_is_text(tmp_path_factory: pytest.TempPathFactory, text: str, number: float) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(folder, hostile_receipt(text, abs(number)))
    assert_harmless(page_of(folder))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(sorted(built())), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(built())), JSON)
@settings(max_examples=60, deadline=None)
def test_any_receipt_is_shown_or_named(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    folder = tmp_path_factory.mktemp("any")
    write(folder, built() | {key: value})
    page = page_of(folder)
    assert len(page.contents["builds"]) + page.contents["unreadCount"] == 1
    assert_harmless(page)


def test_what_is_on_the_page_of_one_receipt_is_bounded(tmp_path: Path) -> None:
    for number in range(16):  # each text another one, or they would be on the page once
        steps = [{"stage": f"{number} {step}", "step": f"{number} {step} " + "y" * 900, "seconds": 1, "cached": False}
                 for step in range(3000)]  # fmt: skip
        write(tmp_path / str(number), built(number % 28, name=f"p{number}", stages=steps))
    text = contents_text(report_contents(read_receipts([tmp_path]), NOW))
    assert len(text) < 3 << 20


def test_the_page_runs_and_loads_nothing_but_what_it_holds() -> None:
    library = "window.vegaEmbed = 1;"
    page = Page(render_page(report_contents(ReadReceipts(builds=[], unused=[]), NOW), library))
    policy = next(attributes["content"] or "" for tag, attributes in page.tags
                  if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy")  # fmt: skip
    rules = {name: values for name, *values in (rule.split() for rule in policy.split("; "))}
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == ["'none'"]
    assert not {"connect-src", "frame-src", "font-src"} & set(rules)

    def hashes(texts: list[str]) -> set[str]:
        return {f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts}

    assert set(rules["script-src"]) == hashes(page.inside["script"])
    assert library in page.inside["script"] and len(page.inside["script"]) == 2
    assert set(rules["style-src"]) == hashes(page.inside["style"])
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on") or name in ("style", "src")], tag
        assert (attributes.get("href") or "data:,").startswith(("data:", "#"))


def test_every_part_of_the_page_is_named_for_those_who_hear_it() -> None:
    ids = {attributes["id"] for _, attributes in EMPTY.tags if "id" in attributes}
    assert ("html", {"lang": "en"}) in EMPTY.tags
    for tag, attributes in EMPTY.tags:
        named = attributes.get("aria-labelledby")
        if tag in ("section", "form", "nav") or attributes.get("role") == "group":
            assert named in ids or attributes.get("aria-label"), (tag, attributes)


def test_without_the_library_of_charts_the_page_has_tables(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    write(Path("good"), built())
    ended = cli("report", "good")
    assert ended.code == 0
    assert "pip install 'gevulot-orchestrator[report]'" in ended.err
    assert len(Page(Path("report.html").read_text()).inside["script"]) == 1
