"""Who may ask: this host's name, no other site's pages, and a token. An ASGI middleware, before everything else."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOGIN: Final = "/login"
SHORTEST: Final = 16
"""Characters of a token."""
_AGE: Final = 12 * 3600
_HEADERS: Final[Mapping[str, str]] = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True, kw_only=True)
class WebAccess:
    """`hosts`: what a Host header may say, with its port; `name`: of the cookie, which all ports of a host share;
    `tls`: whether browsers send it over TLS alone.

    The cookie holds `session`, not the token: a number of this process's own, which ends with it, unless it is one
    that lasts as long as the token does.
    """

    token: str
    hosts: frozenset[str]
    name: str = "report"
    session: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    tls: bool = False

    def is_known(self, headers: Headers) -> bool:
        """Whether a request has the token, or the cookie that one who had it got."""
        kind, _, sent = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return _same(sent.strip(), self.token)
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self.name)
        except CookieError:
            return False
        return cookie is not None and _same(cookie.value, self.session)

    def refusal(self, scope: Scope) -> Response | None:
        """Why a request is not answered, before anyone asks who sends it."""
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self.hosts:
            return PlainTextResponse("This server does not have that name; see --allow-host.\n", 421)
        navigates = headers.get("sec-fetch-mode") == "navigate" and scope["method"] == "GET"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and not navigates:
            return PlainTextResponse("Not for other sites.\n", 403)
        if "origin" in headers and headers["origin"].partition("://")[2].lower() not in self.hosts:
            return PlainTextResponse("Not for other sites.\n", 403)
        if scope["method"] not in ("GET", "HEAD") and scope["path"] != LOGIN:
            return PlainTextResponse("Nothing can be changed here.\n", 405)
        return None


def lasting_session(token: str, name: str) -> str:
    """What the cookie of this name holds for as long as the token stays, also in the next process. It tells nothing of
    the token."""
    return hmac.new(token.encode(), f"session of {name}".encode(), "sha256").hexdigest()


def _same(sent: str, right: str) -> bool:
    """In a time that tells nothing of where they differ."""
    return hmac.compare_digest(sent.encode(), right.encode())


class Guarded:
    """An application behind `WebAccess`: who has no token gets the page that asks for it."""

    def __init__(self, inner: ASGIApp, access: WebAccess) -> None:
        self._inner, self._access = inner, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or hand on."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._inner(scope, receive, send)
            return

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        refused = self._access.refusal(scope)
        known = self._access.is_known(Headers(scope=scope))
        if refused is None and not known and scope["path"] not in ("/", LOGIN):
            refused = PlainTextResponse("A token is needed.\n", 401, {"WWW-Authenticate": "Bearer"})
        if refused is not None:
            await refused(scope, receive, send_safely)
            return
        scope["state"] = {**scope.get("state", {}), "known": known}
        await self._inner(scope, receive, send_safely)


async def log_in(request: Request, access: WebAccess) -> Response:
    """What the form's token is good for: a cookie, or 401 after a while."""
    data = b""
    async for piece in request.stream():
        data += piece
        if len(data) > _FORM:
            return PlainTextResponse("Too much.\n", 413)
    if not _same(data.decode("utf-8", "replace").strip(), access.token):
        return PlainTextResponse("That is not the token.\n", 401)
    answer = RedirectResponse("/", 303)
    answer.set_cookie(
        access.name, access.session, max_age=_AGE, httponly=True, samesite="strict", path="/", secure=access.tls
    )
    return answer


_FORM: Final = 4096
