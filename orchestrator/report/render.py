"""The page: one HTML file with everything in it, which asks nobody for anything and runs only its own scripts."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from orchestrator import __version__
from orchestrator.report.contents import contents_text

PAGE: Final = Path(__file__).parent / "page"
SCRIPTS: Final = ("data.js", "dom.js", "charts.js", "tables.js", "compare.js", "page.js")
"""One script, in this order."""
LIVE_SCRIPTS: Final[Mapping[str, Sequence[str]]] = {
    "": SCRIPTS, "builds": (*SCRIPTS, "live.js"), "fleet": (*SCRIPTS, "live.js", "fleet.js"),
}  # fmt: skip
"""The same, by what of it is live: nothing, the builds of a machine, those of a fleet and its workers."""


def render_page(contents: Mapping[str, Any], library: str | None, *, live: str = "") -> str:
    """The page of these contents; without a `library` its charts are tables alone. `live`, a key of `LIVE_SCRIPTS`: it
    is served by `orchestrator.web`, which it asks for news."""
    style, script = _style(), _script(tuple(LIVE_SCRIPTS[live]))
    return _template("page.html.j2").render(
        policy=_policy(style, [script] if library is None else [library, script], asks=bool(live)),
        live=live,
        style=Markup(style),
        script=Markup(script),
        library=None if library is None else Markup(library),
        data=Markup(contents_text(contents)),
        builds=len(contents["builds"]),
        projects=len({build["project"] for build in contents["builds"]}),
        made=contents["made"],
        version=__version__,
    )


def render_login(hint: str) -> str:
    """The page that asks for the token of the one above; `hint` says where that is."""
    style, script = _style(), _script(("login.js",))
    return _template("login.html.j2").render(
        policy=_policy(style, [script], asks=True), style=Markup(style), script=Markup(script), hint=hint
    )


def _policy(style: str, scripts: Iterable[str], *, asks: bool) -> str:
    """What the page may do: run and wear what it came with, and where it `asks`, ask the server it is from."""
    rules = [
        "default-src 'none'",
        f"script-src {' '.join(map(_hash, scripts))}",
        f"style-src {_hash(style)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        *(["connect-src 'self'"] if asks else []),
    ]
    return "; ".join(rules)


@cache
def _template(name: str) -> Template:
    loader = FileSystemLoader(PAGE)
    environment = Environment(loader=loader, undefined=StrictUndefined, autoescape=True, keep_trailing_newline=True)
    return environment.get_template(name)


@cache
def _style() -> str:
    return (PAGE / "page.css").read_text()


@cache
def _script(names: tuple[str, ...]) -> str:
    return "".join((PAGE / name).read_text() for name in names)


def _hash(text: str) -> str:
    """How a policy names a script or style: by the hash of all that stands between its tags."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
