"""`fleet serve --web`: what one who has the token sees of a fleet while it works, and nobody else."""

from __future__ import annotations

import json
import signal
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import cli
from tests.fleet.speaking_worker import PASSWORD
from tests.fleet.watched import TOKEN, WatchedFleet, watched_fleet
from tests.web.served import Events, listening


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedFleet]:
    """At an address that is served with TLS."""
    with watched_fleet(tmp_path_factory.mktemp("watched"), "127.0.0.2:0") as running:
        yield running


def state_where(events: Events, holds: Any) -> dict[str, Any]:
    """The first state of the fleet of which that holds."""
    while True:
        state = events.state()
        if state.get("workers") is not None and holds(state):
            return state


def test_without_the_token_there_is_nothing_but_the_question_for_it(fleet: WatchedFleet) -> None:
    assert fleet.url.startswith("https://127.0.0.2:")
    with fleet.browser(token=False) as client:
        asked = client.get("/")
        assert asked.status_code == 401 and "password" in asked.text and "scheduler names" in asked.text
        assert [client.get(path).status_code for path in ("/contents.json", "/events")] == [401, 401]
        assert client.get("/", headers={"Host": "evil.example"}).status_code == 421
        entered = client.post("/login", content=TOKEN.encode())
        cookie = entered.headers["set-cookie"].lower()
        assert "secure" in cookie and "httponly" in cookie and TOKEN not in cookie
        page = client.get("/")
        assert page.status_code == 200 and 'id="workers"' in page.text
        assert "script-src &#39;sha256-" in page.text and page.headers["x-frame-options"] == "DENY"
        assert [client.request(method, "/").status_code for method in ("POST", "PUT", "DELETE")] == [405] * 3


def test_a_job_is_seen_from_its_first_line_to_its_receipt_through_all_that_happens(fleet: WatchedFleet) -> None:
    """Its worker is lost, the scheduler begins anew, one looks on and reads nothing; each line and state is safe."""
    worker = fleet.worker("one", "gpu")
    with fleet.browser() as client, listening(client) as events, stalled(fleet), fleet.ordered("halo") as (asked,):
        lines = events.until("run-started")
        assert lines[0]["project"] == "halo"
        assert (lines[-1]["worker"], lines[-1]["number"]) == ("one", 1)
        state = state_where(events, lambda it: it["running"])
        assert state["workers"] == [{"name": "one", "slots": 1, "labels": ["gpu"], "running": 1, "jobs": ["halo"]}]
        said = events.until("step-output")[-1:]
        while not any("by http_proxy" in line.get("text", "") for line in said):
            said += events.until("step-output")
        assert not asked.done()
        assert said[0]["text"].strip().startswith("Compiling ark-")
        assert said[-1]["text"] == "\\u202ehalo by http_proxy=http://ci:***@proxy.example:3128"
        worker.kill()
        assert events.until("run-over")[-1]["why"] == "one was lost"
        state = state_where(events, lambda it: it["waits"])
        assert (state["workers"], state["waiting"][0]["name"]) == ([], "halo")
        fleet.worker("two")
        assert (again := events.until("run-started")[-1])["worker"] == "two" and again["number"] == 2
        assert [(row["name"], row["jobs"]) for row in state["lost"]] == [("one", ["halo"])]
        with fleet.browser(token=False) as other:
            other.post("/login", content=TOKEN.encode())
            assert fleet.scheduler is not None
            fleet.scheduler.send_signal(signal.SIGTERM)  # as a service manager does
            assert fleet.scheduler.wait(timeout=20) == 0
            fleet.serve()
            assert other.get("/contents.json").json()["builds"] == []  # by the cookie that it had
        with listening(client) as later:
            assert later.until("run-started", 30)[-1]["worker"] == "two"
            fleet.let("halo")
            assert later.until("build-finished")[-1]["status"] == "built"
            assert asked.result(timeout=20).failure is None
            later.until("receipts")
        (build,) = (contents := client.get("/contents.json").json())["builds"]
        assert contents["texts"][build["project"]] == "halo"
    kept = fleet.folder / "store" / "receipts"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700
    (receipt,) = kept.rglob("*.receipt.json")
    assert json.loads(receipt.read_text())["fleet"]["worker"] == "two"
    logs = (fleet.folder / "scheduler.log").read_text()
    assert PASSWORD not in logs and TOKEN not in logs and "Traceback" not in logs
    fails_and_is_left(fleet)


def fails_and_is_left(fleet: WatchedFleet) -> None:
    """A job that fails, and one that nobody wants any more. What a worker claims of its job's end is not heard, and one
    who comes later is told all of it."""
    with fleet.browser() as client, listening(client) as events:
        events.until("build-finished")  # the one before
        with fleet.ordered("plonk") as (asked,):
            events.until("step-output")
            fleet.let("plonk", "\x1b[31mno compiler")
            last = events.until("build-finished")[-1]
            assert (last["status"], last["error"]) == ("failed", "no compiler")
            assert asked.result(timeout=20).failure is not None
        with fleet.ordered("groth"):
            events.until("step-output")
        assert events.until("build-finished")[-1]["status"] == "stopped"
        assert state_where(events, lambda it: it["failed"] and not it["running"])["failed"] == 1
    with fleet.browser() as client, listening(client) as later:
        lines = [line for name in range(3) for line in later.until("build-finished")]
        assert [line["status"] for line in lines if line["event"] == "build-finished"] == ["built", "failed", "stopped"]
        assert PASSWORD not in json.dumps(lines)


def stalled(fleet: WatchedFleet) -> ssl.SSLSocket:
    """A browser that asks for the events and reads none of them."""
    host, port = fleet.url.removeprefix("https://").rstrip("/").split(":")
    context = ssl.create_default_context(cafile=str(fleet.folder / "tls" / "ca.pem"))
    peer = context.wrap_socket(socket.create_connection((host, int(port)), timeout=10), server_hostname=host)
    ask = f"GET /events HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    peer.sendall(ask.encode())
    return peer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--token-file", "x"], "--receipts, --token-file and --allow-host are for --web"),
        (["--web", "nowhere"], "--web nowhere: is no HOST:PORT"),
        (["--web", "999.1.1.1:1"], "999.1.1.1:1: "),
        (["--web", "--token-file", "short"], "a token has 16 characters at least"),
    ],
)
def test_what_cannot_be_served(
    fleet: WatchedFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("secret\n")
    ended = cli("fleet", "serve", "--tls", fleet.folder / "tls", *arguments)
    assert ended.code == 2
    assert message in ended.err
