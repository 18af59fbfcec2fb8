from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.events import Event, Notice
from orchestrator.inputs import trees
from orchestrator.inputs.access import Access
from orchestrator.inputs.git import fetch_git
from orchestrator.inputs.store import Store
from tests.inputs.conftest import QUICK, leftovers
from tests.support.servers import GitServer, git_server


def git(where: Path, *arguments: str) -> str:
    environment = {
        "PATH": os.environ["PATH"], "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org", "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@example.org", "GIT_AUTHOR_DATE": "1600000000 +0000",
        "GIT_COMMITTER_DATE": "1600000000 +0000",
    }  # fmt: skip
    done = subprocess.run(["git", *arguments], cwd=where, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def commit_files(root: Path, files: Mapping[str, str]) -> str:
    """The commit of a new repository at `root` that holds these files."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "files")
    return git(root, "rev-parse", "main")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """main: two commits; branch other; tags v1 (annotated) and light; export attributes; an executable, a link."""
    root = tmp_path / "repositories/source"
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / "file").write_text("one\n")
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o755)
    (root / "link").symlink_to("file")
    (root / "kept").write_text("left out by git archive\n")
    (root / "crlf.txt").write_text("$Id$ plain\n")
    (root / ".gitattributes").write_text("kept export-ignore\ncrlf.txt export-subst\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    git(root, "tag", "-a", "v1", "-m", "first")
    git(root, "tag", "light")
    git(root, "checkout", "-q", "-b", "other")
    (root / "file").write_text("other\n")
    git(root, "commit", "-q", "-a", "-m", "other")
    git(root, "checkout", "-q", "main")
    (root / "file").write_text("two\n")
    git(root, "commit", "-q", "-a", "-m", "two")
    return root


@pytest.fixture
def served(repository: Path) -> Iterator[GitServer]:
    with git_server(repository.parent) as server:
        yield server


def test_branch_tag_commit_and_head(access: Access, repository: Path, served: GitServer) -> None:
    url = served.url + "/source"
    main, first = git(repository, "rev-parse", "main"), git(repository, "rev-parse", "v1^{commit}")
    other = git(repository, "rev-parse", "other")
    expected = {
        "main": main, "HEAD": main, "refs/heads/main": main, "v1": first, "light": first, "refs/tags/v1": first,
        "other": other, first: first, main[:10]: main,
    }  # fmt: skip
    assert {ref: fetch_git(access, url, ref).commit for ref in expected} == expected


def test_tree_is_what_a_clone_has(access: Access, repository: Path, served: GitServer) -> None:
    checkout = fetch_git(access, served.url + "/source", "v1")
    path = checkout.entry.path
    assert sorted(name for name, _ in trees.walk(path)) == [
        ".gitattributes", "crlf.txt", "file", "kept", "link", "tool",
    ]  # fmt: skip
    assert (path / "file").read_text() == "one\n"
    assert (path / "crlf.txt").read_text() == "$Id$ plain\n"
    assert (path / "tool").stat().st_mode & 0o111
    assert (path / "link").readlink() == Path("file")


def test_same_commit_same_tree_whatever_the_users_git_settings(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = fetch_git(Access(store=Store(tmp_path / "one"), limits=QUICK), str(repository), "main")
    settings = tmp_path / "gitconfig"
    settings.write_text("[core]\n\tautocrlf = true\n\tsymlinks = false\n[tar]\n\tumask = 077\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    two = fetch_git(Access(store=Store(tmp_path / "two"), limits=QUICK), str(repository), "main")
    assert one.entry.sha256 == two.entry.sha256


def test_only_the_commit_is_fetched(access: Access, repository: Path, served: GitServer, store: Store) -> None:
    fetch_git(access, served.url + "/source", "main")
    (copy,) = (store.root / "git").glob("*.git")
    assert git(copy, "rev-list", "--count", git(repository, "rev-parse", "main")) == "1"


def test_no_file_of_a_cache_is_writable_for_everyone(repository: Path, tmp_path: Path) -> None:
    """Whatever the umask: git's own files of the cache, and the tree that it exports, too."""
    shim = repository / "crates/shim-ffi"
    shim.mkdir(parents=True)
    for name in ("Cargo.lock", "crates/shim-ffi/Cargo.toml"):
        (repository / name).write_text("x")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "crate")
    (tmp_path / "project.yaml").write_text(
        "name: x\nbuild: {run: make, program: x}\nnanos: {kernel: stub}\npacker: native\n"
        f"gevulot: {{git: 'file://{repository}', ref: main}}\n"
    )
    command = 'umask 000; exec "$0" -m orchestrator render "$1/project.yaml" -o "$1/out"'
    environment = {**os.environ, "ORCHESTRATOR_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, tmp_path], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    made = [path for path in (*tmp_path.glob("cache/**/*"), *tmp_path.glob("out/**/*")) if not path.is_symlink()]
    assert any(path.name == "Cargo.toml" and "entries" in path.parts for path in made)
    assert [path for path in made if path.stat().st_mode & 0o002] == []


def test_known_commit_needs_no_server(access: Access, repository: Path) -> None:
    with git_server(repository.parent) as server:
        url = server.url + "/source"
        commit = fetch_git(access, url, "v1").commit
        before = len(server.requests)
        assert fetch_git(access, url, commit).commit == commit
        assert len(server.requests) == before
    assert fetch_git(access, url, commit).commit == commit


@pytest.mark.parametrize(
    ("url", "ref", "warned"),
    [
        ("http://mirror.invalid/a", "main", 1),
        ("git://mirror.invalid/a", "v1", 1),
        ("https://mirror.invalid/a", "main", 0),
        ("http://mirror.invalid/a", "a" * 40, 0),
    ],
)
def test_a_ref_that_comes_without_tls_is_a_warning(
    access: Access, events: list[Event], url: str, ref: str, warned: int
) -> None:
    with pytest.raises(InputError):
        fetch_git(access, url, ref)
    assert (
        len([event for event in events if isinstance(event, Notice) and "nothing pins its content" in event.text])
        == warned
    )


def test_server_that_is_gone_gives_the_last_known_commit_and_says_so(
    access: Access, repository: Path, events: list[Event]
) -> None:
    with git_server(repository.parent) as server:
        url = server.url + "/source"
        commit = fetch_git(access, url, "main").commit
    assert fetch_git(access, url, "main").commit == commit
    assert any(isinstance(e, Notice) and "does not answer" in e.text and commit in e.text for e in events)
    with pytest.raises(InputError):
        fetch_git(replace(access, refresh=True), url, "main")
    with pytest.raises(InputError):
        fetch_git(access, url, "other")


def test_moved_branch_is_seen(access: Access, repository: Path, served: GitServer) -> None:
    url = served.url + "/source"
    fetch_git(access, url, "main")
    (repository / "file").write_text("three\n")
    git(repository, "commit", "-q", "-a", "-m", "three")
    assert (fetch_git(access, url, "main").entry.path / "file").read_text() == "three\n"


def test_unknown_ref_lists_the_nearest(access: Access, served: GitServer, store: Store) -> None:
    with pytest.raises(InputError, match="no ref 'mian'") as caught:
        fetch_git(access, served.url + "/source", "mian")
    assert caught.value.remedy.startswith("nearest: main")
    with pytest.raises(InputError, match="no commit"):
        fetch_git(access, served.url + "/source", "0" * 40)
    assert leftovers(store) == []


@pytest.mark.parametrize("status", [500, 503])
def test_transient_failures_are_retried(access: Access, served: GitServer, status: int) -> None:
    served.failures = [status]
    assert fetch_git(access, served.url + "/source", "main").commit


@pytest.mark.parametrize(("status", "path"), [(401, "source"), (403, "source"), (None, "missing")])
def test_final_failures_are_not_retried(access: Access, served: GitServer, status: int | None, path: str) -> None:
    served.failures = [status] if status else []
    with pytest.raises(InputError, match="cannot read"):
        fetch_git(access, f"{served.url}/{path}", "main")
    assert len(served.requests) <= 2


def test_server_that_gives_no_single_commits(access: Access, repository: Path, served: GitServer) -> None:
    # Old protocol, and a commit that no ref names: refused, so everything is fetched.
    first = git(repository, "rev-parse", "main~1")
    settings = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "protocol.version", "GIT_CONFIG_VALUE_0": "0"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        git(repository, "tag", "-d", "light")
        git(repository, "tag", "-d", "v1")
        assert fetch_git(access, served.url + "/source", first).commit == first


@pytest.mark.parametrize(
    ("url", "ref"),
    [
        ("ext::sh -c 'touch {marker}' x", "main"),
        ("--upload-pack=touch {marker}", "main"),
        ("{repository}", "--upload-pack=touch {marker}"),
        ("{repository}", "-x"),
        ("{repository}", ""),
        ("{repository}", "a b"),
        ("{repository}", "main~1"),
        ("ssh://-oProxyCommand=touch {marker}/x", "main"),
    ],
)
def test_no_injection(access: Access, repository: Path, tmp_path: Path, url: str, ref: str) -> None:
    marker = tmp_path / "marker"
    fill = {"marker": marker, "repository": repository}
    with pytest.raises(InputError):
        fetch_git(access, url.format(**fill), ref.format(**fill))
    assert not marker.exists()


def test_inside_a_git_hook(access: Access, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    assert (fetch_git(access, str(repository), "main").entry.path / "file").read_text() == "two\n"
    assert not (tmp_path / "elsewhere").exists()


def test_submodules_are_named(access: Access, repository: Path, events: list[Event]) -> None:
    git(repository, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(repository), "deps/sub")
    git(repository, "commit", "-q", "-m", "sub")
    fetch_git(access, str(repository), "main")
    assert any(isinstance(e, Notice) and "deps/sub" in e.text for e in events)


def test_missing_git(access: Access, repository: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # A PATH without git, and no git in sbin either.
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="git is not installed") as caught:
        fetch_git(access, str(repository), "main")
    assert "install" in caught.value.remedy
