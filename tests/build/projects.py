"""Small projects for end-to-end tests, all on one base so that it is made once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from orchestrator.inputs.access import Access
from orchestrator.inputs.debian import bootstrap_rootfs
from orchestrator.inputs.store import Store
from orchestrator.inputs.transfer import export_entries, import_entries
from orchestrator.project.bases import Bootstrap

# A C compiler, a Python for the stand-in ops, and what an image without a shell is staged with. No machine can pull the
# reference: `.invalid` has no hosts.
BASE = {
    "image": "registry.invalid/orchestrator-tests:1",
    "bootstrap": {"debian": "bookworm", "packages": ["binutils", "busybox-static", "gcc", "libc6-dev", "python3"]},
}
# The base of the examples, which is made once for both.
RUST = {
    "image": "registry.invalid/orchestrator-tests:shim",
    "bootstrap": {
        "debian": "bookworm",
        "packages": [
            "cargo-web", "rustc-web", "gcc", "libc6-dev", "protobuf-compiler", "pkg-config", "ca-certificates",
        ],
    },
}  # fmt: skip
LINK = 'gcc -O1 -o program program.c -lm -L"$GEVULOT_LIB_DIR" -Wl,--no-as-needed -lgevulot_shim_ffi\n'
SOURCE = """\
#include <stdio.h>
#include <math.h>
int main(int argc, char **argv) { printf("%f\\n", sqrt(argc)); return 0; }
"""
COMPILE = "gcc -O1 -o program program.c -lm"


class _Dumper(yaml.SafeDumper):
    """Writes scripts as a person does: block scalars."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def write_project(folder: Path, *, files: Mapping[str, str] | None = None, **changes: Any) -> Path:
    """A project in C with the stub kernel and the native packer; `changes` replace top-level keys (None removes)."""
    document: dict[str, Any] = {
        "name": "program",
        "runtime": "local",
        "base": BASE,
        "build": {"run": COMPILE + "\n", "program": "program"},
        "nanos": {"kernel": "stub"},
        "packer": "native",
    }
    document |= changes
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.c").write_text(SOURCE)
    for name, text in (files or {}).items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    project = folder / "project.yaml"
    kept = {key: value for key, value in document.items() if value is not None}
    project.write_text(yaml.dump(kept, Dumper=_Dumper, sort_keys=False))
    return project


def cache_with_base(folder: Path, base: Mapping[str, Any]) -> Path:
    """A new cache that holds nothing but `base`, which takes a while to make, from the user's own."""
    user = Store()
    entry = bootstrap_rootfs(Access(store=user), Bootstrap.model_validate(base["bootstrap"]))
    carried = folder.with_name(f"{folder.name}.tar")
    export_entries(user, [entry.key], carried)
    import_entries(Store(folder), carried)
    carried.unlink()
    return folder
