"""A rehearsal answers the probes as the real kernel did; what is said of that is what was recorded."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.stub_kernel import stub_boot_image, stub_kernel
from tests.guest import page
from tests.guest.answers import STOPS, Answer, Log, answers_text, differences, read_answers, read_log
from tests.guest.conformance import main
from tests.guest.probing import ask, compile_probe, in_rehearsal, refused
from tests.guest.record import UNEXPLAINED, answers_file, read_record, reason


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory as of a Nanos release; its kernel only prints a line."""
    folder = tmp_path_factory.mktemp("release")
    (folder / "kernel.img").write_bytes(stub_kernel())
    (folder / "boot.img").write_bytes(stub_boot_image())
    return folder


def compare(probe: str, rehearsal_engine: str, release: Path, folder: Path) -> dict[str, tuple[Answer, Answer | None]]:
    """The rows that differ, without those that stop the guest and fail the rehearsal."""
    program, rehearsal = compile_probe(probe, folder), in_rehearsal(300, rehearsal_engine)
    rows = differences(read_answers(answers_file(probe)), ask(program, release, rehearsal))
    stopping = [row for row, (there, _) in rows.items() if there.outcome == STOPS]
    for row in refused(program, release, rehearsal, stopping):
        del rows[row]
    # By itself glibc's popen says what posix_spawn does; that of Debian 12 says what errno was before.
    if rows.get("popen", ("", None))[1] == read_answers(answers_file("probe"))["posix_spawn"]:
        del rows["popen"]
    return rows


def test_the_first_probe_is_answered_as_by_the_kernel(rehearsal_engine: str, release: Path, tmp_path: Path) -> None:
    rows = compare("probe", rehearsal_engine, release, tmp_path)
    assert rows.keys() <= set(read_record().groups["probe"].differ), rows


def test_the_second_probe_is_answered_as_by_the_kernel(release: Path, tmp_path: Path) -> None:
    rows = compare("probe2", "none", release, tmp_path)
    assert rows.keys() <= set(read_record().groups["probe2"].differ), rows


@pytest.mark.parametrize("group", ["probe", "probe2"])
def test_every_row_that_differs_has_its_reason(group: str) -> None:
    recorded = read_record().groups[group]
    assert recorded.rows == len(read_answers(answers_file(group)))
    assert not [row for row in recorded.differ if reason(group, row) == UNEXPLAINED]


def test_the_page_has_the_table_and_the_result() -> None:
    assert page.section("table") == page.table(), "run `make docs`"
    assert page.section("conformance") == read_record().markdown()


def test_a_log_is_read_past_the_kernels_own_lines() -> None:
    log = (
        "NET: no network\nuid                        ok 0 0 0\nfork                       frame trace:\nFAIL ENOSYS \n"
    )
    answered = {"uid": Answer(outcome="ok", detail="0 0 0"), "fork": Answer(outcome="FAIL", detail="ENOSYS")}
    assert read_log(log) == Log(answers=answered, open=None, ended=False)
    stopped = read_log(log + f"{'statfs':26} cpu: 0, context type: 2\n")
    assert stopped == Log(answers=answered, open="statfs", ended=False)
    assert read_log(log + "END\n").ended


def test_answers_are_kept_whole(tmp_path: Path) -> None:
    answers = {"a": Answer(outcome="ok"), "b": Answer(outcome=STOPS, detail="the kernel faulted")}
    file = tmp_path / "answers.txt"
    file.write_text(answers_text(answers, ["Kernel: x", ""]))
    assert read_answers(file) == answers


def test_a_directory_without_a_kernel_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["conformance", str(tmp_path)])
    assert main() == 2
    assert "kernel.img" in capsys.readouterr().err
