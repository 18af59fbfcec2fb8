"""docs/nanos-image.md: its test vectors are read from the page, and hold for our reader and writer."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from orchestrator.image.codec import Decoder, Encoder, Raw
from orchestrator.image.convert import convert_image
from orchestrator.image.headers import encode_varint
from orchestrator.image.listing import path_key, tree_digest, tree_listing
from orchestrator.image.log import read_log
from orchestrator.image.reader import Filesystem, open_image
from orchestrator.image.tree import Directory, File, Symlink
from orchestrator.image.writer import BootFiles, ImageWriter
from tests.support.cli import ROOT

from .handmade import SECTOR, extension, link

PAGE = (ROOT / "docs/nanos-image.md").read_text()
_PAIR = re.compile(r"```(tuple-[45]|log-5|image)([^\n]*)\n(.*?)```\n\n```json\n(.*?)```", re.S)
_NUMBER = re.compile(r"^\| (\d+) \| `([0-9a-f ]+)` \|$", re.M)


def vectors(*kinds: str) -> list[Any]:
    pairs = [match for match in _PAIR.finditer(PAGE) if match[1] in kinds]
    return [pytest.param(*match.groups(), id=f"{match[1]}-{number}") for number, match in enumerate(pairs)]


def lines(text: str) -> Iterator[str]:
    for line in text.splitlines():
        if bare := line.partition("#")[0].strip():
            yield bare


def data(text: str) -> bytes:
    return bytes.fromhex(" ".join(lines(text)))


def canonical(value: Any, version: int) -> bytes:
    """As our writer encodes it; the page spells version 4's vectors out, as tuples."""
    encoder = Encoder(version)
    encoder.value(value)
    return bytes(encoder.data)


def test_the_page_has_vectors_of_every_kind() -> None:
    kinds = [match[1] for match in _PAIR.finditer(PAGE)]
    assert {kind: kinds.count(kind) for kind in kinds} == {"tuple-5": 2, "tuple-4": 1, "log-5": 2, "image": 1}
    assert PAGE.count("```json") == len(kinds)


def test_varints() -> None:
    rows = _NUMBER.findall(PAGE)
    assert len(rows) == 5
    for number, encoded in rows:
        assert encode_varint(int(number)).hex(" ") == encoded


@pytest.mark.parametrize(("kind", "more", "text", "value"), vectors("tuple-5", "tuple-4"))
def test_tuples(kind: str, more: str, text: str, value: str) -> None:
    version = int(kind[-1])
    decoder = Decoder()
    decoder.decode(data(text), version)
    assert decoder.root == json.loads(value)
    if more.strip() == "canonical":
        assert canonical(json.loads(value), version) == data(text)


@pytest.mark.parametrize(("kind", "more", "text", "value"), vectors("log-5"))
def test_logs(kind: str, more: str, text: str, value: str) -> None:
    partition = extension(link(1, 16), 1, first=True) + extension(data(text), 16) + bytes(SECTOR)
    root: dict[str, Raw] = read_log(lambda at, length: partition[at : at + length], len(partition)).root
    assert root == json.loads(value)


def sparse(size: int, text: str) -> bytes:
    image = bytearray(size)
    for line in lines(text):
        offset, content = line.split(maxsplit=1)
        row = bytes.fromhex(content)
        assert not any(image[int(offset, 16) : int(offset, 16) + len(row)])
        image[int(offset, 16) : int(offset, 16) + len(row)] = row
    return bytes(image)


def shown(filesystem: Filesystem | None) -> dict[str, Any]:
    assert filesystem is not None
    rows: dict[str, Any] = {}
    for path, node in filesystem.walk():
        assert isinstance(node, Directory | File | Symlink)
        content = b"".join(filesystem.read(node)).decode() if isinstance(node, File) else None
        rows[path] = [node.target] if isinstance(node, Symlink) else content
    return rows


def digest_of_page(manifest: dict[str, Any], nodes: dict[str, Any]) -> str:
    """The tree's digest as the page describes it, without our code for it."""

    def line(path: str, kind: str, target: str = "", content: bytes | None = None) -> bytes:
        sha256 = hashlib.sha256(content).hexdigest() if content is not None else ""
        row = {"path": path, "sha256": sha256, "size": len(content or b""), "target": target, "type": kind}
        return json.dumps(row).encode() + b"\n"

    rows = [line(name, "attribute", json.dumps(manifest[name], sort_keys=True)) for name in sorted(manifest)]
    for path, what in nodes.items():
        if isinstance(what, str):
            rows.append(line(path, "file", content=what.encode()))
        else:
            rows.append(line(path, "symlink", what[0]) if what else line(path, "directory"))
    return hashlib.sha256(b"".join(rows)).hexdigest()


def uuid_of_page(digest: str) -> str:
    raw = bytearray(hashlib.sha256(f"gevulot-orchestrator tfs uuid\n{digest}\n5\n".encode()).digest()[:16])
    raw[6], raw[8] = 0x80 | raw[6] & 0x0F, 0x80 | raw[8] & 0x3F
    digits = raw.hex()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


@pytest.mark.parametrize(("kind", "size", "text", "value"), vectors("image"))
def test_image(kind: str, size: str, text: str, value: str, tmp_path: Path) -> None:
    image, expected = sparse(int(size), text), json.loads(value)
    (tmp_path / "image").write_bytes(image)
    with open_image(tmp_path / "image") as opened:
        assert opened.bootfs is not None
        assert {
            "blake3": blake3(image).hexdigest(),
            "boot": shown(opened.bootfs),
            "boot uuid": opened.bootfs.uuid,
            "manifest": opened.rootfs.attributes,
            "root": shown(opened.rootfs),
            "root digest": tree_digest(tree_listing(opened.rootfs)),
            "root uuid": opened.rootfs.uuid,
        } == expected
        convert_image(opened, tmp_path / "converted")
    assert (tmp_path / "converted").read_bytes() == image
    assert digest_of_page(expected["manifest"], expected["root"]) == expected["root digest"]
    assert uuid_of_page(expected["root digest"]) == expected["root uuid"]
    assert uuid_of_page(digest_of_page({}, expected["boot"])) == expected["boot uuid"]


@pytest.mark.parametrize(("kind", "size", "text", "value"), vectors("image"))
def test_image_is_what_our_writer_makes(kind: str, size: str, text: str, value: str, tmp_path: Path) -> None:
    expected = json.loads(value)
    klibs = {path.rpartition("/")[2]: what.encode() for path, what in expected["boot"].items() if path.count("/") == 2}
    boot = BootFiles(boot_img=None, kernel=expected["boot"]["/kernel"].encode(), klibs=klibs)
    with ImageWriter(tmp_path / "image", boot) as writer:
        for path, what in sorted(expected["root"].items(), key=lambda item: path_key(item[0])):
            if isinstance(what, str):
                writer.add_file(path, len(what), [what.encode()])
            elif what:
                writer.add_symlink(path, what[0])
            elif path != "/etc":  # its file makes it
                writer.add_directory(path)
        writer.finish(expected["manifest"])
    assert (tmp_path / "image").read_bytes() == sparse(int(size), text)
