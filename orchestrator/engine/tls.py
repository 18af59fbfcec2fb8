"""TLS with an engine: whose certificate counts, and which one we show."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import EngineError
from orchestrator.network import ca_bundle


@dataclass(frozen=True, kw_only=True)
class Tls:
    """PEM files: `ca` signs the engine's certificate ("" = the system's bundle), `cert` and `key` are ours ("" = none).

    `verify`: whether the engine's certificate is checked at all.
    """

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True

    def authority(self) -> str | bool:
        """The file of who may sign the engine's certificate; False where anyone may."""
        return (self.ca or str(ca_bundle())) if self.verify else False

    def context(self) -> ssl.SSLContext:
        """For a connection of our own. OSError when a file can't be read."""
        context = ssl.create_default_context(cafile=self.ca or str(ca_bundle()))
        if not self.verify:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if self.cert:
            context.load_cert_chain(self.cert, self.key)
        return context


def tls_of_environment(url: str) -> Tls | None:
    """DOCKER_TLS_VERIFY and DOCKER_CERT_PATH, as the docker command reads them; for tcp:// and https:// only.

    None: no TLS. EngineError when a file that they ask for isn't there.
    """
    if not url.startswith(("tcp://", "https://")):
        return None
    verify = bool(os.environ.get("DOCKER_TLS_VERIFY"))
    path = os.environ.get("DOCKER_CERT_PATH", "")
    if not verify and not path:
        return Tls() if url.startswith("https://") else None
    tls = tls_in(Path(path) if path else Path.home() / ".docker", verify=verify)
    if verify and not tls.ca:
        folder = path or "~/.docker"
        raise EngineError(
            f"DOCKER_TLS_VERIFY is set, and {folder}/ca.pem cannot be read",
            remedy="set DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem",
        )
    return tls


def tls_in(folder: Path, *, verify: bool) -> Tls:
    """What a folder has of ca.pem, cert.pem and key.pem."""

    def named(name: str) -> str:
        return str(folder / name) if os.access(folder / name, os.R_OK) else ""

    cert, key = named("cert.pem"), named("key.pem")
    own = {"cert": cert, "key": key} if cert and key else {}
    return Tls(ca=named("ca.pem"), verify=verify, **own)
