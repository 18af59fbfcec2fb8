"""Which caches of registries are taken, and what is said of the others; the builds are in test_registry."""

from __future__ import annotations

import pytest

from orchestrator.cli.parameters import cache_reference
from orchestrator.engine.base import BuildRequest
from orchestrator.engine.registry_cache import require_cache
from orchestrator.errors import EngineError, UsageError

IMAGE = "registry.example:5000/team/cache"


@pytest.mark.parametrize("value", [f"{IMAGE}:main", f"type=registry,ref={IMAGE}:main"])
def test_a_cache_is_an_image(value: str) -> None:
    assert cache_reference("--cache-from", value) == f"{IMAGE}:main"


@pytest.mark.parametrize("value", ["type=local,dest=cache", "type=gha", "type=registry", f"type=inline,ref={IMAGE}"])
def test_other_kinds_are_refused(value: str) -> None:
    with pytest.raises(UsageError, match="caches in registries only") as caught:
        cache_reference("--cache-to", value)
    assert f"--cache-to {value}: " in caught.value.message


@pytest.mark.parametrize(
    ("wanted", "able", "said"),
    [
        ({"cache_from": (IMAGE,)}, False, "takes no cache from a registry"),
        ({"cache_from": (IMAGE, f"{IMAGE}2")}, True, "from one repository"),
        ({"cache_to": f"{IMAGE}:main"}, True, "names the tags in it itself"),
        ({"cache_from": (IMAGE,), "cache_to": IMAGE}, True, None),
        ({}, False, None),
    ],
)
def test_what_podman_is_not_asked_for(wanted: dict[str, object], able: bool, said: str | None) -> None:
    request = BuildRequest(context=(), containerfile="", tag="", build_id="", **wanted)  # type: ignore[arg-type]
    if said is None:
        require_cache(request, able=able, single=True, engine="Podman 4.2")
        return
    with pytest.raises(EngineError, match=said) as caught:
        require_cache(request, able=able, single=True, engine="Podman 4.2")
    assert caught.value.remedy
