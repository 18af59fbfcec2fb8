"""An image of which only the manifest or a file of the host is another is made of the last one, without an engine.

The first build is made by hand, of a tree that lies on this machine; the command then gets an engine that isn't there.
So what can't be made of an earlier image ends with exit 3.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.build.check import check_project
from orchestrator.build.finish import pack_files
from orchestrator.build.last_build import Asked, LastBuild
from orchestrator.build.staged_tree import open_tree
from orchestrator.build.state import PackJob, PackOrder
from orchestrator.build.write_image import ImageTarget, Recorder, TreeOrigin, write_image
from orchestrator.containerfile.assemble import BuilderCapabilities, assemble
from orchestrator.digest import file_digests
from orchestrator.events import ignore
from orchestrator.image.reader import open_image
from orchestrator.inputs.resolve import resolve_inputs
from orchestrator.lock.project_lock import lock_of, lock_text
from orchestrator.nanos.gpu.tree import STAND_IN_MARK
from orchestrator.plan.make import make_plan
from orchestrator.receipt.receipt import EngineUsed
from orchestrator.receipt.record import Warnings
from orchestrator.resolved import Input
from tests.cli.conftest import Ended, cli
from tests.support.engines import need
from tests.support.servers import FileServer

NO_ENGINE = "unix:///nowhere/engine.sock"
PROJECT = """\
name: program
runtime: local
base: {image: registry.invalid/base:1}
build: {context: sources, run: make, program: program}
nanos: {kernel: stub}
packer: native
manifest: manifest.json
stage: {files: [tables, {from: data.key, to: keys/data.key}]}
"""
HOLE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Built:
    """A project, a tree that its staging step might make, and what a build of it left in out/."""

    folder: Path

    @property
    def image(self) -> Path:
        return self.folder / "out/program.img"

    def build_whole(
        self, project: str = "project.yaml", out: str = "out", *, remembered: bool = True, locked: bool = False
    ) -> None:
        """As with an engine, but for where the tree is from."""
        checked = check_project(self.folder / project)
        last = LastBuild(Asked(checked=checked, output=self.folder / "out", engine=NO_ENGINE, locked=locked))
        assert last.unchanged() is None or not remembered
        inputs = resolve_inputs(checked.loaded, None)
        base = Input(name="base", kind="image", source="registry.invalid/base:1", pin={"digest": f"sha256:{'5' * 64}"})
        inputs = type(inputs)(nanos=inputs.nanos, staged_files=inputs.staged_files, base=base)
        lock = self.folder / "project.lock"
        if not lock.exists():
            lock.write_text(lock_text(lock_of(checked.loaded, inputs)))
        plan = make_plan(checked.loaded, checked.settings, inputs)
        made = assemble(checked.loaded, plan, inputs, capabilities=BuilderCapabilities())
        order = PackOrder(loaded=checked.loaded, kind=checked.kind, settings=checked.settings, emit=ignore)
        job = PackJob(order=order, inputs=inputs, plan=plan)
        origin = TreeOrigin(
            engine=EngineUsed(kind="docker", version="1", builder="buildkit", private=False),
            containerfile=made.containerfile,
            manifest=made.manifest,
            context_sha256=lambda _packing: made.context.digest(),
            context=made.context.lines,
        )
        with open_tree(self.folder / "container", self.folder) as tree:
            target = ImageTarget(directory=self.folder / out)
            recorder = Recorder(warned=Warnings(checked.findings))
            result = write_image(job, origin, recorder, target, lambda image, _: pack_files(job, tree, image))
        if remembered:
            last.remember(result)

    def build(self, *more: str | Path, project: str = "project.yaml") -> Ended:
        return cli("build", self.folder / project, "-o", self.folder / "out", "--engine", NO_ENGINE, *more)

    def manifest(self, word: str, **more: object) -> None:
        (self.folder / "manifest.json").write_text(json.dumps({"Args": [word], **more}))

    def receipt(self, out: str = "out", name: str = "program") -> dict[str, object]:
        """But for what tells of the run."""
        document = json.loads((self.folder / out / f"{name}.receipt.json").read_text())
        for key in ("finished", "stages", "attachments", "verification"):
            document.pop(key)
        document["image"].pop("path")
        document["program_hash"].pop("image_file_name")
        return dict(document)

    def whole_is_the_same(self, name: str = "program", project: str = "project.yaml") -> bool:
        """Whether a whole build gives the image, its bill of materials, and what its receipt says of its making."""
        self.build_whole(project, "whole", remembered=False)
        for suffix in ("img", "sbom.cdx.json"):
            one, other = (self.folder / out / f"{name}.{suffix}" for out in ("out", "whole"))
            if one.read_bytes() != other.read_bytes():
                return False
        digests = file_digests(self.folder / f"out/{name}.img")
        document = json.loads((self.folder / f"out/{name}.receipt.json").read_text())
        told = document["image"]
        assert document["verification"]["image"] == str(self.folder / "out" / told["path"])
        assert (told["size"], told["blake3"], told["sha256"]) == (digests.size, digests.blake3, digests.sha256)
        return self.receipt(name=name) == self.receipt("whole", name)


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Built:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return make_built(tmp_path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with FileServer() as running:
        yield running


def make_built(folder: Path, project: str = PROJECT) -> Built:
    """The project and its first build, in `folder`."""
    made = Built(folder=folder)
    (folder / "project.yaml").write_text(project)
    (folder / "sources").mkdir()
    (folder / "sources/program.c").write_text("int main(void) { return 0; }\n")
    (folder / "data.key").write_bytes(b"key" * 1000)
    made.manifest("before")
    stage = folder / "container/stage"
    (stage / "tables/empty").mkdir(parents=True)
    (stage / "keys").mkdir()
    (stage / "keys/data.key").touch()  # its place
    shutil.copy(need("busybox"), stage / "program")
    (stage / "tables/0").write_bytes(b"")
    (stage / "tables/1").write_bytes(b"one")
    (stage / "tables/2").symlink_to("1")
    with (stage / "tables/3").open("wb") as sparse:
        sparse.seek(HOLE)
        sparse.write(b"end" * 10_000)
    (folder / "container/sbom").mkdir()
    (folder / "container/sbom/large").touch()
    (folder / "container/sbom/warnings").write_text("a word of the staging step\n")
    made.build_whole()
    return made


CHANGES: dict[str, Callable[[Built], object]] = {
    "manifest": lambda built: built.manifest("now"),
    "another layout of the boot part": lambda built: built.manifest("now", TFSv4=True),
    "file of the host": lambda built: (built.folder / "data.key").write_bytes(b"another" * 999),
    "file of the host, of the same size": lambda built: (built.folder / "data.key").write_bytes(b"yek" * 1000),
    "empty file of the host": lambda built: (built.folder / "data.key").write_bytes(b""),
    "memory": lambda built: (built.folder / "project.yaml").write_text(f"{PROJECT}resources: {{memory: 999}}\n"),
    "comment": lambda built: (built.folder / "project.yaml").write_text(f"# x\n{PROJECT}"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_is_what_a_whole_build_would_be(built: Built, change: str) -> None:
    CHANGES[change](built)
    done = built.build()
    assert done.code == 0, done.err
    assert "with the files of the earlier program.img" in done.err
    assert NO_ENGINE not in done.err
    assert built.whole_is_the_same()
    assert built.build("--json").json()["unchanged"] == (["program"] if "host" not in change else [])
    built.manifest("and again")
    assert built.build().code == 0
    assert built.whole_is_the_same()


def test_among_the_sources_the_project_is_none_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / ".dockerignore").write_text("container\nwhole\n")
    text = PROJECT.replace("context: sources", "context: .")
    built = make_built(folder, text)
    for change in (lambda: built.manifest("now"), lambda: (folder / "project.yaml").write_text(f"# now\n{text}")):
        change()
        done = built.build()
        assert (done.code, NO_ENGINE in done.err) == (0, False), done.err
    assert built.whole_is_the_same()
    (folder / "sources/program.c").write_text("int main(void) { return 1; }\n")
    assert built.build().code == 3


def test_holes_stay_holes(built: Built) -> None:
    built.manifest("now")
    assert built.build().code == 0
    whole = built.image.stat()
    assert whole.st_blocks * 512 < whole.st_size - HOLE // 2
    with open_image(built.image) as image:
        node = image.rootfs.lookup("/tables/3")
        assert b"".join(image.rootfs.read(node)) == bytes(HOLE) + b"end" * 10_000  # type: ignore[arg-type]


def test_what_stands_in_is_named_again(built: Built) -> None:
    """Large files are not looked through again, unless they are others now."""
    plain = b"x" * (2 << 20)
    marked = b"%s%s: made up\n" % (plain, STAND_IN_MARK)
    for name, content in (("4", plain), ("5", marked)):
        (built.folder / "container/stage/tables" / name).write_bytes(content)
    (built.folder / "sources/program.c").write_text("int main(void) { return 1; }\n")
    built.build_whole()
    key, table = "/keys/data.key", "/tables/5"
    for word, content, stand_ins in (
        ("of the step", b"key", [table]),
        ("of the host, too", marked, [key, table]),
        ("with another manifest", marked, [key, table]),
        ("of the step again", plain, [table]),
    ):
        (built.folder / "data.key").write_bytes(content)
        built.manifest(word)
        done = built.build()
        assert (done.code, "with the files of the earlier program.img" in done.err) == (0, True), done.err
        rows = json.loads(built.image.with_suffix(".receipt.json").read_text())["stand_ins"]
        assert [row["path"] for row in rows if row["path"] != "boot:/kernel"] == stand_ins
        assert built.whole_is_the_same()


def test_another_project_of_the_same_sources_takes_the_tree(built: Built) -> None:
    (built.folder / "second.yaml").write_text(PROJECT.replace("name: program", "name: second"))
    shutil.copy2(built.folder / "project.lock", built.folder / "second.lock")
    done = built.build(project="second.yaml")
    assert done.code == 0, done.err
    assert built.whole_is_the_same("second", "second.yaml")


def edited(path: Path) -> None:
    """Other bytes in place, and the size and time from before."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def copied_over(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").replace(path)


def linked(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


RECEIPT, SBOM, SOURCE = "out/program.receipt.json", "out/program.sbom.cdx.json", "sources/program.c"
DOUBTS: dict[str, Callable[[Built], object]] = {
    "image written to": lambda built: edited(built.image),
    "image replaced": lambda built: copied_over(built.image),
    "image cut short": lambda built: os.truncate(built.image, built.image.stat().st_size - 4096),
    "image a link": lambda built: linked(built.image),
    "no image": lambda built: built.image.unlink(),
    "receipt": lambda built: (built.folder / RECEIPT).write_text(
        (built.folder / RECEIPT).read_text().replace("docker", "podman")
    ),
    "no receipt": lambda built: (built.folder / RECEIPT).unlink(),
    "bill of materials": lambda built: edited(built.folder / SBOM),
    "no bill of materials": lambda built: (built.folder / SBOM).unlink(),
    "source touched": lambda built: os.utime(built.folder / SOURCE),
    "source of the same size and time": lambda built: edited(built.folder / SOURCE),
    "another source": lambda built: (built.folder / "sources/new.c").touch(),
    "script": lambda built: (built.folder / "project.yaml").write_text(PROJECT.replace("run: make", "run: make all")),
    "what is staged": lambda built: (built.folder / "project.yaml").write_text(PROJECT.replace("[tables", "[lists")),
    "what the manifest stages": lambda built: built.manifest("now", Dirs=["sources"]),
    "lock": lambda built: (built.folder / "project.lock").write_text(
        (built.folder / "project.lock").read_text().replace("5" * 64, "6" * 64)
    ),
    "no lock": lambda built: (built.folder / "project.lock").unlink(),
    "rebuilt twice": lambda built: (built.folder / "project.yaml").write_text(f"{PROJECT}reproducible: strict\n"),
    "no file of the host": lambda built: (built.folder / "data.key").unlink(),
    "half a record": lambda built: os.truncate(next((built.folder / "cache/trees").iterdir()), 1000),
}


@pytest.mark.parametrize("doubt", DOUBTS)
def test_every_doubt_goes_the_long_way(built: Built, doubt: str) -> None:
    built.manifest("now")
    DOUBTS[doubt](built)
    before = built.image.read_bytes() if built.image.exists() else b""
    done = built.build()
    assert done.code in (3, 1, 2), done.err
    assert done.code == 3 or doubt in ("no file of the host",), done.err
    assert before == (built.image.read_bytes() if built.image.exists() else b"")
    assert [path.name for path in (built.folder / "out").glob(".*.partial")] == []


@pytest.mark.parametrize("option", ["--no-cache", "--verify-cached", "--offline"])
def test_options_that_go_the_long_way(built: Built, option: str) -> None:
    built.manifest("now")
    assert built.build(option).code == 3


def test_an_image_that_is_written_to_meanwhile_is_not_taken(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    built.manifest("now")
    copy = os.copy_file_range

    def copy_and_write(*arguments: int) -> int:
        edited(built.image)
        return copy(*arguments)

    monkeypatch.setattr(os, "copy_file_range", copy_and_write)
    assert built.build().code == 3
    assert [path.name for path in (built.folder / "out").glob(".*.partial")] == []


def test_without_copy_file_range(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """As between two file systems of which one can't."""

    def refuse(*_arguments: int) -> int:
        raise OSError(18, "Invalid cross-device link")

    built.manifest("now")
    monkeypatch.setattr(os, "copy_file_range", refuse)
    assert built.build().code == 0
    assert built.whole_is_the_same()


def test_a_file_of_the_network_is_fetched_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer
) -> None:
    """Where project.yaml names another one; the lock then says so, as after a whole build."""
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    texts = []
    for data in (b"first" * 1000, b"second" * 2000, b"never served"):
        url, digest = f"{server.url}/{data[:5].decode()}", hashlib.sha256(data).hexdigest()
        texts.append(PROJECT.replace("{from: data.key,", f"{{url: '{url}', sha256: {digest},"))
        if data != b"never served":
            server.add(f"/{data[:5].decode()}", data)
    built = make_built(tmp_path, texts[0])
    (built.folder / "project.yaml").write_text(texts[1])
    assert built.build("--locked").code == 3
    done = built.build()
    assert done.code == 0, done.err
    assert "because project.yaml asks for other inputs: file:keys/data.key" in done.err
    lock = json.loads((built.folder / "project.lock").read_text())["inputs"]
    digest = hashlib.sha256(b"second" * 2000).hexdigest()
    assert (set(lock), lock["file:keys/data.key"]["resolved"]["sha256"]) == (
        {"base", "file:keys/data.key"},
        digest,
    )
    assert "nothing has changed" in built.build().err
    assert built.whole_is_the_same()
    before = built.image.read_bytes()
    (built.folder / "project.yaml").write_text(texts[2])
    assert built.build().code == 4
    assert built.image.read_bytes() == before


def test_locked_insists_on_the_files_of_the_host(built: Built) -> None:
    built.build_whole(locked=True)
    built.manifest("now")
    assert built.build("--locked").code == 0
    CHANGES["file of the host"](built)
    assert built.build("--locked").code == 3  # the long way says what differs from the lock
