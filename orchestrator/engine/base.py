"""What a container engine must do for us: one small Protocol, satisfied by Docker, Podman and the tests' fake."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol

from orchestrator.engine.capabilities import EngineCapabilities
from orchestrator.errors import BuildStepError, EngineError
from orchestrator.events import Emit
from orchestrator.resolved import ImageSettings
from orchestrator.staged import ImageFiles


@dataclass(frozen=True, kw_only=True)
class EngineInfo:
    """Who answers. `kind` is docker|podman; `builder` is buildkit|classic|buildah; `private` = we started it.

    `note` says with which settings of its own a private one runs ("" with Podman's).
    """

    kind: str
    version: str
    api_version: str
    builder: str
    endpoint: str
    private: bool = False
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class BuildSecret:
    """Bytes for `RUN --mount=type=secret,id=…`: in no layer and no context. `hide`: they are hidden in the output."""

    id: str
    data: bytes = field(repr=False)
    hide: bool = True


class ContextMember(Protocol):
    """A directory, file or link of a build context; `kind` is dir|file|link, `mtime` in seconds since 1970."""

    @property
    def path(self) -> str:
        """Relative, with '/'."""
        ...

    @property
    def kind(self) -> str:
        """What it is."""
        ...

    @property
    def executable(self) -> bool:
        """Of a file: mode 0755 and not 0644."""
        ...

    @property
    def target(self) -> str:
        """Of a link."""
        ...

    @property
    def mtime(self) -> int:
        """When it was last changed, as the build is to see it."""
        ...


class ContextFiles(Protocol):
    """A build context as its members. Errors: those that the context's tar would raise."""

    def members(self) -> Sequence[ContextMember]:
        """All of them, parents first, sorted by the parts of their paths."""
        ...

    def contents(self) -> Mapping[str, tuple[int, str]]:
        """Size in bytes and SHA-256 (hex) of each file, by path; reads them all the first time."""
        ...

    def chunks(self, path: str) -> Iterator[bytes]:
        """The bytes of a file as it is now."""
        ...


@dataclass(frozen=True, kw_only=True)
class BuildRequest:
    """One image build.

    `context` yields the chunks of a tar that holds `containerfile` (its name inside the tar) and all that it
    copies; it is gone through at most once. `context_size` is about how many bytes that is (0 = unknown). An engine
    whose `capabilities` have `context_sync` may take `files` instead, the same context, and keep what it got for
    the next build of the same `place` (any text; None and "": the tar is all there is). `target` is the stage to
    end at. `tag` names the result. `images` are those of its FROM lines for whose registries a login may be looked
    up. `ssh` is the path of an ssh agent's socket on this machine ("" = none). Secrets and ssh need an engine whose
    `capabilities` have them; else EngineError. `offline` steps run without a network. `cache_from` and `cache_to`
    name images of registries (Podman: repositories) that layers are taken from and brought to; EngineError where
    the engine's `capabilities` lack it.
    """

    context: Iterable[bytes]
    containerfile: str
    tag: str
    build_id: str
    context_size: int = 0
    files: ContextFiles | None = None
    place: str = ""
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    images: tuple[str, ...] = ()
    secrets: tuple[BuildSecret, ...] = ()
    ssh: str = ""
    offline: bool = False
    cache_from: tuple[str, ...] = ()
    cache_to: str = ""


class StepFailedError(BuildStepError):
    """A build step failed: which stage and instruction (as far as the engine says), its status, its last lines."""

    def __init__(
        self, message: str, *, stage: str, instruction: str, tail: str, status: int | None, said: str = ""
    ) -> None:
        super().__init__(message, said=said)
        self.stage = stage
        self.instruction = instruction
        self.tail = tail
        self.status = status


class LayerLostError(EngineError):
    """A layer that the build was about to take from the cache was removed meanwhile, by another build's end or by
    `clean`. The same build, begun again, works."""


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """Something a build left in the engine. `kind` is container|image; `size` in bytes (0 = unknown)."""

    kind: str
    id: str
    name: str
    build_id: str
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class ContainerRequest:
    """A container that runs: no network, a read-only root, no capability, nothing of the engine's environment.

    `mounts`: (host directory, where in the container, read-only). `memory`: bytes, 0 = no limit. `processes`: the most
    that it may have, 0 = no limit. An engine without such a limit (`EngineCapabilities.limits`) sets none. `user`: the
    id that it runs as (None: this process's own, of a rootless engine root's). `devices`: device nodes of the host, at
    the same place in the container.

    `nested`: a program of ours runs in it, which confines others: as root, with what namespaces need (CAP_SYS_ADMIN,
    no filter of the engine's, all of /proc), and it may write to its own files. Still without a network.
    """

    image: str
    command: tuple[str, ...]
    build_id: str
    mounts: tuple[tuple[Path, str, bool], ...] = ()
    memory: int = 0
    processes: int = 0
    hostname: str = ""
    user: int | None = None
    devices: tuple[str, ...] = ()
    nested: bool = False


@dataclass(frozen=True, kw_only=True)
class EnginePlace:
    """A directory of this machine that a build's context goes to; `name` in a user's words."""

    path: Path
    name: str


class Container(Protocol):
    """A container that was made and not yet started."""

    def put(self, tar: Iterable[bytes]) -> None:
        """Unpack the chunks of a tar at its root; before it is started, and only into a `nested` one."""
        ...

    def output(self) -> AbstractContextManager[Iterator[tuple[str, bytes]]]:
        """What one that was started writes until its end, as (stdout|stderr, bytes)."""
        ...

    def open_archive(self, path: str) -> AbstractContextManager[BinaryIO]:
        """A tar stream of `path` in it, once it has ended."""
        ...

    def start(self) -> None:
        """Start it, without waiting. EngineError when the engine can't."""
        ...

    def problem(self) -> str | None:
        """How it ended; None while it runs."""
        ...

    def kill(self) -> None:
        """End it."""
        ...


class Engine(Protocol):
    """A container engine. All methods raise EngineError when the engine itself fails or goes away."""

    @property
    def info(self) -> EngineInfo:
        """Who answers."""
        ...

    @property
    def capabilities(self) -> EngineCapabilities:
        """What it can do; asked of it the first time."""
        ...

    def image_digest(self, reference: str) -> str | None:
        """The repo digest, or else the image id, of a local image (`sha256:…`); None when it isn't there."""
        ...

    def image_id(self, reference: str) -> str:
        """The digest of a local image's settings (`sha256:…`), the same on every engine; "" when it isn't there, or
        when this engine calls images otherwise (Docker with containerd's store)."""
        ...

    def image_settings(self, reference: str) -> ImageSettings:
        """What a local image says of how its program is started. EngineError when it isn't there."""
        ...

    def pull(self, reference: str, emit: Emit) -> str:
        """Pull, return the digest (`sha256:…`). InputError when the registry doesn't answer or refuses."""
        ...

    def import_rootfs(self, tar: Path, tag: str, labels: Mapping[str, str]) -> str:
        """Make an image from a root file system's tar; returns the image id."""
        ...

    def save(self, image: str, target: Path) -> None:
        """Write an image, its layers and settings to the new file `target`, as an archive that `load` takes."""
        ...

    def load(self, archive: Path, tag: str) -> str:
        """Take an image out of an archive that `save` made, name it `tag`; returns its id. InputError: no such."""
        ...

    def build(self, request: BuildRequest, emit: Emit) -> str:
        """Build and return the image id. Events come through `emit`. StepFailedError when a step fails,
        LayerLostError when the same build may be begun again.

        The values of secrets are hidden in events and errors.
        Interrupted (KeyboardInterrupt), it cancels the build in the engine before it re-raises.
        """
        ...

    def open_archive(self, image: str, path: str, build_id: str) -> AbstractContextManager[BinaryIO]:
        """A tar stream of `path` inside `image`, by way of a container that is created, never started, removed."""
        ...

    def open_image(self, image: str, build_id: str) -> AbstractContextManager[ImageFiles]:
        """The files of `image`, until the end as a context."""
        ...

    def places(self) -> tuple[EnginePlace, ...]:
        """Where a build writes on this machine; nothing of an engine that is elsewhere."""
        ...

    def protect(self, build_id: str) -> AbstractContextManager[None]:
        """While the context lasts, `in_use` names the build, in other processes as well."""
        ...

    def in_use(self) -> frozenset[str]:
        """The ids of the builds that run on this engine, started by this user on this machine."""
        ...

    def end_killed(self) -> None:
        """End the processes of builds that were killed, and remove their working containers."""
        ...

    def leftovers(self) -> list[Leftover]:
        """Containers and images with our label, newest first; layers kept as a cache have the build id `cache`.

        Working containers of builds that were killed have no build id.
        """
        ...

    def remove(self, leftover: Leftover) -> None:
        """Remove one leftover and nothing that it is made of; one that is already gone is no error."""
        ...

    def close(self) -> None:
        """Let go of connections; stop the service when it is private."""
        ...


class RunningEngine(Engine, Protocol):
    """An engine that also runs programs, as a rehearsal needs; builds do without."""

    def ask_ahead(self) -> None:
        """Begin to ask what `capabilities` says, while we do something else: Podman's answer takes 0.15 s."""
        ...

    def open_shell(self, image: str, build_id: str, *, offline: bool) -> None:
        """Run `/bin/sh` of `image` on this command's terminal until it ends. EngineError where that has none."""
        ...

    def open_container(self, request: ContainerRequest) -> AbstractContextManager[Container]:
        """A container that is made, can be started, and is removed at the end whatever it does."""
        ...
