"""Receipts for images that no build made."""

from __future__ import annotations

import json
from typing import Any


def receipt_document(name: str, checksum: str, *, path: str = "", **changes: Any) -> dict[str, Any]:
    """A whole receipt of an image with this BLAKE3; `changes` replace its parts."""
    sha256 = "0" * 64
    document: dict[str, Any] = {
        "schema": 1,
        "orchestrator": "0.1.0",
        "finished": "2026-01-02T03:04:05+00:00",
        "name": name,
        "runtime": "local",
        "image": {"path": path or f"{name}.img", "size": 1, "blake3": checksum, "sha256": sha256},
        "program_hash": {
            "algorithm": "SHA3-256(name + image_file_name + image_url + checksum)",
            "name": name,
            "image_file_name": f"{name}.img",
            "image_url": None,
            "checksum": checksum,
        },
        "packer": "native",
        "ops_version": None,
        "nanos_version": "stub",
        "bootable": True,
        "stand_ins": [],
        "inputs": [{"name": "nanos", "kind": "stub", "source": "kernel: stub", "pin": {"version": "stub"}}],
        "containerfile_sha256": sha256,
        "manifest_sha256": sha256,
        "context_sha256": sha256,
        "engine": {"kind": "podman", "version": "4.3.1", "builder": "buildah", "private": False},
        "stages": [{"stage": "verify", "step": "verify it", "seconds": 0.125, "cached": False}],
        "warnings": [],
        "verification": {"image": "x", "size": 1, "ok": True, "bootable": True, "checks": [], "stand_ins": []},
        "resources": {"cpus": 2, "memory": 512, "gpus": 0},
        "attachments": [],
    }
    return document | changes


def receipt_text(name: str, checksum: str, *, path: str = "", **changes: Any) -> str:
    """The text of `receipt_document`, as a build writes it."""
    return json.dumps(receipt_document(name, checksum, path=path, **changes), indent=2, ensure_ascii=False) + "\n"
