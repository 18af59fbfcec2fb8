"""Decoded trees are equal exactly when a guest could not tell the images apart."""

from __future__ import annotations

import hashlib
from pathlib import Path

from orchestrator.image.listing import ListingEntry, tree_digest, tree_listing
from orchestrator.image.reader import open_image

from .handmade import SECTOR, disk, extent, file_node, filesystem, merge, put, ref, sym, text, tree, tup, vector


def listing(directory: Path, *values: bytes, version: int = 5) -> list[ListingEntry]:
    rootfs = bytearray(filesystem(*values, version=version))
    for sector in (20, 30):
        rootfs[sector * SECTOR : sector * SECTOR + 3] = b"abc"
    with open_image(put(directory, disk(bytes(rootfs)))) as image:
        return tree_listing(image.rootfs)


def test_entries(tmp_path: Path) -> None:
    root = tree(
        sym("z") + tup(sym("children") + tup(file_node("f", 3, [extent("0", 20, 1)]))),
        sym("a") + tup(sym("linktarget") + text("z/f")),
        sym("s") + tup(sym("socket") + b"\x81\x00"),
        attributes=[sym("program") + text("/a"), sym("arguments") + vector(text("é"))],
    )
    assert listing(tmp_path, root) == [
        ListingEntry(type="attribute", path="arguments", target='["\\u00e9"]'),
        ListingEntry(type="attribute", path="program", target='"/a"'),
        ListingEntry(type="symlink", path="/a", target="z/f"),
        ListingEntry(type="special", path="/s", target="socket"),
        ListingEntry(type="directory", path="/z"),
        ListingEntry(type="file", path="/z/f", size=3, sha256=hashlib.sha256(b"abc").hexdigest()),
    ]


def test_order_and_place_do_not_matter(tmp_path: Path) -> None:
    one = listing(tmp_path, tree(file_node("a", 3, [extent("0", 20, 1)]), file_node("b", 3, [extent("0", 30, 1)])))
    other = listing(
        tmp_path,
        tree(file_node("b", 3, [extent("0", 20, 1)]), file_node("gone", 0, [])),
        merge(3, sym("gone") + b"\x80", file_node("a", "3", [extent("0", 30, 1)])),
    )
    assert one == other
    assert tree_digest(one) == tree_digest(other)


def test_the_encoding_does_not_matter(tmp_path: Path) -> None:
    new = tree(sym("d") + tup(ref(2) + tup()), attributes=[sym("arguments") + vector(text("a"), text("b"))])
    old = tup(
        sym("children", 4) + tup(sym("d", 4) + tup(ref(2, 4) + tup(version=4), version=4), version=4),
        sym("arguments", 4) + tup(sym("0", 4) + text("a", 4), sym("1", 4) + text("b", 4), version=4),
        version=4,
    )
    assert tree_digest(listing(tmp_path, new)) == tree_digest(listing(tmp_path, old, version=4))


def test_every_difference_shows(tmp_path: Path) -> None:
    roots = [
        tree(file_node("a", 3, [extent("0", 20, 1)])),
        tree(file_node("a", 2, [extent("0", 20, 1)])),
        tree(file_node("a", 3, [])),
        tree(file_node("b", 3, [extent("0", 20, 1)])),
        tree(sym("a") + tup(sym("children") + tup())),
        tree(sym("a") + tup(sym("linktarget") + text("x"))),
        tree(sym("a") + tup(sym("linktarget") + text("y"))),
        tree(),
        tree(attributes=[sym("a") + text("x")]),
        tree(attributes=[sym("a") + vector(text("x"))]),
    ]
    assert len({tree_digest(listing(tmp_path, root)) for root in roots}) == len(roots)
