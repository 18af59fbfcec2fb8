"""What an engine can do, and what is done where it can't: asked of an engine once, used instead of its kind."""

from __future__ import annotations

from dataclasses import dataclass, fields

SESSION_SERVICES = ("secrets", "registry logins", "ssh agent")
"""What BuildKit may ask this program for, by a session of its own, while it builds."""


@dataclass(frozen=True, kw_only=True)
class EngineCapabilities:
    """What one engine can do. `FALLBACKS` says what each field means, and what is done without it.

    `ssh` is the start of the `RUN --mount=` that gives a step the ssh agent, or SSH_VOLUME; "" = it can't have it.
    `cgroup` is "1" or "2", and "" like an empty `storage` where the engine doesn't say. `shares_files`: None = that
    can't be told without trying.
    """

    api_version: str
    buildkit: bool
    session: tuple[str, ...]
    context_sync: bool
    mounts: bool
    ssh: str
    parallel: bool
    registry_cache: bool
    storage: str
    cgroup: str
    limits: tuple[str, ...]
    rootless: bool
    remote: bool
    shares_files: bool | None


@dataclass(frozen=True, kw_only=True)
class Fallback:
    """A field of `EngineCapabilities`: what it says, how that is known, and what happens without it."""

    capability: str
    meaning: str
    known_by: str
    without: str


FALLBACKS = (
    Fallback(
        capability="api_version",
        meaning="the newest version of the Docker API that both sides know",
        known_by="`/_ping` and `/version`",
        without="a daemon that no longer has our newest (1.44) is spoken to in the oldest that it has",
    ),
    Fallback(
        capability="buildkit",
        meaning="BuildKit builds: a step that two builds want at a time runs once, and each line's stage is known",
        known_by="Docker with API 1.39 or newer on Linux, unless `DOCKER_BUILDKIT=0`",
        without="builds with the same step wait for each other by a lock on this machine; a failed step's lines may be"
        " another stage's, and the error says so",
    ),
    Fallback(
        capability="session",
        meaning="what the builder asks us for during the build, over one more connection",
        known_by="BuildKit has it",
        without="registry logins go in a header; secrets go as files of the context that Podman takes out of it before"
        " the build",
    ),
    Fallback(
        capability="context_sync",
        meaning="the builder keeps the build context and asks for what changed in it, file by file",
        known_by="BuildKit with API 1.41 (Docker 20.10) or newer",
        without="the whole context travels as a tar with each build; so do small ones, which that is faster for",
    ),
    Fallback(
        capability="mounts",
        meaning="`RUN --mount`: secrets, CA certificates and caches reach a step and stay in no layer",
        known_by="every builder but Docker's classic one",
        without="a project with `build.secrets` is refused (exit 3); CA certificates are in the context; no caches",
    ),
    Fallback(
        capability="ssh",
        meaning="how a step gets the ssh agent: through the session, as a volume, or as a context",
        known_by="BuildKit: session; Podman on this machine: a volume from 4.4 on, a context before",
        without="a project with `build.ssh` is refused (exit 3)",
    ),
    Fallback(
        capability="parallel",
        meaning="stages run side by side",
        known_by="BuildKit, and Podman before 5, whose service panics when such a build is interrupted",
        without="stages run one after the other; a guard keeps the connection of an interrupted build open until its"
        " end, and ends its step, on another machine by ssh",
    ),
    Fallback(
        capability="registry_cache",
        meaning="layers come from a registry, and go there (`--cache-from`, `--cache-to`)",
        known_by="BuildKit, by a cache inside of the image; Podman from 4.3 on, by a repository of layers",
        without="a build with these options is refused (exit 3)",
    ),
    Fallback(
        capability="storage",
        meaning="the driver of the engine's storage; `containerd/…`: images are called by their manifests",
        known_by="`/info`",
        without="where it is not overlay storage that this user can read, or images are called by their manifests,"
        " large files come through the archive endpoint",
    ),
    Fallback(
        capability="cgroup",
        meaning="the version of control groups that the engine uses",
        known_by="`/info`",
        without="shown only: which OCI runtime works with it is found by a trial build (private Podman)",
    ),
    Fallback(
        capability="limits",
        meaning="which limits a container can have from its control group: `memory`, `pids`",
        known_by="`/info`",
        without="`rehearse` watches memory and threads every 50 ms, and says so",
    ),
    Fallback(
        capability="rootless",
        meaning="the engine is a user's own, in a user namespace",
        known_by="`/info`",
        without="rehearsed programs run there as our user id instead of the container's root",
    ),
    Fallback(
        capability="remote",
        meaning="the engine is on another machine, or in a virtual one",
        known_by="the endpoint is no Unix socket, the kernel's release differs, or Docker Desktop answers",
        without="a remote engine's disks are not checked for room; an interrupted remote Podman finishes the"
        " current step (before 5), or the build (without ssh)",
    ),
    Fallback(
        capability="shares_files",
        meaning="the engine sees this machine's temporary files under the same name",
        known_by="the process behind the socket, looked at through `/proc`; not known for another user's",
        without="`rehearse` sends the program there, with this machine's Python to answer its calls, and fetches what"
        " it leaves; Podman cannot have the ssh agent",
    ),
)
"""A row for each field, in their order."""


def markdown() -> str:
    """The table of `FALLBACKS`."""
    rows = [f"| `{row.capability}` | {row.meaning} | {row.known_by} | {row.without} |" for row in FALLBACKS]
    return "\n".join(["| capability | says | known by | without it |", "|---|---|---|---|", *rows, ""])


assert tuple(row.capability for row in FALLBACKS) == tuple(field.name for field in fields(EngineCapabilities))
