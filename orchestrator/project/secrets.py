"""Build secrets and the ssh agent: from this host's environment and files, when a build is about to begin."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestrator.errors import Severity
from orchestrator.findings import Findings
from orchestrator.network import CA_SECRET, FRESH_SECRET
from orchestrator.project.build_step import Secret
from orchestrator.project.load import LoadedProject

MAX_SECRET = 500 * 1024
"""BuildKit takes no larger secret."""
RESERVED = (CA_SECRET, FRESH_SECRET)
"""Ids that we use ourselves."""
AGENT_VARIABLE = "SSH_AUTH_SOCK"


@dataclass(frozen=True, kw_only=True)
class ProjectSecrets:
    """`values` by id; `agent` is the path of the ssh agent's socket, "" when the project doesn't ask for one."""

    values: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    agent: str = ""


def read_secrets(loaded: LoadedProject) -> ProjectSecrets:
    """What `build.secrets` and `build.ssh` name. UsageError with the line of each that isn't there."""
    environ = os.environ
    findings = loaded.findings()
    report_missing(findings, loaded, environ, Severity.ERROR)
    if findings.collected:
        raise findings.failure()
    build = loaded.project.build
    return ProjectSecrets(
        values={secret.id: _value(loaded, secret, environ) for secret in build.secrets},
        agent=environ[AGENT_VARIABLE] if build.ssh else "",
    )


def report_missing(findings: Findings, loaded: LoadedProject, environ: Mapping[str, str], severity: Severity) -> None:
    """A finding for every secret that can't be had now. Looks at names and sizes, reads no file."""
    for index, secret in enumerate(loaded.project.build.secrets):
        key = "env" if secret.env is not None else "file"
        name = f"build.secrets[{index}].{key}"
        if problem := _problem(loaded, secret, environ):
            findings.add(severity, "secret", name, *problem)
    if loaded.project.build.ssh and (problem := _agent_problem(environ.get(AGENT_VARIABLE, ""))):
        findings.add(severity, "secret", "build.ssh", *problem)


def secret_files(loaded: LoadedProject) -> tuple[Path, ...]:
    """Where the secrets' files really are: neither a build context nor an image may hold them."""
    files = (secret.file for secret in loaded.project.build.secrets)
    return tuple(Path(os.path.realpath(loaded.root / file)) for file in files if file is not None)


def _problem(loaded: LoadedProject, secret: Secret, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """What is wrong, and what to do."""
    if secret.env is not None:
        size = len(os.fsencode(environ.get(secret.env, "")))
        if not size:
            return f"environment variable {secret.env} is not set", "set it before `build`"
    else:
        try:
            status = (loaded.root / str(secret.file)).stat()
        except (OSError, ValueError):
            return f"there is no file `{secret.file}`", "create it before `build`"
        if not stat.S_ISREG(status.st_mode):
            return f"`{secret.file}` is not a plain file", "give a file"
        size = status.st_size
        if not size:
            return f"`{secret.file}` is empty", "put the secret into it"
    if size > MAX_SECRET:
        return f"is larger than {MAX_SECRET // 1024} KiB", "give only the secret; data belongs in the build context"
    return None


def _agent_problem(agent: str) -> tuple[str, str] | None:
    if not agent:
        return f"no ssh agent: {AGENT_VARIABLE} is not set", "start one: eval $(ssh-agent) && ssh-add"
    try:
        if stat.S_ISSOCK(Path(agent).stat().st_mode):
            return None
    except (OSError, ValueError):
        pass
    return (
        f"no ssh agent: {AGENT_VARIABLE} names `{agent}`, which is not a socket",
        "start one: eval $(ssh-agent) && ssh-add",
    )


def _value(loaded: LoadedProject, secret: Secret, environ: Mapping[str, str]) -> bytes:
    if secret.env is not None:
        return os.fsencode(environ[secret.env])
    try:
        return (loaded.root / str(secret.file)).read_bytes()
    except OSError as error:
        index = loaded.project.build.secrets.index(secret)
        message = f"`{secret.file}` cannot be read ({error.strerror})"
        findings = loaded.findings()
        findings.error("secret", f"build.secrets[{index}].file", message, "check its permissions")
        raise findings.failure() from error
