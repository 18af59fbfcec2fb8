"""--offline: what is in the cache is used, what isn't is named, and nobody is asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.inputs.access import Access
from orchestrator.inputs.bases import resolve_base, saved_key
from orchestrator.inputs.debian import bootstrap_rootfs
from orchestrator.inputs.download import fetch
from orchestrator.inputs.git import fetch_git
from orchestrator.inputs.resolve import ResolveOptions, resolve_inputs
from orchestrator.inputs.store import Store
from orchestrator.project.bases import Base, Bootstrap
from orchestrator.resolved import Pin
from tests.inputs.conftest import QUICK
from tests.inputs.fakes import ImageEngine
from tests.inputs.test_bases import REF, mmdebstrap
from tests.inputs.test_git import repository, served
from tests.inputs.test_resolve import project
from tests.support.images import layer, loaded, saved_image
from tests.support.servers import FileServer, GitServer

__all__ = ["mmdebstrap", "repository", "served"]
DIGEST = "sha256:" + "1" * 64


def test_every_missing_input_is_named_with_what_to_do(tmp_path: Path, server: FileServer, store: Store) -> None:
    more = f"ops: {{version: 0.1.43}}\ngevulot:\n  git: {server.url}/repository\npacker: ops"
    loaded = project(tmp_path / "p", server, more)
    engine = ImageEngine(endpoint=str(tmp_path))
    with pytest.raises(InputError) as caught:
        resolve_inputs(loaded, engine, options=ResolveOptions(store=store, limits=QUICK, offline=True))
    findings = {finding.field: finding for finding in caught.value.findings}
    assert {"base", "ops", "gevulot", "gevulot.base"} == set(findings)
    assert all("offline" in finding.message for finding in findings.values())
    assert "orchestrator lock" in findings["ops"].remedy
    assert "cache import" in findings["gevulot"].remedy
    assert server.seen == []
    assert engine.pulls == []


def test_downloads_and_commits_come_from_the_cache(
    access: Access, server: FileServer, repository: Path, served: GitServer
) -> None:
    url = server.add("/file", b"data")
    offline = replace(access, offline=True)
    with pytest.raises(InputError, match="not in the input cache"):
        fetch(offline, url)
    fetch(access, url)
    checkout = fetch_git(access, served.url + "/source", "main")
    asked = (len(server.seen), len(served.requests))
    assert fetch(offline, url).path.read_bytes() == b"data"
    assert fetch_git(offline, served.url + "/source", "main").commit == checkout.commit
    assert fetch_git(offline, served.url + "/source", "gone", commit=checkout.commit).commit == checkout.commit
    with pytest.raises(InputError, match="not in the input cache"):
        fetch_git(offline, served.url + "/source", "other")
    with pytest.raises(InputError, match="not in the input cache"):
        fetch_git(offline, served.url + "/source", "main", commit="0" * 40)
    assert (len(server.seen), len(served.requests)) == asked


def test_bases_come_from_the_engine_or_the_cache(access: Access, tmp_path: Path, mmdebstrap: Path) -> None:
    offline = replace(access, offline=True)
    bootstrap = Bootstrap(packages=("gcc",))
    with pytest.raises(InputError, match="not in the input cache"):
        bootstrap_rootfs(offline, bootstrap)
    bootstrap_rootfs(access, bootstrap)
    engine = ImageEngine(endpoint=str(tmp_path), registry={REF: DIGEST})
    base = resolve_base(offline, Base(image=REF, bootstrap=bootstrap), engine)
    assert base.kind == "bootstrap"
    assert engine.pulls == []
    assert len(mmdebstrap.read_text().splitlines()) == 1


def test_a_pulled_image_comes_out_of_a_bundle(access: Access, tmp_path: Path) -> None:
    content = saved_image([layer("rust")], tags=[REF, "docker.io/library/debian:bookworm"])
    image_id = loaded(content)[0]
    values = {"digest": DIGEST, "image-id": image_id}
    pinned = replace(access, offline=True, pins={"base": Pin(kind="image", values=values)})
    engine = ImageEngine(endpoint=str(tmp_path), registry={REF: DIGEST})
    with pytest.raises(InputError, match="not in the input cache"):
        resolve_base(pinned, Base(image=REF), engine)

    def saved(target: Path) -> dict[str, str]:
        target.write_bytes(content)
        return {}

    access.store.put(saved_key(DIGEST), saved)
    base = resolve_base(pinned, Base(image=REF), engine)
    assert (base.pin, base.kind) == (values, "image")
    assert engine.image_id(base.reference) == image_id
    assert list(engine.local) == [base.reference]  # none of the names that the archive gives itself
    assert resolve_base(pinned, Base(image=REF), engine) == base
    assert len(engine.loads) == 1
    assert engine.pulls == []


@pytest.mark.parametrize(
    "mirrors",
    [{"debian:": "http://mirror.invalid/debian"}, {"debian:": "no", "debian:bookworm": "http://mirror.invalid/debian"}],
)
def test_debian_has_a_mirror_too(access: Access, mmdebstrap: Path, mirrors: dict[str, str]) -> None:
    mirrored = replace(access, mirrors=mirrors)
    bootstrap_rootfs(mirrored, Bootstrap(packages=("gcc",)))
    (call,) = mmdebstrap.read_text().splitlines()
    assert call.split(" -- ")[1].split()[2] == "http://mirror.invalid/debian"


def test_credentials_of_a_debian_mirror_are_refused(access: Access, mmdebstrap: Path) -> None:
    mirrored = replace(access, mirrors={"debian:": "http://me:secret@mirror.invalid/debian"})
    with pytest.raises(InputError) as caught:
        bootstrap_rootfs(mirrored, Bootstrap(packages=("gcc",)))
    assert "secret" not in str(caught.value) + caught.value.remedy
