"""How this host reaches the network: what the build steps need to reach it the same way."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

CA_SECRET = "orchestrator-ca"
"""The CA bundle's id as a build secret: so it reaches every step and stays in none."""
FRESH_SECRET = "orchestrator-fresh"
"""As a build secret: it tells the build step that nothing compiled before is to be taken (`--no-cache`)."""
SSH_MOUNT = "type=ssh"
"""How a Containerfile asks for the ssh agent, unless the engine has another way."""
SSH_AGENT = "/run/orchestrator/ssh-agent"
"""Where a build step has the ssh agent's socket."""
SSH_VOLUME = "volume"
"""The way of an engine that has the agent in every step of a build that may use it: no step asks."""
CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
CA_PATHS = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # openSUSE
    "/etc/ssl/cert.pem",  # Alpine, macOS
)
_HERE = {"localhost", "127.0.0.1", "::1"}


def is_plain(url: str) -> bool:
    """Whether anybody on the way can change what comes from an address: it has no TLS, and isn't this machine."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in ("http", "git") and parts.hostname not in _HERE


def ca_bundle() -> Path:
    """The host's CA bundle: what its environment names, else the system's, else Mozilla's by certifi.

    It holds the certificates of a company's intercepting proxy, when there is one.
    """
    named = [os.environ[name] for name in CA_VARIABLES if os.environ.get(name)]
    for candidate in (*named, *CA_PATHS):
        path = Path(candidate)
        if path.is_file() and path.stat().st_size:
            return path
    import certifi  # hardly ever needed, and slow to import

    return Path(certifi.where())
