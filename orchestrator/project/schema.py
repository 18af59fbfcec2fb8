"""The project model seen from project.yaml: which keys belong where, and what each value must be, in words."""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from orchestrator.project.model import Base, Project

# What a pattern of the model asks for, in words. Keys: dotted fields without list indexes.
PATTERNS: Mapping[str, str] = {
    "name": "letters, digits, `-` and `_`, beginning with a letter or digit, at most 128",
    "build.packages": "the name of a Debian package, as libssl-dev",
    "build.secrets.id": "letters, digits, `.`, `-` and `_`",
    "base.image": "an image reference without spaces, quotes, `$` or backslashes",
    "gevulot.base.image": "an image reference without spaces, quotes, `$` or backslashes",
    "base.bootstrap.debian": "a Debian release's code name in lower case, as bookworm",
    "gevulot.base.bootstrap.debian": "a Debian release's code name in lower case, as bookworm",
    "base.bootstrap.packages": "the name of a Debian package",
    "gevulot.base.bootstrap.packages": "the name of a Debian package",
    "sha256": "64 hexadecimal digits in lower case",
    "version": "a version, as 0.1.51",
    "cuda": "a CUDA version, as 12.3.0",
}

EXAMPLES: Mapping[str, str] = {
    "build.program": "program: target/release/my-prover",
    "build.run": "run: cargo build --release",
    "build": "build: {run: …, program: …}",
    "name": "name: my-prover",
    "build.packages": "packages: [libssl-dev]",
    "build.secrets": "secrets: [{id: token, env: TOKEN}]",
    "stage.extra": "extra: [libcuda.so.1]",
    "stage.files": "files: [params/kzg.srs]",
    "resources": "resources: {cpus: 2, memory: 512, gpus: 0}",
    "nanos": "nanos: {version: 0.1.51}",
    "ops": "ops: {version: 0.1.43}",
    "gevulot": "gevulot: {git: URL}, {path: DIR} or {archive: URL}",
}

# Names that people reach for, and what they mean here. Asked before the nearest name.
OTHER_NAMES: Mapping[str, str] = {
    "nanos-version": "nanos: {version: …}",
    "nanos_version": "nanos: {version: …}",
    "ops-version": "ops: {version: …}",
    "ops_version": "ops: {version: …}",
    "image": "base: …",
    "from": "base: …",
    "kernel": "nanos: {kernel: stub}",
    "cpu": "cpus under resources",
    "mem": "memory under resources",
    "gpu": "gpus under resources",
    "dependencies": "packages under build",
    "command": "run under build",
    "script": "run under build",
    "binary": "program under build",
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


def places(name: str) -> list[str]:
    """Where a key of this name belongs: dotted parents, "" for the top level, nearest to the top first."""
    found = [parent for parent, key in _all_keys(Project, "") if key == name]
    return sorted(set(found), key=lambda parent: (parent.count("."), parent))


def _all_keys(model: type[BaseModel], parent: str) -> Iterator[tuple[str, str]]:
    for key, annotation in keys(model).items():
        yield parent, key
        path = f"{parent}.{key}" if parent else key
        inner = [*models_in(annotation), *item_models(annotation)]
        for sub in inner:
            if not (sub is Base and parent):  # gevulot.base is base again; the first place is the one to name
                yield from _all_keys(sub, path)
