"""Programs that an interpreter runs: the examples in Python and JavaScript, from their sources to the right answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml

from orchestrator.engine.base import Engine
from tests.build.projects import BASE
from tests.examples.conftest import EXAMPLES
from tests.support.cli import orchestrator
from tests.support.engines import RUN

ANSWERS = {
    "py-prover": "commitment 329380292712\nproof True forged False\n",
    "snarkjs-prover": "hash 13910999579284052697890294593624411851336472655073910592868740822412155649606\n"
    "proof true forged false\n",
}
PACKAGES = {"py-prover": ["python3-pip"], "snarkjs-prover": ["nodejs"]}


def copied(example: str, folder: Path) -> Path:
    """An example on the base that the tests make once: its own may be an image that nobody here can pull."""
    shutil.copytree(EXAMPLES / example, folder, ignore=shutil.ignore_patterns("*.lock"))
    document = yaml.safe_load((folder / "project.yaml").read_text())
    document["base"] = BASE
    document["build"]["packages"] = PACKAGES[example]
    (folder / "project.yaml").write_text(yaml.dump(document, sort_keys=False))
    return folder / "project.yaml"


@pytest.mark.parametrize("example", sorted(ANSWERS))
def test_an_example_is_built_and_gives_the_right_answer(
    example: str, engine: Engine, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = copied(example, tmp_path / "project")
    done = orchestrator("build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint)
    assert done.code == 0, done.stderr[-4000:]
    image = tmp_path / f"out/{example}.img"
    # The interpreter by its own path, the script and the user's own Args after it.
    said = json.loads(orchestrator("inspect", image, "manifest", "--json").stdout)
    program, *arguments = said["arguments"]
    assert said["program"] == f"/{program}"
    assert arguments == {"py-prover": ["/prove.py", "7", "11"], "snarkjs-prover": ["/prove.js", "42"]}[example]
    listed = orchestrator("inspect", image, "ls").stdout
    assert "project.yaml" not in listed
    ran = orchestrator("rehearse", image)
    assert ran.code == 0, ran.stderr
    assert ran.stdout == ANSWERS[example]
    assert "can't" not in ran.stderr  # nothing that the guest lacks
    # The same bytes on the other engine, whichever comes first in this run of the tests.
    digest = orchestrator("hash", image).stdout.split()[0]
    seen = tmp_path_factory.getbasetemp().parent / f"{example} {RUN}.digest"
    if seen.exists():
        assert seen.read_text() == digest
    seen.write_text(digest)
