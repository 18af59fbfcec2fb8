from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.errors import UsageError
from orchestrator.project.load import load_project
from orchestrator.project.mirrors import redirect
from orchestrator.project.registry_caches import RegistryCaches, chosen_registry_caches
from orchestrator.project.user_settings import with_user_settings
from orchestrator.user_paths import settings_path

YAML = "name: x\nbuild: {run: make, program: x}\n"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    path = tmp_path / "config/gevulot-orchestrator/config.yaml"
    path.parent.mkdir(parents=True)
    assert settings_path() == path
    return path


def project(tmp_path: Path, more: str = "") -> Path:
    path = tmp_path / "project.yaml"
    path.write_text(YAML + more)
    return path


def test_longest_prefix_wins_and_the_project_at_equal_length(config: Path, tmp_path: Path) -> None:
    config.write_text(
        'mirrors: {"https://a/": "https://user/", "https://a/b/": "https://deep/", "debian:": "http://d"}\n'
    )
    loaded = load_project(project(tmp_path, 'mirrors: {"https://a/": "https://project/"}\n'))
    mirrors = with_user_settings(loaded).project.mirrors
    assert redirect("https://a/x", mirrors) == "https://project/x"
    assert redirect("https://a/b/x", mirrors) == "https://deep/x"
    assert mirrors["debian:"] == "http://d"


def test_network_is_completed_and_its_certificates_are_beside_the_file(config: Path, tmp_path: Path) -> None:
    config.write_text("network: {http-proxy: 'http://user:1', no-proxy: a, ca: company.pem}\n")
    loaded = load_project(project(tmp_path, "network: {http-proxy: 'http://project:2'}\n"))
    network = with_user_settings(loaded).project.network
    assert (network.http_proxy, network.no_proxy) == ("http://project:2", "a")
    assert network.ca == str(config.parent / "company.pem")


def test_none_and_an_empty_one_change_nothing(config: Path, tmp_path: Path) -> None:
    loaded = load_project(project(tmp_path))
    assert with_user_settings(loaded) is loaded
    config.write_text("")
    assert with_user_settings(loaded).project == loaded.project


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("mirrors: {}\nmirors: {a: b}\n", 2, "mirrors"),
        ("network:\n  http_prox: x\n", 2, "http-proxy"),
        ("mirrors: [a]\n", 1, "dictionary"),
        ("mirrors: {a: 1}\n", 1, "string"),
        ("mirrors: {a: b\n", 1, ""),
        ("mirrors:\n  a: b\n  'debian:': 'deb [trusted=yes] http://m/ ./'\n", 3, "address"),
        ("mirrors:\n  a: b\n  c: d\n  'pypi:': 'file:///srv'\n", 4, "https://"),
        ("- a\n", 1, ""),
    ],
)
def test_errors_have_file_line_and_the_nearest_name(
    config: Path, tmp_path: Path, text: str, where: int, words: str
) -> None:
    config.write_text(text)
    with pytest.raises(UsageError) as caught:
        with_user_settings(load_project(project(tmp_path)))
    finding = caught.value.findings[0]
    assert finding.file == str(config)
    assert finding.line is not None
    assert abs(finding.line - where) <= 1
    assert words in f"{finding.message} {finding.remedy}"


CACHES = "registry-cache:\n  from: ['r.example/c:{name}', 'type=registry,ref=r.example/d']\n  to: r.example/c:{name}\n"


def test_caches_of_layers_are_the_settings_unless_an_option_says_otherwise(config: Path) -> None:
    assert chosen_registry_caches((), None, offline=False) == RegistryCaches()
    config.write_text(CACHES)
    chosen = chosen_registry_caches((), None, offline=False)
    assert chosen.of("My-Prover") == RegistryCaches(
        sources=("r.example/c:my-prover", "r.example/d"), target="r.example/c:my-prover"
    )
    assert chosen_registry_caches(("o",), None, offline=False) == RegistryCaches(sources=("o",), target=chosen.target)
    assert chosen_registry_caches(("none",), "none", offline=False) == RegistryCaches()
    # No network: what an option says is tried, what the settings say for all builds is not.
    assert chosen_registry_caches((), "o", offline=True) == RegistryCaches(target="o")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("registry-cache:\n  to: type=gha\n", ":2: registry-cache.to: the engines' API has caches in registries only"),
        ("registry-cache:\n  too: a\n", ":2: registry-cache.too: unknown key; did you mean `to`?"),
        ("registry-cache:\n  from: [a, type=local]\n", ":2: registry-cache.from.1: the engines' API has caches"),
    ],
)
def test_wrong_caches_of_layers_are_said_with_their_line(config: Path, text: str, said: str) -> None:
    config.write_text(text)
    with pytest.raises(UsageError) as caught:
        chosen_registry_caches((), None, offline=False)
    assert said in str(caught.value.findings[0])
