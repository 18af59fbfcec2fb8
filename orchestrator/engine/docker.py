"""Docker: BuildKit through `POST /build?version=2`, the classic builder where the daemon has no BuildKit."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import replace
from typing import Any

from orchestrator.engine.api_engine import ApiEngine, error_text
from orchestrator.engine.base import BuildRequest, EngineInfo, LayerLostError
from orchestrator.engine.build import build_parameters, count_sent, engine_gone, logins_of, mask_of, raise_no_image
from orchestrator.engine.buildkit import BuildKitLog
from orchestrator.engine.capabilities import SESSION_SERVICES, EngineCapabilities
from orchestrator.engine.classic import ClassicLog
from orchestrator.engine.context_sync import FROM_SESSION, Daemon, Run, synced
from orchestrator.engine.docker_api import Api, ApiError, GoneError
from orchestrator.engine.file_sync import ContextTransfer
from orchestrator.engine.logins import config_header
from orchestrator.engine.mask import Mask
from orchestrator.engine.registry_cache import INLINE, push, require_cache
from orchestrator.engine.session import Attachables, open_session
from orchestrator.engine.steps import Steps
from orchestrator.engine.stuck_steps import end_stuck_steps
from orchestrator.errors import EngineError, OrchestratorError
from orchestrator.events import Emit, Notice, StepFinished, StepStarted, ignore
from orchestrator.label import LABEL
from orchestrator.network import SSH_MOUNT

BUILDKIT_API = (1, 39)
"""The first API version whose daemon (18.09) has BuildKit behind `version=2`."""
SYNC_API = (1, 41)
"""The first whose daemon (20.10) was seen to keep a context."""


class DockerEngine(ApiEngine):
    """A Docker daemon."""

    def __init__(self, api: Api) -> None:
        buildkit = _has_buildkit(api)
        super().__init__(
            api,
            EngineInfo(
                kind="docker",
                version=api.version.version,
                api_version=api.version.api_version,
                builder="buildkit" if buildkit else "classic",
                endpoint=api.endpoint,
            ),
        )
        self._network = _network(api)

    def _find_capabilities(self) -> EngineCapabilities:
        buildkit = self._info.builder == "buildkit"
        return EngineCapabilities(
            api_version=self._info.api_version,
            buildkit=buildkit,
            session=SESSION_SERVICES if buildkit else (),
            context_sync=buildkit and _numbers(self._info.api_version) >= SYNC_API,
            mounts=buildkit,
            ssh=SSH_MOUNT if buildkit else "",
            parallel=buildkit,
            registry_cache=buildkit,
            storage=self.facts.storage,
            cgroup=self.facts.cgroup,
            limits=self.facts.limits,
            rootless=self.facts.rootless,
            remote=self._remote(),
            shares_files=self._shares_files(),
        )

    def build(self, request: BuildRequest, emit: Emit) -> str:
        """Build and return the image id; see `Engine.build`."""
        self.end_killed()
        steps = Steps(emit, mask_of(request))
        job = f"{request.build_id}-{secrets.token_hex(4)}"  # unique: one build_id may have several images
        try:
            return self._build(request, steps, emit, job)
        except GoneError as error:
            raise engine_gone(self._info, error) from error
        except BaseException as error:
            steps.close(error="interrupted" if not isinstance(error, Exception) else "stopped")
            if not isinstance(error, OrchestratorError):
                self._cancel(job)
            raise

    def end_killed(self) -> None:
        """See `Engine.end_killed`. A daemon ends what its client leaves; what a killed one leaves, nobody does."""
        if not self.capabilities.remote:
            end_stuck_steps()
        super().end_killed()

    def _build(self, request: BuildRequest, steps: Steps, emit: Emit, job: str) -> str:
        able = self.capabilities.registry_cache
        require_cache(request, able=able, single=False, engine="Docker's classic builder")
        params: dict[str, Any] = {
            **build_parameters(_with_inline_cache(request)),
            "cachefrom": json.dumps(request.cache_from),
            "labels": {LABEL: request.build_id},
            "networkmode": "none" if request.offline else self._network,
        }
        if self.capabilities.buildkit:
            image = self._with_buildkit(request, params | {"version": "2", "buildid": job}, steps, emit)
        elif request.secrets or request.ssh:
            raise EngineError(
                "Docker's classic builder supports neither build secrets nor an ssh agent",
                remedy="unset DOCKER_BUILDKIT, update Docker, or use --engine podman",
            )
        else:
            headers = config_header(logins_of(request))
            data = count_sent(request.context, emit, request.context_size)
            image = self._post(params, headers, ClassicLog(steps), mask_of(request), data)
        steps.close()
        if image and request.cache_to:
            self._push_cache(image, request.cache_to, emit)
        return image or raise_no_image(self._info)

    def _push_cache(self, image: str, reference: str, emit: Emit) -> None:
        """The image is what was asked for: a registry that does not take it is a warning."""
        step, began, problem = f"push {reference}", time.monotonic(), "interrupted"
        emit(StepStarted(id=step, stage="cache", title=step))
        try:
            problem = push(self._api, image, reference, error_text)
        except ApiError as error:
            problem = error.said
        finally:
            emit(StepFinished(id=step, seconds=time.monotonic() - began, error=problem))
        if problem:
            emit(Notice(text=f"the cache was not brought to {reference}: {problem}", level="warning"))

    def _with_buildkit(self, request: BuildRequest, params: dict[str, Any], steps: Steps, emit: Emit) -> str:
        attachables = Attachables(
            secrets={secret.id: secret.data for secret in request.secrets},
            logins=logins_of(request),
            ssh=request.ssh,
        )
        log, mask = BuildKitLog(steps), mask_of(request)

        def run(alone: Attachables, how: dict[str, str]) -> None:
            unneeded = dict.fromkeys(("t", "target", "buildargs", "cachefrom"), "")
            self._in_session(alone, params | how | unneeded, BuildKitLog(Steps(ignore, mask)), mask)

        with self._synced(request, run, emit) as context:
            if context is None:
                data = count_sent(request.context, emit, request.context_size)
                return self._in_session(attachables, params, log, mask, data)
            try:
                attachables = replace(attachables, context=context.context, key=context.key)
                return self._in_session(attachables, params | FROM_SESSION, log, mask)
            except OrchestratorError as error:
                if (fault := _context_fault(context.context)) is not None:
                    raise fault from error
                raise

    def _synced(self, request: BuildRequest, run: Run, emit: Emit) -> AbstractContextManager[Attachables | None]:
        if not self.capabilities.context_sync:
            return nullcontext()
        identity = f"{self.facts.identity} {self._info.endpoint}"
        return synced(request, Daemon(identity=identity, remote=self.capabilities.remote, run=run), emit)

    def _in_session(
        self,
        attachables: Attachables,
        params: dict[str, Any],
        log: BuildKitLog,
        mask: Mask,
        data: Iterable[bytes] | None = None,
    ) -> str:
        if not attachables:
            return self._post(params, {}, log, mask, data)
        with open_session(self._api.address, self._api.path("/session"), attachables, self._api.tls) as session:
            try:
                return self._post(params | {"session": session.id}, {}, log, mask, data)
            except OrchestratorError as error:
                if session.broken and not isinstance(error, GoneError):
                    raise EngineError(
                        f"the BuildKit session with {self._info.endpoint} was lost during the build",
                        remedy="check that the daemon runs (`orchestrator doctor`), look at its log, and build again",
                        detail=error.message,
                    ) from error
                raise

    def _post(
        self,
        params: dict[str, Any],
        headers: Mapping[str, str],
        log: BuildKitLog | ClassicLog,
        mask: Mask,
        data: Iterable[bytes] | None,
    ) -> str:
        try:
            with self._api.post_stream("/build", params=params, data=data, headers=headers) as reply:
                return _follow(reply, log, mask)
        except ApiError as error:
            raise log.failure(mask(error.said)) from error

    def _cancel(self, job: str) -> None:
        """Closing the connection stops a build in time; asking as well stops BuildKit's at once."""
        with suppress(EngineError):
            if self.capabilities.buildkit:
                self._api.json("POST", "/build/cancel", params={"id": job}, timeout=10)


def _context_fault(transfer: ContextTransfer | None) -> OrchestratorError | None:
    """What went wrong with a context that the engine kept, if something did."""
    if transfer is None:
        return None
    if transfer.differed:
        return LayerLostError("the engine lost the build context that it kept", remedy="build again")
    return transfer.error


def _with_inline_cache(request: BuildRequest) -> BuildRequest:
    return replace(request, build_args={**request.build_args, INLINE: "1"}) if request.cache_to else request


def _follow(messages: Iterator[dict[str, Any]], log: BuildKitLog | ClassicLog, mask: Mask) -> str:
    """Feed the log, return the id of the image ("" when none was named)."""
    image = ""
    for message in messages:
        if problem := error_text(message):
            raise log.failure(mask(problem), _code(message))
        aux = message.get("aux")
        if isinstance(aux, Mapping) and "ID" in aux:
            image = str(aux["ID"])
        else:
            log.feed(message)
    return image


def _code(message: Mapping[str, Any]) -> int | None:
    code = (message.get("errorDetail") or {}).get("code")
    return code if isinstance(code, int) else None


def _has_buildkit(api: Api) -> bool:
    if os.environ.get("DOCKER_BUILDKIT") == "0":  # the docker command's own switch
        return False
    return api.version.os == "linux" and _numbers(api.version.api_version) >= BUILDKIT_API


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _network(api: Api) -> str:
    """ "" (the daemon's default) or "host" for a daemon that runs without its bridge."""
    networks = api.json("GET", "/networks") or []
    return "" if any(network.get("Name") == "bridge" for network in networks) else "host"
