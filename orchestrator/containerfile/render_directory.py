"""The directory that `render -o` writes into: new, empty, or an earlier render, whose files are replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestrator.containerfile.assemble import AssembledContext
from orchestrator.containerfile.context import CONTAINERFILE
from orchestrator.containerfile.ours import has_our_containerfile
from orchestrator.errors import UsageError
from orchestrator.files import write_bytes
from orchestrator.network import CA_SECRET, ca_bundle
from orchestrator.plan.plan import Plan
from orchestrator.project.load import LoadedProject

OWN = "own"
"""Where the context of the user's own Containerfile is written."""
_OURS = (
    "Containerfile",
    "dependencies",
    "files",
    "files.sha256",
    "manifest.json",
    "gevulot",
    "gpu-assets",
    "nanos",
    "network",
    "ops",
    OWN,
    "packages",
    "scripts",
    "shim",
    "src",
)


def check_room(directory: Path) -> None:
    """UsageError when `directory` holds anything but an earlier render."""
    if directory.exists() and any(directory.iterdir()) and not has_our_containerfile(directory):
        raise UsageError(
            f"{directory} is not empty and was not written by an earlier `render`; nothing was written",
            remedy="give a new or empty directory",
        )


def clear_earlier(directory: Path) -> None:
    """Remove an earlier render's files, so that what has left the project since isn't built again."""
    for name in _OURS if has_our_containerfile(directory) else ():
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def own_tag_by_hand(loaded: LoadedProject) -> str:
    """What the image of the user's own Containerfile is called in the commands for building by hand."""
    return f"localhost/orchestrator/{loaded.project.name.lower()}:own"


def commands_by_hand(
    loaded: LoadedProject, plan: Plan, made: AssembledContext, directory: Path
) -> list[tuple[str, ...]]:
    """The words of the commands that build what was written into `directory`.

    The CA bundle is the host's own file; with `network.ca`, one that is written beside the directory.
    """
    build, bundle, commands = loaded.project.build, ca_bundle(), []
    if loaded.project.network.ca is not None:
        bundle = directory.with_name(f"{directory.resolve().name}.ca.crt")
        write_bytes(bundle, made.certificates)
    certificates = ("--secret", f"id={CA_SECRET},src={bundle}")
    if build.containerfile is not None:
        words = ["podman", "build", "--file", str(directory / OWN / build.containerfile), "--tag", plan.program_image]
        words += ["--target", build.target] if build.target else []
        words += [word for name, value in build.args.items() for word in ("--build-arg", f"{name}={value}")]
        commands.append((*words, *certificates, *_given_by_hand(loaded), str(directory / OWN)))
    words = ["podman", "build", "--file", str(directory / CONTAINERFILE), *certificates]
    words += [] if build.finished else _given_by_hand(loaded)
    if loaded.project.packer != "native":
        return [*commands, (*words, str(directory))]
    name = f"{loaded.project.name.lower()}-by-hand"
    image, tree = f"localhost/orchestrator/{name}", str(directory.with_name(f"{directory.resolve().name}.tree.tar"))
    return [
        *commands,
        (*words, "--tag", image, str(directory)),
        ("podman", "create", "--name", name, image, "never-started"),
        ("podman", "export", "--output", tree, name),
        ("podman", "rm", name),
        ("orchestrator", "pack", tree, "--project", str(loaded.path)),
    ]


def _given_by_hand(loaded: LoadedProject) -> list[str]:
    """The options that give the user's step its secrets and the ssh agent."""
    words: list[str] = []
    for secret in loaded.project.build.secrets:
        origin = f"type=env,src={secret.env}" if secret.env else f"src={loaded.root / str(secret.file)}"
        words += ["--secret", f"id={secret.id},{origin}"]
    return [*words, "--ssh", "default"] if loaded.project.build.ssh else words
