"""A program that is a script: whether it may be one, and what find-interpreter.sh says of it."""

from __future__ import annotations

import re

from orchestrator.project.load import LoadedProject
from orchestrator.resolved import PackedPath, ScriptSettings

_MAKES_SCRIPTS = re.compile(r"\b(?:pip3?|venv|virtualenv|uv|poetry|npm|yarn|pnpm|python[0-9.]*|node)\b")

_INTERPRETER = re.compile(r"(?:.*/)?(?:python[0-9.]*|node|nodejs)")


def is_interpreter(program: str) -> bool:
    """Whether a path names an interpreter whose library we know how to pack."""
    return _INTERPRETER.fullmatch(program) is not None


def may_be_script(loaded: LoadedProject) -> bool:
    """Whether the program may be a script, as far as project.yaml and the sources say: the build container knows.

    Of a program that a step makes nothing is known but where it will lie, and which tools the step calls.
    """
    build = loaded.project.build
    if build.language is not None or build.finished or build.program.startswith("/"):
        return True
    path = loaded.root / build.context / build.program
    try:
        if path.is_file():
            with path.open("rb") as stream:
                return stream.read(2) == b"#!"
    except OSError:
        return False
    return _MAKES_SCRIPTS.search(build.run) is not None


def read_script(text: str) -> ScriptSettings | None:
    """Its lines KEY <tab> VALUE as settings; None when the program is no script."""
    single: dict[str, str] = {}
    lists: dict[str, list[str]] = {"argument": [], "environment": [], "warning": [], "word": []}
    paths: list[PackedPath] = []
    for line in text.split("\n"):
        key, _, value = line.partition("\t")
        if key == "path":
            paths.append(PackedPath(path=value))
        elif key == "exclude" and paths:
            paths[-1] = PackedPath(path=paths[-1].path, exclude=(*paths[-1].exclude, value))
        elif key in lists:
            lists[key].append(value)
        else:
            single[key] = value
    if "interpreter" not in single:
        return None
    return ScriptSettings(
        language=single.get("language", "other"),
        interpreter=single["interpreter"],
        program=single.get("program", single["interpreter"]).lstrip("/"),
        arguments=tuple(lists["argument"]),
        environment=dict(entry.split("=", 1) for entry in lists["environment"]),
        words=tuple(lists["word"]),
        directory=single.get("directory", ""),
        start=single.get("start", ""),
        paths=tuple(paths),
        fixed="fixed" in single,
        warnings=tuple(lists["warning"]),
    )
