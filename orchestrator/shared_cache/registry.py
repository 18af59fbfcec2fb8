"""A shared cache in an OCI registry: a file is an artifact of one layer, its name the tag.

Distribution specification 1.1, image specification 1.1 (artifacts). Not by oras-py 0.2: its requests have no time
limits, it reads answers whole whatever their size, and it knows no logins of podman's and of credential helpers.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from orchestrator.documents import Document, DocumentError, Many, parse_document
from orchestrator.engine.logins import find_login
from orchestrator.errors import UsageError
from orchestrator.inputs.transmission import USER_AGENT, tls_context
from orchestrator.shared_cache.backend import CHUNK, SharedCacheError, Sink, Source, check_name, is_name

OCI: Final = "oci://"
PLAIN: Final = "oci+http://"
ARTIFACT: Final = "application/vnd.gevulot-orchestrator.cache.v1"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
_EMPTY: Final = b"{}"
_MOST: Final = 1024 * 1024
"""Bytes of a manifest, of a page of tags, of a token."""
_PAGES: Final = 10_000
_TIMEOUT = httpx.Timeout(20.0, connect=10.0)
_LOCAL = {"localhost", "127.0.0.1", "::1"}
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class _Layer(Document):
    digest: str
    size: int


class _Manifest(Document):
    layers: Many[_Layer]


class _Tags(Document):
    tags: tuple[str, ...] | None = None


class _Token(Document):
    token: str = ""
    access_token: str = ""


class RegistryBackend:
    """Logins are those of `docker login` and `podman login`."""

    remote = True

    def __init__(self, url: str) -> None:
        """Connects to nothing yet. UsageError for an address that is none."""
        host, _, repository = url.removeprefix(PLAIN).removeprefix(OCI).partition("/")
        repository = repository.rstrip("/")
        if "@" in host or not host or not _REPOSITORY.fullmatch(repository):
            raise UsageError(
                f"{OCI}{host.rpartition('@')[2]}/{repository} is not the address of a registry's repository",
                remedy=f"write {OCI}HOST[:PORT]/NAME in lower case; log in with `docker login` or `podman login`",
            )
        name = urlsplit(f"//{host}").hostname or ""
        scheme = "http" if url.startswith(PLAIN) or name in _LOCAL else "https"
        self.shown = f"{PLAIN if url.startswith(PLAIN) else OCI}{host}/{repository}"
        self._reference, self._repository = f"{host}/{repository}", repository
        self._origin = f"{scheme}://{host}"
        self._base = f"{self._origin}/v2/{repository}"
        self._lock = threading.Lock()
        self._client: httpx.Client | None = None
        self._authorization = ""

    def fetch(self, name: str, sink: Sink) -> bool:
        """See `CacheBackend`."""
        with self._answer("GET", f"{self._base}/manifests/{check_name(name)}", {"Accept": _MANIFEST}) as reply:
            if reply.status_code == 404:
                return False
            _require(reply, 200)
            manifest = _parsed(_Manifest, reply)
        if len(manifest.layers) != 1 or not _DIGEST.fullmatch(manifest.layers[0].digest):
            raise SharedCacheError(f"its manifest of {name} is not one of ours")
        layer = manifest.layers[0]
        sink.expect(layer.size)
        with self._answer("GET", f"{self._base}/blobs/{layer.digest}") as reply:
            if reply.status_code == 404:
                return False
            _require(reply, 200)
            for chunk in reply.iter_raw(CHUNK):
                sink.write(chunk)
        return True

    def store(self, name: str, source: Source) -> None:
        """See `CacheBackend`. The tag comes last, so that nobody sees half a file."""
        digest, size = _measured(source)
        empty = f"sha256:{hashlib.sha256(_EMPTY).hexdigest()}"
        source.seek(0)
        self._upload(digest, size, lambda: iter(lambda: source.read(CHUNK), b""))
        self._upload(empty, len(_EMPTY), lambda: iter([_EMPTY]))
        layer = {"mediaType": "application/octet-stream", "digest": digest, "size": size}
        config = {"mediaType": _EMPTY_TYPE, "digest": empty, "size": len(_EMPTY)}
        manifest = {"schemaVersion": 2, "mediaType": _MANIFEST, "artifactType": ARTIFACT, "config": config,
                    "layers": [layer]}  # fmt: skip
        where, headers = f"{self._base}/manifests/{check_name(name)}", {"Content-Type": _MANIFEST}
        with self._answer("PUT", where, headers, content=json.dumps(manifest).encode()) as reply:
            _require(reply, 201)

    def has(self, name: str) -> bool:
        """See `CacheBackend`."""
        with self._answer("HEAD", f"{self._base}/manifests/{check_name(name)}", {"Accept": _MANIFEST}) as reply:
            if reply.status_code == 404:
                return False
            _require(reply, 200)
            return True

    def names(self) -> Iterator[str]:
        """See `CacheBackend`."""
        where = f"{self._base}/tags/list?n=1000"
        for _ in range(_PAGES):
            with self._answer("GET", where) as reply:
                if reply.status_code == 404:
                    return
                _require(reply, 200)
                tags = _parsed(_Tags, reply).tags or ()
                following = reply.links.get("next", {}).get("url")
            yield from filter(is_name, tags)
            if following is None:
                return
            where = str(httpx.URL(self._base).join(following))

    def close(self) -> None:
        """See `CacheBackend`."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _upload(self, digest: str, size: int, chunks: Any) -> None:
        with self._answer("HEAD", f"{self._base}/blobs/{digest}") as reply:
            if reply.status_code == 200:
                return
            if reply.status_code != 404:
                _require(reply, 200)
        with self._answer("POST", f"{self._base}/blobs/uploads/") as reply:
            _require(reply, 202)
            place = httpx.URL(self._base).join(reply.headers.get("Location", ""))
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
        with self._answer("PUT", str(place.copy_merge_params({"digest": digest})), headers, content=chunks()) as reply:
            _require(reply, 201)

    @contextmanager
    def _answer(
        self, method: str, url: str, headers: Mapping[str, str] | None = None, *, content: Any = None
    ) -> Iterator[httpx.Response]:
        """An answer, after a login where one is asked for. A body that can't be sent twice follows another request,
        which has logged in."""
        for again in (True, False):
            try:
                with self._connected().stream(
                    method, url, headers={**(headers or {}), **self._credentials(url)}, content=content
                ) as reply:
                    if reply.status_code == 401 and again and (content is None or isinstance(content, bytes)):
                        self._log_in(reply.headers.get("WWW-Authenticate", ""))
                        continue
                    yield reply
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                raise SharedCacheError(str(error) or type(error).__name__) from error
            return

    def _credentials(self, url: str) -> dict[str, str]:
        """None for another host: a registry may send uploads elsewhere."""
        own = url.startswith(f"{self._origin}/")
        return {"Authorization": self._authorization} if own and self._authorization else {}

    def _log_in(self, challenge: str) -> None:
        login = find_login(self._reference)
        kind, _, rest = challenge.partition(" ")
        basic = httpx.BasicAuth(login.username, login.password) if login is not None and login.username else None
        if kind.lower() == "basic" and basic is not None:
            request = next(basic.auth_flow(httpx.Request("GET", self._origin)))
            self._authorization = request.headers["Authorization"]
            return
        fields = dict(_CHALLENGE.findall(rest))
        realm = fields.get("realm", "")
        if kind.lower() != "bearer" or not realm.startswith(("https://", f"{self._origin}/")):
            why = "its login is wrong" if self._authorization else "it wants a login, and there is none"
            raise SharedCacheError(why, remedy="log in with `docker login` or `podman login`")
        asked = {"scope": f"repository:{self._repository}:pull,push"}
        if "service" in fields:
            asked["service"] = fields["service"]
        with self._connected().stream("GET", realm, params=asked, auth=basic) as reply:
            _require(reply, 200)
            answer = _parsed(_Token, reply)
        self._authorization = f"Bearer {answer.token or answer.access_token}"

    def _connected(self) -> httpx.Client:
        with self._lock:
            if self._client is None:
                self._client = httpx.Client(
                    verify=tls_context(), timeout=_TIMEOUT, follow_redirects=True, max_redirects=5,
                    headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                    event_hooks={"response": [_no_downgrade]},
                )  # fmt: skip
            return self._client


def _measured(source: Source) -> tuple[str, int]:
    """Digest and size in bytes."""
    whole, size = hashlib.sha256(), 0
    while chunk := source.read(CHUNK):
        whole.update(chunk)
        size += len(chunk)
    return f"sha256:{whole.hexdigest()}", size


def _no_downgrade(reply: httpx.Response) -> None:
    if not reply.has_redirect_location or reply.url.scheme != "https":
        return
    if reply.url.join(reply.headers["location"]).scheme != "https":
        raise SharedCacheError("it redirects from https to less")


def _require(reply: httpx.Response, status: int) -> None:
    if reply.status_code != status:
        words = f"it answers {reply.status_code} {reply.reason_phrase}".rstrip()
        raise SharedCacheError(f"{words} to {reply.request.method} {reply.request.url.path}")


def _parsed(kind: type[Any], reply: httpx.Response) -> Any:
    data = b""
    for chunk in reply.iter_raw(CHUNK):
        data += chunk
        if len(data) > _MOST:
            raise SharedCacheError("its answer is too large")
    try:
        return parse_document(kind, data, newer=True, limit=_MOST)
    except DocumentError as error:
        raise SharedCacheError(f"its answer makes no sense: {error}") from error
