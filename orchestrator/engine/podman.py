"""Podman through its Docker-compatible API, with everything in which it differs from Docker."""

from __future__ import annotations

import json
import re
import secrets
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from orchestrator.engine.api_engine import ApiEngine, error_text, file_chunks
from orchestrator.engine.base import BuildRequest, BuildSecret, ContainerRequest, EngineInfo, Leftover
from orchestrator.engine.build import build_parameters, count_sent, engine_gone, logins_of, mask_of, raise_no_image
from orchestrator.engine.build_guard import kill_marked
from orchestrator.engine.capabilities import EngineCapabilities
from orchestrator.engine.docker_api import Api, ApiError, GoneError
from orchestrator.engine.facts import EngineFacts, podman_facts
from orchestrator.engine.guarded import CANCEL_TIMEOUT, Guard
from orchestrator.engine.logins import config_header
from orchestrator.engine.podman_container import specification
from orchestrator.engine.podman_files import remove_left
from orchestrator.engine.podman_log import PodmanLog
from orchestrator.engine.registry_cache import require_cache
from orchestrator.engine.running import RunningBuild, killed, register
from orchestrator.engine.steps import Steps
from orchestrator.engine.working import BuildMark, are_being_made, find_abandoned
from orchestrator.errors import EngineError
from orchestrator.events import Emit, Notice
from orchestrator.label import LABEL
from orchestrator.network import SSH_AGENT, SSH_VOLUME
from orchestrator.tar_stream import member_chunks
from orchestrator.text import one_line

PANICS = (5, 0)
"""From this version on the service panics, and all builds on it end, when a stage of a build waits for another and the
build fails or its client goes (5.4.2, 5.8.6: "semaphore: released more than held"; since golang.org/x/sync 0.7.0). Of
stages that run one after the other none waits."""
NO_NETWORK = "NetworkDisabled"
"""Podman takes Docker's \"none\" here for the host's network, without a word (4.3.1; this is buildah's own name)."""
VOLUMES = (4, 4)
"""From this version on a build may have volumes. A socket as a further context, which 4.3.1 mounts, is "not a
directory" for 5.4.2 and an "invalid additional build context format" for 5.8.6."""
UNSAID = "Internal Server Error"
"""All that Podman answers when it can't unpack a context."""
_HALF = re.compile(r'locating item named .* for image with ID "([0-9a-f]{64})"')
"""What Podman says of an image, and of any other in its storage, when it was killed while it wrote that one down."""
_WRITING = 3.0
"""Seconds that Podman has for writing an image down; it takes some milliseconds."""
_SSH_CONTEXT = "orchestrator-ssh"
SSH = f"type=bind,from={_SSH_CONTEXT}"
"""`EngineCapabilities.ssh` of a Podman of this machine that is older."""


_T = TypeVar("_T")
HAS_CACHE = (4, 3)
"""The first version that keeps layers in a repository of a registry."""


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
                note=note,
            ),
        )
        self._network = ""

    def _find_capabilities(self) -> EngineCapabilities:
        remote, shares_files = self._remote(), self._shares_files()
        return EngineCapabilities(
            api_version=self._info.api_version,
            buildkit=False,
            session=(),
            context_sync=False,
            mounts=True,
            ssh="" if remote or shares_files is False else _ssh(self._info.version),
            parallel=_numbers(self._info.version) < PANICS,
            registry_cache=_numbers(self._info.version) >= HAS_CACHE,
            storage=self.facts.storage,
            cgroup=self.facts.cgroup,
            limits=self.facts.limits,
            rootless=self.facts.rootless,
            remote=remote,
            shares_files=shares_files,
        )

    def _ask_facts(self) -> EngineFacts:
        return podman_facts(self._without_half_images(lambda: self._api.json("GET", "/libpod/info")) or {})

    def build(self, request: BuildRequest, emit: Emit) -> str:
        """Build and return the image id; see `Engine.build`."""
        self.end_killed()
        steps, mark, able = Steps(emit, mask_of(request)), BuildMark(), self.capabilities
        guard = Guard(self._api, mark, remote=able.remote, needed=not able.parallel)
        sent = _Sent(request, able.ssh)
        temporary = str(self._directory(self.facts.temporary) or "")
        running = RunningBuild(
            build_id=request.build_id, store=self.store, shm=mark.size, temporary=temporary, mark=sent.mark
        )
        with register(running) as entry:
            try:
                return self._build(request, steps, emit, guard, sent)
            except BaseException as error:
                steps.close(error="interrupted" if not isinstance(error, Exception) else "stopped")
                self._cancel(guard, emit)
                if isinstance(error, GoneError):
                    entry.lost = True
                    raise engine_gone(self._info, error) from error
                raise

    @cached_property
    def store(self) -> str:
        """Where it keeps its images: services come and go on one store."""
        with suppress(EngineError):
            if self._records is not None:
                return str(self._records)
        return self._info.endpoint

    @cached_property
    def _records(self) -> Path | None:
        """What it knows of its containers."""
        return self._directory(self.facts.records)

    def _directory(self, path: Path | None) -> Path | None:
        """One of the service's, where it is a directory of ours too: not so in a mount namespace of its own, where
        another Podman's may have the same name here."""
        if path is None or self.capabilities.remote or not self._is_ours(path):
            return None
        return path

    def leftovers(self) -> list[Leftover]:
        """Also the working containers of builds that were killed, or whose service was, on this machine."""
        return [*self._working_containers(), *super().leftovers()]

    def _working_containers(self) -> list[Leftover]:
        if self._records is None or not (names := self._external_containers()):
            return []
        return [
            Leftover(kind="container", id=identity, name=names[identity], build_id="")
            for identity in find_abandoned(self._records, list(names), self.store)
        ]

    def _external_containers(self) -> dict[str, str]:
        """The name of each that is not Podman's own, by its id."""
        rows = self._api.json("GET", self._containers, params={"all": True, "external": True}) or []
        return {str(row["Id"]): str((row.get("Names") or [""])[0]) for row in rows if row.get("State") == "storage"}

    def end_killed(self) -> None:
        """See `Engine.end_killed`."""
        builds = [(path, build) for path, build in killed() if build.store == self.store]
        of_podman = [build for _, build in builds if build.shm]
        for build in of_podman:
            kill_marked(build.shm)
        certain = remove_left(builds)
        with suppress(EngineError):
            for container in self._working_containers() if of_podman else ():
                self.remove(container)
            records = self._records if of_podman else None
            if of_podman:
                self._images({"all": True})  # without a half one
            made = records is not None and are_being_made(records, list(self._external_containers()))
            if made or not certain:
                return  # a later command knows of these builds, too, and whose the container is
            for path, _ in builds:
                path.unlink(missing_ok=True)

    def _image(self, reference: str) -> Any | None:
        return self._without_half_images(lambda: super(PodmanEngine, self)._image(reference))

    def _images(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._without_half_images(lambda: super(PodmanEngine, self)._images(query))

    def _without_half_images(self, ask: Callable[[], _T]) -> _T:
        """What Podman answers. Of a build that was killed while Podman wrote an image down, that is removed: with it in
        its storage, Podman describes and lists no image at all (4.3.1), and says itself that it be removed."""
        seen: dict[str, float] = {}
        removed: set[str] = set()
        while True:
            try:
                return ask()
            except ApiError as error:
                half = _HALF.search(error.said)
                # In which store it was built Podman doesn't say either then.
                if half is None or not any(build.shm for _, build in killed()):
                    raise
                if half[1] in removed:
                    raise
                # Another build's is whole a moment later.
                if time.monotonic() - seen.setdefault(half[1], time.monotonic()) > _WRITING:
                    self._remove_image(half[1], force=True)
                    removed.add(half[1])
            time.sleep(0.2)

    def _import(self, tar: Path, changes: list[str]) -> str:
        # The compatible call leaves a copy of what it imports in /var/tmp or TMPDIR for ever (4.3.1, 5.4.2).
        image, data = "", file_chunks(tar)
        with self._api.post_stream("/libpod/images/import", params={"changes": changes}, data=data) as reply:
            for message in reply:
                image = str(message.get("Id", "")) or image
        return image

    def _remove_image(self, image: str, *, force: bool = False) -> None:
        # The compatible call takes no notice of `noprune` (4.3.1).
        params = {"images": image, "force": force, "noprune": True, "ignore": True}
        answered = self._api.json("DELETE", "/libpod/images/remove", params=params)
        if errors := (answered or {}).get("Errors"):
            raise EngineError(one_line(str(errors[0])), said=str(errors[0]))

    def _create(self, request: ContainerRequest, name: str, *, rootless: bool) -> None:
        """Make a container that is to run."""
        self._api.json("POST", "/libpod/containers/create", body=specification(request, name, rootless=rootless))

    def _build(self, request: BuildRequest, steps: Steps, emit: Emit, guard: Guard, sent: _Sent) -> str:
        able = self.capabilities.registry_cache
        require_cache(request, able=able, single=True, engine=f"Podman {self._info.version}")
        params: dict[str, Any] = {
            **build_parameters(request),
            "labels": {LABEL: request.build_id},
            "networkmode": NO_NETWORK if request.offline else self._network,
            "shmsize": guard.mark.size,
            "jobs": "0" if self.capabilities.parallel else "1",  # 0: as many stages as there are
            "layers": "1",
            **({"cachefrom": request.cache_from[0]} if request.cache_from else {}),
            **({"cacheto": request.cache_to} if request.cache_to else {}),
        }
        if request.ssh and not self.capabilities.ssh:
            raise EngineError(
                f"Podman at {self._info.endpoint} is on another machine, or in a mount namespace of its own,"
                " and cannot reach this machine's ssh agent",
                remedy="build on this machine (--engine private), or with Docker",
            )
        if request.ssh and self.capabilities.ssh == SSH_VOLUME and ":" in request.ssh:
            raise EngineError(
                f"Podman cannot mount the ssh agent's socket {request.ssh}, because its path has a colon",
                remedy="set SSH_AUTH_SOCK to a link to it",
            )
        log, image, headers = PodmanLog(steps), "", config_header(logins_of(request))
        try:
            data, query = count_sent(sent.context(), emit, request.context_size), params | sent.params()
            # Closed by the service at the reply's end, which a guard can see.
            headers |= {} if self.capabilities.parallel else {"Connection": "close"}
            with (
                self._api.post_stream("/build", params=query, data=data, headers=headers) as reply,
                guard.holding(reply),
            ):
                for message in reply:
                    if problem := error_text(message):
                        raise log.failure(steps.mask(problem))
                    image = str((message.get("aux") or {}).get("ID", image))
                    log.feed(message)
        except ApiError as error:
            raise log.failure(steps.mask(self._reason(error))) from error
        steps.close()
        return image or raise_no_image(self._info)

    def _reason(self, error: ApiError) -> str:
        """Why a request failed. Podman keeps to itself why it can't unpack a context."""
        if error.said != UNSAID:
            return error.said
        return f"Podman says only {UNSAID!r}; its log says why (`journalctl -u podman`, where it is a unit of systemd)"

    def _cancel(self, guard: Guard, emit: Emit) -> None:
        """Stop what the build still runs.

        Podman notices that we have gone, but lets the RUN step that runs come to its end first, and the stages
        beside one that failed go on as well (4.3.1). Killing the step's processes makes it stop, and it removes
        its working containers itself.
        """
        if self.capabilities.remote:
            if self.capabilities.parallel:
                emit(Notice(text="Podman is on another machine: it finishes the current step before it stops"))
            elif guard.left:
                emit(Notice(text="Podman is on another machine, and this build runs on there: cut off, all would end"))
            return
        until = time.monotonic() + CANCEL_TIMEOUT
        quiet = 0
        while quiet < 3 and time.monotonic() < until:
            quiet = 0 if guard.mark.kill() else quiet + 1
            time.sleep(0.1)


class _Sent:
    """Secrets and the ssh agent, as Podman's build takes them.

    Secrets are files in the context's tar. Podman moves them out of the context before the build begins (so no
    `COPY .` meets them), and removes them with it. It has no ssh in its API (4.3.1 to 5.8.6), but takes a path of this
    machine as a volume of every step, or (older) as a further context, and a socket is one. `ssh`: how. `mark` is the
    name of a file that each build has, as a secret of its own.
    """

    def __init__(self, request: BuildRequest, ssh: str) -> None:
        self._request = request
        self._ssh = ssh
        # Not to be guessed, so that it is no other file of the context.
        prefix = f".orchestrator-secret-{secrets.token_hex(8)}"
        self.mark = f"{prefix}-mark"
        # First in the tar, and no step mounts it: see `podman_files`.
        mark = BuildSecret(id=self.mark.removeprefix("."), data=b"")
        named = {f"{prefix}-{number}": secret for number, secret in enumerate(request.secrets)}
        self._files = {self.mark: mark, **named}

    def context(self) -> Iterator[bytes]:
        """The tar: the secrets, then the request's own."""
        for name, secret in self._files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(secret.data), 0o600
            yield from member_chunks(member, [secret.data])
        yield from self._request.context

    def params(self) -> dict[str, Any]:
        """For the query."""
        files = [f"id={secret.id},src={name}" for name, secret in self._files.items()]
        named: dict[str, Any] = {"secrets": json.dumps(files)}
        if self._request.ssh and self._ssh == SSH_VOLUME:
            named["volume"] = f"{self._request.ssh}:{SSH_AGENT}"
        elif self._request.ssh:
            agent = {"IsURL": False, "IsImage": False, "Value": self._request.ssh}
            named["additionalbuildcontexts"] = json.dumps({_SSH_CONTEXT: agent})
        return named


def _ssh(version: str) -> str:
    """`EngineCapabilities.ssh` of a service that sees a socket of ours."""
    return SSH_VOLUME if _numbers(version) >= VOLUMES else SSH


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:2])
