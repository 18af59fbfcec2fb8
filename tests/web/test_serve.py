"""`report --serve`: who is answered, and what those who look on see of builds while they run."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator import build_logs
from orchestrator.build_logs import MOST_BYTES, open_build_log
from orchestrator.web.follow import LogFollower
from tests.cli.conftest import cli
from tests.report.test_report import Page, built, write
from tests.support.without_engine import write_command
from tests.web.served import Served, listening, serve

PROJECT = "name: p\nbase: debian:bookworm\nbuild: {run: make, program: program}\nnanos: {kernel: stub}\n"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served") / "receipts"
    write(folder, built())
    with serve(folder, "--no-charts") as running:
        yield running


def test_without_the_token_there_is_nothing_but_the_question_for_it(served: Served) -> None:
    with served.client(token=False) as client:
        asked = client.get("/")
        assert asked.status_code == 401
        page = Page(asked.text)
        assert "password" in [attributes.get("type") for tag, attributes in page.tags if tag == "input"]
        assert served.token not in asked.text and "json" not in page.inside
        for path in ("/contents.json", "/events", "/login", "/nothing"):
            assert client.get(path).status_code in (401, 405)
        for sent in ("", "x", served.token[:-1], f"{served.token}x", f" {served.token[1:]}", "\u00e9" * 20):
            assert client.post("/login", content=sent.encode()).status_code == 401
            asked = client.get("/contents.json", headers={b"Authorization": f"Bearer {sent}".strip().encode()})
            assert asked.status_code == 401
        assert client.post("/login", content=b"x" * 100_000).status_code == 413
        assert client.get("/contents.json", params={"token": served.token}).status_code == 401
        assert client.get("/contents.json", headers={"Cookie": f"report={served.token}"}).status_code == 401


def test_with_the_token_a_cookie_is_given_which_is_another_one(served: Served) -> None:
    with served.client(token=False) as client:
        entered = client.post("/login", content=served.token.encode(), headers={"Origin": served.url.rstrip("/")})
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        cookie = entered.headers["set-cookie"]
        assert served.token not in cookie
        assert "httponly" in cookie.lower() and "samesite=strict" in cookie.lower()
        page = client.get("/")  # the client keeps it, as a browser does
        assert page.status_code == 200
        assert page.headers["content-security-policy"] == "frame-ancestors 'none'"
        assert (page.headers["x-frame-options"], page.headers["cache-control"]) == ("DENY", "no-store")
        contents = client.get("/contents.json").json()
        assert Page(page.text).contents == contents
        assert len(contents["builds"]) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example:8642"}, 421),
        ({"Host": ""}, 421),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # a link; its cookie stays behind
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)  # fmt: skip
def test_other_names_and_other_sites_are_refused(served: Served, headers: dict[str, str], status: int) -> None:
    with served.client() as client:
        assert client.get("/contents.json", headers=headers).status_code == status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(served: Served, method: str) -> None:
    with served.client() as client:
        assert client.request(method, "/").status_code == 405


def run_build(served: Served, folder: Path, program: str = "/bin/true") -> subprocess.Popen[str]:
    folder.mkdir()
    (folder / "project.yaml").write_text(PROJECT)
    write_command(folder / "bin")
    environment = served.environment | {"STAGED_PROGRAM": program, "ORCHESTRATOR_CACHE_DIR": str(folder / "cache")}
    command = [str(folder / "bin/orchestrator"), "build", "project.yaml", "-o", "out"]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_build_is_seen_while_it_runs_and_its_receipt_when_it_has_ended(served: Served, tmp_path: Path) -> None:
    with served.client() as client, listening(client) as events:
        building = run_build(served, tmp_path / "p")
        lines = events.until("build-finished")
        assert building.communicate()[1].count("built and verified") == 1
        assert {line["log"] for line in lines} == {lines[0]["log"]}
        assert (lines[0]["event"], lines[0]["project"]) == ("build-started", "p")
        assert lines[0]["file"] == str(tmp_path / "p/project.yaml")
        assert [line["title"] for line in lines if line.get("stage") == "program"] == ["RUN make"]
        assert "cc -o program" in [line.get("text") for line in lines]
        assert lines[-1]["status"] == "built"
        write(Path(served.logs).parents[2] / "receipts" / "new", built(1), "new")
        events.until("receipts")
        assert len(client.get("/contents.json").json()["builds"]) == 2
        folder = served.logs.parents[2] / "receipts"
        folder.rename(folder.with_name("elsewhere"))
        events.until("receipts")
        assert client.get("/contents.json").json()["builds"] == []
        folder.with_name("elsewhere").rename(folder)
    with served.client() as client, listening(client) as events:  # and by one who comes later
        assert events.until("build-finished")[0]["project"] == "p"


def test_a_build_that_fails_says_why(served: Served, tmp_path: Path) -> None:
    with served.client() as client, listening(client) as events:
        building = run_build(served, tmp_path / "p", program="/etc/passwd")
        while True:
            last = events.until("build-finished")[-1]
            if last["status"] != "built":
                break
        assert last["status"] == "failed" and last["error"]
        building.communicate()
        assert building.returncode != 0


def test_the_logs_are_this_users_alone(served: Served) -> None:
    assert stat.S_IMODE(served.logs.stat().st_mode) == 0o700


@pytest.fixture
def logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return build_logs.begin_watching()


def test_where_nobody_looks_on_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "none"))
    with open_build_log("p", "p.yaml") as log:
        log.write({"event": "notice", "text": "x"})
    assert list(tmp_path.iterdir()) == []


def test_a_killed_build_is_lost(logs: Path) -> None:
    script = (
        "import time; from orchestrator.build_logs import open_build_log\n"
        "with open_build_log('p', 'f') as log: print(flush=True); time.sleep(60)"
    )
    killed = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert killed.stdout is not None
    killed.stdout.readline()
    follower = LogFollower(logs)
    assert [line["event"] for line in follower.poll()] == ["build-started"]
    assert follower.poll() == []
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert [(line["event"], line["status"]) for line in follower.poll()] == [("build-finished", "lost")]
    assert follower.poll() == []


def test_what_a_build_says_is_bounded_and_harmless(logs: Path) -> None:
    with open_build_log("p", "f") as log:
        for number in range(6000):
            log.write(
                {"event": "step-output", "id": "1", "text": f"\x1b[31m{number}\x1b]0;title\x07\u202e" + "x" * 1000}
            )
        log.write({"event": "step-finished", "id": "1", "status": "done", "seconds": 1.0, "secret": "no"})
        log.write({"event": "later", "text": "no"})
        log.finish("built")
    (path,) = logs.iterdir()
    assert path.stat().st_size < MOST_BYTES + 10_000
    with path.open("ab") as stream:
        stream.write(b'{"event": ["x"]}\n[]\n' + b"[" * 100_000 + b"\n{\n")
    lines = LogFollower(logs).poll()
    outputs = [line["text"] for line in lines if line["event"] == "step-output"]
    assert len(outputs) == 400
    assert all("\x1b" not in text and "\u202e" not in text and "title" not in text for text in outputs)
    assert [line for line in lines if line["event"] != "step-output"][1:] == [
        {"log": path.stem, "event": "step-finished", "id": "1", "status": "done", "seconds": 1.0},
        {"log": path.stem, "event": "build-finished", "time": lines[-1]["time"], "status": "built", "error": ""},
    ]


def test_old_logs_go_and_those_of_running_builds_stay(logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_logs, "KEPT", 3)
    with open_build_log("first", "f"):
        for number in range(6):
            with open_build_log(str(number), "f"):
                time.sleep(0.002)  # their names are times
        names = [json.loads(path.read_text().splitlines()[0])["project"] for path in sorted(logs.iterdir())]
        assert names == ["first", "3", "4", "5"]


def test_a_line_that_is_half_written_is_told_when_it_is_whole(logs: Path) -> None:
    with open_build_log("p", "f") as log:
        follower = LogFollower(logs)
        follower.poll()
        (path,) = logs.iterdir()
        with path.open("ab") as stream:
            for piece in (b'{"event": "notice", "level": "no', b'te", "text": "\xc3', b'\xa4"}\n'):
                stream.write(piece)
                stream.flush()
                told = follower.poll()
        assert [line["text"] for line in told] == ["ä"]
        os.truncate(path, 0)
        log.finish("built")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--serve", "-o", "x"], "--serve writes no file"),
        (["--serve", "--json"], "--serve writes no file"),
        (["--serve", "--token-file", "short"], "a token has 16 characters at least"),
        (["--serve", "--host", "999.1.1.1"], "999.1.1.1:8642: "),
        (["gone", "--serve"], "there is no gone"),
    ],
)
def test_what_cannot_be_served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "short").write_text("secret\n")
    ended = cli("report", ".", *arguments)
    assert ended.code == 2
    assert message in ended.err


def test_a_port_that_is_taken(served: Served, tmp_path: Path) -> None:
    ended = cli("report", tmp_path, "--serve", "--port", served.host.rpartition(":")[2])
    assert ended.code == 2
    assert "Address already in use\n  give another --host or --port" in ended.err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_at_once_though_somebody_looks_on(tmp_path: Path, stop: signal.Signals) -> None:
    write(tmp_path / "r", built())
    with serve(tmp_path / "r", "--no-charts") as running, running.client() as client, listening(client) as events:
        events.until("begin")
        running.process.send_signal(stop)
        assert running.process.wait(timeout=5) == 130
