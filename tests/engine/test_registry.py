"""Pulls and bases from a registry that wants a login: a real one, on both engines."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.engine.base import Engine
from orchestrator.engine.docker_api import Api
from orchestrator.engine.select import connect
from orchestrator.errors import InputError
from orchestrator.events import ignore
from tests.support import engines
from tests.support.engines import request
from tests.support.registry import PASSWORD, USER, Registry, registry

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One registry for all tests here."""
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture(scope="module", params=["docker", "podman"])
def puller(
    request: pytest.FixtureRequest, server: Registry, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """An engine that talks to the registry without TLS: Docker does on loopback, Podman has to be told."""
    conf = tmp_path_factory.mktemp("conf") / "registries.conf"
    conf.write_text(f'[[registry]]\nlocation = "{server.host}"\ninsecure = true\n')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_REGISTRIES_CONF", str(conf))
        with engines.docker_engine() if request.param == "docker" else engines.podman_engine() as engine:
            yield engine


@pytest.fixture(autouse=True)
def no_logins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """None of the user's own; set after the engine started, so that only we know those of the tests."""
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def reference(server: Registry, puller: Engine) -> Iterator[str]:
    """An image that is in the registry and not in the engine."""
    name = f"team/image-{secrets.token_hex(4)}"
    server.push(name, "1", {"hello": secrets.token_bytes(16)}, parent=engines._base_tar())
    yield f"{server.host}/{name}:1"
    for leftover in puller.leftovers():
        if leftover.build_id.startswith("test-registry-"):
            puller.remove(leftover)


def push_again(server: Registry, reference: str) -> str:
    name = reference.removeprefix(f"{server.host}/").rpartition(":")[0]
    return server.push(name, "1", {"moved": secrets.token_bytes(16)})


@pytest.mark.parametrize("place", [".docker/config.json", ".config/containers/auth.json"])
def test_pull_with_a_login(puller: Engine, server: Registry, reference: str, tmp_path: Path, place: str) -> None:
    server.auth_file(tmp_path / place)
    digest = puller.pull(reference, ignore)
    assert digest.startswith("sha256:")
    assert puller.image_digest(reference) == digest


def test_a_moved_tag_gives_the_new_digest(puller: Engine, server: Registry, reference: str, tmp_path: Path) -> None:
    server.auth_file(tmp_path / ".docker/config.json")
    first = puller.pull(reference, ignore)
    moved = push_again(server, reference)
    assert moved != first
    assert puller.pull(reference, ignore) == moved
    assert puller.image_digest(reference) == moved


def test_a_digest_can_be_pulled(puller: Engine, server: Registry, reference: str, tmp_path: Path) -> None:
    """What a lock names, also after the tag has moved."""
    server.auth_file(tmp_path / ".docker/config.json")
    moved = push_again(server, reference)
    pinned = f"{reference.rpartition(':')[0]}@{moved}"
    assert puller.pull(pinned, ignore) == moved
    assert puller.image_digest(pinned) == moved


def test_layers_go_to_a_registry_and_come_from_there(puller: Engine, server: Registry, tmp_path: Path) -> None:
    """As on a build runner that is new each time: what this engine has of the step is removed in between."""
    server.auth_file(tmp_path / ".docker/config.json")
    marker = secrets.token_hex(8)
    repository = f"{server.host}/team/cache"

    def made(word: str, **cache: Any) -> tuple[str, bool]:
        events = engines.Events()
        text = f"FROM {engines.ensure_base(puller)}\nRUN echo {word} {marker} && date +%s%N >/made\n"
        wanted = request(text, "test-registry-cache")
        image = puller.build(replace(wanted, **cache), events)
        with puller.open_archive(image, "/made", wanted.build_id) as stream:
            content = stream.read().decode(errors="replace")
        forget_step(puller, image, marker)
        return content[512:540], events.finish(marker).cached

    first, _ = made("one", cache_to=repository)
    second, cached = made("one", cache_from=(repository,))
    assert (second, cached) == (first, True)
    # One that isn't there is no reason to fail.
    _, cached = made("other", cache_from=(f"{server.host}/team/nothing",))
    assert not cached


def forget_step(engine: Engine, image: str, marker: str) -> None:
    """Remove an image, and the engine's own cache of its step."""
    api: Api = engine._api  # type: ignore[attr-defined]
    api.json("DELETE", f"/images/{image}", params={"force": True})
    if engine.capabilities.buildkit:
        records = api.json("GET", "/system/df")["BuildCache"]
        for record in records:
            if marker in record["Description"]:
                filters = json.dumps({"id": [record["ID"]]})
                api.json("POST", "/build/prune", params={"all": True, "filters": filters})


def test_a_wrong_login_says_where_it_is_from(puller: Engine, server: Registry, reference: str, tmp_path: Path) -> None:
    path = server.auth_file(tmp_path / ".docker/config.json", password="wrong-canary")
    with pytest.raises(InputError) as caught:
        puller.pull(reference, ignore)
    assert f"refuses the login that {path} has" in caught.value.message
    assert f"podman login {server.host}" in caught.value.remedy
    assert "wrong-canary" not in f"{caught.value} {caught.value.detail}"


def test_no_login_says_that_one_may_be_needed(puller: Engine, reference: str) -> None:
    with pytest.raises(InputError) as caught:
        puller.pull(reference, ignore)
    assert "it needs a login" in caught.value.message
    assert "podman login" in caught.value.remedy


def test_an_unknown_tag(puller: Engine, server: Registry, reference: str, tmp_path: Path) -> None:
    server.auth_file(tmp_path / ".docker/config.json")
    with pytest.raises(InputError) as caught:
        puller.pull(f"{reference.rpartition(':')[0]}:gone", ignore)
    assert "no such image or tag" in caught.value.message


def test_a_credential_helper(
    puller: Engine, server: Registry, reference: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    helper = tmp_path / "docker-credential-canned"
    said = json.dumps({"ServerURL": server.host, "Username": USER, "Secret": PASSWORD})
    helper.write_text(f'#!/bin/sh\nread -r asked\n[ "$1 $asked" = "get {server.host}" ] || exit 1\necho \'{said}\'\n')
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    config = tmp_path / ".docker" / "config.json"
    config.parent.mkdir()
    config.write_text(json.dumps({"auths": {server.host: {}}, "credsStore": "canned"}))
    assert puller.pull(reference, ignore).startswith("sha256:")


def test_a_base_from_a_registry_with_a_login(puller: Engine, server: Registry, reference: str, tmp_path: Path) -> None:
    """FROM, pulled by the build itself: BuildKit asks for the login over the session, Podman is given it."""
    identity = f"test-registry-{secrets.token_hex(4)}"

    def build() -> str:
        asked = request(f"FROM {reference}\nRUN cat /hello > /copy\n", identity)
        return puller.build(replace(asked, images=(reference,)), ignore)

    with pytest.raises(InputError) as caught:
        build()
    assert reference in caught.value.message
    assert "login" in caught.value.message
    server.auth_file(tmp_path / ".docker/config.json", password="wrong-canary")
    with pytest.raises(InputError, match="login"):
        build()
    server.auth_file(tmp_path / ".docker/config.json")
    assert build().startswith("sha256:")


def test_the_classic_builder_has_the_login_too(
    server: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"team/image-{secrets.token_hex(4)}"
    server.push(name, "1", {"hello": b"x"}, parent=engines._base_tar())
    reference, identity = f"{server.host}/{name}:1", f"test-registry-{secrets.token_hex(4)}"
    server.auth_file(tmp_path / ".docker/config.json")
    with engines.docker_engine() as docker:
        monkeypatch.setenv("DOCKER_BUILDKIT", "0")
        classic = connect(docker.info.endpoint)
        asked = replace(request(f"FROM {reference}\nRUN cat /hello\n", identity), images=(reference,))
        assert classic.build(asked, ignore).startswith("sha256:")
        for leftover in classic.leftovers():
            if leftover.build_id == identity:
                classic.remove(leftover)
        classic.close()
