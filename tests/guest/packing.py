"""Images of programs of this machine, with the real kernel, without an engine: what the conformance run boots."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.image.listing import path_key
from orchestrator.image.writer import BootFiles, ImageWriter

# What a packed project holds besides its own files (orchestrator/nanos/manifest/image_root.py).
_ALWAYS = {
    "/etc/passwd": b"root:x:0:0:root:/root:/bin/nobash",
    "/etc/resolv.conf": b"nameserver  8.8.8.8\n",
    "/proc/sys/kernel/hostname": b"uniboot",
}
_UNWIND = "libgcc_s.so.1"
"""glibc opens it by name when a thread is cancelled or ends itself."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """A program and what lies beside it. `files` are guest path -> host path; libraries come by themselves."""

    program: Path
    name: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    texts: Mapping[str, bytes] = field(default_factory=dict)


def pack(nanos: Path, contents: Contents, target: Path) -> Path:
    """Write the image to `target`. `nanos` is a release's directory: kernel.img, boot.img."""
    files: dict[str, Path | bytes] = {**_ALWAYS, **contents.files, **contents.texts}
    files[f"/{contents.name}"] = contents.program
    executables = [contents.program, *contents.files.values()]
    for guest, host in libraries(executables).items():
        files.setdefault(guest, host)
    kernel = BootFiles(boot_img=(nanos / "boot.img").read_bytes(), kernel=nanos / "kernel.img")
    with ImageWriter(target, kernel) as writer:
        for name in sorted([*files, "/workspace"], key=path_key):
            if name == "/workspace":
                writer.add_directory(name)
                continue
            source = files[name]
            data = source if isinstance(source, bytes) else source.read_bytes()
            writer.add_file(name, len(data), [data])
        writer.finish(
            {
                "program": f"/{contents.name}",
                "arguments": [contents.name, *contents.arguments],
                "environment": {"USER": "root", "PWD": "/", **contents.environment},
                "mounts": {"%0": "/workspace"},
                "readonly_rootfs": "true",
                "debug_exit": "t",
            }
        )
    return target


def libraries(executables: Iterable[Path]) -> dict[str, Path]:
    """Guest path -> host path of what the dynamic linker loads for them."""
    paths: dict[str, Path] = {}
    for path in executables:
        if not _is_dynamic(path):
            continue
        said = subprocess.run(["ldd", str(path)], capture_output=True, text=True).stdout
        # Newer Debians' loader says /usr/lib, which is the same directory; the guests' answers are of images with /lib.
        paths |= {name.removeprefix("/usr"): Path(name) for name in re.findall(r"(/\S+) \(0x", said)}
    if libc := next((name for name in paths if name.endswith("/libc.so.6")), None):
        unwinder = paths[libc].with_name(_UNWIND)
        if unwinder.exists():
            paths[str(Path(libc).with_name(_UNWIND))] = unwinder
    return paths


def _is_dynamic(path: Path) -> bool:
    with path.open("rb") as stream:
        if stream.read(4) != b"\x7fELF":
            return False
    headers = subprocess.run(["readelf", "-lW", str(path)], capture_output=True, text=True).stdout
    return " INTERP " in headers or " DYNAMIC " in headers
