"""How long packing takes, against copying the same bytes: ratios, because machines are noisy.

    python bench/bench_pack.py [MIB]

Writes a tree of MIB mebibytes (default 256) as an image, reads it back file by file, and hashes it as the node does;
each is compared with `cp` of the image in the same run.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from orchestrator.digest import file_blake3, file_digests
from orchestrator.image.listing import tree_listing
from orchestrator.image.reader import open_image
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.stub_kernel import stub_boot_image, stub_kernel

MIB = 1024 * 1024
FILES = 16


def timed(work: Callable[[], object]) -> float:
    """Seconds, best of three."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    mib = int(sys.argv[1]) if len(sys.argv) > 1 else 256
    block = os.urandom(MIB)
    size = mib // FILES * MIB
    with tempfile.TemporaryDirectory() as folder:
        image, copy = Path(folder) / "image", Path(folder) / "copy"

        def write() -> None:
            with ImageWriter(image, BootFiles(boot_img=stub_boot_image(), kernel=stub_kernel())) as writer:
                for number in range(FILES):
                    writer.add_file(f"file{number:02}", size, (block for _ in range(size // MIB)))
                writer.finish({"program": "/file00"})

        def read() -> None:
            with open_image(image) as opened:
                tree_listing(opened.rootfs)

        writing = timed(write)
        copying = timed(lambda: shutil.copyfile(image, copy))
        rows = {
            "write the image": writing,
            "read and hash every file": timed(read),
            "BLAKE3, as the node": timed(lambda: file_blake3(image)),
            "BLAKE3 and SHA-256, as the receipt": timed(lambda: file_digests(image)),
        }
        print(f"{mib} MiB in {FILES} files; copying the image takes {copying:.2f} s")
        for name, seconds in rows.items():
            print(f"{name:<36} {seconds:6.2f} s  {seconds / copying:5.2f} x copy  {mib / seconds:7.0f} MiB/s")


if __name__ == "__main__":
    main()
