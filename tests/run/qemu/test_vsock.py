"""The host's side of a guest's vsock: what comes in reaches the node's stand-in, both ways and at once."""

from __future__ import annotations

import socket
import tempfile
from pathlib import Path

import grpc

from orchestrator.run.node.local_node import LocalNode, serving
from orchestrator.run.node.messages import SERVICE
from orchestrator.run.node.task import Task
from orchestrator.run.qemu.vsock import can_serve, forwarding
from tests.run.qemu.test_machine import make_image
from tests.support.cli import orchestrator


def test_calls_are_handed_on(tmp_path: Path) -> None:
    node = LocalNode(task=Task(id="t1", args=("a" * 300_000,), files=()), workspace=tmp_path)
    with tempfile.TemporaryDirectory(prefix="n-") as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/front")  # in place of the vsock, which needs a guest
        listener.listen()
        behind = Path(folder) / "node.sock"
        with serving(node, behind), forwarding(listener, behind):
            for _ in range(3):
                with grpc.insecure_channel(f"unix:{folder}/front") as channel:
                    ask: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{SERVICE}/GetTask")
                    assert b"a" * 300_000 in ask(b"", timeout=20)


def test_only_the_guest_is_let_in(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,  # its peers' addresses are no CID of a guest
        forwarding(listener, tmp_path / "node.sock", guest=1234),
        socket.create_connection(listener.getsockname()) as other,
    ):
        other.settimeout(20)
        assert other.recv(1) == b""


def test_a_task_for_devnet_without_vhost_vsock_is_3(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text("{}")
    image = make_image(tmp_path / "x.img")
    done = orchestrator("boot", image, "--runtime", "devnet", "--task", tmp_path / "task.json", "--timeout", "60")
    if can_serve():
        assert done.code == 7  # the stub kernel takes no task
    else:
        assert done.code == 3
        assert "vhost" in done.stderr
