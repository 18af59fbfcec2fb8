"""build.packages: locked by version and sum, installed from files, the same whatever a mirror has by then."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.build.packages import TAG
from orchestrator.engine.base import Engine
from orchestrator.inputs.access import Access
from orchestrator.inputs.debian import bootstrap_rootfs
from orchestrator.inputs.store import Store
from orchestrator.label import BASE as BASE_LABEL
from orchestrator.project.bases import Bootstrap
from tests.build.projects import BASE, COMPILE, write_project
from tests.support import engines
from tests.support.cli import Run, orchestrator
from tests.support.debian_mirror import DebianMirror, own_address
from tests.support.servers import FileServer

# What the package's script sees of the network, and what it brings: both go into the image.
DEVICES = "tail -n +3 /proc/net/dev | cut -d: -f1 | tr -d ' ' >/usr/share/moving/devices\n"
RUN = f"{COMPILE}\ncp /usr/share/moving/value /usr/share/moving/devices .\n"


@dataclass(frozen=True, kw_only=True)
class World:
    """An engine with a base whose apt has one source: a mirror that moves."""

    engine: Engine
    base: str
    mirror: DebianMirror
    folder: Path

    def project(self, name: str = "p", packages: tuple[str, ...] = ("moving",), base: str = "") -> Path:
        build = {"packages": list(packages), "run": RUN, "program": "program"}
        stage = {"files": ["value", "devices"]}
        return write_project(self.folder / name, base=base or self.base, build=build, stage=stage)

    def run(self, *arguments: str | Path, cache: str = "cache") -> Run:
        host = self.mirror.server.host
        environment = {"ORCHESTRATOR_CACHE_DIR": str(self.folder / cache), "no_proxy": host, "NO_PROXY": host}
        return orchestrator(*arguments, "--engine", self.engine.info.endpoint, env=environment)

    def build(self, project: Path, out: str, *more: str, cache: str = "cache") -> bytes:
        done = self.run("build", project, "-o", self.folder / out, *more, cache=cache)
        assert done.code == 0, done.stderr[-4000:]
        return (self.folder / out / "program.img").read_bytes()

    def publish(self, version: str) -> None:
        value = {"usr/share/moving/value": f"{version}\n", "DEBIAN/postinst": f"#!/bin/sh\nset -e\n{DEVICES}"}
        moving = self.mirror.package("moving", version, depends=f"moving-data (= {version})", files=value)
        self.mirror.publish(moving, self.mirror.package("moving-data", version))


def used_packages(receipt: Path) -> dict[str, str]:
    """What a receipt says of build.packages."""
    (pin,) = [row["pin"] for row in json.loads(receipt.read_text())["inputs"] if row["name"] == "packages"]
    assert isinstance(pin, dict)
    return pin


@pytest.fixture
def world(engine: Engine, tmp_path: Path) -> Iterator[World]:
    rootfs = bootstrap_rootfs(Access(store=Store()), Bootstrap.model_validate(BASE["bootstrap"]))
    plain = f"localhost/orchestrator/base:{rootfs.sha256[:12]}"
    if engine.image_digest(plain) is None:
        engine.import_rootfs(rootfs.path, plain, {"org.gevulot.orchestrator": "base"})
    with FileServer(own_address()) as server:
        mirror = DebianMirror(tmp_path / "mirror", server)
        text = f"FROM {plain}\nCOPY key.gpg /etc/apt/test-mirror.gpg\nCOPY list /etc/apt/sources.list\n"
        files: dict[str, str | bytes] = {"key.gpg": mirror.key, "list": mirror.source}
        request = engines.request(text, "moving-base", files=files)
        engine.build(request, lambda _event: None)
        yield World(engine=engine, base=request.tag, mirror=mirror, folder=tmp_path)
        mirror.close()
        for leftover in engine.leftovers():
            if leftover.build_id == "moving-base":
                engine.remove(leftover)


def test_a_mirror_that_moved_changes_nothing(world: World) -> None:
    world.publish("1.0")
    project = world.project()
    first = world.build(project, "one")
    inputs = json.loads((world.folder / "p/project.lock").read_text())["inputs"]
    names = [package.split()[0] for package in inputs["packages"]["packages"]]
    assert names == ["moving-data=1.0", "moving=1.0"]
    assert orchestrator("inspect", world.folder / "one/program.img", "cat", "/value").stdout == "1.0\n"
    # The step that installs them sees no network.
    assert orchestrator("inspect", world.folder / "one/program.img", "cat", "/devices").stdout == "lo\n"

    world.publish("2.0")
    diff = world.run("lock", project, "--diff")
    assert "packages: package moving: 1.0 -> 2.0" in diff.stdout.splitlines(), diff.stderr
    requests = len(world.mirror.server.seen)
    assert world.build(project, "two", "--locked", "--no-cache") == first
    pins = [used_packages(world.folder / out / "program.receipt.json") for out in ("one", "two")]
    assert pins[0] == pins[1] == {**inputs["packages"]["resolved"], "packages-sha256": pins[0]["packages-sha256"]}
    assert len(world.mirror.server.seen) == requests
    # Another machine: neither the cache nor the mirror has them, or what it has is something else.
    done = world.run("build", project, "--locked", "--no-cache", cache="empty")
    assert done.code == 4
    assert "1.0, which project.lock pins, could not be fetched" in done.stderr
    assert "--upgrade packages" in done.stderr
    world.mirror.server.add("/debian/moving_1.0_all.deb", (world.folder / "mirror/moving_2.0_all.deb").read_bytes())
    world.mirror.server.add("/debian/moving-data_1.0_all.deb", b"")
    done = world.run("build", project, "--locked", "--no-cache", cache="empty")
    assert done.code == 4
    assert "sha256" in done.stderr

    assert world.run("lock", project, "--upgrade", "packages").code == 0
    assert '"moving=2.0 sha256:' in (world.folder / "p/project.lock").read_text()

    # The image that had the packages before lost its name to the new one: it goes, and the new one stays.
    assert world.run("clean", world.folder / "two").code == 0
    images = [left.name for left in world.engine.leftovers() if left.build_id == BASE_LABEL]
    assert "" not in images
    assert any(name.startswith(TAG) for name in images)


def test_packages_that_are_not_there(world: World, engine: Engine) -> None:
    world.publish("1.0")
    project = world.project(packages=("moving", "nosuchpackage"))
    done = world.run("lock", project)
    assert done.code == 4
    assert f"{project}:" in done.stderr
    assert "build.packages" in done.stderr
    assert "Unable to locate package nosuchpackage" in done.stderr
    broken = world.mirror.package("broken", "1", files={"DEBIAN/postinst": "#!/bin/sh\necho no way >&2\nexit 3\n"})
    world.mirror.publish(broken)
    project = world.project("broken", packages=("broken",))
    done = world.run("build", project, "-o", world.folder / "out")
    assert done.code == 5
    assert "no way" in done.stderr
    line = project.read_text().splitlines().index("  packages:") + 1
    assert f"{project}:{line}: build.packages: the build step failed" in done.stderr

    unlike = world.project("unlike", base=engines.ensure_base(engine))
    for command in (["lock"], ["build", "-o", world.folder / "out"]):
        done = world.run(*command, unlike)
        assert done.code == 4
        assert "is not a Debian-like image (it has no " in done.stderr
    assert not (world.folder / "unlike/project.lock").exists()
