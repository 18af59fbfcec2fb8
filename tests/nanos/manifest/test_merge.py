"""Defaults, the user's manifest and project.yaml's resources put together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import Severity, UsageError
from orchestrator.nanos.manifest.effective import canonical_order, guest_program, renumber_mounts, volume_size
from orchestrator.nanos.manifest.merge import merge
from tests.nanos.manifest.helpers import effective, said

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)


def without_nulls(value: Any) -> Any:
    return {k: without_nulls(v) for k, v in value.items() if v is not None} if isinstance(value, dict) else value


def test_defaults_are_the_guides_manifest(tmp_path: Path) -> None:
    assert effective(tmp_path).data == {
        "Program": "my-prover",
        "Env": {"RUST_BACKTRACE": "1", "RUST_LOG": "debug"},
        "Mounts": {"%1": "/workspace"},
        "ManifestPassthrough": {"readonly_rootfs": "true"},
        "RunConfig": {"CPUs": 2, "Memory": "512m"},
    }
    assert effective(tmp_path).findings == ()


def test_gpu_defaults(tmp_path: Path) -> None:
    manifest = effective(tmp_path, project='cuda: "12.3.0"\nresources: {gpus: 1, memory: 2048}\n')
    assert manifest.klibs == ("gpu_nvidia",)
    assert manifest.klib_dir == "/build"
    assert manifest.reboot_on_exit
    assert manifest.dirs == ("lib", "nvidia")
    assert manifest.run_config == {"CPUs": 2, "Memory": "2048m", "GPUs": 1}
    assert manifest.passthrough == {"readonly_rootfs": "true"}


def test_the_users_keys_win_and_null_removes(tmp_path: Path) -> None:
    manifest = effective(tmp_path, {"Env": {"RUST_LOG": "info", "RUST_BACKTRACE": None, "A": "1"}, "program": "bin/p"})
    assert manifest.env == {"RUST_LOG": "info", "A": "1"}
    assert manifest.program == "bin/p"
    assert "program" not in manifest.data


def test_same_input_same_text_whatever_the_order(tmp_path: Path) -> None:
    one = effective(tmp_path, '{"Args": ["b", "a"], "Env": {"B": "1", "A": "2"}}')
    two = effective(tmp_path, '{"env": {"A": "2", "B": "1"}, "args": ["b", "a"]}')
    assert one.text == two.text
    assert next(iter(one.data)) == "Program"
    assert json.loads(one.text) == one.data


def test_what_the_node_needs_is_filled_in_with_a_note(tmp_path: Path) -> None:
    manifest = effective(tmp_path, {"Program": "my-prover"})
    assert manifest.mounts == {"%0": "/workspace"}
    assert manifest.passthrough["readonly_rootfs"] == "true"
    notes = said(manifest, Severity.NOTE)
    assert [n for n in notes if "readonly_rootfs" in n]
    assert [n for n in notes if "/workspace" in n]


def test_a_mount_of_the_workspace_replaces_the_default(tmp_path: Path) -> None:
    assert effective(tmp_path, {"Mounts": {"%0": "/workspace"}}).data["Mounts"] == {"%0": "/workspace"}


def test_resources_that_differ_are_a_warning(tmp_path: Path) -> None:
    manifest = effective(tmp_path, {"RunConfig": {"CPUs": 8, "Memory": "2g"}}, "resources: {cpus: 4, memory: 2048}\n")
    warnings = said(manifest, Severity.WARNING)
    assert len(warnings) == 1
    assert warnings[0].startswith("RunConfig.CPUs: is 8")
    assert manifest.run_config["CPUs"] == 8


@pytest.mark.parametrize(
    ("manifest", "severity", "words"),
    [
        ({"ManifestPassthrough": {"readonly_rootfs": "false"}}, "warning", "any value turns it on"),
        ({"ManifestPassthrough": {"readonly_rootfs": None}}, "warning", "readonly_rootfs was removed"),
        ({"ManifestPassthrough": {"program": "/x"}}, "warning", "replaces all that comes from `Program`"),
        ({"ManifestPassthrough": {"own_setting": "x"}}, "warning", "is not a setting that Nanos 0.1.51 reads"),
        ({"Mounts": None}, "warning", "nothing is mounted at /workspace"),
        ({"Mounts": {"%1": "/workspace:ro"}}, "warning", "is mounted read-only"),
        ({"Mounts": {"data": "/data"}}, "warning", "the node serves one share"),
        ({"Mounts": {"%1": "workspace"}}, "warning", 'write "/workspace" to say so'),
        ({"RunConfig": {"GPUs": 0, "GPUType": "nvidia-tesla-t4"}}, "warning", "or write pci-passthrough"),
        ({"RunConfig": {"Memory": "2 GB"}}, "warning", "is not a size"),
        ({"RunConfig": {"CPUs": -1}}, "warning", "below zero"),
        ({"Debugflags": ["own_flag"]}, "warning", "is not a setting that Nanos 0.1.51 reads"),
        ({"Env": {"EMPTY": ""}}, "warning", "Nanos drops empty variables"),
        ({"Env": {"readonly_rootfs": "t"}}, "warning", "move it into `ManifestPassthrough`"),
        ({"Env": {"LD_LIBRARY_PATH": "/build/gevulot/lib"}}, "warning", "write `/gevulot/lib`"),
        ({"Env": {"LD_LIBRARY_PATH": "lib"}}, "warning", "is not absolute"),
        ({"Env": {"HOME_OF": "$HOME/x"}}, "warning", "is taken literally"),
        ({"NanosVersion": "0.1.50"}, "warning", "set `nanos: {version: …}`"),
        ({"Kernel": "/k.img"}, "warning", "is blanked"),
        ({"Description": "x"}, "warning", "has no effect"),
        ({"Program": "/my-prover"}, "warning", "write `my-prover`"),
        ({"Program": "bin/verifier"}, "warning", "but build.program is `target/release/my-prover`"),
        ({"Dirs": ["./lib"]}, "warning", "write `lib`"),
        ({"Dirs": ["/lib"]}, "warning", "relative to /build"),
        ({"Klibs": ["gpu_nvidia"]}, "warning", "the project has no GPU"),
        ({"RunConfig": {"IPAddress": "10.0.0.2", "NetMask": "255.0.0.0"}}, "warning", "always writes 255.255.255.0"),
        ({"TargetRoot": "root"}, "warning", "the loader will not look"),
        ({"Files": ["/lib/x86_64-linux-gnu/libdl.so.2"]}, "note", "/build/lib/x86_64-linux-gnu/libdl.so.2"),
        ({"CloudConfig": {"Platform": "gcp"}}, "note", "only matters for cloud providers"),
        ({"RunConfig": {"Verbose": True, "Bridged": True}}, "note", "Bridged, Verbose: only for `ops run`"),
        ({"rebootonexit": True}, "note", "ops spells it `RebootOnExit`"),
    ],
)
def test_what_ops_would_keep_silent_about(tmp_path: Path, manifest: dict[str, Any], severity: str, words: str) -> None:
    lines = said(effective(tmp_path, manifest), Severity(severity))
    assert [text for text in lines if words in text], lines


@pytest.mark.parametrize("path", ["workspace", "./workspace/", "workspace:ro"])
def test_a_relative_mount_is_mounted_from_the_root(tmp_path: Path, path: str) -> None:
    manifest = effective(tmp_path, {"Mounts": {"%1": path}})
    assert manifest.mounts == {"%0": "/workspace:ro" if ":" in path else "/workspace"}
    assert not [text for text in said(manifest, Severity.WARNING) if "nothing is mounted" in text]


@pytest.mark.parametrize(
    ("nanos", "said_of"),
    [
        ("version: 0.1.51", "Nanos 0.1.51 ignores it"),
        ("version: 0.1.52", "Nanos 0.1.52 ignores it"),
        ("version: 0.1.53", ""),
        ("path: nanos", ""),
    ],
)
def test_settings_of_newer_kernels_are_known(tmp_path: Path, nanos: str, said_of: str) -> None:
    settings = {"log_level": "info", "transparent_hugepage": "never", "own_setting": "x"}
    manifest = effective(tmp_path, {"ManifestPassthrough": settings}, f"nanos: {{{nanos}}}\n")
    newer = [f for f in manifest.findings if f.code == "passthrough-newer"]
    assert [f.severity for f in newer] == [Severity.NOTE] * (2 if said_of else 0)
    assert all(said_of in f.message for f in newer)
    (unknown,) = [f for f in manifest.findings if f.code == "passthrough-unknown"]
    name, _, version = nanos.partition(": ")
    assert unknown.message == f"is not a setting that Nanos{f' {version}' if name == 'version' else ''} reads"


def test_gpu_project_without_its_klib(tmp_path: Path) -> None:
    gpu = 'cuda: "12.3.0"\nresources: {gpus: 1}\n'
    manifest = effective(tmp_path, {"Klibs": ["gpu_nvidia", "ntp"]}, gpu)
    assert manifest.klibs == ("gpu_nvidia", "ntp")
    with pytest.raises(UsageError) as caught:
        effective(tmp_path, {"Klibs": ["ntp"]}, gpu)
    assert "the guest sees no GPU" in str(caught.value.findings[0])


@given(OBJECTS, OBJECTS)
def test_merge_takes_every_scalar_of_the_user(base: dict[str, Any], over: dict[str, Any]) -> None:
    merged = merge(base, over)
    for key, value in over.items():
        if value is None:
            assert key not in merged
        elif not isinstance(value, dict):
            assert merged[key] == value
    assert set(merged) == {k for k in {*base, *over} if over.get(k, 0) is not None}


@given(OBJECTS, OBJECTS)
def test_merge_twice_is_merge_once(base: dict[str, Any], over: dict[str, Any]) -> None:
    once = merge(base, over)
    assert merge(once, over) == once
    assert merge({}, once) == without_nulls(once)
    assert merge(base, {}) == base


@given(OBJECTS, OBJECTS)
def test_merge_changes_neither(base: dict[str, Any], over: dict[str, Any]) -> None:
    before = json.dumps([base, over])
    merged = merge(base, over)
    for value in merged.values():
        if isinstance(value, list):
            value.append("changed")
    assert json.dumps([base, over]) == before


@given(OBJECTS)
def test_canonical_order_keeps_the_data(data: dict[str, Any]) -> None:
    assert canonical_order(data) == data
    assert json.dumps(canonical_order(data)) == json.dumps(canonical_order(dict(reversed(data.items()))))


@pytest.mark.parametrize(
    ("mounts", "written"),
    [
        ({"%1": "/workspace"}, {"%0": "/workspace"}),
        ({"%2": "/b", "%1": "/a"}, {"%0": "/a", "%1": "/b"}),
        ({"%10": "/c", "%2": "/b", "%1": "/a"}, {"%0": "/a", "%1": "/c", "%2": "/b"}),  # by byte, not by number
        ({"data": "/data", "%1": "/workspace:ro"}, {"%0": "/workspace:ro", "%1": "/data"}),
        ({"/host": "/h", "%1": "/w"}, {"%0": "/w", "%1": "/h"}),
        ({"./b": "/b", "a": "/a"}, {"%0": "/a", "%1": "/b"}),
        ({}, {}),
    ],
)
def test_renumbering(mounts: dict[str, str], written: dict[str, str]) -> None:
    assert renumber_mounts(mounts) == written


@pytest.mark.parametrize(
    ("program", "guest"),
    [
        ("my-prover", "/my-prover"),
        ("./my-prover", "/my-prover"),
        ("target/release/p", "/target/release/p"),
        ("/p", "/p"),
        ("a//b/./c", "/a/b/c"),
    ],
)
def test_guest_path_of_the_program(program: str, guest: str) -> None:
    assert guest_program(program) == guest


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("513", 1024),
        ("4k", 4096),
        ("50M", 50 << 20),
        ("2g", 2 << 30),
        ("50mb", None),
        ("m", None),
        ("", None),
    ],
)
def test_volume_size(text: str, size: int | None) -> None:
    assert volume_size(text) == size
