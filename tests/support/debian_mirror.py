"""A Debian mirror with a handful of small packages, signed, whose content a test moves."""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import socket
import subprocess
import tempfile
from email.utils import formatdate
from pathlib import Path

from tests.support.servers import FileServer

KEY = "Test mirror <mirror@example.invalid>"


class DebianMirror:
    """Packages of architecture `all` in a flat repository, on an address that containers of this machine reach."""

    def __init__(self, folder: Path, server: FileServer) -> None:
        self.folder, self.server = folder, server
        folder.mkdir(parents=True, exist_ok=True)
        # Not below `folder`: gpg's agent has a socket in it, whose path may have 107 bytes.
        self._home = Path(tempfile.mkdtemp(prefix="gpg-", dir="/tmp"))
        self._gpg("--batch", "--passphrase", "", "--quick-gen-key", KEY, "ed25519", "sign", "never")
        self.key = self._gpg("--export", KEY)

    @property
    def source(self) -> str:
        """The line for sources.list; the key is at /etc/apt/test-mirror.gpg."""
        return f"deb [signed-by=/etc/apt/test-mirror.gpg] {self.server.url} debian/\n"

    def publish(self, *packages: Path) -> None:
        """Have exactly these .deb files from now on."""
        for path in [path for path in self.server.files if path.startswith("/debian/")]:
            del self.server.files[path]
        index = b""
        for package in packages:
            data = package.read_bytes()
            self.server.add(f"/debian/{package.name}", data)
            control = subprocess.run(["dpkg-deb", "--field", package], check=True, capture_output=True).stdout
            sums = f"Filename: debian/{package.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
            index += control + sums.encode() + b"\n"
        files = {"Packages": index, "Packages.gz": gzip.compress(index, mtime=0)}
        rows = "".join(f" {hashlib.sha256(body).hexdigest()} {len(body)} {name}\n" for name, body in files.items())
        release = f"Origin: test\nDate: {formatdate(usegmt=True)}\nSHA256:\n{rows}"
        signed = self._gpg("--clearsign", "--local-user", KEY, data=release.encode())
        for name, body in {**files, "Release": release.encode(), "InRelease": signed}.items():
            self.server.add(f"/debian/{name}", body)

    def package(self, name: str, version: str, *, depends: str = "", files: dict[str, str] | None = None) -> Path:
        """Make `NAME_VERSION_all.deb`. A file DEBIAN/postinst is its script."""
        tree = self.folder / f"{name}-{version}"
        control = f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: {KEY}\nDescription: test\n"
        control += f"Depends: {depends}\n" if depends else ""
        for path, text in {"DEBIAN/control": control, **(files or {})}.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            (tree / path).write_text(text)
            (tree / path).chmod(0o755 if path == "DEBIAN/postinst" else 0o644)
        target = self.folder / f"{name}_{version}_all.deb"
        command = ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(target)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1577836800"})
        return target

    def _gpg(self, *arguments: str, data: bytes = b"") -> bytes:
        environment = {**os.environ, "GNUPGHOME": str(self._home)}
        done = subprocess.run(
            ["gpg", "--quiet", *arguments], input=data, check=True, capture_output=True, env=environment
        )
        return done.stdout

    def close(self) -> None:
        """End the agent that gpg started, remove its keys."""
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=False)
        shutil.rmtree(self._home, ignore_errors=True)


def own_address() -> str:
    """An address of this machine at which its containers reach it: that of the interface with the default route."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing
        return str(probe.getsockname()[0])
