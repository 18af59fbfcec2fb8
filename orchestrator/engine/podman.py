"""Podman through its Docker-compatible API, with everything in which it differs from Docker."""

from __future__ import annotations

import json
import os
import secrets
import signal
import tarfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from orchestrator.engine.api_engine import ApiEngine, error_text, file_chunks
from orchestrator.engine.base import BuildRequest, ContainerRequest, EngineInfo
from orchestrator.engine.build import build_parameters, count_sent, engine_gone, logins_of, mask_of, raise_no_image
from orchestrator.engine.docker_api import Api, ApiError, GoneError
from orchestrator.engine.logins import config_header
from orchestrator.engine.podman_container import specification
from orchestrator.engine.podman_log import PodmanLog
from orchestrator.engine.steps import Steps
from orchestrator.errors import EngineError
from orchestrator.events import Emit, Notice
from orchestrator.label import LABEL

CANCEL_TIMEOUT = 15.0
"""Seconds that a cancelled build gets to go away."""
NO_NETWORK = "NetworkDisabled"
"""Podman takes Docker's \"none\" here for the host's network, without a word (4.3.1; this is buildah's own name)."""
_SHM = 64 * 1024 * 1024
_PAGE = 4096
_SSH_CONTEXT = "orchestrator-ssh"
SSH = f"type=bind,from={_SSH_CONTEXT}"
"""`EngineInfo.ssh` of a Podman of this machine."""


class PodmanEngine(ApiEngine):
    """A Podman service, private or not."""

    # Not the compatible list, which is an error as long as one container has lost its storage: when a service is
    # killed while it removes one, say. In this list it can be found, and removed.
    _containers = "/libpod/containers/json"

    def __init__(self, api: Api, *, private: bool = False, note: str = "") -> None:
        super().__init__(
            api,
            EngineInfo(
                kind="podman",
                version=api.version.version,
                api_version=api.version.api_version,
                builder="buildah",
                endpoint=api.endpoint,
                private=private,
                ssh=SSH if api.endpoint.startswith("unix://") else "",
                note=note,
            ),
        )
        self._network = ""

    def build(self, request: BuildRequest, emit: Emit) -> str:
        """Build and return the image id; see `Engine.build`."""
        steps, mark = Steps(emit, mask_of(request)), _Mark()
        try:
            return self._build(request, steps, emit, mark)
        except BaseException as error:
            steps.close(error="interrupted" if not isinstance(error, Exception) else "stopped")
            self._cancel(mark, emit)
            if isinstance(error, GoneError):
                raise engine_gone(self._info, error) from error
            raise

    def _import(self, tar: Path, changes: list[str]) -> str:
        # The compatible call leaves a copy of what it imports in /var/tmp or TMPDIR for ever (4.3.1, 5.4.2).
        image, data = "", file_chunks(tar)
        with self._api.post_stream("/libpod/images/import", params={"changes": changes}, data=data) as reply:
            for message in reply:
                image = str(message.get("Id", "")) or image
        return image

    def _create(self, request: ContainerRequest, name: str, *, rootless: bool) -> None:
        """Make a container that is to run."""
        self._api.json("POST", "/libpod/containers/create", body=specification(request, name, rootless=rootless))

    def _build(self, request: BuildRequest, steps: Steps, emit: Emit, mark: _Mark) -> str:
        params: dict[str, Any] = {
            **build_parameters(request),
            "labels": {LABEL: request.build_id},
            "networkmode": NO_NETWORK if request.offline else self._network,
            "shmsize": mark.size,
            "jobs": "0",  # stages in parallel, as many as there are
            "layers": "1",
        }
        sent = _Sent(request)
        if request.ssh and not self._info.ssh:
            raise EngineError(
                f"Podman at {self._info.endpoint} is on another machine and cannot reach this machine's ssh agent",
                remedy="build on this machine (--engine private), or with Docker",
            )
        log, image, headers = PodmanLog(steps), "", config_header(logins_of(request))
        try:
            data = count_sent(sent.context(), emit)
            with self._api.post_stream("/build", params=params | sent.params(), data=data, headers=headers) as reply:
                for message in reply:
                    if problem := error_text(message):
                        raise log.failure(steps.mask(problem))
                    image = str((message.get("aux") or {}).get("ID", image))
                    log.feed(message)
        except ApiError as error:
            raise log.failure(steps.mask(error.said)) from error
        steps.close()
        return image or raise_no_image(self._info)

    def _cancel(self, mark: _Mark, emit: Emit) -> None:
        """Stop what the build still runs.

        Podman notices that we have gone, but lets the RUN step that runs come to its end first, and the stages
        beside one that failed go on as well (4.3.1). Killing the step's processes makes it stop, and it removes
        its working containers itself.
        """
        if not self._info.endpoint.startswith("unix://"):
            emit(Notice(text="Podman is on another machine: it finishes the current step before it stops"))
            return
        until = time.monotonic() + CANCEL_TIMEOUT
        quiet = 0
        while quiet < 3 and time.monotonic() < until:
            quiet = 0 if mark.kill() else quiet + 1
            time.sleep(0.1)


class _Sent:
    """Secrets and the ssh agent, as Podman's build takes them.

    Secrets are files in the context's tar. Podman moves them out of the context before the build begins (so no
    `COPY .` meets them), and removes them with it. It has no ssh in its API (4.3.1), but takes a path of this
    machine as a further context, and a socket is one.
    """

    def __init__(self, request: BuildRequest) -> None:
        self._request = request
        # Not to be guessed, so that it is no other file of the context.
        prefix = f".orchestrator-secret-{secrets.token_hex(8)}"
        self._files = {f"{prefix}-{number}": secret for number, secret in enumerate(request.secrets)}

    def context(self) -> Iterator[bytes]:
        """The tar: the secrets, then the request's own."""
        for name, secret in self._files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(secret.data), 0o600
            yield member.tobuf() + secret.data + b"\0" * (-len(secret.data) % tarfile.BLOCKSIZE)
        yield from self._request.context

    def params(self) -> dict[str, Any]:
        """For the query."""
        named: dict[str, Any] = {}
        if self._files:
            named["secrets"] = json.dumps([f"id={secret.id},src={name}" for name, secret in self._files.items()])
        if self._request.ssh:
            agent = {"IsURL": False, "IsImage": False, "Value": self._request.ssh}
            named["additionalbuildcontexts"] = json.dumps({_SSH_CONTEXT: agent})
        return named


class _Mark:
    """Finds the processes of one build on this machine: by the odd size of their /dev/shm, which we ask for.

    Podman's build API names neither its containers nor their processes. Cgroups would serve, but rootless Podman
    has none on many hosts.
    """

    def __init__(self) -> None:
        self.size = _SHM + (1 + secrets.randbelow(8192)) * _PAGE

    def kill(self) -> int:
        """SIGKILL the build's processes; how many there were."""
        sign = f"size={self.size // 1024}k"
        killed = 0
        for process in _processes():
            with suppress(OSError):
                mounts = (process / "mountinfo").read_text(encoding="utf-8", errors="replace")
                if any(" /dev/shm " in line and sign in line for line in mounts.splitlines()):
                    os.kill(int(process.name), signal.SIGKILL)
                    killed += 1
        return killed


def _processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())
