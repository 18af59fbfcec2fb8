"""The page of `report` over HTTP, with the builds that run now by server-sent events. Any ASGI server can run it.

Where these builds are followed is a Protocol: in the logs of this machine's (`follow.py`), or on a fleet's scheduler
(`job_board.py`).
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from threading import Lock
from typing import Any, Final, Protocol, TypeVar

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from orchestrator.report.contents import contents_text, report_contents
from orchestrator.report.receipts import list_receipts, read_receipts
from orchestrator.report.render import render_login, render_page
from orchestrator.web.access import LOGIN, Guarded, WebAccess, log_in
from orchestrator.web.fleet_news import FleetNews

T = TypeVar("T")
POLL: Final = 0.5
"""Seconds between looks at what builds say; at the receipts it is ten times that."""
_SHARE: Final = 20
"""Of this process's time the page's contents take one in so many parts at most, however often receipts come."""
MOST_STREAMS: Final = 32
_BATCH: Final = 500
"""Lines of one message: a browser shows them while more are on the way."""
_FAILED_LOGIN: Final = 0.25
_ALIVE: Final = 15.0


class Follower(Protocol):
    """What builds say, for one who looks on."""

    def poll(self) -> list[dict[str, Any]]:
        """The events since it was last asked, each with its build's `log`. They are bounded, and their texts safe."""


@dataclass(frozen=True, kw_only=True)
class WebSettings:
    """What is shown: receipts below `places`, the builds of a new `follow()` for each who looks on, the state of a
    `fleet` if there is one; `library` draws the charts (None: tables). `hint` says where the token is. Streams of
    events, which have no end of their own, end once `stopping` is set.
    """

    places: Sequence[Path]
    follow: Callable[[], Follower]
    library: str | None
    access: WebAccess
    hint: str = "The token stands where this server was started."
    fleet: FleetNews | None = None
    stopping: Flag = field(default_factory=Flag)


def make_application(settings: WebSettings) -> ASGIApp:
    """The application, behind its token. It reads, and writes nothing."""
    site = _Site(settings)
    routes = [
        Route("/", site.page),
        Route("/contents.json", site.contents),
        Route("/events", site.events),
        Route(LOGIN, site.log_in, methods=["POST"]),
    ]
    return Guarded(Starlette(routes=routes), settings.access)


class _Site:
    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._receipts = _Receipts(settings.places)
        self._streams = 0

    async def page(self, request: Request) -> Response:
        """The page, or the one that asks for the token."""
        if not request.state.known:
            return _html(render_login(self._settings.hint), 401)
        library, live = self._settings.library, "builds" if self._settings.fleet is None else "fleet"
        return _html(await _in_thread(lambda: render_page(self._receipts.contents(), library, live=live)))

    async def contents(self, _request: Request) -> Response:
        """The page's data alone, as they are now."""
        text = await _in_thread(lambda: contents_text(self._receipts.contents()))
        return Response(text, media_type="application/json")

    async def log_in(self, request: Request) -> Response:
        """A token, as the request's body."""
        answer = await log_in(request, self._settings.access)
        if answer.status_code == 401:
            await anyio.sleep(_FAILED_LOGIN)
        return answer

    async def events(self, _request: Request) -> Response:
        """What builds say from now on, and when there are other receipts."""
        if self._streams >= MOST_STREAMS:
            return PlainTextResponse("Too many are looking on; close some pages.\n", 503)
        headers = {"X-Accel-Buffering": "no"}  # a proxy before it must not wait for the end
        return StreamingResponse(self._news(), media_type="text/event-stream", headers=headers)

    async def _news(self) -> AsyncIterator[str]:
        self._streams += 1
        try:
            follower, fleet = self._settings.follow(), self._settings.fleet
            known, state = await _in_thread(self._receipts.stamp), ""
            looked = said = time.monotonic()
            yield _message("begin", [])
            while not self._settings.stopping.is_set():
                if fleet is not None and (news := await _in_thread(fleet.text)) != state:
                    state = news
                    yield f"event: fleet\ndata: {state}\n\n"
                lines = await _in_thread(follower.poll)
                now = time.monotonic()
                for start in range(0, len(lines), _BATCH):
                    yield _message("lines", lines[start : start + _BATCH])
                    said = now
                finished = any(line["event"] == "build-finished" for line in lines)
                if now - looked >= max(0 if finished else 10 * POLL, _SHARE * self._receipts.seconds):
                    looked, before, known = now, known, await _in_thread(self._receipts.stamp)
                    if known != before:
                        yield _message("receipts", [])
                if now - said >= _ALIVE:
                    yield ": still here\n\n"
                    said = now
                await anyio.sleep(POLL)
        finally:
            self._streams -= 1


class _Receipts:
    """The page's contents, made again where a receipt was added, changed or removed."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places
        self._lock = Lock()
        self._made: tuple[object, dict[str, Any]] | None = None
        self.seconds = 0.0
        """How long it took to make them last."""

    def stamp(self) -> object:
        """Another one where there are other receipts."""
        return tuple(sorted(map(_stamp, list_receipts(self._there()))))

    def _there(self) -> list[Path]:
        """A directory may be removed, and made again, while the page is served."""
        return [place for place in self._places if place.exists()]

    def contents(self) -> dict[str, Any]:
        """Of the receipts that are there now."""
        with self._lock:
            stamp = self.stamp()
            if self._made is None or self._made[0] != stamp:
                began = time.monotonic()
                self._made = (stamp, report_contents(read_receipts(self._there())))
                self.seconds = time.monotonic() - began
            return self._made[1]


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:
        return (str(path), 0, 0)
    return (str(path), status.st_mtime_ns, status.st_size)


def _html(text: str, status: int = 200) -> Response:
    # Beside the page's own policy: only a header's says who may frame it.
    return HTMLResponse(text, status, {"Content-Security-Policy": "frame-ancestors 'none'"})


def _message(event: str, data: list[dict[str, Any]]) -> str:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)
