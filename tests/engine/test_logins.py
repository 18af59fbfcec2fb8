"""Registry logins from the files of docker and podman."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engine.endpoints import endpoints
from orchestrator.engine.logins import Login, auth_header, config_header, find_login, registry_of


def auth(text: str) -> dict[str, str]:
    return {"auth": base64.b64encode(text.encode()).decode()}


def write(path: Path, document: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def login_of(reference: str, environ: Mapping[str, str]) -> Login | None:
    with patch.dict(os.environ, environ, clear=True):
        return find_login(reference)


def decoded(header: str) -> Any:
    return json.loads(base64.urlsafe_b64decode(header))


@pytest.mark.parametrize(
    ("reference", "registry"),
    [
        ("alpine", "docker.io"),
        ("library/alpine:3", "docker.io"),
        ("index.docker.io/library/alpine", "docker.io"),
        ("localhost/x", "localhost"),
        ("localhost:5000/x:1", "localhost:5000"),
        ("ghcr.io/a/b@sha256:00", "ghcr.io"),
    ],
)
def test_registry_of_a_reference(reference: str, registry: str) -> None:
    assert registry_of(reference) == registry


@pytest.mark.parametrize(
    ("key", "reference"),
    [
        ("ghcr.io", "ghcr.io/team/image:1"),
        ("https://ghcr.io", "ghcr.io/team/image"),
        ("https://ghcr.io/v2/", "ghcr.io/team/image@sha256:00"),
        ("ghcr.io/team", "ghcr.io/team/image:1"),
        ("ghcr.io/team/image", "ghcr.io/team/image:1"),
        ("127.0.0.1:5000", "127.0.0.1:5000/image"),
        ("https://index.docker.io/v1/", "alpine"),
        ("docker.io", "docker.io/library/alpine:3"),
    ],
)
def test_keys_of_auth_files(tmp_path: Path, key: str, reference: str) -> None:
    path = write(tmp_path / "auth.json", {"auths": {"other.example": auth("no:no"), key: auth("me:a:b")}})
    login = login_of(reference, {"REGISTRY_AUTH_FILE": str(path), "HOME": str(tmp_path)})
    assert login is not None
    assert (login.username, login.password, login.source) == ("me", "a:b", str(path))


def test_the_longest_key_counts_and_other_teams_get_nothing(tmp_path: Path) -> None:
    auths = {"r.example/a": auth("team-a:x"), "r.example/a/b": auth("image-b:x"), "q.example/a": auth("q:x")}
    path = write(tmp_path / "auth.json", {"auths": auths})
    environ = {"REGISTRY_AUTH_FILE": str(path), "HOME": str(tmp_path)}

    def user(reference: str) -> str | None:
        login = login_of(reference, environ)
        return login.username if login else None

    assert user("r.example/a/b:1") == "image-b"
    assert user("r.example/a/c") == "team-a"
    assert user("r.example/ab") is None
    assert user("q.example/other") is None


def test_files_in_podmans_order_and_broken_ones_are_passed_over(tmp_path: Path) -> None:
    environ = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path)}
    write(tmp_path / ".docker/config.json", {"auths": {"r.example": auth("docker:x")}})
    for broken in ("{broken", "[" * 100_000):
        runtime = write(tmp_path / "run/containers/auth.json", broken)
        login = login_of("r.example/x", environ)
        assert login is not None
        assert login.username == "docker"
    write(runtime, {"auths": {"r.example": auth("podman:x")}})
    login = login_of("r.example/x", environ)
    assert login is not None
    assert login.username == "podman"
    write(tmp_path / "elsewhere/config.json", {"auths": {"s.example": {"identitytoken": "t0ken"}}})
    login = login_of("s.example/x", {**environ, "DOCKER_CONFIG": str(tmp_path / "elsewhere")})
    assert login is not None
    assert (login.token, login.username) == ("t0ken", "")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["auths", "credHelpers", "r.example", "auth", "username"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(json_values)
def test_any_json_is_logins_or_none(tmp_path_factory: pytest.TempPathFactory, document: Any) -> None:
    path = write(tmp_path_factory.mktemp("auth") / "auth.json", document)
    login_of("r.example/x", {"REGISTRY_AUTH_FILE": str(path), "HOME": str(path.parent)})


def test_headers() -> None:
    login = Login(registry="r.example", source="f", username="me", password="pä/ss?>")
    hub = Login(registry="docker.io", source="f", token="t")
    assert auth_header(None) == {}
    assert decoded(auth_header(login)["X-Registry-Auth"])["password"] == "pä/ss?>"
    config = decoded(config_header({"r.example": login, "docker.io": hub})["X-Registry-Config"])
    assert config["r.example"]["username"] == "me"
    assert config["https://index.docker.io/v1/"]["identitytoken"] == "t"
    assert config_header({}) == {}
    assert "pä/ss" not in repr(login)


LOGIN = {"Username": "me", "Secret": "s3cret"}


@pytest.mark.parametrize(
    ("script", "user"),
    [
        (f"echo '{json.dumps(LOGIN)}'", "me"),
        ("echo '{}'", None),
        ("echo null", None),
        ("echo '[]'", None),
        ("echo '7'", None),
        ('echo \'{"Username": null, "Secret": null}\'', None),
        ('echo \'{"Username": "me"}\'', None),
        ('echo \'{"ServerURL": "", "Username": "", "Secret": ""}\'', None),
        ('echo \'{"Username": ["me"], "Secret": {}}\'', None),
        ('printf \'{"Username": "me", "Secret": "\\351"}\'', None),
        ("echo 'pass: gpg agent locked'", None),
        ("echo 'credentials not found in native keychain'; exit 1", None),
    ],
)
def test_what_a_credential_helper_answers(tmp_path: Path, script: str, user: str | None) -> None:
    """Whatever it is, it is a login or none; then the file's own logins count."""
    helper = tmp_path / "docker-credential-odd"
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\n{script}\n")
    helper.chmod(0o755)
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    write(tmp_path / ".docker/config.json", {"credsStore": "odd"})
    login = login_of("r.example/x", environ)
    assert (login.username if login else None) == user
    write(tmp_path / ".docker/config.json", {"credsStore": "odd", "auths": {"r.example": auth("stored:x")}})
    login = login_of("r.example/x", environ)
    assert login is not None
    assert login.username == (user or "stored")


def test_a_helper_that_cannot_be_run(tmp_path: Path) -> None:
    helper = tmp_path / "docker-credential-odd"
    helper.write_bytes(b"\x7fELF no program")
    helper.chmod(0o755)
    write(tmp_path / ".docker/config.json", {"credHelpers": {"r.example": "odd"}})
    assert login_of("r.example/x", {"PATH": str(tmp_path), "HOME": str(tmp_path)}) is None


def test_what_may_not_be_looked_at_is_not_there(tmp_path: Path) -> None:
    """Another user's directories: as /run/containers is root's where root has used Podman."""
    if os.geteuid():
        pytest.skip("needs root, to be another user than the directories' owner")
    closed = tmp_path / "closed"
    write(closed / "containers/auth.json", {"auths": {"r.example": auth("me:x")}})
    write(closed / "config.json", {"currentContext": "far"})
    closed.chmod(0o700)
    places = ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG", "COLIMA_HOME", "HOME")
    environ = {**dict.fromkeys(places, str(closed)), "REGISTRY_AUTH_FILE": str(closed / "containers/auth.json")}
    with patch.dict(os.environ, environ, clear=True):
        os.seteuid(65534)
        try:
            assert find_login("r.example/x") is None
            assert [endpoint.what for endpoint in endpoints("auto")] == ["Docker", "running Podman"]
        finally:
            os.seteuid(0)
