"""What a command loads before it works: a time limit would fail on a busy machine, a list of modules does not."""

from __future__ import annotations

import sys

import pytest

from orchestrator.cli.main import COMMANDS
from tests.support.cli import ROOT, imported_by

HELP = {"click"}
CHECK = HELP | {
    "annotated_types", "cython_runtime", "platformdirs", "pydantic", "pydantic_core", "typing_extensions",
    "typing_inspection", "yaml",
}  # fmt: skip
"""Libraries. What `check` takes longest for is pydantic, which validates project.yaml."""


def libraries(modules: set[str]) -> set[str]:
    names = {name.partition(".")[0] for name in modules}
    return {name for name in names - sys.stdlib_module_names - {"orchestrator"} if not name.startswith("_")}


def packages(modules: set[str]) -> set[str]:
    """Our own packages and modules in packages: the ground is light, and left out."""
    ours = {name.removeprefix("orchestrator.") for name in modules if name.startswith("orchestrator.")}
    return {name for name in ours if "." in name}


def test_help_loads_click_and_nothing_else() -> None:
    loaded = imported_by("--help")
    assert "orchestrator.cli.host_commands" in loaded
    assert libraries(loaded) == HELP
    assert {name.partition(".")[0] for name in packages(loaded)} == {"cli", "scaffold"}


def test_check_loads_what_reads_a_project_and_nothing_that_builds_one() -> None:
    loaded = imported_by("check", ROOT / "examples" / "hello")
    assert libraries(loaded) <= CHECK
    reading = ("cli.", "scaffold.", "project.", "nanos.manifest.")
    others = {name for name in packages(loaded) if not f"{name}.".startswith(reading)}
    assert others == {
        "build.check", "containerfile.ignore", "containerfile.wildcards", "nanos.kind", "nanos.settings",
        "run.guest_runner",
    }  # fmt: skip
    assert {name for name in packages(loaded) if name.endswith("_commands")} == {"cli.build_commands"}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_commands_help_loads_that_command_and_no_library(command: str) -> None:
    loaded = imported_by(command, "--help")
    assert libraries(loaded) == HELP
    assert {
        name for name in packages(loaded) if name.startswith("cli.") and name.endswith(("_commands", "_command"))
    } == {f"cli.{COMMANDS[command]}"}
