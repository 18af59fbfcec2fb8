"""The GPU examples, from CUDA C++ to verified images: CUDA from NVIDIA's Python packages, stand-in driver files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.engine.base import Engine
from tests.support.cli import ROOT, orchestrator
from tests.support.gpu_trees import DRIVER, LIBRARIES, make_gpu_assets

CUDA = "13.0.2"
GUEST = "lib/x86_64-linux-gnu"
EXAMPLES = ("device-query", "gpu-prover")
FAMILIES = {"gpu-prover": ["ampere", "ada", "hopper"]}
"""What gpu-prover's project.yaml names."""


def projects(folder: Path, assets: Path) -> list[Path]:
    """The examples as they are, but for what can't be had here: the shim, the driver's files, Nanos and CUDA 12."""
    changed = []
    for name in EXAMPLES:
        example = ROOT / "examples" / name
        document: dict[str, Any] = yaml.safe_load((example / "project.yaml").read_text())
        document |= {
            "runtime": "local", "gevulot": {"path": str(ROOT / "examples/standin-gevulot")}, "cuda": CUDA,
            "nanos": {"kernel": "stub"}, "packer": "native", "gpu-assets": {"path": str(assets)},
        }  # fmt: skip
        document.pop("ops", None)
        copy = shutil.copytree(example, folder / name)
        (copy / "project.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        changed.append(copy / "project.yaml")
    return changed


def packed_paths(image: Path) -> set[str]:
    """Guest paths of what is packed, without the leading "/"."""
    done = orchestrator("inspect", image, "tree", "--json")
    assert done.code == 0, done.stderr
    return {row["path"].strip("/") for row in done.json()}


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    """What the first engine made, for the second."""
    return {}


@pytest.mark.slow
def test_gpu_assets_that_do_not_fit_are_refused_before_the_build(engine: Engine, tmp_path: Path) -> None:
    assets = make_gpu_assets(tmp_path / "assets")
    (assets / "nvidia" / DRIVER / "gsp_ga10x.bin").unlink()
    _, project = projects(tmp_path / "projects", assets)
    done = orchestrator("build", project, "-o", tmp_path / "out", "--engine", engine.info.endpoint)
    assert done.code == 6, done.stderr[-4000:]
    said = done.stderr
    assert "gpu-families names hopper, but its firmware gsp_ga10x.bin is not packed" in said
    assert "gpu-assets: " in said and "RUN" not in said
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").glob("*.img*"))


@pytest.mark.slow
def test_both_examples_become_images_with_the_guides_layout(
    engine: Engine, tmp_path: Path, images: dict[str, bytes]
) -> None:
    assets = make_gpu_assets(tmp_path / "assets")
    out = tmp_path / "out"
    project_files = projects(tmp_path / "projects", assets)
    done = orchestrator("build", *project_files, "-o", out, "--engine", engine.info.endpoint)
    assert done.code == 0, done.stderr[-4000:]
    for name in EXAMPLES:
        image = out / f"{name}.img"
        assert {
            name, "lib64/ld-linux-x86-64.so.2", f"nvidia/{DRIVER}/gsp_ga10x.bin", f"nvidia/{DRIVER}/gsp_tu10x.bin",
            *(f"{GUEST}/{library}.so.{end}" for library in LIBRARIES for end in ("1", DRIVER)),
            *(f"{GUEST}/libcudart.so{end}" for end in ("", ".13", ".13.0.96")),
            *(f"{GUEST}/{library}" for library in ("libc.so.6", "libgevulot_shim_ffi.so", "libstdc++.so.6")),
        } <= packed_paths(image)  # fmt: skip
        checked = orchestrator("verify", image)
        assert checked.code == 0, checked.stderr
        receipt = json.loads((out / f"{name}.receipt.json").read_text())
        assert receipt["resources"]["gpus"] == 1
        assert receipt["resources"].get("gpu_families") == FAMILIES.get(name)
        stand_ins = {stand_in["path"] for stand_in in receipt["stand_ins"]}
        assert {"boot:/klib/gpu_nvidia", f"/{GUEST}/libcuda.so.1"} <= stand_ins
        (base,) = [used for used in receipt["inputs"] if used["name"] == "base"]
        assert f"CUDA {CUDA}" in base["note"]
        assert images.setdefault(name, image.read_bytes()) == image.read_bytes()
    # The receipt's families are what `verify` goes by; a program without code for one of them is refused.
    receipt = out / "gpu-prover.receipt.json"
    document = json.loads(receipt.read_text())
    document["resources"]["gpu_families"] = ["turing"]
    receipt.write_text(json.dumps(document))
    refused = orchestrator("verify", out / "gpu-prover.img", "--json")
    assert refused.code == 6
    (check,) = [row for row in refused.json()["checks"] if not row["ok"]]
    assert [finding["code"] for finding in check["findings"]] == ["gpu-code-missing"]
    locked = json.loads(project_files[0].with_name("project.lock").read_text())
    wheels = [package for package in locked["inputs"]["base"]["packages"] if package.startswith("pypi:")]
    assert any(wheel.startswith("pypi:nvidia-cuda-nvcc=13.0.") and " sha256:" in wheel for wheel in wheels)
