"""Downloads: from the cache, or from where they are, through the mirrors; never kept when wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator.errors import InputError
from orchestrator.inputs.access import Access, against_known, differs, not_in_cache, warn_of_plain
from orchestrator.inputs.known import other_than_known
from orchestrator.inputs.store import CacheEntry, key_of, mismatch
from orchestrator.resolved import InputName, redact_url

Check = Callable[[Path], None]
"""Looks at a finished file; raises InputError when it is not what was asked for (an error page, say)."""


def fetch(
    access: Access,
    url: str,
    *,
    sha256: str | None = None,
    name: InputName | None = None,
    check: Check | None = None,
    title: str = "",
) -> CacheEntry:
    """The file at `url` (http, https or file), from the cache or downloaded through the mirrors.

    It must be `sha256` where given, what the lock says of the input `name`, and what is known of the vendor's file.
    Errors: InputError when it can't be had, is something else, or `check` refuses it; nothing is kept then.
    """
    locked, known = access.expected(name), access.known.get(url)
    wanted = locked or sha256 or (known.sha256 if known else None)
    real = access.redirected(url)
    shown = redact_url(real)
    try:
        scheme = urlsplit(real).scheme
    except ValueError as error:
        raise InputError(f"{shown}: {error}", remedy="check the URL") from error
    if scheme not in {"http", "https", "file"}:
        raise InputError(f"{shown}: {scheme or 'no'} scheme is not supported", remedy="use http, https or file")
    if known is not None and wanted != known.sha256:
        against_known(access, shown, known, sha256, wanted or "")
        known = None
    if wanted is None:
        warn_of_plain(access, real, shown, "use https, or give its sha256")
    with access.step(title or f"download {shown}") as step:
        step.cached = True

        def fill(target: Path) -> dict[str, str]:
            if access.offline and scheme != "file":
                raise not_in_cache(shown)
            step.cached = False
            # Here: most builds find everything in the cache, and HTTP takes 0.1 s to import.
            from orchestrator.inputs.transmission import Transmission

            transfer = Transmission(url=real, shown=shown, target=target, step=step, limits=access.limits)
            digest = transfer.copy() if scheme == "file" else transfer.download()
            if locked is not None and digest != locked:
                raise differs(f"{shown}: its sha256 is", name or "", locked, digest)
            if sha256 is not None and digest != sha256:
                raise mismatch(shown, sha256, digest)
            if known is not None and digest != known.sha256:
                raise other_than_known(f"{shown}: its sha256 is", digest, known)
            if check is not None:
                check(target)
            return {"source": redact_url(url), "from": shown}

        return access.store.keep(key_of("url", real), fill, expected=wanted, newer_than=access.newer_than)
