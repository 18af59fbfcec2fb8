"""What a bundle brings: sources that prove themselves by git's ids, images by the digests of settings and layers."""

from __future__ import annotations

import gzip
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard

from orchestrator.build.kept_program import load_program, program_tag
from orchestrator.errors import InputError
from orchestrator.events import Event, Notice
from orchestrator.inputs.access import Access
from orchestrator.inputs.bases import resolve_base, saved_key
from orchestrator.inputs.git import fetch_git
from orchestrator.inputs.image_archive import read_image, write_image
from orchestrator.inputs.store import CacheEntry, Store
from orchestrator.inputs.transfer import export_entries, import_entries
from orchestrator.project.bases import Base
from orchestrator.resolved import Pin
from tests.inputs.conftest import QUICK
from tests.inputs.fakes import ImageEngine
from tests.inputs.test_bases import REF
from tests.inputs.test_git import git, repository, served
from tests.support.images import archive, digest, layer, loaded, saved_image, settings
from tests.support.servers import GitServer

__all__ = ["repository", "served"]


@pytest.fixture
def sources(access: Access, repository: Path, served: GitServer) -> CacheEntry:
    """A commit with nearly all that git has: a submodule and `sub.c`, which git sorts about it, among them."""
    module = repository / "sub"
    module.mkdir()
    git(module, "init", "-q", "-b", "main")
    git(module, "commit", "-q", "--allow-empty", "-m", "module")
    (repository / "sub.c").write_text("")
    (repository / "dir").mkdir()
    (repository / "dir/a").write_text("a")
    (repository / "dir.c").write_text("b")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "all")
    return fetch_git(access, served.url + "/source", "main").entry


def carried(entry: CacheEntry, store: Store, to: Path, change: Callable[[Path], None]) -> tuple[Store, tuple[str, ...]]:
    """Another cache after an import, and what was unproven; `change` is what was done to the bundle's data."""
    evil = Store(to / "evil")

    def fill(target: Path) -> dict[str, str]:
        import shutil

        shutil.copytree(entry.path, target, symlinks=True)
        change(target)
        return dict(entry.info)

    evil.put(entry.key, fill)
    export_entries(evil, [entry.key], to / "bundle.tar.zst")
    other = Store(to / "other")
    return other, import_entries(other, to / "bundle.tar.zst").unproven


def test_sources_prove_themselves(access: Access, sources: CacheEntry, tmp_path: Path) -> None:
    other, unproven = carried(sources, access.store, tmp_path, lambda _tree: None)
    assert unproven == ()
    commit = sources.key.removeprefix("git-")
    offline = Access(store=other, limits=QUICK, offline=True)
    assert fetch_git(offline, "https://example.invalid/x", commit).entry.sha256 == sources.sha256


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda tree: (tree / "file").write_text("evil\n"),
    "mode": lambda tree: (tree / "file").chmod(0o755),
    "added": lambda tree: (tree / "dir/evil").write_text(""),
    "removed": lambda tree: (tree / "kept").unlink(),
    "link": lambda tree: (tree / "link").rename(tree / "other"),
    "in-a-submodule": lambda tree: (tree / "sub/evil").write_text(""),
    "empty-directory": lambda tree: (tree / "more").mkdir(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_sources_count_only_where_a_lock_has_their_hash(
    access: Access, sources: CacheEntry, served: GitServer, tmp_path: Path, change: str
) -> None:
    def changed(tree: Path) -> None:
        CHANGES[change](tree)

    other, unproven = carried(sources, access.store, tmp_path, changed)
    assert unproven == (sources.key,)
    commit = sources.key.removeprefix("git-")
    offline = Access(store=other, limits=QUICK, offline=True)
    with pytest.raises(InputError, match="nothing proves"):
        fetch_git(offline, served.url + "/source", commit)
    kept = other.get(sources.key)
    assert kept is not None
    assert fetch_git(offline, served.url + "/source", commit, commit=commit, tree=kept.sha256).entry == kept
    # Where there is a network, the true ones are fetched.
    assert fetch_git(replace(offline, offline=False), served.url + "/source", commit).entry.sha256 == sources.sha256


LAYERS = [layer("one"), layer("two")]
IMAGE_ID = digest(settings(LAYERS))
REGISTRY = "sha256:" + "ab" * 32


def base_of(access: Access, content: bytes, pin: dict[str, str], *, offline: bool = True) -> tuple[ImageEngine, str]:
    def fill(target: Path) -> dict[str, str]:
        target.write_bytes(content)
        return {}

    access.store.put(saved_key(pin["digest"]), fill)
    engine = ImageEngine(endpoint=str(access.store.root))
    pinned = replace(access, offline=offline, pins={"base": Pin(kind="image", values=pin)})
    return engine, resolve_base(pinned, Base(image=REF), engine).reference


def manifest(config: bytes, **more: str) -> bytes:
    return json.dumps({"config": {"digest": digest(config)}, "layers": [], **more}).encode()


def test_an_image_is_known_by_its_settings_or_by_a_manifest_that_leads_to_them(access: Access) -> None:
    engine, reference = base_of(access, saved_image(LAYERS), {"digest": REGISTRY, "image-id": IMAGE_ID})
    assert engine.image_id(reference) == IMAGE_ID
    base_of(access, saved_image(LAYERS), {"digest": IMAGE_ID})
    one = manifest(settings(LAYERS))
    index = json.dumps({"manifests": [{"digest": "sha256:0"}, {"digest": digest(one)}]}).encode()
    blobs = {"blobs/sha256/1": one, "blobs/sha256/2": index}
    for wanted in (digest(one), digest(index)):
        base_of(access, saved_image(LAYERS, extra=blobs), {"digest": wanted})


def test_layers_as_a_registry_has_them_and_one_that_is_there_twice(tmp_path: Path) -> None:
    layers = [LAYERS[0], LAYERS[1], LAYERS[0]]
    packed = [gzip.compress(layers[0]), zstandard.compress(layers[1])]
    names = ["a/layer.tar", "b/layer.tar", "c/layer.tar"]
    entry = [{"Config": "x.json", "RepoTags": None, "Layers": names}]
    members: dict[str, bytes | tuple[bytes, str]] = {
        "x.json": settings(layers), "c/layer.tar": (tarfile.SYMTYPE, "../a/layer.tar"), "a/layer.tar": packed[0],
        "b/layer.tar": packed[1], "manifest.json": json.dumps(entry).encode(),
    }  # fmt: skip
    (tmp_path / "saved").write_bytes(archive(members))
    image = read_image(tmp_path / "saved")
    assert image.id == digest(settings(layers))
    write_image(image, "localhost/x:1", tmp_path / "again")
    image_id, tags, got = loaded((tmp_path / "again").read_bytes())
    assert (image_id, tags, got) == (image.id, ["localhost/x:1"], [packed[0], packed[1], packed[0]])


OTHERS: dict[str, bytes] = {
    "other settings": saved_image([layer("evil")]),
    "other layers": saved_image([layer("evil"), LAYERS[1]], config=settings(LAYERS)),
    "layers in another order": saved_image(LAYERS[::-1], config=settings(LAYERS)),
    "a layer more": saved_image([*LAYERS, layer("evil")], config=settings(LAYERS)),
    "no image": b"tar of ANOTHER image",
    "a manifest of another image": saved_image([layer("evil")], extra={"blob": manifest(settings(LAYERS))}),
    "deep": saved_image(LAYERS, config=b"[" * 200_000),
    "two images": archive({"manifest.json": b"[{}, {}]"}),
}


@pytest.mark.parametrize("what", OTHERS)
def test_another_image_is_never_given_to_the_engine(access: Access, what: str) -> None:
    with pytest.raises(InputError):
        base_of(access, OTHERS[what], {"digest": digest(manifest(settings(LAYERS))), "image-id": IMAGE_ID})


def test_an_image_that_the_lock_can_not_tell(access: Access, events: list[Event]) -> None:
    """The lock of an engine that doesn't say the settings' digest: an error offline, with what to do; a pull online."""
    with pytest.raises(InputError, match="no image-id") as caught:
        base_of(access, saved_image(LAYERS), {"digest": REGISTRY})
    assert "--upgrade base" in caught.value.remedy
    with pytest.raises(InputError, match="could not be pulled"):
        base_of(access, saved_image(LAYERS), {"digest": REGISTRY}, offline=False)
    assert any("it is not used" in event.text for event in events if isinstance(event, Notice))


def test_the_saved_build_step_gets_one_name_and_no_other(access: Access, tmp_path: Path) -> None:
    """An archive may name a base that a lock pins: the engine would have it under that name from then on."""
    key, base = "program-" + "c" * 40, "localhost/orchestrator/base:0123456789ab"

    def fill(target: Path) -> dict[str, str]:
        target.write_bytes(saved_image(LAYERS, tags=[base, REF]))
        return {}

    access.store.put(key, fill)
    engine = ImageEngine(endpoint=str(tmp_path))
    assert load_program(access.store, engine, key) == program_tag(key)
    assert list(engine.local) == [program_tag(key)]
