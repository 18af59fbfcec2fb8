"""The statement: SLSA's fields, every input by its pin, nothing secret, the same bytes but for the times."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestrator.project.build_step import Build
from orchestrator.project.project import Project
from orchestrator.provenance.statement import (
    PUBLISHED,
    PUBLISHED_OF_BUILD,
    WITHHELD,
    Times,
    make_statement,
    statement_text,
)
from orchestrator.receipt.receipt import Attachment
from orchestrator.receipt.record import FinishedBuild

NOON = datetime(2025, 1, 2, 12, 0, tzinfo=UTC)
TIMES = Times(started=NOON, finished=NOON + timedelta(seconds=90))


def document(built: FinishedBuild, times: Times = TIMES) -> Any:
    return json.loads(statement_text(make_statement(built, times)))


def test_subject_is_the_image(built: FinishedBuild) -> None:
    statement = document(built)
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://slsa.dev/provenance/v1"
    digest = {"sha256": built.digests.sha256, "blake3": built.digests.blake3}
    assert statement["subject"] == [{"name": "prog.img", "digest": digest}]


def test_every_input_is_a_dependency_by_its_pin(built: FinishedBuild) -> None:
    dependencies = {row["name"]: row for row in document(built)["predicate"]["buildDefinition"]["resolvedDependencies"]}
    assert set(dependencies) == {resolved.name for resolved in built.inputs}
    assert dependencies["gevulot"]["uri"] == "git+https://example.org/gevulot"
    assert dependencies["gevulot"]["digest"] == {"gitCommit": "2" * 40}
    assert dependencies["base"]["uri"] == "docker://debian:bookworm"
    assert dependencies["base"]["digest"] == {"sha256": "3" * 64}
    assert dependencies["nanos"]["digest"] == {"gevulotTreeSha256": "1" * 64}
    assert dependencies["gevulot-base"]["digest"] == {"sha256": "4" * 64}
    assert dependencies["gevulot-base"]["annotations"]["packages"] == ["libc6=2.36"]


def test_parameters_say_what_was_asked_for(built: FinishedBuild) -> None:
    definition = document(built)["predicate"]["buildDefinition"]
    asked = definition["externalParameters"]
    assert asked["resources"] == {"cpus": 3, "memory": 640, "gpus": 0}
    assert asked["runtime"] == "local"
    assert asked["packer"] == "native"
    assert asked["build"]["secrets"] == ["git-token"]
    assert asked["gevulot"]["git"].startswith("https://example.org/gevulot")
    assert definition["internalParameters"]["engine"]["kind"] == "podman"
    assert definition["internalParameters"]["standIns"] == [{"path": "/shim.so", "text": "no shim"}]


def test_nothing_secret_is_in_it(built: FinishedBuild) -> None:
    text = json.dumps(document(built))
    for word in ("hunter2", "HUNTER2", "proxy.example", "mirror.example", "a day old"):
        assert word not in text


def test_the_users_step_is_told_apart_all_the_same(built: FinishedBuild) -> None:
    project = built.project
    changed = project.model_copy(update={"build": project.build.model_copy(update={"run": "true\n"})})
    runs = [
        document(replace(built, project=variant))["predicate"]["buildDefinition"]["externalParameters"]["build"]["run"]
        for variant in (project, changed)
    ]
    assert runs[0] != runs[1]


def test_every_key_of_a_project_is_published_or_withheld_on_purpose() -> None:
    """A new key in project.yaml is decided on here: does it belong in a document for strangers?"""
    assert set(Project.model_fields) == PUBLISHED | WITHHELD
    assert set(Build.model_fields) <= PUBLISHED_OF_BUILD


def test_only_the_times_change(built: FinishedBuild) -> None:
    later = Times(started=NOON + timedelta(days=1), finished=NOON + timedelta(days=1, seconds=1))
    one, again, other = document(built), document(built), document(built, later)
    assert one == again
    metadata = one["predicate"]["runDetails"].pop("metadata"), other["predicate"]["runDetails"].pop("metadata")
    assert one == other
    assert metadata[0]["startedOn"] == "2025-01-02T12:00:00Z"
    assert metadata[0]["finishedOn"] == "2025-01-02T12:01:30Z"
    assert metadata[0]["invocationId"] != metadata[1]["invocationId"]


@pytest.mark.parametrize("hours", [-5, 0, 9])
def test_times_are_in_utc(built: FinishedBuild, hours: int) -> None:
    from datetime import timezone

    local = NOON.astimezone(timezone(timedelta(hours=hours)))
    assert document(built, Times(started=local, finished=local)) == document(built, Times(started=NOON, finished=NOON))


def test_what_lies_beside_is_named(built: FinishedBuild) -> None:
    sbom = Attachment(kind="sbom", file="prog.sbom.cdx.json", sha256="6" * 64)
    details = json.loads(statement_text(make_statement(built, TIMES, (sbom,))))["predicate"]["runDetails"]
    assert details["byproducts"] == [{"name": "prog.sbom.cdx.json", "digest": {"sha256": "6" * 64}}]
