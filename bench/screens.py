"""Takes the pictures of docs/terminal.md: builds in a terminal of our own, and what it shows as SVG.

python bench/screens.py [--engine URL] [--png] docs/terminal

Each is of a real build, on a real engine, and shows what was on the screen when a line of it matched. The base is that
of the tests.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import http.server
import itertools
import os
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyte
from rich.color import ANSI_COLOR_NAMES
from rich.console import Console
from rich.style import Style
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.build.projects import BASE, write_project  # noqa: E402 (after the path)

LARGE = os.urandom(32) + bytes(24 << 20)  # new each time, or the cache has it
RATE = 4 << 20
"""Bytes a second of the server: slow enough to be looked at."""
# rich's own template fetches a font from elsewhere.
SVG = """\
<svg viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", Menlo, Consolas, monospace; font-size: {char_height}px; \
line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>\
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture: taken when `when` matches the screen, or with "" when the command has ended."""

    name: str
    when: str = ""


class Terminal:
    """A command in a terminal of a size, whose screen can be looked at while it runs."""

    def __init__(self, command: Sequence[str], size: tuple[int, int], env: Mapping[str, str], cwd: Path) -> None:
        self.screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = os.openpty()
        self._resize(size)
        self._process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, cwd=cwd, start_new_session=True
        )
        os.close(slave)

    @property
    def text(self) -> str:
        """What is on the screen."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def wait_for(self, pattern: str, timeout: float = 300) -> None:
        """Until the screen matches, or with "" until the command has ended."""
        until = time.monotonic() + timeout
        while not (pattern and re.search(pattern, self.text)):
            if time.monotonic() > until or not self.read(0.1):
                if pattern:
                    raise SystemExit(f"never seen: {pattern}\n{self.text}")
                break
        self._process.poll()

    def read(self, timeout: float) -> bool:
        """Take in what the command writes; False when it has ended."""
        ready, _, _ = select.select([self._master], [], [], timeout)
        if ready:
            try:
                self._stream.feed(os.read(self._master, 65536))
            except OSError:
                self._process.wait()
                return False
        return True

    def resize(self, size: tuple[int, int]) -> None:
        """As a person does with the mouse."""
        self.screen.resize(size[1], size[0])
        self._resize(size)
        os.killpg(self._process.pid, signal.SIGWINCH)

    def close(self) -> None:
        """End the command, if it still runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
            while self.read(0.1):
                pass
        os.close(self._master)

    def _resize(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", size[1], size[0], 0, 0))


def picture(screen: pyte.Screen, title: str) -> str:
    """The screen as SVG, without the empty rows at its end."""
    rows = [_row(screen, number) for number in range(screen.lines)]
    while rows and not rows[-1].plain.strip():
        rows.pop()
    for row in rows:
        row.rstrip()
    with Path(os.devnull).open("w") as nowhere:
        console = Console(
            width=screen.columns, record=True, file=nowhere, force_terminal=True, color_system="truecolor"
        )
        console.print(Text("\n").join(rows), no_wrap=True, crop=True)
    svg = console.export_svg(title=title, code_format=SVG, unique_id="t")
    return re.sub(r"[ \t]+\n", "\n", svg)


def _row(screen: pyte.Screen, number: int) -> Text:
    cells = [screen.buffer[number][column] for column in range(screen.columns)]
    row = Text()
    for style, alike in itertools.groupby(cells, _style):
        row.append("".join(cell.data for cell in alike), style)
    return row


def _style(cell: pyte.screens.Char) -> Style:
    colour = {"brown": "yellow"}.get(cell.fg, cell.fg)
    return Style(color=colour if colour in ANSI_COLOR_NAMES else None, bold=cell.bold)


class _Slow(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(LARGE)))
        self.end_headers()
        for at in range(0, len(LARGE), RATE // 10):
            with contextlib.suppress(OSError):
                self.wfile.write(LARGE[at : at + RATE // 10])
            time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        """Not among the pictures."""


@contextlib.contextmanager
def slow_server() -> Iterator[str]:
    """The address of a large file that takes a while."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Slow)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


DOCKERFILE = f"""\
FROM {BASE["image"]} AS field
COPY slow.sh /
RUN sh /slow.sh field arithmetic curve pairing msm fft
FROM {BASE["image"]} AS circuit
COPY slow.sh /
RUN sh /slow.sh circuit gates lookup permutation poseidon merkle
FROM {BASE["image"]} AS prover
COPY --from=field /field.o /
COPY --from=circuit /circuit.o /
COPY program.c /
RUN gcc -O2 -o /prover /program.c -lm
ENTRYPOINT ["/prover"]
"""
SLOW = """\
part=$1; shift
for file; do
    echo "gcc -O2 -march=x86-64-v3 -c src/$part/$file.c -o build/$part/$file.o"
    sleep 0.7
done
touch "/$part.o"
"""
BROKEN = """\
echo "gcc -O1 -c program.c"
echo "program.c:3:5: error: unknown type name 'fild_t'; did you mean 'field_t'?" >&2
exit 1
"""


def take(folder: Path, engine: str, shots: Path, png: bool) -> None:
    """All pictures, as `NAME.svg` in `shots`."""
    environment = {**os.environ, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), "COLORTERM": ""}
    for name in ("NO_COLOR", "COLUMNS", "LINES"):
        environment.pop(name, None)

    def film(project: Path, size: tuple[int, int], wanted: Sequence[Shot], **more: str) -> None:
        command = [sys.executable, "-P", "-m", "orchestrator", "build", project.name, "--no-cache", "--engine", engine]
        terminal = Terminal(command, size, {**environment, **more}, project.parent)
        for shot in wanted:
            terminal.wait_for(shot.when)
            svg = picture(terminal.screen, "orchestrator build")
            (shots / f"{shot.name}.svg").write_text(svg + "\n")
            if png:
                import cairosvg  # only to look at them

                cairosvg.svg2png(bytestring=svg.encode(), write_to=str(shots / f"{shot.name}.png"))
            print(f"--- {shot.name}\n{terminal.text}\n")
        terminal.close()

    with slow_server() as address:
        placed = {"url": f"{address}/kzg.srs", "sha256": hashlib.sha256(LARGE).hexdigest(), "to": "params/kzg.srs"}
        files = {"Dockerfile": DOCKERFILE, "slow.sh": SLOW}
        own = write_project(
            folder / "prover", files=files, name="prover", build={"containerfile": "Dockerfile"},
            stage={"files": [placed]},
        )  # fmt: skip
        both = r"• \[circuit\](.|\n)*src/circuit/lookup|• \[field\].*• \[circuit\](.|\n)*fft"
        film(own, (120, 24), [Shot(name="transfer", when=r"% |MiB/s  \d+s left"), Shot(name="stages", when=both)])
        film(own, (40, 20), [Shot(name="narrow", when=r"\[circuit\].*\n +gcc")], NO_COLOR="1")
        film(own, (100, 30), [Shot(name="success")])
    broken = write_project(folder / "broken", build={"run": BROKEN, "program": "program"})
    film(broken, (100, 24), [Shot(name="failure")])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--png", action="store_true", help="also as PNG, to look at")
    parser.add_argument("directory", type=Path)
    arguments = parser.parse_args()
    arguments.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        take(Path(folder), arguments.engine, arguments.directory, arguments.png)


if __name__ == "__main__":
    main()
