"""What the page says of the sources that the matrix's cells ran on."""

from __future__ import annotations

from tests.engines.record import ran_on

ROOT, ROOTLESS = "Docker 26.1.5, root, socket", "Docker 26.1.5, rootless, socket"


def test_cells_of_one_state_are_said_in_one_sentence() -> None:
    cells = {(ROOT, "build"): "677b4833", (ROOTLESS, "build"): "677b4833"}
    assert [*ran_on(cells)] == ["All 2 cells ran on the sources of one commit: 677b4833."]


def test_cells_of_another_state_are_named() -> None:
    cells = {(ROOT, "kill"): "1c2d3e4f", (ROOT, "build"): "677b4833", (ROOTLESS, "build"): "677b4833"}
    assert [line for line in ran_on(cells) if line] == [
        "2 of these 3 cells ran on the sources of one commit: 677b4833.",
        "On 1c2d3e4f:",
        f"- {ROOT}: kill",
    ]
