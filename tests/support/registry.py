"""A real OCI registry of the tests' own (Debian's docker-registry), with a login, and a way to push into it."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.support.engines import need

USER, PASSWORD = "prover", "open sesame"
# bcrypt of PASSWORD, by `htpasswd -nbB`.
_HTPASSWD = "prover:$2y$05$/rnlbRofBS.8JyUO.22CUuIA8pw1NgCS5790EAc41Yp3u9qZA2ZPC\n"
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"


@dataclass(frozen=True, kw_only=True)
class Registry:
    """A registry that runs. `host` is 127.0.0.1:PORT, which Docker trusts without TLS, unless it is in a namespace."""

    host: str
    folder: Path

    def push(self, name: str, tag: str, files: dict[str, bytes], parent: bytes = b"") -> str:
        """An image of one layer with `files` (`parent`: a root file system's tar to add them to); its digest."""
        layer = _tar(files, parent)
        config = _config(layer)
        packed = gzip.compress(layer, 1, mtime=0)
        with httpx.Client(base_url=f"http://{self.host}/v2/{name}", auth=(USER, PASSWORD), trust_env=False) as client:
            for blob in (packed, config):
                _upload(client, blob)
            manifest = json.dumps(
                {
                    "schemaVersion": 2,
                    "mediaType": _MANIFEST,
                    "config": _descriptor("application/vnd.docker.container.image.v1+json", config),
                    "layers": [_descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", packed)],
                }
            ).encode()
            client.put(f"/manifests/{tag}", content=manifest, headers={"Content-Type": _MANIFEST}).raise_for_status()
        return _digest(manifest)

    def auth_file(self, path: Path, user: str = USER, password: str = PASSWORD, hosts: Sequence[str] = ()) -> Path:
        """Write what `docker login` would; `hosts`: other addresses of this registry."""
        auth = base64.b64encode(f"{user}:{password}".encode()).decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"auths": {host: {"auth": auth} for host in (self.host, *hosts)}}))
        return path

    def log(self) -> str:
        """What it has written: each request."""
        return (self.folder / "log").read_text(errors="replace")


@contextmanager
def registry(folder: Path, *, namespace: str = "", address: str = "") -> Iterator[Registry]:
    """A registry in `folder` that wants a login for everything. In a network namespace it listens on all its addresses;
    `address` is the one that this process reaches."""
    program = need("docker-registry")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "htpasswd").write_text(_HTPASSWD)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    host, listen = (f"{address}:{port}", f":{port}") if namespace else (f"127.0.0.1:{port}",) * 2
    settings: dict[str, Any] = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}, "delete": {"enabled": True}},
        "http": {"addr": listen, "secret": "of the tests"},
        "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
    }
    (folder / "config.yml").write_text(json.dumps(settings))  # JSON is YAML
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("REGISTRY", "OTEL"))}
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(
            [*(["ip", "netns", "exec", namespace] if namespace else []), program, "serve", str(folder / "config.yml")],
            stdout=log, stderr=log, env=environment,
        )  # fmt: skip
    try:
        _wait(host, running, folder / "log")
        yield Registry(host=host, folder=folder)
    finally:
        running.terminate()
        running.wait(timeout=20)


def _wait(host: str, running: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(200):
        if running.poll() is not None:
            break
        try:
            if httpx.get(f"http://{host}/v2/", trust_env=False).status_code == 401:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError(f"the registry did not come up:\n{log.read_text(errors='replace')[-2000:]}")


def _upload(client: httpx.Client, blob: bytes) -> None:
    begun = client.post("/blobs/uploads/")
    begun.raise_for_status()
    place = httpx.URL(begun.headers["Location"]).copy_merge_params({"digest": _digest(blob)})
    client.put(place, content=blob, headers={"Content-Type": "application/octet-stream"}).raise_for_status()


def _tar(files: dict[str, bytes], parent: bytes) -> bytes:
    buffer = io.BytesIO(parent)
    with tarfile.open(fileobj=buffer, mode="a" if parent else "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def _config(layer: bytes) -> bytes:
    document = {
        "architecture": "amd64",
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        "history": [{"created_by": "tests"}],
    }
    return json.dumps(document).encode()


def _descriptor(kind: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(data), "digest": _digest(data)}


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
