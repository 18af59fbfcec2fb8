"""What of this machine a project's file reaches for, beyond its own directory: it may be somebody else's file.

Whatever a build step gets may leave with it: the step has a network, and the image holds what it writes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from orchestrator.errors import OUTSIDE, Finding
from orchestrator.findings import Findings
from orchestrator.project.load import LoadedProject
from orchestrator.project.paths import LeftOutBy
from orchestrator.project.stage_files import StagedFile
from orchestrator.user_paths import settings_path


def check_outside(loaded: LoadedProject) -> list[Finding]:
    """A note for everything that the project takes from outside its own directory. Looks at names, reads nothing."""
    findings = Findings(file=str(loaded.path), lines=loaded.lines)
    root = os.path.realpath(loaded.root)
    trust = f"if you trust the project, build with --trust-project, or name it under `trusted:` in {settings_path()}"
    for field, path in outside_paths(loaded):
        real = os.path.realpath(loaded.root / path)
        if real != root and not real.startswith(root.rstrip("/") + "/"):
            findings.note(OUTSIDE, field, f"the build reads {real}, outside the project's directory", trust)
    build = loaded.project.build
    for index, secret in enumerate(build.secrets):
        if secret.env is not None:
            message = f"the build step receives your environment variable {secret.env}"
            findings.note(OUTSIDE, f"build.secrets[{index}].env", message, trust)
    if build.ssh:
        findings.note(OUTSIDE, "build.ssh", "the build step can use the keys of your ssh agent", trust)
    return findings.collected


def staged_host_files(loaded: LoadedProject) -> tuple[Path, ...]:
    """Where the files of this machine that go straight into the image are: no build context has to carry them."""
    entries = loaded.project.stage.outside.values()
    return tuple(Path(os.path.realpath(loaded.root / entry.host)) for entry in entries if entry.host is not None)


def secrets_in_context(loaded: LoadedProject, left_out_by: LeftOutBy | None) -> list[Finding]:
    """A warning for each secret's file among the sources that is left out of them by itself, not by an ignore file."""
    findings = Findings(file=str(loaded.path), lines=loaded.lines)
    context = Path(os.path.realpath(loaded.root / loaded.project.build.context))
    for index, secret in enumerate(loaded.project.build.secrets):
        if secret.file is None:
            continue
        real = Path(os.path.realpath(loaded.root / secret.file))
        if not real.is_relative_to(context) or not real.is_file():
            continue
        name = str(real.relative_to(context))
        if left_out_by is None or not left_out_by(name):
            findings.warning(
                "secret",
                f"build.secrets[{index}].file",
                f"`{name}` is left out of the build context because it is a secret",
                f"the step reads it at /run/secrets/{secret.id}; list any copies of it in .dockerignore",
            )
    return findings.collected


def outside_paths(loaded: LoadedProject) -> Iterator[tuple[str, str]]:
    """Field and path of everything of this machine that project.yaml itself names."""
    project = loaded.project
    yield "build.context", project.build.context
    for index, secret in enumerate(project.build.secrets):
        if secret.file is not None:
            yield f"build.secrets[{index}].file", secret.file
    for index, entry in project.stage.outside.items():
        yield from _of_entry(f"stage.files[{index}]", entry)
    # The user's own settings may have given the certificates.
    if project.network.ca is not None and "network.ca" in loaded.lines:
        yield "network.ca", project.network.ca
    if isinstance(project.manifest, str):
        yield "manifest", project.manifest
    gevulot, assets = project.gevulot, project.gpu_assets
    paths = {
        "gevulot.path": gevulot.path if gevulot is not None else None,
        "gevulot.git": _local(gevulot.git, git=True) if gevulot is not None else None,
        "gevulot.archive": _local(gevulot.archive) if gevulot is not None else None,
        "nanos.path": project.nanos.path,
        "ops.path": project.ops.path,
        "ops.url": _local(project.ops.url),
        "gpu-assets.path": assets.path if assets is not None else None,
        "gpu-assets.url": _local(assets.url) if assets is not None else None,
    }
    for field, path in paths.items():
        if path is not None:
            yield field, path


def _of_entry(field: str, entry: StagedFile) -> Iterator[tuple[str, str]]:
    for name, path in (("from", entry.host), ("url", _local(entry.url))):
        if path is not None:
            yield f"{field}.{name}", path


def _local(url: str | None, *, git: bool = False) -> str | None:
    """The path that an address names, None for one of another machine. For git a path is an address too."""
    if url is None:
        return None
    if url.lower().startswith("file:"):
        return unquote(urlsplit(url).path)
    # As git tells paths from HOST:PATH: by a slash before the first colon.
    return url if git and "://" not in url and not re.match(r"[^/]+:", url) else None
