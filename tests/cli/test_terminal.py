"""What an image, a bundle, a build or a project says of itself can't pass for what we say."""

from __future__ import annotations

import io
import json
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from orchestrator.cli.progress import PlainProgress
from orchestrator.cli.tty_progress import TtyProgress
from orchestrator.events import Notice, StepFinished, StepOutput, StepStarted
from orchestrator.inputs.store import Store
from tests.cli.conftest import cli
from tests.image import handmade
from tests.support.servers import QuietServer
from tests.test_text import ACTIVE, COLOUR

NAMES = {
    b"\x1b]0;PWNED\x07\x1b[31mred": b"x",
    b"a\nfake: all 14 checks hold": b"x",
    b"b\rzz": b"x",
    "rtl\u202etxt.exe".encode(): b"",
    "line\u2028separator".encode(): b"",
    b"\xff\xfe\x9b31m": b"x",
}
PROGRAM = "/x\nok   Boot code and kernel\nspoof.img: all 14 checks hold\x1b[8m"


def symbol(name: bytes) -> bytes:
    return handmade.head(1, 0, len(name)) + name


def spoof(path: Path) -> Path:
    """An image whose names, links and program hold what a terminal acts on."""
    sector, sectors = 512, 64
    data, base = bytearray(), (1 + sectors) * sector

    def file(content: bytes) -> bytes:
        at, count = base + len(data), -(-len(content) // sector)
        data.extend(content.ljust(count * sector, b"\0"))
        extents = [handmade.extent("0", at // sector, count)] if count else []
        length = handmade.number(len(content))
        return handmade.tup(handmade.sym("filelength") + length, handmade.sym("extents") + handmade.tup(*extents))

    link = handmade.tup(handmade.sym("linktarget") + handmade.text("\x1b[31mtarget\n"))
    children = [symbol(name) + file(content) for name, content in NAMES.items()]
    root = handmade.tup(
        handmade.sym("children") + handmade.tup(*children, handmade.sym("ln") + link),
        handmade.sym("program") + handmade.text(PROGRAM),
        handmade.sym("arguments") + handmade.vector(handmade.text("\x1b]0;A\x07")),
        handmade.sym("environment") + handmade.tup(handmade.sym("A") + handmade.text("\x1b[2J")),
    )
    record = handmade.record(root) + handmade.END
    log = handmade.extension(handmade.link(1, sectors), 1, first=True) + handmade.extension(record, sectors)
    path.write_bytes(handmade.disk((log + bytes(data)).ljust(base + len(data) + 8 * sector, b"\0")))
    return path


COMMANDS = [
    ("ls",),
    ("tree",),
    ("libs",),
    ("summary",),
    ("stand-ins",),
    ("manifest",),
    ("ls", "--json"),
    ("tree", "--json"),
]


@pytest.mark.parametrize("arguments", COMMANDS)
def test_inspect(here: Path, arguments: tuple[str, ...]) -> None:
    ended = cli("inspect", spoof(here / "spoof.img"), *arguments)
    assert ended.code == 0, ended.err
    for line in (ended.text + ended.err).split("\n"):
        assert not ACTIVE.search(line), repr(line)
        assert not line.startswith(("fake", "ok ", "spoof.img: all"))


def test_diff_and_errors(here: Path, image: Path) -> None:
    ended = cli("inspect", spoof(here / "spoof.img"), "diff", image)
    assert ended.code == 1
    ended = cli("inspect", here / "spoof.img", "cat", "/b\rzz\x1b[2J")
    assert ended.code == 2
    for line in (ended.text + ended.err).split("\n"):
        assert not ACTIVE.search(line), repr(line)


def test_verify_can_not_be_made_to_say_that_all_holds(here: Path) -> None:
    ended = cli("verify", spoof(here / "spoof.img"))
    assert ended.code == 6
    lines = (ended.text + ended.err).split("\n")
    assert not any(ACTIVE.search(line) for line in lines)
    assert not [line for line in lines if line.startswith("spoof.img: all")]
    assert [line for line in lines if line.startswith("ok   Boot code")] == []
    raw = cli("verify", here / "spoof.img", "--json")
    assert not ACTIVE.search(raw.text.replace("\n", ""))
    assert raw.json()["ok"] is False


def test_cat_is_the_files_bytes(here: Path) -> None:
    assert cli("inspect", spoof(here / "spoof.img"), "cat", "/b\rzz").out == b"x"


def test_cache_ls(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(here / "cache"))

    def fill(target: Path) -> dict[str, str]:
        target.write_bytes(b"x")
        return {"source": "https://x/\x1b]0;PWNED\x07\nsha256-0 genuine"}

    Store(here / "cache").keep("url-x", fill)
    lines = cli("cache", "ls").text.strip().split("\n")
    assert len(lines) == 2
    assert not any(ACTIVE.search(line) for line in lines)


EVIL = "\x1b]0;PWNED\x07\x1b[2J\x9b2K\r\nspoof.img: all 14 checks hold \u202e\u2028ok   Boot code"


@pytest.mark.parametrize("said", ["reason", "message"])
def test_what_a_server_answers(here: Path, said: str) -> None:
    """An HTTP reason, and the message of an engine's error."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps({"message": EVIL if said == "message" else "no"}).encode()
            reason = EVIL.encode("utf-8").replace(b"\r\n", b" ").decode("latin-1")
            self.send_response(500, reason if said == "reason" else "No")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    (here / "project.yaml").write_text("name: x\nruntime: local\nbuild: {run: make, program: x}\n")
    with QuietServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        for command in ("lock", "build"):
            ended = cli(command, "project.yaml", "--engine", f"tcp://127.0.0.1:{server.server_port}")
            assert ended.code == 3, ended
            for line in ended.err.split("\n"):
                assert not ACTIVE.search(line), repr(line)
                assert not line.startswith(("spoof", "ok "))
        server.shutdown()


@pytest.mark.parametrize("progress", [PlainProgress, TtyProgress])
def test_a_builds_output(progress: type[PlainProgress] | type[TtyProgress]) -> None:
    stream = io.StringIO()
    evil = "\x1b[31mred\x1b[0m \x1b]0;PWNED\x07\x1b[2J\u202e\x9b2K"
    with progress(stream) as shown:
        shown.emit(StepStarted(id="1", stage="program", title=f"RUN {evil}\nspoof"))
        shown.emit(StepOutput(id="1", text=f"{evil}\r50%\nnext"))
        shown.emit(Notice(text=f"a{evil}\nall 14 checks hold"))
        shown.emit(StepFinished(id="1", seconds=2.0, error=f"{evil}\x85x"))
    text = re_of_rich(stream.getvalue())
    assert "PWNED\x07" not in text
    for line in text.split("\n"):
        assert not ACTIVE.search(COLOUR.sub("", line)), repr(line)
        assert not line.startswith(("spoof", "all 14"))


def re_of_rich(text: str) -> str:
    """Without what rich itself writes to move its live lines (a cursor that is hidden, lines that are erased)."""
    import re

    return re.sub("\x1b\\[(?:\\?25[lh]|[0-9]*[AK])|\r", "", text)
