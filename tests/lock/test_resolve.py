"""Building under a lock, against servers whose content moves."""

from __future__ import annotations

import hashlib
import io
import json
import math
import re
import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import InputError, UsageError
from orchestrator.events import Event, Notice, ignore
from orchestrator.inputs.debs import Listed, fetch_debs
from orchestrator.inputs.resolve import ResolveOptions, access_of
from orchestrator.inputs.store import Store, key_of
from orchestrator.lock.project_lock import read_lock
from orchestrator.lock.resolve import LockPolicy, resolve_locked, update_lock
from orchestrator.project.load import LoadedProject, load_project
from orchestrator.resolved import Input
from tests.inputs.conftest import QUICK, leftovers
from tests.inputs.fakes import ImageEngine
from tests.inputs.test_bases import mmdebstrap
from tests.inputs.test_git import git
from tests.inputs.test_releases import add_nanos, add_ops, elf
from tests.support.servers import FileServer, GitServer, git_server

__all__ = ["mmdebstrap"]
REF = "docker.io/library/rust:bookworm"
ONE, TWO = "sha256:" + "1" * 64, "sha256:" + "2" * 64
YAML = """\
name: demo
base: {base}
build: {{run: make, program: demo}}
packer: native
nanos: {{kernel: stub}}
gevulot:
{gevulot}
mirrors:
  "https://storage.googleapis.com/": "{url}/"
  "http://deb.invalid/": "{url}/"
  "https://snapshot.debian.org/": "{url}/snapshots/"
"""


class Mirror:
    """What apt on a base says of a mirror that has one .deb: `protobuf-compiler`, of a version."""

    def __init__(self, server: FileServer) -> None:
        self.server, self.asked = server, list[tuple[str, ...]]()
        self.publish("3.21", b"one")

    def publish(self, version: str, data: bytes) -> None:
        """The package is of this version from now on, and no other is there."""
        for path in [path for path in self.server.files if path.endswith(".deb")]:
            del self.server.files[path]
        self.version, self.data, self.path = version, data, f"/debian/pool/p/protobuf-compiler_{version}_amd64.deb"
        self.server.add(self.path, data)

    def __call__(self, base: Input, names: Sequence[str]) -> Listed:
        self.asked.append((base.name, *names))
        size, sha256, path = len(self.data), hashlib.sha256(self.data).hexdigest(), self.path.removeprefix("/debian/")
        return Listed(
            uris=f"Reading\n'http://deb.invalid{self.path}' x_{self.version}_amd64.deb {size} MD5Sum:0\n",
            records=f"Package: protobuf-compiler\nVersion: {self.version}\nFilename: {path}\nSHA256: {sha256}\n",
        )


class Bench:
    """A project, its cache, an engine, and what was said."""

    def __init__(self, root: Path, store: Store, server: FileServer, engine: ImageEngine) -> None:
        self.root, self.store, self.url, self.engine = root, store, server.url, engine
        self.mirror = Mirror(server)
        self.events: list[Event] = []
        root.mkdir()

    @property
    def lock(self) -> Path:
        return self.root / "project.lock"

    def project(self, gevulot: str, base: str = REF) -> LoadedProject:
        gevulot = "".join(f"  {line}\n" for line in [f"base: {base}", *gevulot.splitlines()])
        (self.root / "project.yaml").write_text(YAML.format(base=base, gevulot=gevulot.rstrip(), url=self.url))
        return load_project(self.root / "project.yaml")

    def pin(self, loaded: LoadedProject, name: str = "gevulot", **policy: bool) -> dict[str, str]:
        policied = LockPolicy(**policy, options=self.options)
        inputs = resolve_locked(loaded, self.engine, self.events.append, policied)
        resolved = inputs.get(name)  # type: ignore[arg-type]
        assert resolved is not None
        return dict(resolved.pin)

    def moved(self, loaded: LoadedProject) -> list[str]:
        names = frozenset({"gevulot", "base", "gevulot-base", "gevulot-packages"})
        updated = update_lock(loaded, self.engine, self.events.append, upgrade=names, write=False, options=self.options)
        return [str(change) for change in updated.changes]

    @property
    def options(self) -> ResolveOptions:
        return ResolveOptions(store=self.store, limits=QUICK, lister=self.mirror)

    def forget(self) -> None:
        """A machine with an empty cache."""
        shutil.rmtree(self.store.root)
        self.store = Store(self.store.root)

    def notices(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Notice)]


@pytest.fixture
def bench(tmp_path: Path, store: Store, server: FileServer) -> Bench:
    engine = ImageEngine(endpoint=str(tmp_path), registry={REF: ONE, f"docker.io/library/rust@{ONE}": ONE})
    return Bench(tmp_path / "p", store, server, engine)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[tuple[Path, GitServer]]:
    root = tmp_path / "repositories/source"
    root.mkdir(parents=True)
    git(root, "init", "-q", "-b", "main")
    (root / "Cargo.lock").write_text("one\n")
    git(root, "add", "-A")
    git(root, "commit", "-q", "-m", "one")
    git(root, "tag", "v1")
    with git_server(root.parent) as server:
        yield root, server


def commit(root: Path, text: str) -> str:
    (root / "Cargo.lock").write_text(text)
    git(root, "commit", "-q", "-a", "-m", text)
    return git(root, "rev-parse", "HEAD")


def archive(text: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        info = tarfile.TarInfo("gevulot/Cargo.toml")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def test_first_use_writes_the_lock_and_says_so(bench: Bench, upstream: tuple[Path, GitServer]) -> None:
    root, server = upstream
    loaded = bench.project(f"git: {server.url}/source")
    pin = bench.pin(loaded)
    assert pin["commit"] == git(root, "rev-parse", "main")
    assert any(f"wrote {bench.lock}" in text for text in bench.notices())
    assert bench.notices()[-1] == (
        "trusted on first use: gevulot-packages (the package archive's signature, which apt checked);"
        " gevulot-base, base (the registry alone, which says what the tag is now); gevulot (it is on this machine)"
    )
    lock = read_lock(bench.lock)
    assert lock is not None
    assert set(lock.entries) == {"base", "gevulot", "gevulot-base", "gevulot-packages"}
    assert lock.entries["gevulot"].requested == {"git": f"{server.url}/source", "ref": "main"}
    assert lock.entries["base"].resolved == {"digest": ONE}
    assert {name: entry.ground for name, entry in lock.entries.items()} == {
        "base": "registry", "gevulot": "local", "gevulot-base": "registry", "gevulot-packages": "signature",
    }  # fmt: skip
    assert len(lock.entries["gevulot"].resolved["cargo-lock-sha256"]) == 64
    before = bench.lock.stat().st_mtime_ns
    bench.events.clear()
    assert bench.pin(loaded) == pin
    assert bench.notices() == []
    assert bench.lock.stat().st_mtime_ns == before


@pytest.mark.parametrize("ref", ["main", "v1"])
def test_branch_and_tag_that_moved(bench: Bench, upstream: tuple[Path, GitServer], ref: str) -> None:
    root, server = upstream
    loaded = bench.project(f"git: {server.url}/source\nref: {ref}")
    pin = bench.pin(loaded)
    new = commit(root, "two\n")
    git(root, "tag", "-f", "v1")
    for _ in range(2):
        asked = len(server.requests)
        assert bench.pin(loaded, locked=True) == pin
        bench.forget()
    assert len(server.requests) > asked  # fetched again, by commit
    said = bench.moved(loaded)
    assert f"gevulot: commit: {pin['commit']} -> {new}" in said
    assert any(line.startswith("gevulot: cargo-lock-sha256: ") for line in said)
    assert bench.pin(loaded) == pin  # --diff wrote nothing


def test_upgrade_moves_the_one_that_is_named(bench: Bench, upstream: tuple[Path, GitServer]) -> None:
    root, server = upstream
    loaded = bench.project(f"git: {server.url}/source")
    bench.pin(loaded)
    new = commit(root, "two\n")
    bench.engine.registry[REF] = TWO
    updated = update_lock(
        loaded, bench.engine, bench.events.append, upgrade=frozenset({"gevulot"}), options=bench.options
    )
    assert {change.input for change in updated.changes} == {"gevulot"}
    lock = read_lock(bench.lock)
    assert lock is not None
    assert lock.entries["gevulot"].resolved["commit"] == new
    assert lock.entries["base"].resolved == {"digest": ONE}
    with pytest.raises(UsageError, match="nanoss"):
        update_lock(loaded, bench.engine, bench.events.append, upgrade=frozenset({"nanoss"}), options=bench.options)


def test_a_ground_that_changed(bench: Bench, upstream: tuple[Path, GitServer]) -> None:
    """The lock keeps the first one until it is told to ask again, and then says how it differs."""
    root, server = upstream
    bench.engine.local[REF] = ONE
    loaded = bench.project(f"git: {server.url}/source\nref: {git(root, 'rev-parse', 'main')}")
    bench.pin(loaded)
    lock = read_lock(bench.lock)
    assert lock is not None
    assert {name: entry.ground for name, entry in lock.entries.items()} == {
        "base": "engine", "gevulot": "given", "gevulot-base": "engine", "gevulot-packages": "signature",
    }  # fmt: skip
    text = bench.lock.read_text()
    update_lock(loaded, bench.engine, bench.events.append, options=bench.options)
    assert bench.lock.read_text() == text
    assert bench.moved(loaded) == [
        f"{name}: trusted because of: engine -> registry" for name in ("base", "gevulot-base")
    ]
    names = frozenset({"base"})
    updated = update_lock(loaded, bench.engine, bench.events.append, upgrade=names, options=bench.options)
    assert [(resolved.name, resolved.ground) for resolved in updated.first] == [("base", "registry")]
    # A lock of before has no grounds, and none is made up for it.
    bench.lock.write_text(re.sub(r'\n *"ground": "[a-z]+",', "", text))
    assert bench.moved(loaded) == []
    assert read_lock(bench.lock) is not None
    bench.lock.write_text(text.replace('"ground": "engine"', '"ground": "faith"'))
    with pytest.raises(UsageError, match="ground"):
        read_lock(bench.lock)


def test_commit_that_is_gone(bench: Bench, upstream: tuple[Path, GitServer]) -> None:
    root, server = upstream
    loaded = bench.project(f"git: {server.url}/source")
    old = bench.pin(loaded)["commit"]
    (root / "Cargo.lock").write_text("rewritten\n")
    git(root, "commit", "-q", "-a", "--amend", "-m", "rewritten")
    git(root, "tag", "-d", "v1")
    git(root, "reflog", "expire", "--expire=now", "--all")
    git(root, "gc", "-q", "--prune=now")
    bench.forget()
    with pytest.raises(InputError) as caught:
        bench.pin(loaded)
    assert old in str(caught.value.findings[0])


def test_archive_whose_bytes_changed(bench: Bench, server: FileServer) -> None:
    url = server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {url}")
    pin = bench.pin(loaded)
    server.add("/g.tar.gz", archive("two"))
    assert bench.pin(loaded, locked=True) == pin  # from the cache
    (line,) = bench.moved(loaded)
    assert line.startswith(f"gevulot: sha256: {pin['sha256']} -> ")
    new = line.rpartition(" ")[2]
    bench.forget()
    with pytest.raises(InputError) as caught:
        bench.pin(loaded)
    said = str(caught.value.findings[0])
    assert pin["sha256"] in said
    assert new in said
    assert "--upgrade gevulot" in said
    assert [entry.key for entry in bench.store.list() if not entry.key.startswith("stub-")] == []
    assert leftovers(bench.store) == []


def test_image_tag_that_moved(bench: Bench, server: FileServer) -> None:
    url = server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {url}")
    assert bench.pin(loaded, "base") == {"digest": ONE}
    # Another machine; upstream has moved the tag.
    bench.engine.local.clear()
    bench.engine.registry[REF] = TWO
    bench.engine.pulls.clear()
    assert bench.pin(loaded, "base", locked=True) == {"digest": ONE}
    assert bench.engine.pulls == [f"docker.io/library/rust@{ONE}"]
    assert f"base: digest: {ONE} -> {TWO}" in bench.moved(loaded)


def test_image_that_is_gone_is_an_error_and_never_another_one(bench: Bench, server: FileServer) -> None:
    url = server.add("/g.tar.gz", archive("one"))
    base = f"{{image: {REF}, bootstrap: {{debian: bookworm, packages: [gcc]}}}}"
    loaded = bench.project(f"archive: {url}", base)
    bench.pin(loaded)
    bench.engine.local.clear()
    bench.engine.registry = {REF: TWO}
    bench.engine.local[REF] = TWO
    with pytest.raises(InputError) as caught:
        bench.pin(loaded)
    said = str(caught.value.findings[0])
    assert ONE in said
    assert TWO in said
    assert "--upgrade base" in said


def test_locked_without_a_lock_or_against_it(bench: Bench, server: FileServer) -> None:
    url = server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {url}")
    with pytest.raises(UsageError, match=r"project\.lock does not exist"):
        bench.pin(loaded, locked=True)
    assert server.seen == []
    bench.pin(loaded)
    other = server.add("/other.tar.gz", archive("one"))
    changed = bench.project(f"archive: {other}")
    with pytest.raises(UsageError) as caught:
        bench.pin(changed, locked=True)
    (finding,) = caught.value.findings
    assert (finding.line, finding.field) == (6, "gevulot")
    assert other in finding.message
    assert server.count("/other.tar.gz") == 0
    # Without --locked the lock follows project.yaml, and says so.
    bench.pin(changed)
    assert any("updated" in text and "gevulot" in text for text in bench.notices())
    bench.pin(changed, locked=True)


def test_local_directory_is_recorded_and_may_change_but_not_under_locked(bench: Bench) -> None:
    loaded = bench.project("path: mine")
    (bench.root / "mine").mkdir()
    (bench.root / "mine/Cargo.lock").write_text("one")
    first = bench.pin(loaded)
    bench.pin(loaded, locked=True)
    text = bench.lock.read_text()
    assert first["tree-sha256"] in text
    (bench.root / "mine/Cargo.lock").write_text("two")
    bench.events.clear()
    second = bench.pin(loaded)
    assert second != first
    assert any("mine has changed since it was locked" in text for text in bench.notices())
    assert bench.lock.read_text() == text
    with pytest.raises(InputError) as caught:
        bench.pin(loaded, locked=True)
    said = str(caught.value.findings[0])
    assert first["tree-sha256"] in said
    assert second["tree-sha256"] in said
    assert "--upgrade gevulot" in said


def test_mirrors_change_the_way_and_not_the_lock(bench: Bench, server: FileServer) -> None:
    server.add("/g.tar.gz", archive("one"))
    loaded = bench.project("archive: https://upstream.invalid/g.tar.gz")
    mirrored = replace(
        loaded, project=loaded.project.model_copy(update={"mirrors": {"https://upstream.invalid/": server.url + "/"}})
    )
    bench.pin(mirrored)
    text = bench.lock.read_text()
    assert "upstream.invalid" in text
    assert server.url not in text
    bench.pin(loaded, locked=True)  # the same lock without the mirror


def test_releases(bench: Bench, server: FileServer) -> None:
    add_nanos(server)
    add_ops(server, elf(), None)
    (bench.root / "project.yaml").write_text(
        f"name: demo\nbase: {REF}\nbuild: {{run: make, program: demo}}\npacker: ops\nops: {{version: 0.1.43}}\n"
        f'nanos: {{version: "0.1.51"}}\nmirrors: {{"https://storage.googleapis.com/": "{server.url}/"}}\n'
    )
    loaded = load_project(bench.root / "project.yaml")
    pin = bench.pin(loaded, "ops")
    lock = read_lock(bench.lock)
    assert lock is not None
    assert lock.entries["nanos"].resolved["version"] == "0.1.51"
    assert {"sha256", "size"} == set(lock.entries["nanos-common"].resolved)
    add_ops(server, elf(8192), None)  # the vendor replaced a release
    bench.forget()
    with pytest.raises(InputError) as caught:
        bench.pin(loaded)
    (finding,) = caught.value.findings
    assert pin["sha256"] in finding.message
    assert finding.field == "ops"


BOOTSTRAP = f"{{image: {REF}, bootstrap: {{debian: bookworm, packages: [gcc]}}}}"


def test_bootstrapped_base_is_kept_or_made_again(bench: Bench, server: FileServer, mmdebstrap: Path) -> None:
    url = server.add("/g.tar.gz", archive("one"))
    bench.engine.registry.clear()
    loaded = bench.project(f"archive: {url}", BOOTSTRAP)
    pin = bench.pin(loaded, "base")
    lock = read_lock(bench.lock)
    assert lock is not None
    assert lock.entries["base"].kind == "bootstrap"
    assert lock.entries["base"].packages == ("gcc=4:12.2.0-3",)
    # The registry answers now: the lock still means the tar.
    bench.engine.registry[REF] = ONE
    bench.engine.pulls.clear()
    assert bench.pin(loaded, "base", locked=True) == pin
    assert bench.engine.pulls == []
    bench.forget()
    assert bench.pin(loaded, "base", locked=True) == pin
    again = mmdebstrap.read_text().splitlines()[-1]
    assert "--setup-hook=upload " in again
    assert "preferences.d" in again


def test_locked_packages_keep_their_sha256(bench: Bench, server: FileServer, mmdebstrap: Path) -> None:
    url = server.add("/g.tar.gz", archive("one"))
    bench.engine.registry.clear()
    loaded = bench.project(f"archive: {url}", BOOTSTRAP)
    index = mmdebstrap.parent / "tools/index"
    index.write_text(f"Package: gcc\nVersion: 4:12.2.0-3\nSHA256: {'a' * 64}\n")
    pin = bench.pin(loaded, "base")
    written = bench.lock.read_text()
    assert f'"gcc=4:12.2.0-3 sha256:{"a" * 64}"' in written
    # Made again, of a mirror whose index says nothing: the version is what apt is told, the lock stays as it is.
    index.unlink()
    bench.forget()
    assert bench.pin(loaded, "base", locked=True) == pin
    assert bench.lock.read_text() == written
    assert bench.moved(loaded) == []


def test_bootstrapped_base_that_can_not_be_made_again(bench: Bench, server: FileServer, mmdebstrap: Path) -> None:
    url = server.add("/g.tar.gz", archive("one"))
    bench.engine.registry.clear()
    loaded = bench.project(f"archive: {url}", BOOTSTRAP)
    pin = bench.pin(loaded, "base")
    tool = mmdebstrap.parent / "tools/mmdebstrap"
    tool.write_text(tool.read_text().replace("4:12.2.0-3", "4:12.2.0-9"))
    assert "base: package gcc: 4:12.2.0-3 -> 4:12.2.0-9" in bench.moved(loaded)
    bench.forget()
    with pytest.raises(InputError) as caught:
        bench.pin(loaded)
    said = str(caught.value.findings[0])
    assert pin["sha256"] in said
    assert "gcc=4:12.2.0-9" in said
    assert leftovers(bench.store) == []


def test_lock_that_can_not_be_written_is_a_warning(
    bench: Bench, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {url}")
    elsewhere = replace(loaded, path=Path("/proc/no-such-place/project.yaml"))
    bench.pin(elsewhere)
    assert any("cannot be written" in text for text in bench.notices())


def debs(bench: Bench, loaded: LoadedProject, **policy: bool) -> list[Path]:
    """What a build installs before the shim: the files that the lock, or else the mirror, names."""
    inputs = resolve_locked(loaded, bench.engine, bench.events.append, LockPolicy(**policy, options=bench.options))
    assert inputs.gevulot_packages is not None
    access = access_of(loaded, bench.events.append, replace(bench.options, offline=policy.get("offline", False)))
    return list(fetch_debs(access, inputs.gevulot_packages).files.values())


def test_packages_that_moved(bench: Bench, server: FileServer) -> None:
    """The locked version is taken while a mirror, the cache or the archive of snapshots has it; never another one."""
    server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {server.url}/g.tar.gz")
    (first,) = debs(bench, loaded)
    assert first.read_bytes() == b"one"
    locked = read_lock(bench.lock)
    assert locked is not None
    entry = locked.entries["gevulot-packages"]
    (line,) = entry.packages
    assert line.split()[0] == "protobuf-compiler=3.21"
    assert line.split()[-1] == "http://deb.invalid/debian/pool/p/protobuf-compiler_3.21_amd64.deb"
    assert entry.resolved["base"] == ONE

    bench.mirror.publish("3.25", b"two")
    asked = len(bench.mirror.asked)
    assert bench.moved(loaded) == ["gevulot-packages: package protobuf-compiler: 3.21 -> 3.25"]
    assert len(bench.mirror.asked) == asked + 1
    seen = len(server.seen)
    (kept,) = debs(bench, loaded, locked=True, offline=True)
    assert kept.read_bytes() == b"one"
    assert len(server.seen) == seen
    bench.forget()
    with pytest.raises(InputError, match=r"protobuf-compiler 3\.21, which project.lock pins") as caught:
        debs(bench, loaded, locked=True)
    assert "--upgrade gevulot-packages" in caught.value.remedy
    server.add(f"/snapshots/archive/debian/{entry.resolved['snapshot']}/{line.rpartition('/debian/')[2]}", b"one")
    (again,) = debs(bench, loaded, locked=True)
    assert again.read_bytes() == b"one"

    update_lock(loaded, bench.engine, ignore, upgrade=frozenset({"gevulot-packages"}), options=bench.options)
    (newest,) = debs(bench, loaded, locked=True)
    assert newest.read_bytes() == b"two"


@pytest.mark.parametrize("text", [b"no package\n", b"\xff\x00", b"gcc=1 sha256:zz 1 http://x/\n", b'{"a": 1}'])
def test_a_list_of_packages_that_is_none_is_asked_for_again(bench: Bench, server: FileServer, text: bytes) -> None:
    """What the cache has of it may be another version's, or a bundle's."""
    server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {server.url}/g.tar.gz")
    bench.pin(loaded)
    (asked,) = bench.mirror.asked

    def spoil(target: Path) -> dict[str, str]:
        target.write_bytes(text)
        return {"source": "another version"}

    def forget_lock_and_list() -> None:
        bench.lock.unlink()
        bench.store.keep(key_of("debs", ONE, *asked[1:]), spoil, newer_than=math.inf)

    forget_lock_and_list()
    with pytest.raises(InputError, match="is not a list of packages") as caught:
        debs(bench, loaded, offline=True)
    assert "with a network" in caught.value.remedy
    (file,) = debs(bench, loaded)
    assert file.read_bytes() == b"one"
    assert bench.mirror.asked == [asked, asked]


def test_a_changed_package_is_refused(bench: Bench, server: FileServer) -> None:
    server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {server.url}/g.tar.gz")
    bench.pin(loaded)
    server.add(bench.mirror.path, b"oNe")
    with pytest.raises(InputError, match="sha256"):
        debs(bench, loaded, locked=True)


def test_packages_looked_up_again_are_as_locked(bench: Bench, server: FileServer) -> None:
    """Another time at which the mirror had them is no change."""
    server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {server.url}/g.tar.gz")
    bench.pin(loaded)
    text = bench.lock.read_text()
    bench.lock.write_text(re.sub(r'"snapshot": "\d{8}', '"snapshot": "20260101', text))
    before = bench.lock.read_text()
    assert before != text
    done = update_lock(loaded, bench.engine, ignore, upgrade=frozenset({"gevulot-packages"}), options=bench.options)
    assert not done.changes
    assert bench.lock.read_text() == before


def test_packages_belong_to_their_base(bench: Bench, server: FileServer) -> None:
    """Another base needs others; a lock that has them for another base (a bad merge) is refused."""
    server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {server.url}/g.tar.gz")
    bench.pin(loaded)
    text = bench.lock.read_text()
    bench.lock.write_text(text.replace(f'"base": "{ONE}"', f'"base": "{TWO}"'))
    with pytest.raises(InputError, match="gevulot-base") as caught:
        bench.pin(loaded, locked=True)
    assert "--upgrade gevulot-packages" in caught.value.remedy
    bench.lock.write_text(text)
    other = "docker.io/library/rust:trixie"
    bench.engine.registry[other] = TWO
    bench.mirror.publish("3.25", b"two")
    bench.pin(bench.project(f"archive: {server.url}/g.tar.gz", base=other))
    assert "protobuf-compiler=3.25" in bench.lock.read_text()


def test_a_lock_from_before_packages_were_in_it(bench: Bench, server: FileServer) -> None:
    server.add("/g.tar.gz", archive("one"))
    loaded = bench.project(f"archive: {server.url}/g.tar.gz")
    bench.pin(loaded)
    document = json.loads(bench.lock.read_text())
    del document["inputs"]["gevulot-packages"]
    bench.lock.write_text(json.dumps(document))
    with pytest.raises(UsageError) as caught:
        bench.pin(loaded, locked=True)
    (finding,) = caught.value.findings
    assert (finding.field, finding.message) == ("gevulot", "is not in project.lock")
    bench.pin(loaded)
    assert any("now pins gevulot-packages too" in text for text in bench.notices())


@pytest.mark.parametrize(
    ("listed", "said"),
    [
        (Listed(unlike="it has no dpkg"), "not a Debian-like image"),
        (Listed(uris="'file:/var/local/x_1_all.deb' x_1_all.deb 3 MD5Sum:0"), "cannot be fetched from here"),
        (Listed(uris="'http://deb.invalid/x_1_all.deb' x_1_all.deb 3 MD5Sum:0"), "gives no sha256"),
        (
            Listed(
                uris="'http://deb.invalid/x.deb' x.deb 3 MD5Sum:0",
                records=f"Package: x\nVersion: 1 2\nFilename: x.deb\nSHA256: {'0' * 64}\n",
            ),
            "in an unexpected form",
        ),
    ],
)
def test_packages_that_can_not_be_locked(
    bench: Bench, server: FileServer, listed: Listed, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.add("/g.tar.gz", archive("one"))
    monkeypatch.setattr(Mirror, "__call__", lambda *_arguments: listed)
    loaded = bench.project(f"archive: {server.url}/g.tar.gz")
    with pytest.raises(InputError) as caught:
        bench.pin(loaded)
    (finding,) = caught.value.findings
    assert finding.field == "gevulot.base"
    assert said in finding.message
    assert finding.remedy
    assert not bench.lock.exists()
