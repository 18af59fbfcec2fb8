"""A place to run the stand-in `ops` in, and what an image holds."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.image.listing import tree_listing
from orchestrator.image.reader import open_image
from orchestrator.image.tree import File

LOOKUP = "\033[1;33mversion lookup failed, using local.\n\033[0m"
SYSTEM = {
    "/etc/passwd", "/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/proc/sys/kernel/hostname",
    "/lib/x86_64-linux-gnu/libnss_dns.so.2",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ran:
    """One run: exit code, what it wrote, and the image when there is one."""

    code: int
    stdout: str
    stderr: str
    image: Path | None

    @property
    def said(self) -> str:
        """stdout without the version lookup's line."""
        assert self.stdout.startswith(LOOKUP)
        return self.stdout.removeprefix(LOOKUP)


@dataclass(kw_only=True)
class Bench:
    """A working directory with a program, and a seeded home."""

    ops: Path
    cwd: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str) -> Ran:
        """Run the stand-in."""
        done = subprocess.run(
            [self.ops, *arguments],
            cwd=self.cwd,
            env={"PATH": os.environ["PATH"], "OPS_HOME": str(self.home.parent), **self.env},
            capture_output=True,
            text=True,
        )
        images = sorted((self.home / "images").glob("*")) if (self.home / "images").exists() else []
        return Ran(code=done.returncode, stdout=done.stdout, stderr=done.stderr, image=images[0] if images else None)

    def build(self, config: object = None, *, program: str = "hello") -> Ran:
        """`ops build` with a configuration (JSON, or text as it is)."""
        arguments = ["build", program, "--nanos-version", "0.1.51"]
        if config is not None:
            text = config if isinstance(config, str) else json.dumps(config)
            (self.cwd / "config.json").write_text(text)
            arguments += ["-c", "config.json"]
        return self.run(*arguments)


def write(root: Path, files: dict[str, str]) -> None:
    """Text files below `root`, with the folders on the way."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def nodes(image: Path | None) -> dict[str, str]:
    """Path → `directory`, `file` or `-> target`, without the root attributes."""
    assert image is not None
    with open_image(image) as opened:
        entries = [entry for entry in tree_listing(opened.rootfs) if entry.type != "attribute"]
    return {entry.path: f"-> {entry.target}" if entry.type == "symlink" else entry.type for entry in entries}


def files(image: Path | None) -> set[str]:
    """Guest paths of all files."""
    return {path for path, kind in nodes(image).items() if kind == "file"}


def content(image: Path | None, path: str) -> bytes:
    """A file's bytes."""
    assert image is not None
    with open_image(image) as opened:
        node = opened.rootfs.lookup(path)
        assert isinstance(node, File)
        return b"".join(opened.rootfs.read(node))


def attributes(image: Path | None) -> dict[str, object]:
    """Root attributes."""
    assert image is not None
    with open_image(image) as opened:
        return dict(opened.rootfs.attributes)
