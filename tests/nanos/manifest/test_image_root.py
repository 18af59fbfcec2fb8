"""The root tuple and the files that ops 0.1.43 writes for a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orchestrator.nanos.manifest.image_root import extra_files, root_attributes
from orchestrator.values import Value
from tests.nanos.manifest.helpers import effective


def root(directory: Path, manifest: dict[str, Any] | None = None, name: str = "my-prover") -> dict[str, Value]:
    return root_attributes(
        effective(directory, manifest), image_name=name, nanos_version="0.1.51", ops_version="0.1.43"
    )


def test_root_of_the_defaults(tmp_path: Path) -> None:
    assert root(tmp_path) == {
        "program": "/my-prover",
        "arguments": ["my-prover"],
        "environment": {
            "USER": "root",
            "PWD": "/",
            "OPS_VERSION": "0.1.43",
            "NANOS_VERSION": "0.1.51",
            "NANOS_ARCH": "amd64",
            "IMAGE_NAME": "my-prover",
            "RUST_BACKTRACE": "1",
            "RUST_LOG": "debug",
        },
        "mounts": {"%0": "/workspace"},
        "readonly_rootfs": "true",
    }


def test_program_path_and_argv0(tmp_path: Path) -> None:
    written = root(tmp_path, {"Program": "./target/release/p", "Args": ["--k=v", ""]})
    assert written["program"] == "/target/release/p"
    assert written["arguments"] == ["./target/release/p", "--k=v", ""]


def test_the_users_environment_wins_except_over_ports(tmp_path: Path) -> None:
    written = root(tmp_path, {"Env": {"USER": "me", "OPS_PORT": "1"}, "RunConfig": {"Ports": ["80", "443"]}})
    environment = written["environment"]
    assert isinstance(environment, dict)
    assert environment["USER"] == "me"
    assert environment["OPS_PORT"] == "80,443"


def test_image_name_is_cut_at_the_first_dot(tmp_path: Path) -> None:
    environment = root(tmp_path, name="a/my.prover.img")["environment"]
    assert isinstance(environment, dict)
    assert environment["IMAGE_NAME"] == "my"


def test_flags_klibs_and_traces(tmp_path: Path) -> None:
    written = root(
        tmp_path,
        {"RebootOnExit": True, "Debugflags": ["trace", "fault"], "NoTrace": ["read"], "Klibs": ["cloud_init"]},
    )
    assert written["reboot_on_exit"] == written["trace"] == written["fault"] == "t"
    assert written["notrace"] == ["read"]
    assert written["klibs"] == "bootfs"
    assert effective(tmp_path, {"Klibs": ["cloud_init"]}).klibs == ("cloud_init", "tls")


def test_radar(tmp_path: Path) -> None:
    manifest = effective(tmp_path, {"Env": {"RADAR_KEY": "k"}})
    assert manifest.klibs == ("tls", "radar")
    environment = root(tmp_path, {"Env": {"RADAR_KEY": "k"}})["environment"]
    assert isinstance(environment, dict)
    assert environment["RADAR_IMAGE_NAME"] == "my-prover"


def test_static_addresses(tmp_path: Path) -> None:
    assert "ipaddr" not in root(tmp_path, {"RunConfig": {"Gateway": "10.0.0.1"}})
    written = root(tmp_path, {"RunConfig": {"IPAddress": "10.0.0.2", "Gateway": "10.0.0.1"}})
    assert [written[k] for k in ("ipaddr", "gateway", "ip6addr")] == ["10.0.0.2", "10.0.0.1", ""]
    assert written["netmask"] == "255.255.255.0"  # ops's flag default, whatever the manifest says
    written = root(tmp_path, {"runconfig": {"nics": [{"ipaddress": "10.0.0.2"}, {"IPAddress": "10.0.1.2"}]}})
    assert written["ipaddr"] == "10.0.0.2"
    assert written["en2"] == {"ipaddr": "10.0.1.2", "netmask": "", "gateway": ""}


def test_passthrough_comes_last_and_may_be_deep(tmp_path: Path) -> None:
    written = root(
        tmp_path,
        {"RebootOnExit": True, "ManifestPassthrough": {"reboot_on_exit": "!0", "syslog": {"tags": ["a", {"b": "c"}]}}},
    )
    assert written["reboot_on_exit"] == "!0"
    assert written["syslog"] == {"tags": ["a", {"b": "c"}]}


def test_run_time_keys_leave_no_trace(tmp_path: Path) -> None:
    assert root(tmp_path, {"RunConfig": {"CPUs": 8, "Verbose": True}}) == root(tmp_path)


def test_files_that_are_always_added(tmp_path: Path) -> None:
    assert extra_files(effective(tmp_path)) == {
        "etc/resolv.conf": b"nameserver  8.8.8.8\n",
        "etc/passwd": b"root:x:0:0:root:/root:/bin/nobash",
        "proc/sys/kernel/hostname": b"uniboot",
    }
    servers = extra_files(effective(tmp_path, {"NameServers": ["1.1.1.1", "9.9.9.9"]}))
    assert servers["etc/resolv.conf"] == b"nameserver  1.1.1.1\nnameserver  9.9.9.9\n"


def test_mount_points_and_sizes(tmp_path: Path) -> None:
    manifest = effective(tmp_path, {"BaseVolumeSz": "64m", "TFSv4": True, "Uefi": True})
    assert manifest.mount_points == ("workspace",)
    assert manifest.base_volume_size == 64 << 20
    assert (manifest.tfs_v4, manifest.uefi) == (True, True)
