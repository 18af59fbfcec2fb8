"""The directory that `render -o` writes into: new, empty, or an earlier render, whose files are replaced."""

from __future__ import annotations

import shutil
from pathlib import Path

from orchestrator.containerfile.assemble import CONTAINERFILE, AssembledContext
from orchestrator.containerfile.ours import has_our_containerfile
from orchestrator.errors import UsageError
from orchestrator.files import write_bytes
from orchestrator.network import CA_SECRET, ca_bundle
from orchestrator.project.load import LoadedProject

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
    "packages",
    "scripts",
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


def command_by_hand(loaded: LoadedProject, made: AssembledContext, directory: Path) -> tuple[str, ...]:
    """The words of the command that builds what was written into `directory`.

    The CA bundle is the host's own file; with `network.ca`, one that is written beside the directory.
    """
    bundle = ca_bundle()
    if loaded.project.network.ca is not None:
        bundle = directory.with_name(f"{directory.resolve().name}.ca.crt")
        write_bytes(bundle, made.certificates)
    words = ["podman", "build", "--file", str(directory / CONTAINERFILE), "--secret", f"id={CA_SECRET},src={bundle}"]
    for secret in loaded.project.build.secrets:
        origin = f"type=env,src={secret.env}" if secret.env else f"src={loaded.root / str(secret.file)}"
        words += ["--secret", f"id={secret.id},{origin}"]
    words += ["--ssh", "default"] if loaded.project.build.ssh else []
    return (*words, str(directory))
