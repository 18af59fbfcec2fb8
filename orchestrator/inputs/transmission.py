"""One download, from a server or a file: streamed, resumed after a break, retried, hashed while it arrives."""

from __future__ import annotations

import email.utils
import functools
import hashlib
import os
import random
import shutil
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from urllib.parse import unquote, urljoin, urlsplit

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type

from orchestrator import files
from orchestrator.errors import InputError
from orchestrator.inputs.access import FetchLimits, FetchStep
from orchestrator.inputs.connections import Connections
from orchestrator.inputs.store import disk_full
from orchestrator.network import CA_VARIABLES, ca_bundle
from orchestrator.resolved import redact, redact_url

CHUNK = 256 * 1024
USER_AGENT = "gevulot-orchestrator"
_LATER = {408, 425, 429}


class _RetryError(Exception):
    """A try failed in a way that another may mend. `after` is the server's Retry-After in seconds, if any."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


@dataclass(kw_only=True)
class Transmission:
    """One download with all its tries. `have` bytes are in the file and in `hash`."""

    url: str
    shown: str
    target: Path
    step: FetchStep
    limits: FetchLimits
    have: int = 0
    total: int = 0
    validator: str = ""
    best: int = 0
    fruitless: int = 0
    deadline: float = 0.0
    hash: hashlib._Hash = field(default_factory=hashlib.sha256)
    connections: Connections = field(init=False)

    def __post_init__(self) -> None:
        self.connections = Connections(answer=self.limits.answer)

    def download(self) -> str:
        """Fetch the whole file; returns its SHA-256."""
        self.deadline = time.monotonic() + self.limits.total
        retrying = Retrying(
            retry=retry_if_exception_type(_RetryError),
            stop=self._stop,
            wait=self._wait,
            sleep=self._sleep,
            reraise=True,
        )
        in_time = self.connections.end_within(self.limits.total)
        with _client(self.limits, self.url) as client, files.create(self.target) as sink, in_time:
            try:
                retrying(self._attempt, client, sink)
            except _RetryError as error:
                raise InputError(
                    f"{self.shown}: {error} (tried {self.fruitless} times)",
                    remedy="check the network and the proxy settings, or name a copy under `mirrors:`",
                ) from error
        return self.hash.hexdigest()

    def copy(self) -> str:
        """Copy a file: URL; returns its SHA-256."""
        parts = urlsplit(self.url)
        source = Path(unquote(parts.path))
        if parts.netloc not in {"", "localhost"}:
            raise InputError(f"{self.shown}: the file URL names another host", remedy="write file:///PATH")
        self.deadline = time.monotonic() + self.limits.total
        try:
            stream = source.open("rb")
        except OSError as error:
            raise InputError(f"{self.shown}: {error.strerror}", remedy="check the path") from error
        with stream, files.create(self.target) as sink:
            self.total = os.fstat(stream.fileno()).st_size
            self._check_room()
            self._receive(iter(lambda: stream.read(CHUNK), b""), sink)
        return self.hash.hexdigest()

    def _attempt(self, client: httpx.Client, sink: BinaryIO) -> None:
        self.connections.begin()
        try:
            with client.stream(
                "GET", self.url, headers=self._headers(), extensions={"trace": self.connections.trace}
            ) as reply:
                self._begin(reply, sink)
                # As it arrives: with a chunk size httpx would hold bytes back, and a break would lose them.
                self._receive(reply.iter_raw(), sink)
            if self.total and self.have != self.total:
                if self.have > self.total:
                    self._restart(sink)
                raise _RetryError(f"the connection broke after {self.have} of {self.total} bytes")
        except httpx.TooManyRedirects as error:
            raise InputError(f"{self.shown}: more than {self.limits.redirects} redirects") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, UnicodeError) as error:
            raise InputError(f"{self.shown}: {error}", remedy="check the URL") from error
        except httpx.HTTPError as error:
            if time.monotonic() >= self.deadline:
                raise self._late() from error
            raise self._again(error) from error
        finally:
            self.connections.stop_waiting()
            # Only a try that got further than any before is progress; else a server that always breaks at
            # the same byte would keep us for the whole time limit.
            self.fruitless = 1 if self.have > self.best else self.fruitless + 1
            self.best = max(self.best, self.have)

    def _again(self, error: httpx.HTTPError) -> Exception:
        if isinstance(error, httpx.TimeoutException):
            return _RetryError(f"no answer within {self.limits.stall:g} s")
        if self.connections.unanswered:
            return _RetryError(f"no whole answer within {self.limits.answer:g} s")
        if _is_about_trust(error):
            return _untrusted(self.shown, error)
        return _RetryError(str(error) or type(error).__name__)

    def _headers(self) -> dict[str, str]:
        if not self.have:
            return {}
        return {"Range": f"bytes={self.have}-", "If-Range": self.validator}

    def _begin(self, reply: httpx.Response, sink: BinaryIO) -> None:
        """Judge status and headers; set `sink` and the hash to where the body continues."""
        status = reply.status_code
        if status in _LATER or status >= 500:
            raise _RetryError(f"the server answered {status} {reply.reason_phrase}", _retry_after(reply))
        if status == 416 or (status == 206 and not self._continues(reply)):
            self._restart(sink)
            raise _RetryError(f"the server could not continue a broken download ({status})")
        if status not in {200, 206}:
            raise InputError(
                f"{self.shown}: the server answered {status} {reply.reason_phrase}".rstrip(),
                remedy="check the URL and the version; a private server may need credentials in ~/.netrc",
            )
        if status == 200:
            self._restart(sink)
            self.total = _number(reply.headers.get("content-length"))
        etag = reply.headers.get("etag", "")
        # RFC 9110, If-Range: a weak ETag can't promise the same bytes.
        self.validator = etag if etag and not etag.startswith("W/") else reply.headers.get("last-modified", "")
        self._check_room()

    def _continues(self, reply: httpx.Response) -> bool:
        unit, _, rest = reply.headers.get("content-range", "").partition(" ")
        span, _, total = rest.partition("/")
        start = span.partition("-")[0]
        if not self.have or unit != "bytes" or start != str(self.have):
            return False
        etag = reply.headers.get("etag", "")
        if etag and self.validator.startswith('"') and etag != self.validator:
            return False  # a server that ignores If-Range: the rest of another file
        known = self.total
        self.total = known or _number(total)
        return not known or total in {"*", str(known)}

    def _restart(self, sink: BinaryIO) -> None:
        sink.seek(0)
        sink.truncate()
        self.have = self.total = 0
        self.validator = ""
        self.hash = hashlib.sha256()

    def _receive(self, chunks: Iterator[bytes], sink: BinaryIO) -> None:
        try:
            for chunk in chunks:
                if time.monotonic() > self.deadline:
                    raise self._late()
                self._accept(chunk, sink)
        except httpx.HTTPError:
            # Without a validator nothing says that the rest would be of the same file.
            if not self.validator:
                self._restart(sink)
            raise

    def _accept(self, chunk: bytes, sink: BinaryIO) -> None:
        sink.write(chunk)
        self.hash.update(chunk)
        self.have += len(chunk)
        if self.have > self.limits.size:
            raise self._too_large(self.have)
        self.step.progress(self.have, self.total)

    def _check_room(self) -> None:
        if self.total > self.limits.size:
            raise self._too_large(self.total)
        if self.total - self.have > shutil.disk_usage(self.target.parent).free:
            raise disk_full(self.target.parent, self.total - self.have)

    def _late(self) -> InputError:
        return InputError(
            f"{self.shown}: the download did not finish within {self.limits.total:g} s ({self.have} bytes received)",
            remedy="try again on a faster network, or name a closer copy under `mirrors:`",
        )

    def _too_large(self, size: int) -> InputError:
        return InputError(
            f"{self.shown}: {size} bytes or more; the limit is {self.limits.size}", remedy="check the URL"
        )

    def _stop(self, _state: RetryCallState) -> bool:
        return self.fruitless >= self.limits.attempts or time.monotonic() >= self.deadline

    def _wait(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        after = error.after if isinstance(error, _RetryError) else None
        backoff = min(self.limits.backoff * 2.0 ** max(self.fruitless - 1, 0), self.limits.backoff_max)
        if after is None:
            return backoff * random.uniform(0.5, 1.0)
        if after > self.deadline - time.monotonic():
            raise InputError(f"{self.shown}: {error}, and asks to wait {after:g} s", remedy="run the build again later")
        return after

    def _sleep(self, seconds: float) -> None:
        if self.step.cancelled.wait(seconds):
            raise InputError("stopped")


@contextmanager
def _client(limits: FetchLimits, url: str) -> Iterator[httpx.Client]:
    """An HTTP client for `url` with this host's proxies, certificates and ~/.netrc.

    httpx takes the proxies from the environment, and drops credentials when a redirect leaves the host.
    """
    timeout = httpx.Timeout(limits.stall, connect=limits.connect)
    # Bytes as they are: a .tar.gz sent with "Content-Encoding: gzip" must stay a .tar.gz.
    headers = {"Accept-Encoding": "identity", "User-Agent": USER_AGENT}
    # httpx would let ~/.netrc win over credentials in the URL.
    auth = None if "@" in urlsplit(url).netloc else _netrc()
    try:
        client = httpx.Client(
            auth=auth, verify=tls_context(), timeout=timeout, headers=headers, follow_redirects=True,
            max_redirects=limits.redirects, event_hooks={"response": [_no_downgrade]},
        )  # fmt: skip
    except (ValueError, ImportError, httpx.InvalidURL) as error:
        raise InputError(
            f"cannot use the proxy settings of the environment: {redact(str(error))}",
            remedy="set HTTPS_PROXY and HTTP_PROXY to http://HOST:PORT, or unset them (and ALL_PROXY)",
        ) from error
    with client:
        yield client


def _no_downgrade(reply: httpx.Response) -> None:
    if not reply.has_redirect_location or reply.url.scheme != "https":
        return
    scheme = urlsplit(urljoin(str(reply.url), reply.headers["location"])).scheme
    if scheme != "https":
        raise InputError(
            f"{redact_url(str(reply.url))}: the server redirects from https to {scheme}",
            remedy="if you trust the new address, name it under `mirrors:`",
        )


def _netrc() -> httpx.Auth | None:
    import netrc

    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    try:
        return httpx.NetRCAuth(str(path)) if path.is_file() else None
    except (OSError, netrc.NetrcParseError):
        return None  # unreadable or malformed: as without one, which is what curl does


def tls_context() -> ssl.SSLContext:
    """TLS as this host is set up: SSL_CERT_FILE or REQUESTS_CA_BUNDLE, else the system's bundle.

    Errors: InputError when the variable names a file that holds no certificates.
    """
    return _tls_context(next(((name, os.environ[name]) for name in CA_VARIABLES if os.environ.get(name)), None))


# A bundle of certificates takes 40 ms to read, and a lock file names hundreds of packages.
@functools.cache
def _tls_context(bundle: tuple[str, str] | None) -> ssl.SSLContext:
    if bundle is not None:
        variable, named = bundle
        try:
            context = ssl.create_default_context()
            path = Path(named)
            context.load_verify_locations(**{"capath" if path.is_dir() else "cafile": named})
        except (OSError, ssl.SSLError) as error:
            raise InputError(
                f"cannot use {named}, which {variable} names: {error.strerror or error}",
                remedy="correct or unset the variable",
            ) from error
        return context
    context = ssl.create_default_context()
    if not context.get_ca_certs():
        context.load_verify_locations(cafile=ca_bundle())  # this Python's OpenSSL looks elsewhere
    return context


def _is_about_trust(error: BaseException | None) -> bool:
    """Whether a certificate that was not trusted is at the bottom of it: httpx and httpcore wrap ssl's own error."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _untrusted(shown: str, error: Exception) -> InputError:
    return InputError(
        f"{shown}: the server's certificate is not trusted ({error})",
        remedy="if your network intercepts TLS, set SSL_CERT_FILE to a bundle that holds its certificate",
    )


def _retry_after(reply: httpx.Response) -> float | None:
    """Retry-After in seconds: a number, or an HTTP date (RFC 9110)."""
    value = reply.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = email.utils.parsedate_to_datetime(value)
    except (TypeError, ValueError):
        return None
    return max(0.0, date.timestamp() - time.time())


def _number(value: str | None) -> int:
    return int(value) if value and value.isascii() and value.isdigit() else 0
