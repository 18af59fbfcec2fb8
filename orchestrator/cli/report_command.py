"""report: the receipts of many builds as one page, in a file or served with the builds that run now."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from orchestrator.amounts import size
from orchestrator.cli.console import answer, answer_json, say
from orchestrator.cli.parameters import PATH, json_failures, json_option
from orchestrator.errors import UsageError
from orchestrator.files import write_text

if TYPE_CHECKING:
    from orchestrator.report.receipts import ReadReceipts

_SHOWN: Final = 5
_FILE: Final = Path("report.html")
_PORT: Final = 8642


@click.command(short_help="Show the receipts of many builds as one HTML page.")
@click.argument("places", type=PATH, nargs=-1, required=True, metavar="DIR…")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help=f"The page.  [default: {_FILE}]",
)  # fmt: skip
@click.option("--no-charts", is_flag=True, help="Leave the charts out: the page is 1 MB smaller, and has tables alone.")
@click.option("--serve", "serving", is_flag=True, help="Serve the page instead, with the builds that run now.")
@click.option("--host", default="127.0.0.1", show_default=True, help="With --serve: the address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=_PORT, show_default=True, help="With --serve: 0 is any free port."
)
@click.option(
    "--token-file", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="With --serve: the token to ask for is in FILE. Without it, a new one is shown.",
)  # fmt: skip
@click.option(
    "--allow-host", "hosts", multiple=True, metavar="NAME",
    help="With --serve: another name of this server, such as a proxy's. May be repeated.",
)  # fmt: skip
@json_option
@json_failures
def report(  # noqa: PLR0913 - one parameter an option
    *,
    places: tuple[Path, ...],
    output: Path | None,
    no_charts: bool,
    serving: bool,
    host: str,
    port: int,
    token_file: Path | None,
    hosts: tuple[str, ...],
    as_json: bool,
) -> None:
    """Render all receipts in and below DIR… as one HTML page, which needs no server and no network.

    The page shows sizes, times and cache hits over time, what changed between two builds, and what was verified. With
    --serve it is live, behind a token, and shows this user's builds on this machine while they run.
    """
    if not serving:
        _write(places, output or _FILE, no_charts, as_json)
        return
    if output is not None or as_json:
        raise UsageError("--serve writes no file and has no answer", remedy="leave out -o and --json")
    _serve(places, no_charts, (host, port, hosts), token_file)


def _write(places: Sequence[Path], output: Path, no_charts: bool, as_json: bool) -> None:
    from orchestrator.report.contents import report_contents
    from orchestrator.report.receipts import read_receipts
    from orchestrator.report.render import render_page

    read = read_receipts(places)
    if not read.builds and not read.unused:
        raise UsageError(
            f"there is no receipt below {', '.join(map(str, places))}",
            remedy="name directories in which builds left NAME.receipt.json, such as target",
        )
    library = page_library(no_charts)
    _say_unused(read)
    page = render_page(report_contents(read), library)
    write_text(output, page)
    builds, projects = len(read.builds), len({build.receipt.name for build in read.builds})
    if as_json:
        answer_json({"report": str(output), "builds": builds, "projects": projects, "unused": len(read.unused)})
        return
    say(f"{_counted(builds, 'build')} of {_counted(projects, 'project')}, {size(len(page.encode()))}")
    answer(str(output))


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _say_unused(read: ReadReceipts) -> None:
    for unused in read.unused[:_SHOWN]:
        say(f"note: {unused.path}: {unused.reason}")
    if len(read.unused) > _SHOWN:
        say(f"note: {len(read.unused) - _SHOWN} more files could not be used; the page lists them")


def page_library(no_charts: bool) -> str | None:
    """What draws the page's charts; None for a page of tables."""
    from orchestrator.report.charts import INSTALL, chart_library

    library = None if no_charts else chart_library()
    if library is None and not no_charts:
        say(f"note: the page has tables and no charts; for charts, {INSTALL}")
    return library


def require_web(option: str) -> None:
    """UsageError where the extra that an option needs is not installed."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise UsageError(f"{option} needs {package}", remedy="pip install 'gevulot-orchestrator[web]'")


def _serve(
    places: Sequence[Path], no_charts: bool, address: tuple[str, int, tuple[str, ...]], token_file: Path | None
) -> None:
    require_web("--serve")
    from orchestrator.build_logs import begin_watching
    from orchestrator.report.receipts import list_receipts
    from orchestrator.web.access import WebAccess
    from orchestrator.web.application import WebSettings, make_application
    from orchestrator.web.follow import LogFollower
    from orchestrator.web.serve import allowed_hosts, bind, is_loopback, read_token, serve

    host, _, more = address
    next(list_receipts(places), None)  # a place that is not there is said now
    token = read_token(token_file)
    with closing(bind(host, address[1])) as listening:
        port = listening.getsockname()[1]
        access = WebAccess(token=token, hosts=allowed_hosts(host, port, more), name=f"report-{port}")
        logs, library = begin_watching(), page_library(no_charts)
        settings = WebSettings(places=places, follow=lambda: LogFollower(logs), library=library, access=access)
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
        if not is_loopback(host):
            say("note: token and logs travel in the clear; put a proxy with TLS before it, or use ssh -L")
        say("from now on, builds of this user on this machine show here what they do; stop with Ctrl-C")
        answer(url if token_file is not None else f"{url}#{token}")
        serve(make_application(settings), listening, settings.stopping)


COMMANDS = (report,)
