from __future__ import annotations

import hashlib
import io
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import ExitCode, InputError
from orchestrator.events import Event, Notice
from orchestrator.inputs import releases
from orchestrator.inputs.access import Access
from orchestrator.inputs.grounds import ground_of_address
from orchestrator.inputs.known import Known, known_files, read_known
from orchestrator.project.mirrors import redirect
from orchestrator.project.vendor import GpuAssets, Nanos, Ops
from orchestrator.resolved import Pin, redact_url
from orchestrator.stub_kernel import stub_boot_image, stub_kernel
from tests.support.servers import Fault, FileServer

HTML = Fault("html", at=5000)


def tar_gz(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def elf(size: int = 4096) -> bytes:
    """An x86-64 ELF header whose section headers end at `size`."""
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header = ident + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 0, size - 128, 0, 64, 56, 0, 64, 2, 0)
    return header.ljust(size, b"\0")


@pytest.fixture
def vendor(access: Access, server: FileServer) -> Access:
    return replace(access, mirrors={"https://storage.googleapis.com/": server.url + "/"})


def add_nanos(server: FileServer, *faults: Fault, kernel: bool = True) -> None:
    files = {"kernel.img": b"kernel", "boot.img": b"boot", "klibs/tls": b"tls"}
    if not kernel:
        del files["kernel.img"]
    server.add("/nanos/release/0.1.51/nanos-release-linux-0.1.51.tar.gz", tar_gz(files), *faults)
    server.add("/nanos/common/common.tar.gz", tar_gz({"common/ca-certificates.crt": b"certs"}))


def test_nanos_release(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    add_nanos(server)
    kernel, common = releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path)
    assert (kernel.kind, kernel.version) == ("archive", "0.1.51")
    assert kernel.source.startswith("https://storage.googleapis.com/nanos/release/0.1.51/")
    assert (kernel.local / "kernel.img").read_bytes() == b"kernel"
    assert (kernel.local / "klibs/tls").read_bytes() == b"tls"
    assert common is not None
    assert set(common.pin) == {"sha256", "size"}
    assert releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path) == (kernel, common)
    assert len(server.seen) == 3  # the archive, its md5, which is not there, and common.tar.gz
    assert (kernel.ground, common.ground, kernel.note) == ("local", "local", "")  # the server is this machine


NANOS_MD5 = "/nanos/release/0.1.51/nanos-release-linux-0.1.51.md5"


def test_nanos_release_is_checked_against_its_md5(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    add_nanos(server)
    archive = next(served.data for path, served in server.files.items() if path.endswith("0.1.51.tar.gz"))
    server.add(NANOS_MD5, hashlib.md5(archive).hexdigest().encode() + b"\n")
    kernel, _ = releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path)
    assert kernel.ground == "checksum"
    server.add(NANOS_MD5, b"0" * 32)
    with pytest.raises(InputError, match=r"0\.1\.51\.tar\.gz: md5 is"):
        releases.resolve_nanos(replace(vendor, refresh=True), Nanos(version="0.1.51"), tmp_path)


def test_what_is_known_of_a_release(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    """It holds through a mirror, for what lies in the cache, and against a lock."""
    add_nanos(server)
    url = releases.NANOS_URL.format(version="0.1.51")
    digest = releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path)[0].pin["sha256"]
    good = replace(vendor, known={url: Known(sha256=digest, source="who knows")})
    kernel, common = releases.resolve_nanos(good, Nanos(version="0.1.51"), tmp_path)
    assert common is not None
    assert (kernel.ground, common.ground) == ("known", "local")
    bad = replace(vendor, known={url: Known(sha256="0" * 64, source="who knows")})
    for pins in ({}, {"nanos": Pin(kind="archive", values={"sha256": digest, "size": "1"})}):
        with pytest.raises(
            InputError, match=f"{digest}, but the one known to be good is {'0' * 64} .who knows."
        ) as raised:
            releases.resolve_nanos(replace(bad, pins=pins), Nanos(version="0.1.51"), tmp_path)
        assert raised.value.exit_code is ExitCode.INPUT


def test_another_sha256_in_project_yaml_than_the_known_one(
    access: Access, server: FileServer, tmp_path: Path, events: list[Event]
) -> None:
    """Who gives it has been told what it is; a vendor may replace a file."""
    data = elf()
    url, digest = server.add("/my-ops", data), hashlib.sha256(data).hexdigest()
    told = replace(access, known={url: Known(sha256="0" * 64, source="who knows")})
    assert releases.resolve_ops(told, Ops(url=url, sha256=digest), tmp_path).ground == "given"
    (said,) = (event.text for event in events if isinstance(event, Notice))
    assert "another sha256 than the one known to be good" in said


def test_what_ships_is_a_table_of_vendors_files() -> None:
    vendors = ("https://storage.googleapis.com/nanos/release/", "https://storage.googleapis.com/cli/linux/release/",
               "https://storage.googleapis.com/gevulot-static-assets/")  # fmt: skip
    assert [url for url in known_files() if not url.startswith(vendors)] == []
    row = 'url = "u"\nsha256 = "{}"\nsource = "s"\n'
    assert read_known("[[file]]\n" + row.format("0" * 64)) == {"u": Known(sha256="0" * 64, source="s")}
    for text in ("[[file]]\n" + row.format("0"), 2 * ("[[file]]\n" + row.format("0" * 64)), '[[file]]\nurl = "u"\n'):
        with pytest.raises(ValueError, match=r"known\.toml"):
            read_known(text)


@pytest.mark.parametrize(
    ("address", "ground"),
    [
        ("https://x/y", "tls"), ("http://x/y", "none"), ("git://x/y", "none"), ("http://127.0.0.1:8/y", "local"),
        ("ssh://git@x/y", "ssh"), ("git@x:y", "ssh"), ("/x/y:z", "local"), ("file:///x", "local"),
    ],
)  # fmt: skip
def test_grounds_of_addresses(address: str, ground: str) -> None:
    assert ground_of_address(address) == ground


def test_nanos_release_without_a_kernel(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    add_nanos(server, kernel=False)
    with pytest.raises(InputError, match=r"no kernel\.img"):
        releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path)


def test_web_page_in_place_of_an_archive(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    add_nanos(server, HTML)
    with pytest.raises(InputError, match="web page"):
        releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path)
    assert vendor.store.list() == []
    assert releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path)[0].version == "0.1.51"


def test_cut_off_archive_is_dropped_and_fetched_again(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    # No length and a closed connection: HTTP can't tell, the archive can.
    add_nanos(server, Fault("truncate", at=60))
    server.files["/nanos/release/0.1.51/nanos-release-linux-0.1.51.tar.gz"].length = False
    with pytest.raises(InputError, match="not a complete tar"):
        releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path)
    assert releases.resolve_nanos(vendor, Nanos(version="0.1.51"), tmp_path)[0].local.is_dir()


def test_unknown_version(vendor: Access, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="404"):
        releases.resolve_nanos(vendor, Nanos(version="9.9.9"), tmp_path)


def test_local_nanos(access: Access, tmp_path: Path, events: list[Event]) -> None:
    root = tmp_path / "project"
    (root / "nanos/klibs").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no kernel\.img"):
        releases.resolve_nanos(access, Nanos(path="nanos"), root)
    (root / "nanos/kernel.img").write_bytes(b"k")
    kernel, common = releases.resolve_nanos(access, Nanos(path="nanos", version="0.1.52"), root)
    assert (kernel.kind, kernel.version, kernel.source, kernel.local) == (
        "directory", "0.1.52", "nanos", root / "nanos",
    )  # fmt: skip
    assert common is None
    assert any(isinstance(event, Notice) and "certificates" in event.text for event in events)
    (root / "nanos/common.tar.gz").write_bytes(tar_gz({"a": b"b"}))
    changed, common = releases.resolve_nanos(access, Nanos(path="nanos"), root)
    assert changed.pin["tree-sha256"] != kernel.pin["tree-sha256"]
    assert changed.version == ""
    assert common is not None
    (root / "nanos/common.tar.gz").write_bytes(b"<html>")
    with pytest.raises(InputError, match="web page"):
        releases.resolve_nanos(access, Nanos(path="nanos"), root)


def test_stub_kernel(access: Access, tmp_path: Path) -> None:
    kernel, common = releases.resolve_nanos(access, Nanos(kernel="stub"), tmp_path)
    assert (kernel.kind, kernel.version, common) == ("stub", "stub", None)
    assert (kernel.local / "boot.img").read_bytes() == stub_boot_image()
    assert (kernel.local / "kernel.img").read_bytes() == stub_kernel()


def add_ops(server: FileServer, data: bytes, md5: str | None) -> None:
    server.add("/cli/linux/release/0.1.43/ops", data)
    if md5 is not None:
        server.add("/cli/linux/release/0.1.43/ops-linux-0.1.43.md5", md5.encode())


def test_ops_release_is_checked_against_its_md5(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    data = elf()
    add_ops(server, data, hashlib.md5(data).hexdigest() + "  ops\n")
    ops = releases.resolve_ops(vendor, Ops(version="0.1.43"), tmp_path)
    assert (ops.version, ops.note, ops.pin["size"], ops.ground) == ("0.1.43", "", "4096", "checksum")
    assert releases.resolve_ops(vendor, Ops(version="0.1.43"), tmp_path) == ops
    assert len(server.seen) == 2


def test_ops_with_the_wrong_md5_is_not_kept(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    add_ops(server, elf(), "0" * 32)
    for _ in range(2):
        with pytest.raises(InputError, match="md5 is"):
            releases.resolve_ops(vendor, Ops(version="0.1.43"), tmp_path)


def test_ops_without_an_md5_says_so(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    add_ops(server, elf(), None)
    ops = releases.resolve_ops(vendor, Ops(version="0.1.43"), tmp_path)
    assert ("md5" in ops.note, ops.ground) == (True, "local")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"<!doctype html>", "web page"), (b"", "is empty"), (elf()[:2000], "is truncated"), (b"#!/bin/sh\n", "is not"),
        (elf().replace(b"\x02\x00\x3e", b"\x02\x00\xb7", 1), "x86-64"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer"),
    ],
)  # fmt: skip
def test_ops_that_is_none(vendor: Access, server: FileServer, tmp_path: Path, data: bytes, message: str) -> None:
    add_ops(server, data, None)
    with pytest.raises(InputError, match=message):
        releases.resolve_ops(vendor, Ops(version="0.1.43"), tmp_path)
    (tmp_path / "ops").write_bytes(data)
    if data.startswith(b"#!"):
        return  # a script of one's own may wrap ops; none can come from a URL
    with pytest.raises(InputError, match=message):
        releases.resolve_ops(vendor, Ops(path="ops"), tmp_path)


def test_ops_from_a_url_and_from_a_file(access: Access, server: FileServer, tmp_path: Path) -> None:
    data = elf()
    digest = hashlib.sha256(data).hexdigest()
    url = server.add("/my-ops", data)
    assert releases.resolve_ops(access, Ops(url=url, sha256=digest), tmp_path).pin["sha256"] == digest
    with pytest.raises(InputError, match="expected"):
        releases.resolve_ops(access, Ops(url=url, sha256="0" * 64), tmp_path)
    (tmp_path / "ops").write_bytes(data)
    assert releases.resolve_ops(access, Ops(path="ops"), tmp_path).pin["sha256"] == digest
    with pytest.raises(InputError):
        releases.resolve_ops(access, Ops(path="none"), tmp_path)


def test_gpu_assets(vendor: Access, server: FileServer, tmp_path: Path) -> None:
    server.add(
        "/gevulot-static-assets/nanos-0.1.51-gpu.tar.gz",
        tar_gz({"top/gpu_nvidia": b"klib", "top/nvidia/535/gsp.bin": b"fw", "top/libcuda.so.535.1": b"lib"}),
    )
    assets = releases.resolve_gpu_assets(vendor, None, "0.1.51", tmp_path)
    assert sorted(path.name for path in assets.local.iterdir()) == ["gpu_nvidia", "libcuda.so.535.1", "nvidia"]
    (tmp_path / "gpu").mkdir()
    assert releases.resolve_gpu_assets(vendor, GpuAssets(path="gpu"), "0.1.51", tmp_path).kind == "directory"
    with pytest.raises(InputError, match="not a directory"):
        releases.resolve_gpu_assets(vendor, GpuAssets(path="missing"), "0.1.51", tmp_path)


def test_redirect_and_redaction() -> None:
    mirrors = {"https://a/": "http://m/", "https://a/b/": "http://n/", "docker.io/": "mirror.local/"}
    assert redirect("https://a/x", mirrors) == "http://m/x"
    assert redirect("https://a/b/x", mirrors) == "http://n/x"
    assert redirect("docker.io/library/rust:1", mirrors) == "mirror.local/library/rust:1"
    assert redirect("https://c/", mirrors) == "https://c/"
    assert redact_url("https://u:p@h:1/a?sig=1#f") == "https://h:1/a?***"
    assert redact_url("https://token@h/a") == "https://h/a"
    assert redact_url("ssh://git@h/a") == "ssh://git@h/a"
    assert redact_url("git@h:a/b") == "git@h:a/b"
    assert redact_url("../relative") == "../relative"
