"""Engines' texts and the reasons that are told.

The texts are those of Docker 20.10, BuildKit and Podman 4.3: seen on real engines where a test machine can have
the failure (no network, no registry, wrong names), else as their sources write them.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.engine.reasons import image_error

RECORDED = [
    line.split("\t")
    for line in (Path(__file__).parent / "recordings/image-errors.tsv").read_text(encoding="utf-8").splitlines()
]
"""Reference, part of the reason, the engine's text."""


@pytest.mark.parametrize(("reference", "reason", "text"), RECORDED)
def test_recorded_texts(reference: str, reason: str, text: str) -> None:
    error = image_error(reference, text)
    assert reason in error.reason
    assert error.message == f"failed to pull {reference}: {error.reason}"
    assert error.remedy
    assert error.detail == text


REFUSED = [
    'Get "http://{host}/v2/": dial tcp 127.0.0.1:4290: connect: connection refused',
    "initializing source docker://{reference}: pinging container registry {host}: "
    'Get "https://{host}/v2/": dial tcp [::1]:4043: connect: connection refused',
    "failed to resolve source metadata for {reference}: dial tcp 10.4.0.3:401: connect: connection refused",
]


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize(
    "reference",
    [
        "r.example/toomanyrequests/x509:429",
        "r.example/x:1429abc",
        "r.example/unauthorized:denied",
        "certificate.example/manifest-unknown:404",
        "eof.example:4290/no-such-host:timeout",
        "r.example/x@sha256:" + "0429" * 16,
    ],
)
def test_a_name_is_no_reason(reference: str, text: str) -> None:
    host = reference.partition("/")[0]
    assert "refuses connections" in image_error(reference, text.format(reference=reference, host=host)).reason


@pytest.mark.parametrize("text", REFUSED)
@pytest.mark.parametrize("reference", ["localhost/base:429", "localhost/orchestrator/base:4290abc", "localhost/x"])
def test_an_image_of_this_machine_that_is_not_there(reference: str, text: str) -> None:
    error = image_error(reference, text.format(reference=reference, host="localhost"))
    assert "the engine has no such image" in error.reason
    assert "mirror" not in error.remedy and "log in" not in error.remedy


def test_what_is_not_known_is_passed_on() -> None:
    error = image_error("r.example/x:1", "the moon is in the wrong house (1429)")
    assert error.message.endswith("the moon is in the wrong house (1429)")
