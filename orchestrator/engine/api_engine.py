"""What Docker and Podman do alike through the Docker API: images, archives, leftovers. Builds are theirs."""

from __future__ import annotations

import json
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import Thread
from typing import Any, BinaryIO

from orchestrator import files
from orchestrator.amounts import size
from orchestrator.engine.base import Container, ContainerRequest, EngineInfo, EnginePlace, Leftover
from orchestrator.engine.build import MAKE_ROOM, storage_full
from orchestrator.engine.capabilities import EngineCapabilities
from orchestrator.engine.container import ApiContainer, create_body
from orchestrator.engine.created import CreatedContainers, remove_container
from orchestrator.engine.docker_api import Api, ApiError, ConnectionFault, GoneError, reference_path
from orchestrator.engine.facts import EngineFacts, docker_facts
from orchestrator.engine.interrupts import hold_back
from orchestrator.engine.logins import auth_header, find_login
from orchestrator.engine.peers import sees_files
from orchestrator.engine.reasons import image_error
from orchestrator.engine.running import RunningBuild, killed, register, running
from orchestrator.engine.shell import run_shell
from orchestrator.errors import EngineError, InputError
from orchestrator.events import Emit, StepFinished, StepProgress, StepStarted
from orchestrator.label import LABEL
from orchestrator.resolved import ImageSettings
from orchestrator.staged import ImageFiles
from orchestrator.user_paths import is_visible

PULL_IDLE = 120.0
"""Seconds without a word during a pull, after which the registry counts as unreachable."""
_CHUNK = 1024 * 1024
_KNOWN: dict[EngineInfo, EngineCapabilities] = {}
"""Of the engines that were asked: connections come and go."""


class ApiEngine:
    """The common part; `info` says who answers."""

    _containers = "/containers/json"

    _network = ""
    """The network of its steps, as its API names it; "" = its default."""

    def __init__(self, api: Api, info: EngineInfo) -> None:
        self._api = api
        self._info = info
        self._asked: Future[EngineFacts] | None = None

    @property
    def info(self) -> EngineInfo:
        """Who answers."""
        return self._info

    @property
    def store(self) -> str:
        """Where it keeps its images."""
        return self._info.endpoint

    @property
    def capabilities(self) -> EngineCapabilities:
        """What it can do; see `Engine.capabilities`."""
        if self._info not in _KNOWN:
            _KNOWN[self._info] = self._find_capabilities()
        return _KNOWN[self._info]

    def _find_capabilities(self) -> EngineCapabilities:
        """What its version and its facts say."""
        raise NotImplementedError

    @cached_property
    def facts(self) -> EngineFacts:
        """What it says of itself; nothing where it answers with an error."""
        if self._asked is not None:
            with suppress(Exception):  # else the answer, or the failure, is that of asking once more
                return self._asked.result()
        with suppress(ApiError):
            return self._ask_facts()
        return EngineFacts()

    def ask_ahead(self) -> None:
        """See `RunningEngine.ask_ahead`."""
        asked = Future[EngineFacts]()

        def ask() -> None:
            try:
                asked.set_result(self._ask_facts())
            except BaseException as error:  # noqa: BLE001 - of whoever waits
                asked.set_exception(error)

        # A daemon: an engine that hangs must not keep the command from ending.
        Thread(target=ask, name="ask-ahead", daemon=True).start()
        self._asked = asked

    def _ask_facts(self) -> EngineFacts:
        return docker_facts(self._api.json("GET", "/info") or {})

    def _remote(self) -> bool:
        return self.facts.is_elsewhere(self._info.endpoint)

    def _is_ours(self, path: Path) -> bool:
        """Whether a directory of the engine's is one of this process's too, as far as can be told."""
        return is_visible(path, stat.S_IFDIR) and sees_files(self._info.endpoint, path) is not False

    def _shares_files(self) -> bool | None:
        """See `EngineCapabilities`. By TCP or ssh it may still be this machine's own."""
        if not self._info.endpoint.startswith("unix://"):
            return None
        if self._remote():
            return None if self.facts.desktop else False  # Docker Desktop has some directories under their names
        return sees_files(self._info.endpoint, Path(tempfile.gettempdir()))

    def places(self) -> tuple[EnginePlace, ...]:
        """See `Engine.places`: only of an engine of this machine that is in no machine of its own."""
        with suppress(EngineError):
            if not self.capabilities.remote:
                return tuple(place for place in self.facts.places if self._is_ours(place.path))
        return ()

    @contextmanager
    def protect(self, build_id: str) -> Iterator[None]:
        """While the context lasts, `in_use` names the build, in other processes as well."""
        with register(RunningBuild(build_id=build_id, store=self.store)):
            yield

    def in_use(self) -> frozenset[str]:
        """The ids of the builds that run on this engine, started by this user on this machine."""
        return frozenset(build.build_id for build in running() if build.store == self.store)

    def end_killed(self) -> None:
        """See `Engine.end_killed`. A daemon ends what its client leaves."""
        for path, build in killed():
            if build.store == self.store:
                path.unlink(missing_ok=True)

    def image_digest(self, reference: str) -> str | None:
        """The repo digest, or else the image id, of a local image; None when it isn't there."""
        image = self._image(reference)
        if image is None:
            return None
        for digest in image.get("RepoDigests") or []:
            return str(digest).rpartition("@")[2]
        return _sha(str(image["Id"]))

    def image_id(self, reference: str) -> str:
        """The digest of a local image's settings; "" when it isn't there, or when the engine's ids are others."""
        image = self._image(reference)
        # Docker with containerd's store calls an image by its manifest, and describes that.
        return _sha(str(image["Id"])) if image is not None and not image.get("Descriptor") else ""

    def image_settings(self, reference: str) -> ImageSettings:
        """Its ENTRYPOINT, CMD, ENV and WORKDIR. EngineError when it isn't there."""
        image = self._image(reference)
        if image is None:
            raise EngineError(
                f"the engine has no image {reference}", remedy="another build may have removed it; try again"
            )
        settings = image.get("Config") or {}
        return ImageSettings(
            entrypoint=tuple(settings.get("Entrypoint") or ()),
            command=tuple(settings.get("Cmd") or ()),
            environment=dict(variable.partition("=")[::2] for variable in settings.get("Env") or ()),
            directory=settings.get("WorkingDir") or "/",
            platform=f"{image.get('Os', '')}/{image.get('Architecture', '')}",
        )

    def _image(self, reference: str) -> Any | None:
        try:
            return self._api.json("GET", f"/images/{reference_path(reference)}/json")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def pull(self, reference: str, emit: Emit) -> str:
        """Pull, return the digest. InputError when the registry doesn't answer or refuses."""
        step, began = f"pull {reference}", time.monotonic()
        emit(StepStarted(id=step, stage="pull", title=f"pull {reference}"))
        try:
            self._pull(reference, step, emit)
        except BaseException as error:
            emit(StepFinished(id=step, seconds=time.monotonic() - began, error=str(error) or "interrupted"))
            raise
        emit(StepFinished(id=step, seconds=time.monotonic() - began))
        digest = self.image_digest(reference)
        if digest is None:
            raise EngineError(f"the engine pulled {reference} but does not have it", remedy="look at the engine's log")
        return digest

    def _pull(self, reference: str, step: str, emit: Emit) -> None:
        name, tag = split_reference(reference)
        login = find_login(reference)
        layers: dict[str, tuple[int, int]] = {}
        try:
            with self._api.post_stream(
                "/images/create",
                params={"fromImage": name, "tag": tag},
                headers=auth_header(login),
                idle=PULL_IDLE,
            ) as messages:
                for message in messages:
                    if problem := error_text(message):
                        raise image_error(reference, problem, login)
                    detail = message.get("progressDetail") or {}
                    if message.get("status") == "Downloading" and detail.get("total"):
                        layers[str(message.get("id"))] = (int(detail["current"]), int(detail["total"]))
                        done, total = (sum(values) for values in zip(*layers.values(), strict=True))
                        emit(StepProgress(id=step, done=done, total=total))
        except ApiError as error:
            raise image_error(reference, error.said, login) from error
        except GoneError as error:
            if error.reason is not ConnectionFault.TIMEOUT:
                raise
            raise image_error(reference, f"timeout: nothing for {PULL_IDLE:g} s") from error

    def import_rootfs(self, tar: Path, tag: str, labels: Mapping[str, str]) -> str:
        """Make an image from a root file system's tar; returns the image id."""
        try:
            needed = tar.stat().st_size
        except OSError as error:
            raise InputError(f"cannot read {tar}: {error.strerror}", remedy="check the path") from error
        for place in self.places()[:1]:
            if (free := files.free_space(place.path)) < needed:
                message = f"{place.name} ({place.path}) has {size(free)} free, and {tar.name} needs {size(needed)}"
                raise EngineError(message, remedy=MAKE_ROOM)
        changes = [f"LABEL {json.dumps(key)}={json.dumps(value)}" for key, value in labels.items()]
        try:
            image = self._import(tar, changes)
        except ApiError as error:
            raise _import_failed(tar, self._reason(error)) from error
        if not image:
            raise EngineError(
                f"the engine imported {tar.name} without naming the image", remedy="look at the engine's log"
            )
        # Named in a second step: the two engines read `repo` and `tag` of an import differently.
        name, version = split_reference(tag)
        self._api.json("POST", f"/images/{reference_path(image)}/tag", params={"repo": name, "tag": version})
        return image

    def _reason(self, error: ApiError) -> str:
        """Why a request failed, in the engine's words."""
        return error.said

    def _import(self, tar: Path, changes: list[str]) -> str:
        """The id of the image that the engine made of `tar`, "" when it named none. May raise ApiError."""
        image, params = "", {"fromSrc": "-", "changes": changes}
        with self._api.post_stream("/images/create", params=params, data=file_chunks(tar)) as messages:
            for message in messages:
                if problem := error_text(message):
                    raise _import_failed(tar, problem)
                status = str(message.get("status", ""))
                image = status if status.startswith("sha256:") else image
        return image

    def save(self, image: str, target: Path) -> None:
        """Write an image to the new file `target`, as an archive that `load` takes."""
        with (
            self._api.get_stream(f"/images/{reference_path(image)}/get", params={}) as chunks,
            files.create(target) as sink,
        ):
            for chunk in chunks:
                sink.write(chunk)

    def load(self, archive: Path, tag: str) -> str:
        """Take an image out of such an archive and name it `tag`; returns its id."""
        said = ""
        with self._api.post_stream("/images/load", params={"quiet": True}, data=file_chunks(archive)) as messages:
            for message in messages:
                if problem := error_text(message):
                    raise InputError(
                        f"the engine failed to load {archive.name}: {problem}", remedy="make the bundle again"
                    )
                said = str(message.get("stream", "")).strip() or said
        # "Loaded image: NAME" of Docker and Podman, "Loaded image ID: sha256:…" of Docker for one without a name.
        loaded = (
            said.rpartition(": ")[2].split(",")[0] if "sha256:" not in said else "sha256:" + said.rpartition(":")[2]
        )
        if not loaded:
            raise EngineError(
                f"the engine loaded {archive.name} without naming the image", remedy="look at the engine's log"
            )
        name, version = split_reference(tag)
        self._api.json("POST", f"/images/{reference_path(loaded)}/tag", params={"repo": name, "tag": version})
        return self.image_digest(tag) or ""

    @contextmanager
    def open_archive(self, image: str, path: str, build_id: str) -> Iterator[BinaryIO]:
        """A tar stream of `path` inside `image`."""
        with self.open_image(image, build_id) as files, files.open_archive(path) as stream:
            yield stream

    @contextmanager
    def open_image(self, image: str, build_id: str) -> Iterator[ImageFiles]:
        """The files of `image`, until the end."""
        containers = CreatedContainers(api=self._api, image=image, build_id=build_id)
        with self.protect(build_id), hold_back() as let_through:  # their removal is not interrupted either
            try:
                with let_through():
                    yield containers
            finally:
                containers.remove()

    @contextmanager
    def open_container(self, request: ContainerRequest) -> Iterator[Container]:
        """A container that is made, can be started, and is removed at the end."""
        name = f"orchestrator-{secrets.token_hex(8)}"
        limits = self.capabilities.limits
        request = replace(
            request,
            memory=request.memory if "memory" in limits else 0,
            processes=request.processes if "pids" in limits else 0,
        )
        with self.protect(request.build_id), hold_back() as let_through:  # as in `open_archive`
            try:
                self._create(request, name, rootless=self.capabilities.rootless)
                with let_through():
                    yield ApiContainer(self._api, name, request)
            finally:
                with suppress(EngineError):
                    remove_container(self._api, name)

    def open_shell(self, image: str, build_id: str, *, offline: bool) -> None:
        """Run `/bin/sh` of `image` on this command's terminal until it ends."""
        with self.protect(build_id):
            run_shell(self._api, image, build_id=build_id, network="none" if offline else self._network)

    def _create(self, request: ContainerRequest, name: str, *, rootless: bool) -> None:
        """Make a container that is to run."""
        body = create_body(request, rootless=rootless)
        self._api.json("POST", "/containers/create", params={"name": name}, body=body)

    def leftovers(self) -> list[Leftover]:
        """Containers and images with our label, layers that builds keep as a cache included, newest first."""
        query = {"all": True, "filters": {"label": [LABEL]}}
        leftovers = [
            Leftover(
                kind="container",
                id=str(item["Id"]),
                name=str((item.get("Names") or [item["Id"][:12]])[0]).lstrip("/"),
                build_id=str(item["Labels"][LABEL]),
            )
            for item in self._api.json("GET", self._containers, params=query) or []
        ]
        for item in self._images(query):
            names = [name for name in item.get("RepoTags") or [] if name != "<none>:<none>"]
            leftovers.append(
                Leftover(
                    kind="image",
                    id=_sha(str(item["Id"])),
                    name=names[0] if names else "",
                    build_id=str((item.get("Labels") or {}).get(LABEL, "")),
                    size=int(item.get("Size") or 0),
                )
            )
        return leftovers

    def _images(self, query: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Podman fails to list its images when one of them goes meanwhile, as when another build ends: again then."""
        for _ in range(5):
            with suppress(ApiError):
                return list(self._api.json("GET", "/images/json", params=query) or [])
            time.sleep(0.2)
        return list(self._api.json("GET", "/images/json", params=query) or [])

    def remove(self, leftover: Leftover) -> None:
        """Remove one leftover, and nothing that it is made of; one that is already gone is no error.

        EngineError for an image that another one or a container is made of: forced, Podman removes the container as
        well, and with it the build of which it is (4.3.1).
        """
        if leftover.kind == "container":
            remove_container(self._api, leftover.id)
            return
        try:
            with hold_back():
                # An engine refuses to remove an image of several names by its id.
                for name in self._names(leftover.id) or [leftover.id]:
                    self._remove_image(name)
        except ApiError as error:
            if error.status != 404:
                raise

    def _names(self, image: str) -> list[str]:
        return [str(name) for name in (self._image(image) or {}).get("RepoTags") or [] if name != "<none>:<none>"]

    def _remove_image(self, image: str) -> None:
        """Remove it, not the unnamed ones that it is made of: these are the engine's cache."""
        self._api.json("DELETE", f"/images/{reference_path(image)}", params={"noprune": True})

    def close(self) -> None:
        """Let go of connections."""
        self._api.close()


def split_reference(reference: str) -> tuple[str, str]:
    """Name and tag (or digest) of an image reference: `a/b:1` → (`a/b`, `1`), `a/b` → (`a/b`, `latest`)."""
    if "@" in reference:
        name, _, digest = reference.partition("@")
        return name, digest
    name, colon, tag = reference.rpartition(":")
    if not colon or "/" in tag:
        return reference, "latest"
    return name, tag


def error_text(message: Mapping[str, Any]) -> str:
    """The error that a message of a reply's stream carries, or ""."""
    if detail := message.get("errorDetail"):
        return str(detail.get("message") or message.get("error") or "unknown error").strip()
    return str(message.get("error") or "").strip()


def _sha(identity: str) -> str:
    return identity if identity.startswith("sha256:") else f"sha256:{identity}"


def _import_failed(tar: Path, said: str) -> EngineError:
    if full := storage_full(f"{said} (importing {tar.name})"):
        return full
    remedy = "look at the engine's log"
    if "insufficient UIDs" in said:  # rootless Podman: one without ranges keeps its user namespace until told
        remedy = "give your user ranges in /etc/subuid and /etc/subgid, run `podman system migrate`, and build again"
    return EngineError(f"the engine failed to import {tar.name}: {said}", remedy=remedy)


def file_chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", remedy="make it again") from error
