"""The ops packer: take the image that `ops build` wrote out of the container, and say truly why there is none."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from orchestrator.errors import BuildStepError
from orchestrator.files import open_emptied
from orchestrator.staged import CHUNK, ImageFiles, OpenArchive, read_entries

IMAGES = "/root/.ops/images"
VERSION_FILE = "/root/.ops/ops-version"

# What ops (or pack-ops.sh, with its own `pack-ops:` codes) prints -> (what it means, what to do).
# Wording of ops 0.1.43; docs/facts/ops.md, 1 to 5.
_EXPLANATIONS: tuple[tuple[str, str, str], ...] = (
    (r"pack-ops: ops-too-old: (?P<what>.*)", "{what}", "set ops: {{version: 0.1.43}}"),
    (
        r"pack-ops: musl: (?P<what>.*)",
        "{what}",
        "set packer: native, or link the program statically",
    ),
    (
        r"fork/exec (?P<what>\S+): no such file or directory",
        "ops starts the program to find its libraries, but the base lacks the loader it names",
        "set packer: native, or link the program statically",
    ),
    (
        r"unknown field \"?(?P<what>[^\"\n]+)\"?",
        "ops does not know the manifest key {what}",
        "correct the key; `check` names the nearest one",
    ),
    (
        r"Klib (?P<what>\S+) not found in directory (?P<where>\S+)",
        "klib {what} is not in {where}; ops would have built an image without it",
        "correct Klibs or KlibDir, or add the klib to the gpu-assets or the Nanos release",
    ),
    (
        r"No local build found",
        "ops has no Nanos release and could not look one up",
        "check nanos.version and that its release can be downloaded",
    ),
    (
        r"release '(?P<what>[^']+)' is not found",
        "the Nanos release {what} does not exist",
        "correct nanos.version",
    ),
    (
        r"cannot write boot filesystem: (?P<what>[^\n]*)",
        "the kernel and klibs do not fit into the boot file system ({what})",
        "pack fewer or smaller klibs; it holds about 11.5 MiB",
    ),
    (
        r"unknown type of value",
        "ManifestPassthrough holds a number or a boolean",
        'write the value as text, such as "true"',
    ),
    (
        r"Library: (?P<what>\S+) => not found",
        "the program needs the library {what}, which was not staged",
        "name it in stage.extra, or build.packages so that it is installed",
    ),
    (
        r"directory (?P<what>\S+) is conflicting with an existing file",
        "{what} is both a directory and a file in the image",
        "correct stage.files and the manifest's Dirs",
    ),
    (r"only ELF binaries are supported", "the program is not an ELF file", "set build.program to the binary"),
    (r"no space left on device", "the engine's disk is full", "free some space (`orchestrator clean`) and build again"),
    (
        r"stat %(?P<what>\d+): no such file or directory",
        "this ops is older than 0.1.42: it cannot write the mount %{what}",
        "set ops: {{version: 0.1.43}}",
    ),
    (
        r"file \"(?P<what>[^\"]+)\" is missing|lstat (?P<what2>[^:\n]+): no such file",
        "ops did not find {what}{what2} in the staged tree",
        "correct Program, Files and Dirs of the manifest",
    ),
    (r"gzip: invalid header", "common.tar.gz of the Nanos release is damaged", "fetch the release again"),
    (r"^panic: (?P<what>.*)", "ops crashed ({what})", "use another version of ops, and report it to the ops project"),
    (
        r"pack-ops: no-image: (?P<what>.*)",
        "{what}: ops exits with 0 even when it fails",
        "read its output above",
    ),
    (
        r"pack-ops: (?:wrong-image|stale-image|ops-hangs): (?P<what>.*)",
        "{what}",
        "use an unmodified ops 0.1.42 or newer",
    ),
    (
        r"pack-ops: ops-failed: (?P<what>.*)",
        "{what}",
        "read its output above",
    ),
)


def explain(tail: str) -> BuildStepError:
    """A failed `ops build` step, of which `tail` are the last lines, in true words."""
    for pattern, meaning, remedy in _EXPLANATIONS:
        if match := re.search(pattern, tail, re.MULTILINE):
            words = {name: text or "" for name, text in match.groupdict().items()}
            return BuildStepError(f"ops: {meaning.format(**words)}", remedy=remedy.format(**words))
    return BuildStepError("ops build failed", remedy="read its output above")


def ops_version(open_archive: OpenArchive) -> str:
    """What the ops in the container called itself, as `0.1.43`, or `unknown`."""
    with open_archive(VERSION_FILE) as stream:
        for entry in read_entries(stream, ""):
            if entry.kind == "file":
                return b"".join(entry.chunks()).decode(errors="replace").strip()
    return "unknown"


def extract_image(
    name: str,
    files: ImageFiles,
    target: Path,
    progress: Callable[[int, int], None],
) -> None:
    """Copy the image `name` out of the container to `target`, holes kept; `progress` is told (done, total) bytes.

    Errors: BuildStepError when there is none, EngineError for a broken stream.
    """
    stored = files.open_file(f"{IMAGES}/{name}")
    if stored is not None:
        with stored:
            size = os.fstat(stored.fileno()).st_size
            _write_image(iter(lambda: stored.read(CHUNK), b""), size, target, progress)
        return
    with files.open_archive(f"{IMAGES}/{name}") as stream:
        for entry in read_entries(stream, ""):
            if entry.kind == "file":
                _write_image(entry.chunks(), entry.size, target, progress)
                return
    raise BuildStepError(f"the container holds no image {IMAGES}/{name}", remedy="read what ops printed above")


def _write_image(chunks: Iterator[bytes], size: int, target: Path, progress: Callable[[int, int], None]) -> None:
    done = 0
    with open_emptied(target) as sink:
        for chunk in chunks:
            # Images are mostly padding; a hole costs no disk.
            if chunk.count(0) == len(chunk):
                sink.seek(len(chunk), 1)
            else:
                sink.write(chunk)
            done += len(chunk)
            progress(done, size)
        sink.truncate(size)
