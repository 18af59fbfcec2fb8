"""What is written can be read back, is the same every time, and lies where ops puts it."""

from __future__ import annotations

import hashlib
import os
import resource
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.image.errors import ChangedFileError, ImageError
from orchestrator.image.listing import path_key, tree_digest, tree_listing
from orchestrator.image.log import EXTENSION_SECTORS
from orchestrator.image.reader import open_image
from orchestrator.image.tree import Directory, File, Symlink
from orchestrator.image.writer import BootFiles, ImageWriter, OutOfOrderError, WrittenImage
from orchestrator.values import Value

from .handmade import SECTOR, disk, empty, filesystem
from .test_codec import NAMES as KEYS
from .test_codec import VALUES

BOOT = BootFiles(boot_img=None, kernel=b"a kernel")
NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12).filter(
    lambda name: name not in (".", "..")
)
Node = bytes | str | dict[str, "Node"]
NODES: st.SearchStrategy[Node] = st.recursive(
    st.binary(max_size=2000) | st.text(min_size=1).filter(lambda t: "\0" not in t and t.isprintable()),
    lambda inner: st.dictionaries(NAMES, inner, max_size=5),
    max_leaves=12,
)
TREES = st.dictionaries(NAMES, NODES, max_size=6)


def flatten(tree: dict[str, Node], above: str = "") -> Iterator[tuple[str, Node]]:
    for name, node in tree.items():
        yield f"{above}/{name}", node
        if isinstance(node, dict):
            yield from flatten(node, f"{above}/{name}")


def write(path: Path, tree: dict[str, Node], attributes: dict[str, Value], version: int = 5) -> WrittenImage:
    with ImageWriter(path, BOOT, version=version) as writer:
        for name, node in sorted(flatten(tree), key=lambda item: path_key(item[0])):
            if isinstance(node, dict):
                writer.add_directory(name)
            elif isinstance(node, str):
                writer.add_symlink(name, node)
            else:
                writer.add_file(name, len(node), (node[at : at + 700] for at in range(0, len(node), 700)))
        return writer.finish(attributes)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREES, attributes=st.dictionaries(KEYS, VALUES, max_size=4), version=st.sampled_from([4, 5]))
def test_round_trip(tmp_path: Path, tree: dict[str, Node], attributes: dict[str, Value], version: int) -> None:
    path = tmp_path / "image"
    written = write(path, tree, attributes, version)
    with open_image(path) as image:
        nodes: dict[str, Node] = {}
        for name, node in image.rootfs.walk():
            if isinstance(node, Directory):
                nodes[name] = {}
            elif isinstance(node, File):
                nodes[name] = b"".join(image.rootfs.read(node))
            else:
                assert isinstance(node, Symlink)
                nodes[name] = node.target
        assert nodes == {name: {} if isinstance(node, dict) else node for name, node in flatten(tree)}
        if version == 5:
            assert image.rootfs.attributes == attributes
        listing = tree_listing(image.rootfs)
        assert tree_digest(listing) == written.tree_sha256
        assert {entry.path: (entry.size, entry.sha256) for entry in listing if entry.type == "file"} == written.contents
        assert (image.size, image.rootfs.uuid) == (written.size, written.rootfs_uuid)
        assert image.rootfs.version == version
        assert image.partitions == written.partitions


SAMPLE: dict[str, Node] = {
    "bin": {"prover": b"\x7fELF" + b"x" * 5000},
    "etc": {"resolv.conf": b"nameserver  8.8.8.8\n", "empty": b""},
    "lib": "usr/lib",
    "tmp": {},
    "usr": {"lib": {"libc.so.6": b"c" * 513}},
}
SAMPLE_ATTRIBUTES: dict[str, Value] = {
    "program": "/bin/prover",
    "arguments": ["bin/prover", "--k=v"],
    "environment": {"USER": "root", "PWD": "/"},
    "mounts": {"%0": "/workspace"},
}


def test_same_input_same_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a", SAMPLE, SAMPLE_ATTRIBUTES)
    shuffled = {key: SAMPLE_ATTRIBUTES[key] for key in reversed(SAMPLE_ATTRIBUTES)}
    (tmp_path / "b").write_bytes(b"old content " * 5_000_000)
    assert write(tmp_path / "b", SAMPLE, shuffled) == first
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_these_very_bytes(tmp_path: Path) -> None:
    # The promise is across machines and releases of this program: a change here must be meant and noted.
    write(tmp_path / "a", SAMPLE, SAMPLE_ATTRIBUTES)
    digest = hashlib.sha256((tmp_path / "a").read_bytes()).hexdigest()
    assert digest == "933062f83fcb553eb9aafb3912ead91b16e81831168585d8591147832b71e335"


def test_uuids_tell_contents_apart(tmp_path: Path) -> None:
    base = write(tmp_path / "a", SAMPLE, SAMPLE_ATTRIBUTES)
    other_file = write(tmp_path / "b", {**SAMPLE, "new": b""}, SAMPLE_ATTRIBUTES)
    other_root = write(tmp_path / "c", SAMPLE, {**SAMPLE_ATTRIBUTES, "trace": "t"})
    old = write(tmp_path / "d", SAMPLE, SAMPLE_ATTRIBUTES, version=4)
    assert len({written.rootfs_uuid for written in (base, other_file, other_root, old)}) == 4
    assert base.bootfs_uuid == other_file.bootfs_uuid == other_root.bootfs_uuid != base.rootfs_uuid
    assert old.tree_sha256 == base.tree_sha256  # the encoding is not the content


def test_layout_is_that_of_ops(tmp_path: Path) -> None:
    boot_img = disk(filesystem(empty()))[:1024]
    path = tmp_path / "image"
    with ImageWriter(path, BootFiles(boot_img=boot_img, kernel=b"k" * 600, klibs={"tls": b"t"}), label="x") as writer:
        writer.add_file("/a", 600, [b"a" * 600])
        writer.add_file("/b", 1, [b"b"])
        written = writer.finish({})
    data = path.read_bytes()
    bootfs = 512 + 512 + 4096
    rootfs = bootfs + 12 * 1024 * 1024
    assert data[:446] == boot_img[:446]
    assert data[512:1024] == boot_img[512:]
    assert (
        data[446:462].hex() == "80000b00838710010a00000000600000"
    )  # sectors 10 to 24585; CHS (0, 0, 11) to (1, 135, 16)
    assert int.from_bytes(data[470:474], "little") * SECTOR == rootfs
    assert int.from_bytes(data[474:478], "little") * SECTOR == len(data) - rootfs == written.size - rootfs
    assert data[1024 : 1024 + 4096] == bytes(4096)
    assert data[rootfs : rootfs + 8] == b"NVMTFS\x05\x01"
    assert data[rootfs + 24 : rootfs + 31] == b"x\0\x05\x01\x88\x00\0"  # label, link to sector 1, 1024 sectors
    assert data[rootfs + 512 : rootfs + 521] == b"NVMTFS\x05\x88\x00"
    assert data[rootfs + 1025 * SECTOR :] == b"a" * 600 + bytes(424) + b"b" + bytes(511)
    with open_image(path) as image:
        assert image.bootfs is not None
        kernel, klib = image.bootfs.lookup("/kernel"), image.bootfs.lookup("/klib/tls")
        assert isinstance(kernel, File)
        assert isinstance(klib, File)
        assert kernel.extents[0].position == 1025 * SECTOR
        assert klib.extents[0].position == 1027 * SECTOR
        assert image.bootfs.attributes == {}
        assert image.rootfs.label == "x"


def test_without_boot_image_the_sector_is_blank(tmp_path: Path) -> None:
    write(tmp_path / "a", {}, {})
    data = (tmp_path / "a").read_bytes()
    assert data[:446] == bytes(446)
    assert data[510:512] == b"\x55\xaa"
    with open_image(tmp_path / "a") as image:
        assert not image.boot_sector
        assert image.partitions[0].offset == 512 + 4096


@pytest.mark.parametrize("version", [4, 5])
def test_a_log_of_many_extensions(tmp_path: Path, version: int) -> None:
    path = tmp_path / "image"
    environment: dict[str, Value] = {f"KEY_{n}": "value " * 50 for n in range(4000)}
    count = 30_000
    with ImageWriter(path, BOOT, version=version) as writer:
        for n in range(count):
            writer.add_file(f"/d{n // 1000:02}/file-{n:05}", 5, [b"%05d" % n])
        written = writer.finish({"environment": environment})
    assert (written.files, written.bytes_of_files) == (count, 5 * count)
    with open_image(path) as image:
        fs = image.rootfs
        assert len(fs.extensions) > 5
        assert {piece.length for piece in fs.extensions[1:]} == {EXTENSION_SECTORS * SECTOR}
        assert fs.extensions[2].offset == (1025 + count) * SECTOR  # after all data, as ops spills
        assert fs.used_end == fs.length
        assert fs.attributes == {"environment": environment}
        for n in (0, 1, 17_000, count - 1):
            node = fs.lookup(f"/d{n // 1000:02}/file-{n:05}")
            assert isinstance(node, File)
            assert fs.read_at(node, 0, 9) == b"%05d" % n
        assert sum(isinstance(node, File) for _, node in fs.walk()) == count


@pytest.mark.parametrize("length", range(524_000, 524_300, 7))
def test_a_log_that_just_fills_its_extension(tmp_path: Path, length: int) -> None:
    path = tmp_path / "image"
    with ImageWriter(path, BOOT) as writer:
        writer.finish({"x": "v" * length})
    with open_image(path) as image:
        assert image.rootfs.attributes == {"x": "v" * length}


def test_holes(tmp_path: Path) -> None:
    path = tmp_path / "image"
    content = b"start" + bytes(20_000_000) + b"end"
    with ImageWriter(path, BOOT) as writer:
        digest = writer.add_file("/sparse", len(content), [content])
        writer.copy_file("/sparse2", "sparse")
        writer.finish({})
    assert digest == hashlib.sha256(content).hexdigest()
    status = path.stat()
    assert status.st_size > 50_000_000
    assert status.st_blocks * 512 < 2_000_000
    with open_image(path) as image:
        for name in ("/sparse", "/sparse2"):
            node = image.rootfs.lookup(name)
            assert isinstance(node, File)
            assert b"".join(image.rootfs.read(node)) == content


def test_large_files_are_hashed_beside_and_take_no_memory(tmp_path: Path) -> None:
    mib = 1024 * 1024
    chunk = os.urandom(mib)
    with ImageWriter(tmp_path / "a", BootFiles(boot_img=None, kernel=b"kernel")) as writer:
        tracemalloc.start()
        try:
            # Whole chunks go to the other thread, the small last one must wait for them.
            large = writer.add_file(
                "large", 64 * mib + 5, (bytes(bytearray(piece)) for piece in [chunk] * 64 + [b"small"])
            )
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        again = writer.copy_file("link", "large")
        written = writer.finish({})
    assert large == again == hashlib.sha256(chunk * 64 + b"small").hexdigest()
    assert written.contents["/large"] == (64 * mib + 5, large)
    assert peak < 16 * mib
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sha256")]


def open_raw(path: Path) -> BinaryIO:
    return path.open("rb", buffering=0)


def test_files_of_this_machine_are_copied_as_chunks_are_written(tmp_path: Path) -> None:
    """Hashed first and known before, with holes and without; in one order of paths, and the same bytes each way."""
    mib = 1024 * 1024
    contents = {"a": os.urandom(3 * mib + 5), "b": bytes(9 * mib) + b"end", "c": b"start" + bytes(2 * mib), "d": b""}
    for name, data in contents.items():
        with (tmp_path / name).open("wb") as file:
            file.write(data) if name != "b" else (file.seek(9 * mib), file.write(b"end"))
    told = list[int]()
    with ImageWriter(tmp_path / "chunks", BOOT) as writer:
        for name, data in contents.items():
            writer.add_file(name, len(data), [data])
        plain = writer.finish({})
    for number, known in enumerate([set(), {"a", "c"}, set(contents)]):
        with ImageWriter(tmp_path / f"{number}", BOOT) as writer:
            for name, data in contents.items():
                sha256 = hashlib.sha256(data).hexdigest() if name in known else ""
                writer.add_open_file(name, len(data), sha256, partial(open_raw, tmp_path / name))
            assert writer.finish({}, told.append) == plain
        assert (tmp_path / f"{number}").read_bytes() == (tmp_path / "chunks").read_bytes()
        assert (tmp_path / f"{number}").stat().st_blocks * 512 < 7 * mib
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sha256")]


CHANGES: dict[str, Callable[[Path, int], object]] = {
    "shorter": lambda path, size: os.truncate(path, size - 1),
    "longer": lambda path, size: os.truncate(path, size + 1),
    "gone": lambda path, _size: path.unlink(),
    "other bytes": lambda path, size: path.write_bytes(os.urandom(size)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_file_that_changes_while_it_is_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, known: bool, when: str
) -> None:
    path, data = tmp_path / "file", os.urandom(3 * 1024 * 1024)
    path.write_bytes(data)
    real, size = os.preadv, len(data)

    def read(descriptor: int, *more: Any) -> int:
        count = real(descriptor, *more)
        if os.path.samestat(os.fstat(descriptor), status):
            monkeypatch.setattr("os.preadv", real)
            CHANGES[change](path, size)
        return count

    def opened() -> BinaryIO | None:
        return open_raw(path) if path.exists() else None

    status = path.stat()
    if when == "before":
        CHANGES[change](path, size)
    else:
        monkeypatch.setattr("os.preadv", read)
    sha256 = hashlib.sha256(data).hexdigest() if known else ""

    def write() -> WrittenImage:
        with ImageWriter(tmp_path / "image", BOOT) as writer:
            writer.add_open_file("file", size, sha256, opened)
            return writer.finish({})

    if not known and (change, when) == ("other bytes", "before"):  # nothing says what it has to be
        assert write().contents["/file"] == (size, hashlib.sha256(path.read_bytes()).hexdigest())
        return
    with pytest.raises(ChangedFileError, match="file changed while"):
        write()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sha256")]


def test_an_open_descriptor_is_left_open(tmp_path: Path) -> None:
    write(tmp_path / "a", SAMPLE, {})
    descriptor = os.open(tmp_path / "b", os.O_RDWR | os.O_CREAT)
    try:
        with ImageWriter(descriptor, BOOT) as writer:
            writer.add_directory("x")
            writer.finish({})
        assert os.fstat(descriptor).st_size > 0
    finally:
        os.close(descriptor)


def test_minimum_size(tmp_path: Path) -> None:
    with ImageWriter(tmp_path / "a", BOOT, minimum_size=30_000_001) as writer:
        written = writer.finish({})
    assert written.size == (tmp_path / "a").stat().st_size == 30_000_128
    with open_image(tmp_path / "a") as image:
        assert image.rootfs.used_end < image.rootfs.length
    with ImageWriter(tmp_path / "a", BOOT, minimum_size=5) as writer:
        assert writer.finish({}).size > 12_000_000


def test_order_is_by_components(tmp_path: Path) -> None:
    paths = ["/a", "/a/b", "/a/b.c", "/a!", "/a!/x", "/ä"]  # as plain text, /a! would come before /a/b
    assert sorted(paths, key=path_key) == paths
    with ImageWriter(tmp_path / "a", BOOT) as writer:
        writer.add_file("/m/n", 0, [])
        for path in ("/m", "/m/a", "/a", "/l/z"):
            with pytest.raises(OutOfOrderError):
                writer.add_directory(path)
        writer.add_file("/m.n", 0, [])
        writer.add_directory("/n")
        writer.finish({})


def test_conflicts(tmp_path: Path) -> None:
    with ImageWriter(tmp_path / "a", BOOT) as writer:
        writer.add_file("/f", 1, [b"x"])
        with pytest.raises(ImageError, match="twice"):
            writer.add_file("f", 1, [b"x"])
        with pytest.raises(ImageError, match="not a directory"):
            writer.add_file("/f/x", 1, [b"x"])
        for path in ("/", "", "/x/../y", "/x/.", "/x\0"):
            with pytest.raises(ImageError):
                writer.add_file(path, 0, [])
        with pytest.raises(ImageError, match="deeper"):
            writer.add_directory("/x" * 300)
        for path in ("/" + "ü" * 128, "/" + "/".join(["n" * 250] * 17)):
            with pytest.raises(ImageError, match="too long"):
                writer.add_directory(path)
        with pytest.raises(ImageError, match="target"):
            writer.add_symlink("/y", "")
        with pytest.raises(ImageError, match="hard link to /none"):
            writer.copy_file("/z", "/none")


def test_announced_sizes_are_held_to(tmp_path: Path) -> None:
    for chunks in ([b"abc"], [b"abc", b"def"]):
        with (
            ImageWriter(tmp_path / "a", BOOT) as writer,
            pytest.raises(ImageError, match="announced"),
        ):
            writer.add_file("/f", 5, chunks)


def test_a_full_disk_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="cannot write the image: No such file"):
        ImageWriter(tmp_path / "none" / "a", BOOT)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000_000, before[1]))
    try:
        with ImageWriter(tmp_path / "a", BOOT) as writer, pytest.raises(ImageError, match="cannot write the image"):
            writer.add_file("/f", 8_000_000, [b"x" * 8_000_000])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_klibs_that_do_not_fit(tmp_path: Path) -> None:
    klib = tmp_path / "gpu_nvidia"
    klib.write_bytes(b"")
    os.truncate(klib, 11 * 1024 * 1024)
    boot = BootFiles(boot_img=None, kernel=b"k" * 1024 * 1024, klibs={"gpu_nvidia": klib})
    with pytest.raises(ImageError, match=r"cannot write boot filesystem: 12582912 .*klib/gpu_nvidia 11534336"):
        ImageWriter(tmp_path / "a", boot)


def test_boot_file_system_can_be_filled_to_the_last_sector(tmp_path: Path) -> None:
    room = 12 * 1024 * 1024 - 1025 * SECTOR
    with ImageWriter(tmp_path / "a", BootFiles(boot_img=None, kernel=b"k" * room)) as writer:
        writer.finish({})
    with open_image(tmp_path / "a") as image:
        assert image.bootfs is not None
        assert image.bootfs.used_end == 12 * 1024 * 1024
    with pytest.raises(ImageError, match="cannot write boot filesystem"):
        ImageWriter(tmp_path / "a", BootFiles(boot_img=None, kernel=b"k" * (room + 1)))


def test_wrong_boot_files(tmp_path: Path) -> None:
    good = disk(filesystem(empty()))[:1024]
    for boot_img in (b"", b"x", bytes(512), good + bytes(512), good[:512]):
        with pytest.raises(ImageError, match="not a Nanos boot image"):
            ImageWriter(tmp_path / "a", BootFiles(boot_img=boot_img, kernel=b""))
    with pytest.raises(ImageError, match="No such file"):
        ImageWriter(tmp_path / "a", BootFiles(boot_img=None, kernel=tmp_path / "none"))
    with pytest.raises(ImageError, match="klib cannot be named"):
        ImageWriter(tmp_path / "a", BootFiles(boot_img=None, kernel=b"", klibs={"../x": b""}))
    with pytest.raises(ImageError, match="label"):
        ImageWriter(tmp_path / "a", BOOT, label="x" * 32)
    with pytest.raises(ValueError, match="version 6"):
        ImageWriter(tmp_path / "a", BOOT, version=6)


def test_attributes_that_can_not_be(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Value], str]] = [({"children": {}}, "root key `children`"), ({"n": 2**64}, "64 bits")]
    with ExitStack() as stack:
        for attributes, message in cases:
            writer = stack.enter_context(ImageWriter(tmp_path / "a", BOOT))
            with pytest.raises(ImageError, match=message):
                writer.finish(attributes)


def test_efi_system_partition(tmp_path: Path) -> None:
    loader = bytes(range(256)) * 20
    with ImageWriter(tmp_path / "a", BootFiles(boot_img=None, kernel=b"k", efi=loader)) as writer:
        writer.add_directory("/d")
        writer.finish({})
    with open_image(tmp_path / "a") as image:
        assert image.uefi
        esp = image.partitions[0]
        assert (esp.kind, esp.length) == ("esp", 33 * 1024 * 1024)
        assert image.rootfs.lookup("/d") == Directory()
    data = (tmp_path / "a").read_bytes()[esp.offset : esp.offset + esp.length]
    assert data[0x85E00 : 0x85E00 + len(loader)] == loader
    assert read_fat32(data, ["EFI     ", "BOOT    ", "BOOTX64 "]) == loader
    with pytest.raises(ImageError, match="EFI partition holds"):
        ImageWriter(tmp_path / "a", BootFiles(boot_img=None, kernel=b"k", efi=bytes(34 * 1024 * 1024)))


def read_fat32(data: bytes, path: list[str]) -> bytes:
    """A file by its short names, read as the FAT specification says."""
    cluster_size = int.from_bytes(data[11:13], "little") * data[13]
    table_at = int.from_bytes(data[14:16], "little") * 512
    table_size = int.from_bytes(data[36:40], "little") * 512
    first = table_at + data[16] * table_size
    assert data[table_at : table_at + table_size] == data[table_at + table_size : first]
    assert data[82:90] == b"FAT32   "
    assert data[:512] == data[6 * 512 : 7 * 512]
    cluster, size = int.from_bytes(data[44:48], "little"), 1 << 32
    for name in path:
        entries = chain(data, table_at, cluster, cluster_size, first)
        (entry,) = [e for at in range(0, len(entries), 32) if (e := entries[at : at + 32])[:8] == name.encode()]
        cluster = int.from_bytes(entry[26:28], "little") | int.from_bytes(entry[20:22], "little") << 16
        size = int.from_bytes(entry[28:32], "little")
    return chain(data, table_at, cluster, cluster_size, first)[:size]


def chain(data: bytes, table_at: int, cluster: int, cluster_size: int, first: int) -> bytes:
    out = b""
    while cluster < 0x0FFFFFF8:
        start = first + (cluster - 2) * cluster_size
        out += data[start : start + cluster_size]
        cluster = int.from_bytes(data[table_at + 4 * cluster : table_at + 4 * cluster + 4], "little") & 0x0FFFFFFF
    return out
