"""The project model seen from project.yaml: which keys belong where, and what each value must be, in words."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from orchestrator.project import images
from orchestrator.project.bases import Base
from orchestrator.project.project import Project

# What a pattern of the model asks for, in words. Keys: dotted fields without list indexes.
PATTERNS: Mapping[str, str] = {
    "name": "letters, digits, `-` and `_`, beginning with a letter or digit, at most 128",
    "build.packages": "the name of a Debian package, such as libssl-dev",
    "build.secrets.id": "letters, digits, `.`, `-` and `_`",
    "base.image": images.IN_WORDS,
    "gevulot.base.image": images.IN_WORDS,
    "build.image": images.IN_WORDS,
    "build.target": "the name of a stage",
    "base.bootstrap.debian": "a Debian release's code name in lower case, such as bookworm",
    "gevulot.base.bootstrap.debian": "a Debian release's code name in lower case, such as bookworm",
    "base.bootstrap.packages": "the name of a Debian package",
    "gevulot.base.bootstrap.packages": "the name of a Debian package",
    "sha256": "64 hexadecimal digits in lower case",
    "version": "a version, such as 0.1.51",
    "cuda": "a CUDA version, such as 12.3.0",
}

EXAMPLES: Mapping[str, str] = {
    "build.program": "program: target/release/my-prover",
    "build.run": "run: cargo build --release",
    "build": "build: {run: …, program: …}",
    "name": "name: my-prover",
    "build.image": "image: registry.example/me/prover:1.2",
    "build.language": "language: python",
    "build.containerfile": "containerfile: Dockerfile",
    "build.args": 'args: {VERSION: "1.2"}',
    "build.packages": "packages: [libssl-dev]",
    "build.secrets": "secrets: [{id: token, env: TOKEN}]",
    "stage.extra": "extra: [libcuda.so.1]",
    "stage.trim": "trim: opened.txt",
    "stage.files": "files: [params/kzg.srs]",
    "resources": "resources: {cpus: 2, memory: 512, gpus: 0}",
    "nanos": "nanos: {version: 0.1.51}",
    "ops": "ops: {version: 0.1.43}",
    "gevulot": "gevulot: {git: URL}, {path: DIR} or {archive: URL}",
}

_ENV = "the guest's variables go into `manifest: {Env: {NAME: value}}`"
_BUILD_ENV = f"for the build step, `export NAME=value` in build.run; {_ENV}"
_ARGS = "write `manifest: {Args: [--flag, value]}`"
_DIRS = "write `stage: {files: [DIRECTORY]}`: files takes directories too"
_RUN = "write `build: {run: COMMAND}`"

# Names that people reach for (`-` and `_` alike), and what to do instead.
OTHER_NAMES: Mapping[str, str] = {
    "nanos-version": "write `nanos: {version: …}`",
    "ops-version": "write `ops: {version: …}`",
    "image": "write `base: …`, or for a finished image with the program in it `build: {image: …}`",
    "from": "write `base: …`",
    "dockerfile": "write `build: {containerfile: Dockerfile}`",
    "kernel": "write `nanos: {kernel: stub}`",
    "cpu": "write `resources: {cpus: …}`",
    "mem": "write `resources: {memory: …}`",
    "gpu": "write `resources: {gpus: …}`",
    "dependencies": "write `build: {packages: […]}`",
    "apt": "write `build: {packages: […]}`",
    "command": _RUN,
    "script": _RUN,
    "binary": "write `build: {program: …}`",
    "env": _ENV,
    "environment": _ENV,
    "variables": _ENV,
    "arg": _ARGS,
    "args": _ARGS,
    "arguments": _ARGS,
    "cmd": _ARGS,
    "dir": _DIRS,
    "dirs": _DIRS,
    "directories": _DIRS,
    "folders": _DIRS,
    "file": "write `stage: {files: […]}`",
    "mounts": "write `manifest: {Mounts: {…}}`",
    "volumes": "write `manifest: {Mounts: {…}}`; the node serves /workspace only",
    "klibs": "write `manifest: {Klibs: […]}`",
    "ports": "remove it: the node gives a program no network",
    "workdir": "remove it: build.run begins in /build; `cd` there",
    "entrypoint": "write `build: {program: …}`, and its arguments as `manifest: {Args: […]}`",
}
# The same where the key's place says more of what is meant.
OTHER_NAMES_IN: Mapping[str, Mapping[str, str]] = {
    "build": {
        "env": _BUILD_ENV,
        "environment": _BUILD_ENV,
        "variables": _BUILD_ENV,
    },
}


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The models that a value of this annotation may be (through Optional, unions, Annotated)."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return [m for part in get_args(annotation) for m in models_in(part)]
    if origin is not None:
        arguments = get_args(annotation)
        return models_in(arguments[0]) if arguments and origin is not dict and origin is not tuple else []
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def item_models(annotation: Any) -> list[type[BaseModel]]:
    """The models that an item of a tuple of this annotation may be."""
    return models_in(get_args(annotation)[0]) if get_origin(annotation) is tuple else []


def keys(model: type[BaseModel]) -> dict[str, Any]:
    """The yaml names of a model's keys -> annotation."""
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def other_name(key: str, path: str) -> str | None:
    """What to do instead of a key that people reach for; None for any other."""
    folded = key.lower().replace("_", "-")
    return OTHER_NAMES_IN.get(path, {}).get(folded) or OTHER_NAMES.get(folded)


def parents_of_key(name: str) -> list[str]:
    """Where a key of this name belongs: the dotted parents nearest to the top, "" for the top level itself."""
    parents = {parent for parent, key in _all_keys(Project, "") if key == name}
    depths = {parent: parent.count(".") + bool(parent) for parent in parents}
    return sorted(parent for parent, depth in depths.items() if depth == min(depths.values()))


def _all_keys(model: type[BaseModel], parent: str) -> Iterator[tuple[str, str]]:
    for key, annotation in keys(model).items():
        yield parent, key
        path = f"{parent}.{key}" if parent else key
        # Not a list's items: who misplaces `file` doesn't mean the file of one of several secrets.
        for sub in models_in(annotation):
            if not (sub is Base and parent):  # gevulot.base is base again; the first place is the one to name
                yield from _all_keys(sub, path)
