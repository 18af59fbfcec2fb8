"""The result of a stage from a shared cache: the image that a trusted key signed for, layer by layer, or none."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard

from orchestrator.build.shared_stage import SharedStages
from orchestrator.build.state import StageImage
from orchestrator.inputs.store import Store
from orchestrator.provenance.dsse import load_public_key, load_signing_key
from orchestrator.shared_cache.backend import CacheBackend
from orchestrator.shared_cache.places import open_backend
from orchestrator.shared_cache.results import SharedResults
from tests.inputs.conftest import leftovers
from tests.shared_cache.conftest import Machine, MakeMachine
from tests.shared_cache.test_backends import Bytes
from tests.support.engines import request
from tests.support.fake_engine import FakeEngine, Scripted, layer_of
from tests.support.keys import write_keys

IMAGE = StageImage(stage="program", key="program-" + "a" * 40, tag="localhost/orchestrator/program:a")
OLDER = StageImage(stage="program", key="program-" + "b" * 40, tag="localhost/orchestrator/program:b")
BASE = b"the base's root file system" * 1000


@pytest.fixture(params=["directory", "registry"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CacheBackend]:
    """A shared cache of a kind; that fsspec's are as a directory is tested elsewhere."""
    address = str(tmp_path / "shared")
    if request.param == "registry":
        host, name = request.getfixturevalue("registry_host"), tmp_path.name.replace("_", "-").strip("-")
        address = f"oci://{host}/stages/{name}"
    opened = open_backend(address, writable=True)
    yield opened
    opened.close()


@dataclass(frozen=True, kw_only=True)
class Builder:
    """A machine with an engine."""

    machine: Machine
    engine: FakeEngine
    stages: SharedStages

    def has(self, image: StageImage) -> bool:
        return self.engine.image_digest(image.tag) is not None


MakeBuilder = Callable[..., Builder]
Poison = Callable[[CacheBackend, MakeBuilder, Path], None]


@pytest.fixture
def builder(tmp_path: Path, backend: CacheBackend, machine: MakeMachine) -> MakeBuilder:
    """Makes machines: those that write sign with a key that is named, and all trust that of the fleet."""
    for name in ("fleet", "foreign"):
        write_keys(tmp_path, name)

    def make(sign: str = "") -> Builder:
        made, engine = machine(backend, writable=bool(sign)), FakeEngine()
        results = SharedResults(
            made.shared,
            trusted=[load_public_key(tmp_path / "fleet.public.pem")],
            sign=load_signing_key(tmp_path / f"{sign}.pem") if sign else None,
        )
        stages = SharedStages(engine=engine, store=made.store, results=results, emit=made.events.append)
        return Builder(machine=made, engine=engine, stages=stages)

    return make


def offer(builder: Builder, image: StageImage = IMAGE, text: bytes = b"a program") -> None:
    """As if its steps had run there."""
    builder.engine.builds[:] = [Scripted(files={"/build/program": text})]
    made = request("FROM scratch", "x")
    identity = builder.engine.build(made, builder.machine.events.append)
    builder.engine.images[image.tag] = builder.engine.images[identity]
    builder.engine._files[image.tag] = builder.engine._files[identity]
    builder.stages.offer(image)


def test_another_machines_engine_is_given_the_image(backend: CacheBackend, builder: MakeBuilder) -> None:
    first, other = builder("fleet"), builder()
    offer(first)
    assert first.stages.taken(IMAGE) == ()
    assert other.stages.take(IMAGE)
    assert (other.has(IMAGE), other.machine.warnings, leftovers(other.machine.store)) == (True, [], [])
    assert other.engine.images[IMAGE.tag] == first.engine.images[IMAGE.tag]
    (row,) = other.stages.taken(IMAGE)
    assert (row.stage, row.cache, len(row.signed_by)) == ("program", backend.shown, 64)
    assert not other.stages.take(OLDER)
    before = sorted(backend.names())
    offer(first)  # is there
    assert sorted(backend.names()) == before
    assert other.machine.warnings == first.machine.warnings == []


def test_a_layer_that_is_an_input_is_not_put_there_again(backend: CacheBackend, builder: MakeBuilder) -> None:
    """The base's, say, which every machine takes by the hash in the lock."""
    first, other = builder("fleet"), builder()

    def keep_layer(store: Store) -> None:
        layer = layer_of({"/build/program": BASE})
        store.keep("base", lambda target: {"source": str(target.write_bytes(layer))})

    keep_layer(first.machine.store)
    offer(first, text=BASE)
    # The input as such, and the settings.
    assert sorted(name.partition("-")[0] for name in backend.names()) == ["file", "file", "result"]
    assert not other.stages.take(IMAGE)
    keep_layer(other.machine.store)
    assert (other.stages.take(IMAGE), other.machine.warnings) == (True, [])


def files_of(backend: CacheBackend) -> dict[str, tuple[str, bytes]]:
    """Name and bytes of the settings, the layer and the statement of the one stage that is there."""
    files = {}
    for name in list(backend.names()):
        sink = Bytes()
        assert backend.fetch(name, sink)
        settings = "settings" if sink.data.startswith(b'{"rootfs') else "layer"
        files["statement" if name.startswith("result") else settings] = name, sink.data
    return files


def change(backend: CacheBackend, what: str, new: Callable[[bytes], bytes]) -> None:
    name, data = files_of(backend)[what]
    backend.store(name, io.BytesIO(new(data)))


def signed_again(what: str, new: bytes) -> Poison:
    """A statement of a trusted key for a stage whose files contradict each other."""
    return lambda backend, builder, tmp_path: sign_again(backend, builder, tmp_path, {what: new})


def sign_again(backend: CacheBackend, builder: MakeBuilder, tmp_path: Path, new: Mapping[str, bytes]) -> None:
    settings, layer = (files_of(backend)[name][1] for name in ("settings", "layer"))
    digest = json.loads(settings)["rootfs"]["diff_ids"][0].removeprefix("sha256:")
    held = {"settings.json": new.get("settings", settings), f"{digest}.tar.zst": new.get("layer", layer)}
    paths = {}
    for name, data in held.items():
        paths[name] = tmp_path / name
        paths[name].write_bytes(data)
    signer = builder("fleet")
    assert signer.stages.results is not None
    signer.stages.results._cache.renew(f"result-{IMAGE.shared_key}")
    signer.stages.results.offer(IMAGE.shared_key, paths)


def evil_layer() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("build/evil"))
    return zstandard.compress(sink.getvalue())


def roll_back(backend: CacheBackend, builder: MakeBuilder, _at: Path) -> None:
    """What was right for older sources, signed by the right key, where what is right now is looked for."""
    offer(builder("fleet"), OLDER, b"an older program, with a hole")
    sink = Bytes()
    backend.fetch(f"result-{OLDER.shared_key}", sink)
    backend.store(f"result-{IMAGE.shared_key}", io.BytesIO(sink.data))


def sign_by_a_foreigner(backend: CacheBackend, builder: MakeBuilder, _at: Path) -> None:
    foreigner = builder("foreign")
    assert foreigner.stages.results is not None
    foreigner.stages.results._cache.renew(f"result-{IMAGE.shared_key}")
    offer(foreigner, text=b"evil")


POISON: dict[str, Poison] = {
    "layer changed": lambda cache, _make, _at: change(cache, "layer", lambda data: data[:-9] + b"!" + data[-8:]),
    "layer truncated": lambda cache, _make, _at: change(cache, "layer", lambda data: data[:-1]),
    "another layer": lambda cache, _make, _at: change(cache, "layer", lambda _data: evil_layer()),
    "settings changed": lambda cache, _make, _at: change(cache, "settings", lambda data: data.replace(b"{", b" {")),
    "statement changed": lambda cache, _make, _at: change(cache, "statement", lambda data: data[:-5]),
    "unsigned": lambda cache, _make, _at: change(
        cache, "statement", lambda data: json.dumps({**json.loads(data), "signatures": []}).encode()
    ),
    "signed by a key that nobody trusts": sign_by_a_foreigner,
    "rolled back": roll_back,
    "signed, with another layer": signed_again("layer", evil_layer()),
    "signed, with a layer that does not unpack": signed_again("layer", b"evil"),
    "signed, with settings that are none": signed_again("settings", b"{}"),
    "signed, with settings of another image": signed_again(
        "settings", json.dumps({"rootfs": {"diff_ids": [f"sha256:{'e' * 64}"]}}).encode()
    ),
}


IN_A_REGISTRY = ("layer changed", "another layer", "settings changed", "rolled back", "signed, with another layer")
"""One of each sort: what is refused doesn't depend on where it lies."""


@pytest.mark.parametrize(
    ("backend", "poison"),
    [*(("directory", poison) for poison in POISON), *(("registry", poison) for poison in IN_A_REGISTRY)],
    indirect=["backend"],
)
def test_a_poisoned_stage_is_refused_before_an_engine_sees_it(
    tmp_path: Path, backend: CacheBackend, builder: MakeBuilder, poison: str
) -> None:
    offer(builder("fleet"))
    POISON[poison](backend, builder, tmp_path)
    other = builder()
    assert not other.stages.take(IMAGE)
    (text,) = other.machine.warnings
    assert " is refused, because " in text
    assert (other.engine.loaded, other.stages.taken(IMAGE), leftovers(other.machine.store)) == ([], (), [])
    # Who writes puts the right one there instead.
    again, after = builder("fleet"), builder()
    assert not again.stages.take(IMAGE)
    offer(again)
    assert (after.stages.take(IMAGE), after.machine.warnings) == (True, [])
