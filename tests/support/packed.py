"""Images of C programs, with the machine's own loader and C library, and the places where they are rehearsed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.image.listing import path_key
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.stub_kernel import stub_boot_image, stub_kernel
from tests.support.engines import docker_engine, podman_engine


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Makes images; programs are compiled once a session."""

    folder: Path

    def program(self, source: str, *flags: str) -> Path:
        """A compiled program."""
        path = self.folder / f"p{len(list(self.folder.iterdir()))}"
        code = path.with_suffix(".c")
        code.write_text(source)
        subprocess.run(["gcc", "-D_GNU_SOURCE", "-o", str(path), str(code), "-pthread", *flags], check=True)
        return path

    def image(
        self,
        source: str,
        *flags: str,
        at: str = "/prog",
        mount: str = "/workspace",
        links: Mapping[str, str] | None = None,
        extra: Mapping[str, bytes | Path] | None = None,
    ) -> Path:
        """An image of it and the libraries it needs, with its volume at `mount`; links, and extra files, by paths."""
        program = self.program(source, *flags)
        files: dict[str, Path | bytes] = {at: program, **(extra or {})}
        linked = subprocess.run(["ldd", str(program)], capture_output=True, text=True).stdout
        for path in re.findall(r"(/\S+) \(0x", linked):
            files[path] = Path(path)
        image = program.with_suffix(".img")
        with ImageWriter(image, BootFiles(boot_img=stub_boot_image(), kernel=stub_kernel())) as writer:
            links = links or {}
            for name in sorted([*files, *links, "/workspace"], key=path_key):
                if name in files:
                    content = files[name]
                    data = content.read_bytes() if isinstance(content, Path) else content
                    writer.add_file(name, len(data), [data])
                elif name in links:
                    writer.add_symlink(name, links[name])
                else:
                    writer.add_directory(name)
            writer.finish(
                {
                    "program": at,
                    "arguments": [at.lstrip("/"), "one", "two words"],
                    "environment": {"GREETING": "hello"},
                    "mounts": {"%0": mount},
                }
            )
        return image


@pytest.fixture(scope="session")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Packed:
    """Makes images of C programs."""
    return Packed(folder=tmp_path_factory.mktemp("programs"))


@pytest.fixture(
    scope="module",
    params=["none", pytest.param("podman", marks=pytest.mark.engine), pytest.param("docker", marks=pytest.mark.engine)],
)
def rehearsal_engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """What `--engine` is given."""
    if request.param == "none":
        yield "none"
        return
    with (podman_engine if request.param == "podman" else docker_engine)() as engine:
        yield engine.info.endpoint
