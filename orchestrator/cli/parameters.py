"""Arguments and options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from orchestrator.cli.console import answer_json, as_user_error, failure_document
from orchestrator.cli.runner import ANNOTATIONS
from orchestrator.errors import OrchestratorError, UsageError

if TYPE_CHECKING:
    from orchestrator.project.user_settings import CacheRole


class ProjectPath(click.ParamType[Path]):
    """A project.yaml; a directory means the project.yaml in it."""

    name = "project.yaml"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:  # noqa: ARG002
        """The path as the user gave it."""
        path = Path(value)
        return path / "project.yaml" if path.is_dir() else path


def cache_reference(option: str, value: str) -> str:
    """The repository or image that `--cache-from` or `--cache-to` names: as it is, or as buildx writes it.

    UsageError for a kind of cache that the engines' API does not have.
    """
    from orchestrator.project.user_settings import CACHE_REMEDY, cache_image

    try:
        return cache_image(value)
    except ValueError as error:
        raise UsageError(f"{option} {value}: {error}", remedy=CACHE_REMEDY) from error


class CacheReference(click.ParamType[str]):
    """What `cache_reference` takes."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:  # noqa: ARG002
        """The image or repository."""
        return cache_reference(param.opts[0] if param is not None else "", str(value))


CACHE = CacheReference()


def existing_image(path: Path) -> Path:
    """`path`, a file that is there. UsageError says what it is instead, and which image may be meant."""
    remedy = "give the path of an image, such as target/NAME.img"
    if path.is_file():
        return path
    if path.is_dir():
        images = sorted(path.glob("*.img"))
        raise UsageError(f"{path} is a directory", remedy=f"did you mean {images[0]}?" if images else remedy)
    if path.exists():
        raise UsageError(f"{path} is not a regular file", remedy=remedy)
    with_suffix = path.with_name(f"{path.name}.img")
    raise UsageError(
        f"there is no file {path}", remedy=f"did you mean {with_suffix}?" if with_suffix.is_file() else remedy
    )


_SCHEMES = ("unix://", "tcp://", "http://", "https://", "ssh://")
"""As `engine/endpoints.py` has them, whose import `--help` need not wait for; a test compares the two."""


def _engine(*known: str) -> Callable[[click.Context, click.Parameter, str], str]:
    """A check for --engine: one of these names, or a URL."""

    def check(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
        if value in known or value.startswith(_SCHEMES):
            return value
        raise click.BadParameter(
            f"{value!r} is not one of {', '.join(known)}, nor a URL (unix:///path, tcp://host:port, ssh://user@host)"
        )

    return check


def json_failures(command: Callable[..., None]) -> Callable[..., None]:
    """With --json a command that fails answers one JSON document as well."""

    @functools.wraps(command)
    def wrapped(*arguments: Any, as_json: bool, **named: Any) -> None:
        try:
            command(*arguments, as_json=as_json, **named)
        except (OrchestratorError, OSError) as error:
            known = as_user_error(error) if isinstance(error, OSError) else error
            if as_json and known is not None:
                answer_json(failure_document(known))
            raise

    return wrapped


PROJECT = ProjectPath()
PATH = click.Path(path_type=Path)
DIRECTORY = click.Path(path_type=Path, file_okay=False)

project_argument = click.argument("project", type=PROJECT, metavar="PROJECT.YAML")
image_argument = click.argument("image", type=PATH, metavar="IMAGE")
annotations_option = click.option(
    "--annotations",
    type=click.Choice(ANNOTATIONS),
    default="auto",
    show_default=True,
    help="Show errors and warnings at their lines in this CI system; auto is the one that runs this.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
engine_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|docker|podman|URL",
    callback=_engine("auto", "docker", "podman", "private"),
    help="Use this container engine. auto: Docker, else Podman, else a private Podman service.",
)
trust_option = click.option(
    "--trust-project", is_flag=True, help="Do not report what PROJECT.YAML uses from outside its directory."
)
place_option = click.option(
    "--engine",
    default="auto",
    show_default=True,
    metavar="auto|none|docker|podman|URL",
    callback=_engine("auto", "none", "docker", "podman", "private"),
    help="Where to run programs. none: in namespaces, without an engine; auto: none if that works.",
)
task_option = click.option(
    "--task", type=PATH, metavar="TASK.JSON", help='Give the program this task: {"id": …, "args": […], "files": […]}.'
)
files_option = click.option(
    "--file", "files", type=PATH, multiple=True, metavar="F", help="Put this file into /workspace; may be repeated."
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["devnet", "local"]),
    help="Where the program gets its task from (default: as the receipt says).",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=300.0,
    show_default=True,
    metavar="S",
    help="Stop a program after this many seconds, including preparation.",
)
cpus_option = click.option(
    "--cpus", type=click.IntRange(min=1), metavar="N", help="CPUs of the guest (default: the receipt's, else 2)."
)
progress_option = click.option(
    "--progress",
    type=click.Choice(["auto", "tty", "plain", "json"]),
    default="auto",
    show_default=True,
    help="How to show progress on stderr.",
)


def tls_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Where a fleet's certificates are."""
    decorated: Callable[..., Any] = click.option(
        "--tls", type=DIRECTORY, metavar="DIR", help="Where this machine's certificates of the fleet are."
        "  [default: the directory of `fleet init`]",
    )(command)  # fmt: skip
    return decorated


def fleet_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that uses a fleet; its parameter `fleet` is what they say, or None."""

    @click.option("--fleet", "fleet_address", metavar="tls://HOST:PORT|local",
                  help="Build on the machines of this fleet; local: on this one, as a fleet of its own.")  # fmt: skip
    @click.option("--label", "fleet_labels", multiple=True, metavar="NAME",
                  help="With --fleet: only on machines that have this label; may be repeated.")  # fmt: skip
    @tls_option
    @functools.wraps(command)
    def wrapped(
        *arguments: Any, fleet_address: str | None, fleet_labels: tuple[str, ...], tls: Path | None, **named: Any
    ) -> None:
        from orchestrator.cli.fleet_builds import FleetOptions

        if fleet_address is None and fleet_labels:
            raise UsageError("--label is for --fleet", remedy="leave it out, or say which fleet")
        options = None
        if fleet_address is not None:
            options = FleetOptions(address=fleet_address, labels=tuple(sorted({*fleet_labels})), credentials=tls)
        command(*arguments, fleet=options, **named)

    return wrapped


def shared_cache_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a command that uses a shared cache; its parameter `cache` is what they say."""

    @click.option(
        "--cache",
        metavar="URL",
        help="Share inputs and results with other machines by a directory, oci://HOST/PATH or s3://BUCKET/PATH;"
        " `none`: with nobody.",
    )
    @click.option(
        "--cache-role",
        type=click.Choice(["read", "read-write"]),
        help="Only take from the shared cache, or put there what it lacks.  [default: read]",
    )
    @click.option(
        "--cache-trust",
        type=PATH,
        multiple=True,
        metavar="PUBLIC.PEM",
        help="Take finished images and shims that this ed25519 key signed; may be repeated.",
    )
    @click.option(
        "--cache-sign",
        type=PATH,
        metavar="KEY.PEM",
        help="With --cache-role read-write: put finished images and shims there, signed with this ed25519 private key.",
    )
    @functools.wraps(command)
    def wrapped(
        *arguments: Any,
        cache: str | None,
        cache_role: CacheRole | None,
        cache_trust: tuple[Path, ...],
        cache_sign: Path | None,
        **named: Any,
    ) -> None:
        from orchestrator.shared_cache.choice import CacheOptions

        options = CacheOptions(url=cache, role=cache_role, trusted=cache_trust, sign=cache_sign)
        command(*arguments, cache=options, **named)

    return wrapped
