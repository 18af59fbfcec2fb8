"""Lock files of the sources -> the files that a build step is given, through `render -o`, which needs no engine."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.build.check import check_project
from orchestrator.build.pipeline import render_context
from orchestrator.dependencies.collect import find_lock_files, take_dependencies
from orchestrator.errors import OrchestratorError
from orchestrator.events import Event, Notice
from orchestrator.inputs.access import Access
from orchestrator.inputs.download import fetch
from orchestrator.inputs.store import MismatchError, Store
from orchestrator.inputs.transfer import export_entries, import_entries
from tests.inputs.conftest import no_proxy, server
from tests.inputs.test_git import commit_files
from tests.support.packages import (
    GIT_CRATES,
    cargo_lock,
    crate,
    git_rows,
    go_module,
    h1,
    integrity,
    npm_tarball,
    sha256,
    wheel,
)
from tests.support.servers import Fault, FileServer, git_server

__all__ = ["no_proxy", "server"]
PROJECT = """\
name: program
build:
  run: make
  program: program
  dependencies: {setting}
nanos: {{kernel: stub}}
packer: native
mirrors:
  "cargo:": {url}/crates
  "go:": {url}/go/
  "npm:": {url}/npm
  "pypi:": {url}/simple
"""
WHEEL, OTHER = "greeting-1.0-py3-none-any.whl", "greeting-1.0-py3-none-win_amd64.whl"
USUAL_NPM = "https://registry.npmjs.org"


@dataclass(frozen=True, kw_only=True)
class Served:
    """A lock file, the requests that it leads to, and the files that come of it below `dependencies/`."""

    path: str
    text: str
    requests: Mapping[str, bytes]
    files: Mapping[str, bytes]


def cargo_served() -> Served:
    data = crate("my_crate", "1.0.0+x", "")
    lock = cargo_lock("program", {("my_crate", "1.0.0+x"): sha256(data)})
    requests = {"/crates/my_crate/1.0.0+x/download": data}
    return Served(path="Cargo.lock", text=lock, requests=requests, files={"cargo/my_crate-1.0.0+x.crate": data})


def go_served() -> Served:
    data, mod, lines = go_module("example.org/Some/mod", "v1.2.3", "package mod\n")
    at = "example.org/!some/mod/@v/v1.2.3"
    requests = {f"/go/{at}.zip": data, f"/go/{at}.mod": mod}
    files = {f"go/{at}.zip": data, f"go/{at}.mod": mod, f"go/{at}.info": b'{"Version": "v1.2.3"}'}
    return Served(path="go.sum", text=lines, requests=requests, files=files)


def npm_served() -> Served:
    data, scoped = npm_tarball("left", "1.0.0"), npm_tarball("@a/right", "2.0.0")
    rows = {
        "": {"name": "program"},
        "node_modules/left": row(data, f"{USUAL_NPM}/left/-/left-1.0.0.tgz"),
        # As npm writes it with omit-lockfile-registry-resolved.
        "node_modules/left/node_modules/@a/right": {"version": "2.0.0", "integrity": integrity(scoped)},
        "node_modules/windows": {**row(data, f"{USUAL_NPM}/w.tgz"), "os": ["win32"], "optional": True},
        "node_modules/arm": {**row(data, f"{USUAL_NPM}/a.tgz"), "cpu": ["arm64"], "optional": True},
        "node_modules/own": {"resolved": "own", "link": True},
    }
    lock = json.dumps({"name": "program", "lockfileVersion": 3, "packages": rows})
    requests = {"/npm/left/-/left-1.0.0.tgz": data, "/npm/@a/right/-/right-2.0.0.tgz": scoped}
    files = {f"npm/_cacache/content-v2/sha512/{content_path(content)}": content for content in (data, scoped)}
    return Served(path="web/package-lock.json", text=lock, requests=requests, files=files)


def row(data: bytes, address: str) -> dict[str, object]:
    return {"version": "1.0.0", "resolved": address, "integrity": f"sha1-x {integrity(data)}"}


def content_path(data: bytes) -> str:
    digest = hashlib.sha512(data).hexdigest()
    return f"{digest[:2]}/{digest[2:4]}/{digest[4:]}"


def pip_served() -> Served:
    data = wheel("greeting", "1.0", "TEXT = 'hello'\n")
    lock = (
        "--require-hashes\n# a comment\n"
        "Greeting[extra]==1.0 ; python_version >= '3' \\\n"
        f"  --hash=sha256:{'0' * 64} \\\n  --hash=sha256:{sha256(data)}\n"
    )
    page = "".join(
        f'<a href="../../files/{name}#sha256={digest}" data-x>{name}</a>'
        for name, digest in ((OTHER, "0" * 64), ("greeting-1.0.tar.gz", "0" * 64), (WHEEL, sha256(data)))
    )
    requests = {"/simple/greeting/": page.encode(), f"/files/{WHEEL}": data}
    return Served(path="requirements-dev.txt", text=lock, requests=requests, files={f"pip/{WHEEL}": data})


KINDS: Mapping[str, Callable[[], Served]] = {
    "cargo": cargo_served,
    "go": go_served,
    "npm": npm_served,
    "pip": pip_served,
}


def write(folder: Path, server: FileServer, served: Served, setting: str = "always") -> Path:
    for path, data in served.requests.items():
        server.add(path, data)
    (folder / served.path).parent.mkdir(parents=True, exist_ok=True)
    (folder / served.path).write_text(served.text)
    (folder / "project.yaml").write_text(PROJECT.format(setting=setting, url=server.url))
    return folder / "project.yaml"


@pytest.fixture(autouse=True)
def own_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """How it ended: the exit code, and what a user reads."""

    code: int
    err: str


def render(project: Path, out: Path) -> Rendered:
    """`render -o`, in this process: the servers' threads write to its stderr, which `cli` would take for ours."""
    notices: list[str] = []

    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)

    try:
        render_context(check_project(project), output=out, emit=tell)
    except OrchestratorError as error:
        return Rendered(code=int(error.exit_code), err="\n".join([*notices, *map(str, error.findings), str(error)]))
    return Rendered(code=0, err="\n".join(notices))


def given_files(out: Path) -> dict[str, bytes]:
    """What the step gets, by its path below `dependencies/`."""
    top = out / "dependencies"
    return {str(path.relative_to(top)): path.read_bytes() for path in top.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_lock_file_names_is_given_to_the_step(tmp_path: Path, server: FileServer, kind: str) -> None:
    served = KINDS[kind]()
    project = write(tmp_path / "p", server, served)
    done = render(project, tmp_path / "out")
    assert done.code == 0, done.err
    assert given_files(tmp_path / "out") == served.files
    assert {request.path for request in server.seen} == set(served.requests)
    containerfile = (tmp_path / "out/Containerfile").read_text()
    assert "--mount=type=bind,source=dependencies,target=/orchestrator/dependencies" in containerfile
    assert "sh /orchestrator/dependencies.sh sh -e /orchestrator/build.sh" in containerfile
    settings = (tmp_path / "out/scripts/step/.cargo/config.toml").read_text()
    assert ("[source.crates-io]" in settings) == (kind == "cargo")
    assert (tmp_path / "out/scripts/step/orchestrator/dependencies.sh").is_file()

    # Once is enough, for other projects too.
    count = len(server.seen)
    other = write(tmp_path / "q", server, served)
    done = render(other, tmp_path / "out2")
    assert done.code == 0, done.err
    assert given_files(tmp_path / "out2") == served.files
    assert len(server.seen) == count


@pytest.mark.parametrize("kind", KINDS)
def test_another_package_than_the_locked_one_is_refused(tmp_path: Path, server: FileServer, kind: str) -> None:
    served = KINDS[kind]()
    project = write(tmp_path / "p", server, served)
    last = list(served.requests)[-1]
    server.files[last].data = b"something else"
    done = render(project, tmp_path / "out")
    assert done.code == 4, done.err
    assert re.search(r"is \S+, (but the lock file of the sources says|expected)", done.err)
    assert not (tmp_path / "out/dependencies").exists()
    # Nothing of it stays: the right one is taken when it is there.
    server.add(last, served.requests[last])
    assert render(project, tmp_path / "out").code == 0
    assert given_files(tmp_path / "out") == served.files


@pytest.mark.parametrize("kind", KINDS)
def test_a_registry_that_lacks_a_package(tmp_path: Path, server: FileServer, kind: str) -> None:
    served = KINDS[kind]()
    project = write(tmp_path / "p", server, served)
    del server.files[list(served.requests)[-1]]
    done = render(project, tmp_path / "out")
    assert done.code == 4, done.err
    assert f"{project}:5: build.dependencies: " in done.err
    assert "404" in done.err


@pytest.mark.parametrize("setting", ["auto", "never"])
def test_a_step_with_a_network_is_left_alone(tmp_path: Path, server: FileServer, setting: str) -> None:
    project = write(tmp_path / "p", server, cargo_served(), setting)
    done = render(project, tmp_path / "out")
    assert done.code == 0, done.err
    assert not (tmp_path / "out/dependencies").exists()
    assert "dependencies" not in (tmp_path / "out/Containerfile").read_text()
    assert not server.seen


def test_downloads_are_resumed(tmp_path: Path, server: FileServer) -> None:
    served = cargo_served()
    project = write(tmp_path / "p", server, served)
    path, data = next(iter(served.requests.items()))
    server.add(path, data, Fault("reset", at=len(data) // 2))
    done = render(project, tmp_path / "out")
    assert done.code == 0, done.err
    assert given_files(tmp_path / "out") == served.files


def carried(tmp_path: Path, keys: Iterable[str]) -> Access:
    """An offline build's access to a cache that got nothing but a bundle of the first one's `keys`."""
    export_entries(Store(tmp_path / "cache"), keys, tmp_path / "bundle.tar.zst")
    other = Store(tmp_path / "other", imported=True)
    import_entries(other, tmp_path / "bundle.tar.zst")
    return Access(store=other, offline=True)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_brings_them(tmp_path: Path, server: FileServer, kind: str) -> None:
    served = KINDS[kind]()
    project = write(tmp_path / "p", server, served)
    assert render(project, tmp_path / "out").code == 0
    server.files.clear()
    lock_files = find_lock_files([(served.path, tmp_path / "p" / served.path)])
    (here,) = take_dependencies(Access(store=Store(tmp_path / "cache"), offline=True), lock_files)
    access = carried(tmp_path, here.keys)
    (taken,) = take_dependencies(access, lock_files)
    assert taken.failure is None
    contents = {place: path.read_bytes() for place, path in taken.files.items()} | dict(taken.texts)
    assert {f"{kind}/{place}": data for place, data in contents.items()} == served.files

    # Without one of them, none: it says which.
    access.store.remove(taken.keys[0])
    (taken,) = take_dependencies(access, lock_files)
    assert not taken.files
    assert "the input cache lacks 1 of" in str(taken.failure)


@pytest.mark.parametrize("kind", ["go", "npm"])
def test_a_bundle_that_gives_a_package_another_content(tmp_path: Path, server: FileServer, kind: str) -> None:
    served = KINDS[kind]()
    project = write(tmp_path / "p", server, served)
    assert render(project, tmp_path / "out").code == 0
    mine = Store(tmp_path / "cache")
    (tmp_path / "bad").write_bytes(b"bad")
    bad = fetch(Access(store=mine), (tmp_path / "bad").as_uri())
    for name, record in list(mine.names()):
        mine.name(name, bad.key, {**record, "key": bad.key})
    access = carried(tmp_path, [bad.key])
    with pytest.raises(MismatchError, match="the lock file of the sources says"):
        take_dependencies(access, find_lock_files([(served.path, tmp_path / "p" / served.path)]))


def test_crates_from_git_go_along(tmp_path: Path, server: FileServer) -> None:
    root = tmp_path / "repositories/source"
    commit = commit_files(root, GIT_CRATES)
    with git_server(root.parent) as repositories:
        rows = git_rows(f"git+{repositories.url}/source?branch=ma%69n#{commit}")
        lock = cargo_lock("program", {}, needs=("deep",), more=rows)
        project = write(tmp_path / "p", server, Served(path="Cargo.lock", text=lock, requests={}, files={}))
        done = render(project, tmp_path / "out")
        assert done.code == 0, done.err
    (tree,) = (tmp_path / "out/dependencies/cargo/git").iterdir()
    assert {name: (tree / "tree" / name).read_text() for name in GIT_CRATES} == GIT_CRATES
    assert {path.name: path.read_text() for path in (tree / "crates").iterdir()} == {
        "deep-0.2.0": "crates/deep\n",
        "deeper-0.3.0": "crates/deeper\n",
    }
    sources = tomllib.loads((tmp_path / "out/scripts/step/.cargo/config.toml").read_text())["source"]
    (replaced,) = (source for source in sources.values() if "git" in source)
    assert (replaced["git"], replaced["branch"]) == (f"{repositories.url}/source", "main")
    assert tree.name in sources[replaced["replace-with"]]["directory"]

    # In a bundle the commit proves the tree.
    lock_files = find_lock_files([("Cargo.lock", tmp_path / "p/Cargo.lock")])
    (taken,) = take_dependencies(carried(tmp_path, [f"git-{commit}"]), lock_files)
    assert taken.failure is None
    assert taken.packages == 2


GIT = """
[[package]]
name = "forked"
version = "0.2.0"
source = "git+ssh://user:word@example.org/fork?rev=1#0123456789012345678901234567890123456789"
"""
NO_CHECKSUM = [
    ("Cargo.lock", cargo_lock("program", {}, more=GIT), "forked 0.2.0 comes from git (ssh://example.org/fork)"),
    (
        "Cargo.lock",
        cargo_lock("program", {}, more=GIT.replace("ssh://user:word@example.org", "file://")),
        "forked 0.2.0 comes from git (file:///fork)",
    ),
    ("package-lock.json", {"node_modules/a": {"version": "1.0.0"}}, "a 1.0.0 has no `resolved` address"),
    (
        "package-lock.json",
        {"node_modules/a": {"version": "1.0.0", "resolved": "git+ssh://git@example.org/a.git#1"}},
        "a 1.0.0 comes from git+ssh://git@example.org/a.git",
    ),
    (
        "package-lock.json",
        {"node_modules/a": {"version": "1.0.0", "resolved": "https://example.org/a.tgz", "integrity": "sha1-AAAA"}},
        "a 1.0.0 has no sha512 `integrity`",
    ),
    ("requirements.txt", "flask>=2\nrequests==2.0\n", "flask>=2 has no version with sha256 hashes"),
    ("go.sum", "example.org/a v1.0.0 h2:AAAA\n", "example.org/a v1.0.0 has a hash of an unknown kind"),
]


@pytest.mark.parametrize(("name", "lock", "said"), NO_CHECKSUM)
def test_what_no_checksum_identifies_is_named(
    tmp_path: Path, server: FileServer, name: str, lock: str | dict[str, object], said: str
) -> None:
    text = lock if isinstance(lock, str) else json.dumps({"lockfileVersion": 3, "packages": lock})
    served = cargo_served()
    project = write(tmp_path / "p", server, served)
    # Beside another, so that there is something to give to the step.
    (tmp_path / "p/sub").mkdir()
    (tmp_path / "p/sub" / name).write_text(text)
    done = render(project, tmp_path / "out")
    assert done.code == 0, done.err
    assert f"sub/{name}: {said}" in done.err
    assert "word" not in done.err
    assert given_files(tmp_path / "out") == served.files


BROKEN = [
    ("Cargo.lock", "[[package", "is not a lock file"),
    ("Cargo.lock", cargo_lock("p", {("../up", "1.0.0"): "0" * 64}), "../up 1.0.0 is not a crate's name and version"),
    ("Cargo.lock", "a = " + "[" * 100_000, "is not a lock file"),
    ("go.sum", "<!DOCTYPE html>\n", "is not MODULE VERSION HASH"),
    ("go.sum", f"../../up v1.0.0 {h1({})}\n", "../../up v1.0.0 is not a module and its version"),
    ("package-lock.json", "[" * 100_000, "is not JSON"),
    ("package-lock.json", '{"lockfileVersion": 1, "dependencies": {}}', "npm install --package-lock-only"),
    ("package-lock.json", '{"lockfileVersion": 3, "packages": {"node_modules/a": 7}}', "must be an object"),
]


@pytest.mark.parametrize(("name", "text", "said"), BROKEN)
def test_a_lock_file_that_is_none(tmp_path: Path, server: FileServer, name: str, text: str, said: str) -> None:
    project = write(tmp_path / "p", server, Served(path=name, text=text, requests={}, files={}))
    done = render(project, tmp_path / "out")
    assert done.code == 4, done.err
    assert f"{project}:5: build.dependencies: {name}: " in done.err
    assert said in done.err
    assert not server.seen


def test_a_lock_file_that_nothing_reads_is_named_with_what_is_read(tmp_path: Path, server: FileServer) -> None:
    locks = ("web/yarn.lock", "py/uv.lock", "poetry.lock", "both/pnpm-lock.yaml", "node_modules/a/yarn.lock")
    for path in locks:
        (tmp_path / "p" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / path).write_text("# yarn lockfile v1\n")
    empty = Served(path="both/package-lock.json", text='{"lockfileVersion": 3, "packages": {}}', requests={}, files={})
    project = write(tmp_path / "p", server, empty)
    why, pip = "is not read, so its packages are left to the build step; put", "requirements.txt with hashes, which"
    assert [line for line in render(project, tmp_path / "out").err.splitlines() if "is not read" in line] == [
        f"poetry.lock {why} a {pip} `poetry export -o requirements.txt` writes, beside it",
        f"py/uv.lock {why} a {pip} `uv export -o requirements.txt` writes, beside it",
        f"web/yarn.lock {why} package-lock.json, which `npm install --package-lock-only` writes, beside it",
    ]
    (foreseen,) = [finding for finding in check_project(project).findings if finding.code == "unread-lock"]
    assert (foreseen.line, foreseen.field) == (5, "build.dependencies")
    assert foreseen.message == "`poetry.lock` is not read"


def test_lock_files_that_the_step_does_not_see_do_not_count(tmp_path: Path, server: FileServer) -> None:
    served = cargo_served()
    project = write(tmp_path / "p", server, served)
    for folder in ("node_modules/a", "vendor/b", "ignored"):
        (tmp_path / "p" / folder).mkdir(parents=True)
        (tmp_path / "p" / folder / "Cargo.lock").write_text("no lock")
    (tmp_path / "p/.dockerignore").write_text("ignored\n")
    done = render(project, tmp_path / "out")
    assert done.code == 0, done.err
    assert given_files(tmp_path / "out") == served.files


def test_a_go_mod_of_the_real_registry_has_the_hash_that_the_go_command_wrote() -> None:
    mod = b'module "rsc.io/quote"\n\nrequire "rsc.io/sampler" v1.3.0\n'
    assert h1({"go.mod": mod}) == "h1:LzX7hefJvL54yjefDEDHNONDjII0t9xZLPXsUe+TKr0="
