"""What is kept of a fleet's jobs for who looks on: the last of each, bounded, and safe whatever a worker says."""

from __future__ import annotations

import json
import tracemalloc
from typing import Any

from orchestrator.web.job_board import ENDED, JobBoard


def said(event: str, **more: Any) -> str:
    return json.dumps({"version": 1, "time": 1.0, "event": event, **more})


def begin(board: JobBoard, log: str, worker: str = "w", number: int = 1) -> None:
    board.began(log, project=f"project-{log}", worker=worker, labels=("gpu",), number=number)


def outputs(lines: list[dict[str, Any]]) -> list[str]:
    return [line["text"] for line in lines if line["event"] == "step-output"]


def test_who_asks_slowly_is_told_the_last_and_that_lines_are_left_out() -> None:
    board = JobBoard()
    begin(board, "1")
    fast, slow = board.follow(), board.follow()
    assert [line["event"] for line in fast.poll()] == [line["event"] for line in slow.poll()]
    told = []
    for number in range(2000):
        board.said("1", [said("step-output", id="1", text=str(number))])
        if number % 100 == 0:
            told += outputs(fast.poll())
    assert told + outputs(fast.poll()) == [str(number) for number in range(2000)]
    late = slow.poll()
    assert late[0]["text"] == "… lines are left out here"
    assert outputs(late) == [str(number) for number in range(1600, 2000)]
    assert slow.poll() == []


def test_what_a_worker_says_is_bounded_and_harmless() -> None:
    board = JobBoard()
    begin(board, "1")
    tracemalloc.start()
    for number in range(300):
        text = f"\x1b[31m{number}\x1b]0;title\x07\u202e" + "x" * 100_000
        board.said("1", [said(event, id="1", text=text, level="note") for event in ("step-output", "notice")])
        board.said("1", [said("step-started", id=str(number), stage="s", title="t" * 1000)])
    board.said("1", ["[" * 100_000, "{", "[]", "", said("step-output", id="1", text="x" * 2_000_000)])
    board.said("1", [said("build-finished", status="built"), said("run-started", worker="x"), said("later")])
    board.said("1", ['{"event": "step-progress", "id": "1", "done": NaN, "total": Infinity}'])
    board.said("nobody's", [said("notice", text="x")])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 2_000_000
    lines = board.follow().poll()
    assert [line["event"] for line in lines[:2]] == ["build-started", "run-started"]
    assert {line["event"] for line in lines[2:]} <= {"step-output", "step-started", "step-progress", "notice"}
    assert [(line["done"], line["total"]) for line in lines if line["event"] == "step-progress"] == [(None, None)]
    text = json.dumps(lines)
    assert "\\u001b" not in text and "\\u202e" not in text.replace("\\\\u202e", "") and "title\\u" not in text


def test_a_run_that_begins_again_has_no_steps_of_the_one_before() -> None:
    board = JobBoard()
    begin(board, "1", "first")
    board.said("1", [said("step-started", id="1", stage="s", title="old"), said("step-output", id="1", text="a")])
    board.waits("1", "first was lost")
    begin(board, "1", "second", 2)
    board.said("1", [said("step-started", id="1", stage="s", title="new")])
    lines = board.follow().poll()
    assert [line.get("title") or line.get("worker") or line.get("text") for line in lines] == [
        None, "a", "second", "new",
    ]  # fmt: skip


def test_a_thousand_jobs() -> None:
    """Those that run are all there, with less of each; of those that have ended the last ones."""
    board = JobBoard()
    for number in range(1000):
        begin(board, str(number))
        board.said(str(number), [said("step-output", id="1", text=str(line)) for line in range(100)])
    follower = board.follow()
    lines = follower.poll()
    assert len({line["log"] for line in lines}) == 1000 and len(lines) <= 1000 * 12 + 4000
    for number in range(1000):
        board.ended(str(number), "failed", "x")
    begin(board, "last")
    assert {line["log"] for line in follower.poll()} == {str(number) for number in range(1000 - ENDED, 1000)} | {"last"}
    assert len({line["log"] for line in board.follow().poll()}) == ENDED + 1
