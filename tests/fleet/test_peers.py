"""What a peer of a fleet can do: nobody without a certificate does anything, nor does any pickle of anybody's."""

from __future__ import annotations

import asyncio
import pickle
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from orchestrator.fleet.credentials import Role, make_credentials
from orchestrator.fleet.guard import RefusedError, restricted_loads
from tests.fleet.conftest import RunningFleet
from tests.support.fleet_peers import HANDSHAKE, Touch, connect, frames_of, pickled, say, serialized


def test_without_a_certificate_of_the_fleet_nothing_is_said(fleet: RunningFleet, tmp_path: Path) -> None:
    make_credentials(tmp_path, [])  # of another fleet
    for address in (fleet.address, fleet.worker_address):
        for tls in (None, tmp_path):
            with pytest.raises(OSError), connect(address, tls, Role.CLIENT) as peer:  # of TLS, or reset
                assert say(peer, HANDSHAKE) == b""
                raise ConnectionResetError("ended")


@pytest.mark.parametrize("role", [Role.CLIENT, Role.WORKER])
@pytest.mark.parametrize("make", [pickled, serialized])
def test_a_pickle_gets_nothing(fleet: RunningFleet, tmp_path: Path, role: Role, make: Any) -> None:
    """Neither in an operation nor in the handshake before it, at the scheduler and at a worker."""
    made = tmp_path / "made"
    for address in (fleet.address, fleet.worker_address):
        with connect(address, fleet.tls, role) as peer:
            assert b"still open" not in say(peer, HANDSHAKE, make(made))
        with connect(address, fleet.tls, role) as peer:
            say(peer, make(made))
    assert not made.exists()
    assert [worker.name for worker in fleet.state().workers] == ["here"]  # both live


OPERATIONS: Mapping[str, Mapping[str, object]] = {
    "run_function": {"function": b"", "args": b"", "kwargs": b""},
    "register_scheduler_plugin": {"plugin": b"", "name": "x", "idempotent": False},
    "register_worker_plugin": {"comm": None, "plugin": b"", "name": "x"},
    "broadcast": {"msg": {"op": "run", "function": b""}},
    "proxy": {"msg": {"op": "run"}, "worker": "x"},
    "register-client": {"client": "x", "versions": {}},
    "scatter": {"data": {}},
    "restart": {}, "terminate": {}, "gather": {"keys": ["x"]}, "feed": {"function": b""}, "identity": {},
    "run": {"function": b""}, "plugin-add": {"plugin": b""}, "upload_file": {"filename": "x.py", "data": b""},
    "actor_execute": {"actor": "x"}, "get_data": {"keys": ["x"]}, "dump_state": {}, "connection_stream": {},
    "fleet_begin": {"key": "x", "worker": "x"}, "fleet_events": {"key": "x", "token": 1, "lines": []},
    "fleet_end": {"key": "x", "token": 1, "ended": "{}"},
}  # fmt: skip


def test_a_client_may_ask_for_our_own_operations_only(fleet: RunningFleet) -> None:
    for operation, values in OPERATIONS.items():
        with connect(fleet.address, fleet.tls, Role.CLIENT) as peer:
            answer = say(peer, HANDSHAKE, frames_of({"op": operation, "reply": True, **values}))
        assert b"still open" not in answer, operation
        assert b"op" not in answer.replace(b"python", b""), operation


def test_a_worker_talks_to_nobody_but_the_scheduler(fleet: RunningFleet) -> None:
    for role in (Role.CLIENT, Role.WORKER):
        with connect(fleet.worker_address, fleet.tls, role) as peer:
            assert say(peer, HANDSHAKE) == b""
    for operation in ("run", "plugin-add", "upload_file", "actor_execute", "connection_stream"):  # with any key
        with connect(fleet.worker_address, fleet.tls, Role.SCHEDULER) as peer:
            answer = say(peer, HANDSHAKE, frames_of({"op": operation, **OPERATIONS[operation]}))
            assert b"still open" not in answer, operation


def test_dasks_own_client_gets_nothing(fleet: RunningFleet, tmp_path: Path) -> None:
    """With a client's certificate, and in a process of its own, which no guard of ours is in."""
    script = f"""
import sys, pathlib
from distributed import Client
from distributed.security import Security
tls = {str(fleet.tls)!r}
own = Security(tls_ca_file=tls + "/ca.pem", tls_client_cert=tls + "/client.pem", tls_client_key=tls + "/client.key",
               require_encryption=True)
try:
    client = Client({fleet.address!r}, security=own, timeout=3)
    client.run_on_scheduler(pathlib.Path({str(tmp_path / "made")!r}).touch)
    client.submit(pathlib.Path({str(tmp_path / "made")!r}).touch).result(timeout=3)
except Exception as error:
    print("nothing:", type(error).__name__)
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith("nothing:"), ended.stderr
    assert not (tmp_path / "made").exists()


def test_what_is_unpickled_at_all() -> None:
    assert restricted_loads(pickle.dumps(["text", 1, {"a": 2.5}])) == ["text", 1, {"a": 2.5}]
    for value in (print, Path("x"), asyncio.sleep, ssl.SSLContext, Touch(Path("x"))):
        with pytest.raises(RefusedError):
            restricted_loads(pickle.dumps(value))
