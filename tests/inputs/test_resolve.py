from __future__ import annotations

import io
import tarfile
import threading
import time
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.events import Event, StepFinished, StepStarted
from orchestrator.inputs.resolve import ResolveOptions, resolve_inputs
from orchestrator.inputs.store import Store
from orchestrator.project.load import LoadedProject, load_project
from orchestrator.resolved import Inputs
from tests.inputs.conftest import QUICK
from tests.inputs.fakes import ImageEngine
from tests.inputs.test_bases import mmdebstrap
from tests.inputs.test_git import git
from tests.inputs.test_releases import add_nanos, add_ops, elf
from tests.support.servers import Fault, FileServer

__all__ = ["mmdebstrap"]

YAML = """\
name: demo
base: docker.io/library/rust:bookworm
build:
  run: make
  program: demo
nanos: {{kernel: stub}}
{more}
mirrors:
  https://storage.googleapis.com/: {url}/
"""


def project(root: Path, server: FileServer, more: str = "packer: native") -> LoadedProject:
    root.mkdir(exist_ok=True)
    (root / "project.yaml").write_text(YAML.format(more=more, url=server.url))
    return load_project(root / "project.yaml")


@pytest.fixture
def options(store: Store) -> ResolveOptions:
    return ResolveOptions(store=store, limits=QUICK)


@pytest.mark.parametrize("packer", ["packer: native", ""])
def test_smallest_project_needs_nothing_from_outside(
    tmp_path: Path, server: FileServer, options: ResolveOptions, packer: str
) -> None:
    inputs = resolve_inputs(project(tmp_path / "p", server, packer), None, options=options)
    assert [resolved.name for resolved in inputs] == ["nanos"]
    assert server.seen == []


def test_everything(tmp_path: Path, server: FileServer, options: ResolveOptions) -> None:
    root = tmp_path / "p"
    (root / "gevulot/target").mkdir(parents=True)
    (root / "gevulot/Cargo.toml").write_text("[workspace]\n")
    (root / "gpu").mkdir()
    add_ops(server, elf(), None)
    add_nanos(server)
    more = (
        "gevulot: {path: gevulot}\ngpu-assets: {path: gpu}\nresources: {gpus: 1}\nops: {version: 0.1.43}\npacker: ops"
    )
    loaded = project(root, server, more)
    text = loaded.path.read_text().replace("{kernel: stub}", '{version: "0.1.51"}')
    loaded.path.write_text(text)
    reference = "docker.io/library/rust:bookworm"
    engine = ImageEngine(local={reference: "sha256:1"})
    inputs = resolve_inputs(load_project(loaded.path), engine, options=options)
    assert [resolved.name for resolved in inputs] == [
        "gevulot", "gevulot-base", "base", "gpu-assets", "nanos", "nanos-common", "ops",
    ]  # fmt: skip
    assert inputs.base is not None
    assert inputs.base.reference == reference
    (root / "gevulot/target/big").write_text("built")
    again = resolve_inputs(load_project(loaded.path), engine, options=options)
    assert again == inputs  # what was built in the user's checkout doesn't count


def test_gevulot_from_git_by_runtime_and_relative_path(
    tmp_path: Path, server: FileServer, options: ResolveOptions
) -> None:
    repository = tmp_path / "p/gevulot"
    repository.mkdir(parents=True)
    git(repository, "init", "-q", "-b", "main")
    (repository / "Cargo.toml").write_text("main\n")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "one")
    git(repository, "checkout", "-q", "-b", "optional-file-based-task-to-shim")
    (repository / "Cargo.toml").write_text("file\n")
    git(repository, "commit", "-q", "-a", "-m", "two")

    def source(more: str) -> Inputs:
        return resolve_inputs(project(tmp_path / "p", server, "packer: native\n" + more), None, options=options)

    devnet = source("gevulot: {git: gevulot}").gevulot
    local = source("runtime: local\ngevulot: {git: gevulot}").gevulot
    assert devnet is not None
    assert local is not None
    assert (devnet.local / "Cargo.toml").read_text() == "main\n"
    assert (local.local / "Cargo.toml").read_text() == "file\n"
    assert devnet.pin["commit"] == git(repository, "rev-parse", "main")


def test_gevulot_from_an_archive(tmp_path: Path, server: FileServer, options: ResolveOptions) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("gevulot-abc/Cargo.toml")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"x\n"))
    url = server.add("/g.tar.gz", out.getvalue())
    loaded = project(tmp_path / "p", server, f"packer: native\ngevulot: {{archive: {url}}}")
    gevulot = resolve_inputs(loaded, None, options=options).gevulot
    assert gevulot is not None
    assert (gevulot.local / "Cargo.toml").read_text() == "x\n"
    assert set(gevulot.pin) == {"sha256", "size"}


def test_every_failure_is_named_with_its_line(tmp_path: Path, server: FileServer, options: ResolveOptions) -> None:
    more = f"ops: {{version: 0.1.43}}\ngevulot:\n  base: nowhere.invalid/image\n  archive: {server.url}/missing.tar.gz"
    more += "\npacker: ops"
    loaded = project(tmp_path / "p", server, more)
    with pytest.raises(InputError) as caught:
        resolve_inputs(loaded, ImageEngine(endpoint=str(tmp_path)), options=options)
    where = [(finding.line, finding.field) for finding in caught.value.findings]
    assert where == [(2, "base"), (7, "ops"), (8, "gevulot"), (9, "gevulot.base")]
    assert all(finding.file == str(loaded.path) and finding.remedy for finding in caught.value.findings)
    assert str(caught.value.findings[1]).startswith(f"{loaded.path}:7: ops: http")
    assert str(caught.value.findings[1]).endswith("leave out `packer: ops`: the native packer needs no download")


@pytest.mark.parametrize("missing", ["ops", "gevulot.base", None])
def test_no_base_is_made_for_a_build_that_lacks_another_input(
    tmp_path: Path, server: FileServer, options: ResolveOptions, mmdebstrap: Path, missing: str | None
) -> None:
    """Making one takes minutes; the missing input was reported only after that."""
    if missing != "ops":
        add_ops(server, elf(), None)
    (tmp_path / "p/crates/shim-ffi").mkdir(parents=True)
    (tmp_path / "p/crates/shim-ffi/Cargo.toml").touch()
    more = "packer: ops\nops: {version: 0.1.43}\ngevulot: {path: ., base: registry.example/shim}"
    loaded = project(tmp_path / "p", server, more)
    text = loaded.path.read_text().replace(
        "base: docker.io/library/rust:bookworm\n",
        "base: {image: docker.io/library/rust:bookworm, bootstrap: {debian: bookworm}}\n",
    )
    loaded.path.write_text(text)
    registry = {} if missing == "gevulot.base" else {"registry.example/shim": f"sha256:{'1' * 64}"}
    engine = ImageEngine(endpoint=str(tmp_path), registry=registry)
    fields: list[str | None] = []
    try:
        resolve_inputs(load_project(loaded.path), engine, options=options)
    except InputError as error:
        fields = [finding.field for finding in error.findings]
    assert fields == ([missing] if missing else [])
    assert len(mmdebstrap.read_text().splitlines()) == len(engine.imports) == int(missing is None)


def test_inputs_come_in_parallel(tmp_path: Path, server: FileServer, options: ResolveOptions) -> None:
    add_ops(server, elf(), None)
    add_nanos(server)
    slow = "packer: ops\nops: {version: 0.1.43}"
    loaded = project(tmp_path / "p", server, slow)
    loaded.path.write_text(loaded.path.read_text().replace("{kernel: stub}", '{version: "0.1.51"}'))
    events: list[Event] = []
    resolve_inputs(load_project(loaded.path), None, events.append, options)
    started = [index for index, event in enumerate(events) if isinstance(event, StepStarted)]
    ended = [index for index, event in enumerate(events) if isinstance(event, StepFinished)]
    assert len(started) == len(ended) == 5  # Nanos and ops, the MD5 of each, Nanos's common files
    assert started[1] < ended[0]


def test_interrupt_stops_running_downloads(tmp_path: Path, server: FileServer, options: ResolveOptions) -> None:
    server.add("/cli/linux/release/0.1.43/ops", elf(), always=Fault("stall", at=100))

    class Interrupted(ImageEngine):
        def image_digest(self, reference: str) -> str | None:
            while not server.seen:
                time.sleep(0.01)
            raise KeyboardInterrupt

    loaded = project(tmp_path / "p", server, "packer: ops\nops: {version: 0.1.43}")
    with pytest.raises(KeyboardInterrupt):
        resolve_inputs(loaded, Interrupted(), options=options)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("input")]
