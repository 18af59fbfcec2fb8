"""What is generated and committed is what its source says today."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet

ROOT = Path(__file__).resolve().parents[1]
PROTOS = sorted(path.relative_to(ROOT) for path in (ROOT / "orchestrator").rglob("*.proto"))


@pytest.mark.parametrize("proto", PROTOS, ids=str)
def test_messages_are_of_their_proto_file(proto: Path, tmp_path: Path) -> None:
    descriptors = tmp_path / "descriptors"
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I.", f"--descriptor_set_out={descriptors}", str(proto)]
    subprocess.run(command, cwd=ROOT, check=True)
    (expected,) = FileDescriptorSet.FromString(descriptors.read_bytes()).file
    module = importlib.import_module(".".join(proto.with_suffix("").parts) + "_pb2")
    for message in expected.message_type:
        for field in message.field:
            field.ClearField("json_name")  # the compiler adds it for descriptors alone
    assert module.DESCRIPTOR.serialized_pb == expected.SerializeToString(), "run `make proto`"
