"""A program that comes in a finished image: `build.image`, or what the user's own `build.containerfile` makes.

Such an image says itself how its program is started. Docker's rules for that: ENTRYPOINT and CMD are one list of words,
whose first is the program; a word without a slash is looked for in PATH; a relative one belongs to WORKDIR.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from dataclasses import replace

from orchestrator.errors import UsageError
from orchestrator.project.containerfile import Containerfile, ContainerStage, containerfile_of, stages_of
from orchestrator.project.load import LoadedProject, read_text
from orchestrator.resolved import ImageSettings
from orchestrator.suggest import did_you_mean

MAX_BYTES = 1024 * 1024
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SHELLS = ("sh", "bash", "ash", "dash")
_NAME_IT = "name the program itself as build.program, and its arguments as `manifest: {Args: […]}`"


def read_containerfile(loaded: LoadedProject) -> Containerfile | None:
    """The project's Containerfile, None when it has none. UsageError with its line of project.yaml."""
    build = loaded.project.build
    if build.containerfile is None:
        return None
    findings, path, name = loaded.findings(), loaded.root / build.context / build.containerfile, build.containerfile
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "is not there"
        findings.error(
            "path", "build.containerfile", f"`{name}` {what}", f"give a file, relative to build.context ({path.parent})"
        )
        raise findings.failure()
    text = read_text(path, what="a Containerfile", limit=MAX_BYTES)
    stages = stages_of(text, build.args)
    if not stages:
        findings.error("path", "build.containerfile", f"`{name}` has no FROM line", "give a Containerfile")
        raise findings.failure()
    by_name = {stage.name: stage for stage in stages}
    target: ContainerStage | None = by_name.get(build.target.lower()) if build.target else stages[-1]
    if target is None:
        remedy = did_you_mean(build.target or "", by_name) or f"it has {', '.join(by_name)}"
        findings.error("path", "build.target", f"`{name}` has no stage `{build.target}`", remedy)
        raise findings.failure()
    return containerfile_of(text, stages, target)


def with_image(loaded: LoadedProject, settings: ImageSettings, has_file: Callable[[str], bool]) -> LoadedProject:
    """The project as its image completes it: the program's absolute path, and Args where the image starts the same.

    `has_file` says whether the image has a file at an absolute path. UsageError where it names no program.
    """
    build, words = loaded.project.build, (*settings.entrypoint, *settings.command)
    started = _found(words[0], settings, has_file) if words else ""
    if build.program:
        program = posixpath.normpath(f"/{build.program.lstrip('/')}")
        if not has_file(program):
            raise _not_in_it(loaded, program, settings, has_file)
    elif not words:
        raise _no_program(loaded, "the image has neither ENTRYPOINT nor CMD", "name the program as build.program")
    elif posixpath.basename(words[0]) in _SHELLS:
        shown = " ".join(words)[:160]
        raise _no_program(loaded, f"the image starts a shell (`{shown}`), which the guest has not", _NAME_IT)
    elif not started:
        raise _no_program(loaded, f"the image starts `{words[0]}`, which is not in it", _NAME_IT)
    else:
        program = started
    completed = replace(settings, arguments=words[1:] if program == started else ())
    project = loaded.project.model_copy(update={"build": build.model_copy(update={"program": program})})
    return replace(loaded, project=project, image=completed)


def _found(word: str, settings: ImageSettings, has_file: Callable[[str], bool]) -> str:
    """The absolute path of what a word starts, "" when it isn't there."""
    if "/" in word:
        paths = [posixpath.join(settings.directory, word)]
    else:
        directories = settings.environment.get("PATH", DEFAULT_PATH).split(":")
        paths = [posixpath.join(settings.directory, directory, word) for directory in directories]
    return next((path for path in map(posixpath.normpath, paths) if has_file(path)), "")


def _not_in_it(
    loaded: LoadedProject, program: str, settings: ImageSettings, has_file: Callable[[str], bool]
) -> UsageError:
    findings = loaded.findings()
    meant = posixpath.normpath(posixpath.join(settings.directory, program.lstrip("/")))
    remedy = f"did you mean `{meant}`?" if has_file(meant) else "give its path in the image, as /app/prover"
    findings.error("image-program", "build.program", f"the image has no {program}", remedy)
    return findings.failure()


def _no_program(loaded: LoadedProject, message: str, remedy: str) -> UsageError:
    findings, build = loaded.findings(), loaded.project.build
    findings.error("image-program", "build.image" if build.image else "build.containerfile", message, remedy)
    return findings.failure()
