"""docs/project-yaml.md and the JSON Schema of project.yaml, both generated from the model and its docstrings."""

from __future__ import annotations

import ast
import inspect
import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from orchestrator.project.bases import Base
from orchestrator.project.fields import Model
from orchestrator.project.project import Project
from orchestrator.project.schema import EXAMPLES, PATTERNS, item_models, models_in

FIRST_RELEASE = "0.1"
SINCE: Mapping[str, str] = {}
"""The release that brought a key, dotted name → version; the first one for all that aren't named."""
_MORE_EXAMPLES: Mapping[str, str] = {
    "runtime": "runtime: local",
    "resources.cpus": "cpus: 4",
    "resources.memory": "memory: 2048",
    "resources.gpus": "gpus: 1",
    "gevulot.git": "git: https://github.com/gevulotnetwork/gevulot",
    "gevulot.path": "path: ../gevulot",
    "gevulot.archive": "archive: https://example.org/gevulot.tar.gz",
    "gevulot.ref": "ref: main",
    "gevulot.workspace": "workspace: true",
    "gevulot.base": "base: docker.io/library/rust:bookworm",
    "base": "base: docker.io/library/debian:bookworm",
    "base.image": "image: docker.io/library/debian:bookworm",
    "base.bootstrap": "bootstrap: {debian: bookworm, packages: [gcc]}",
    "base.bootstrap.debian": "debian: bookworm",
    "base.bootstrap.packages": "packages: [gcc, libc6-dev]",
    "base.bootstrap.cuda": 'cuda: "13.0.2"',
    "cuda": 'cuda: "12.2.2"',
    "build.target": "target: prover",
    "build.context": "context: ..",
    "build.secrets.id": "id: token",
    "build.secrets.env": "env: TOKEN",
    "build.secrets.file": "file: token.txt",
    "build.ssh": "ssh: true",
    "build.dependencies": "dependencies: always",
    "build.caches": "caches: [cargo, rust]",
    "build.rust-linker": "rust-linker: default",
    "stage": "stage: {extra: [libcuda.so.1]}",
    "stage.libraries": "libraries: none",
    "stage.files.from": "from: ../keys/kzg.srs",
    "stage.files.url": "url: https://example.org/kzg.srs",
    "stage.files.path": "path: /usr/lib/python3.11",
    "stage.files.to": "to: params/kzg.srs",
    "stage.files.exclude": "exclude: [__pycache__, test]",
    "stage.include": "include: [nss, certificates]",
    "nanos.version": 'version: "0.1.51"',
    "nanos.path": "path: ../nanos-release",
    "nanos.kernel": "kernel: stub",
    "ops.version": 'version: "0.1.43"',
    "ops.path": "path: ../ops",
    "ops.url": "url: https://example.org/ops",
    "packer": "packer: native",
    "reproducible": "reproducible: strict",
    "gpu-assets": "gpu-assets: {path: ../gpu-assets}",
    "gpu-assets.url": "url: https://example.org/gpu-assets.tar.gz",
    "gpu-assets.path": "path: ../gpu-assets",
    "gpu-families": "gpu-families: [ampere, hopper]",
    "manifest": "manifest: {Env: {RUST_LOG: info}}",
    "mirrors": 'mirrors: {"docker.io/": "registry.example.org/"}',
    "network": "network: {ca: company.pem}",
    "network.http-proxy": "http-proxy: http://proxy.example.org:3128",
    "network.https-proxy": "https-proxy: http://proxy.example.org:3128",
    "network.no-proxy": "no-proxy: localhost,.example.org",
    "network.ca": "ca: company.pem",
}
"""For keys whose example no error message shows."""
_SHA256_EXAMPLE = f"sha256: {'0123456789abcdef' * 4}"
_NAMES = {str: "text", int: "whole number", bool: "true or false", float: "number"}


@dataclass(frozen=True, kw_only=True)
class ProjectKey:
    """One key of project.yaml. `name` is dotted, `[]` for the items of a list; `default` "" means required."""

    name: str
    type: str
    default: str
    example: str
    since: str
    description: str


def keys() -> Iterator[ProjectKey]:
    """Every key of project.yaml, parents first, in the model's order."""
    yield from _keys(Project, "")


def markdown() -> str:
    """The text of docs/project-yaml.md."""
    lines = [
        "# project.yaml",
        "",
        "Every key of the file. `make docs` generates this page from the model; a test compares the two.",
        "Paths on this machine are relative to the directory of project.yaml. Unknown keys are errors.",
        "`orchestrator schema project` prints the JSON Schema for editors.",
        "",
    ]
    for key in keys():
        lines += [f"## `{key.name}`", "", *_wrapped(key.description), ""]
        lines += [f"- type: {key.type}", f"- default: {key.default or 'none; the key is required'}"]
        lines += [f"- example: `{key.example}`", f"- since: {key.since}", ""]
    return "\n".join(lines).rstrip() + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of project.yaml, with the docstrings as descriptions."""
    schema = Project.model_json_schema(by_alias=True)
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "project.yaml"}
    tables = {table.__name__: table for table in _tables()}
    for name, table in [("", schema), *schema["$defs"].items()]:
        owner = Project if not name else tables.get(name)
        if owner is None:
            continue
        texts = descriptions(owner)
        for field, info in owner.model_fields.items():
            table["properties"][info.alias or field]["description"] = texts[field]
    _allow_plain_reference(schema)
    return schema


def json_schema_text() -> str:
    """`json_schema` as text, with a final newline."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


def _keys(table: type[BaseModel], parent: str) -> Iterator[ProjectKey]:
    for field, info in table.model_fields.items():
        name = f"{parent}.{info.alias or field}" if parent else info.alias or field
        plain = name.replace("[]", "")
        yield ProjectKey(
            name=name,
            type=_type_of(info.annotation, plain, info),
            default=_default_of(info),
            example=_example_of(plain),
            since=SINCE.get(plain, FIRST_RELEASE),
            description=descriptions(table)[field],
        )
        if any(model is Base for model in models_in(info.annotation)) and parent:
            continue  # gevulot.base has the keys of base, which stand there
        for inner in models_in(info.annotation):
            yield from _keys(inner, name)
        for inner in item_models(info.annotation):
            yield from _keys(inner, f"{name}[]")


def _example_of(name: str) -> str:
    if name.endswith(".sha256"):
        return _SHA256_EXAMPLE
    return EXAMPLES.get(name) or _MORE_EXAMPLES.get(name, "")


def _tables() -> Iterator[type[BaseModel]]:
    yield from Model.__subclasses__()


@cache
def descriptions(table: type[BaseModel]) -> dict[str, str]:
    """A model's field → the docstring below it. Read from the source here, so that no command pays for it."""
    tree = ast.parse(inspect.getsource(table)).body[0]
    assert isinstance(tree, ast.ClassDef)
    texts: dict[str, str] = {}
    for node, after in zip(tree.body, tree.body[1:], strict=False):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(after, ast.Expr):
            texts[node.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return texts


def _type_of(annotation: Any, name: str, info: FieldInfo) -> str:
    text = _words(annotation)
    limits = {type(constraint).__name__.lower(): constraint for constraint in info.metadata}
    if "ge" in limits and "le" in limits:
        text += f" from {limits['ge'].ge} to {limits['le'].le}"
    last = name.rsplit(".", 1)[-1]
    pattern = PATTERNS.get(name) or PATTERNS.get(last)
    return f"{text}: {pattern}" if pattern else text


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _words(arguments[0])
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(argument) for argument in arguments if argument is not type(None))
    if origin is tuple:
        return f"list of {_words(arguments[0])}"
    if origin is dict or annotation is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "text or mapping" if annotation is Base else "mapping"
    return _NAMES.get(annotation, "any value")


def _default_of(info: FieldInfo) -> str:
    if info.is_required():
        return ""
    value = info.get_default(call_default_factory=True)
    if isinstance(value, BaseModel):
        values = value.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return f"`{json.dumps(values)}`" if values else "the defaults below"
    if value is None:
        return "not set"
    if isinstance(value, tuple | dict) and not value:
        return "empty"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allow_plain_reference(schema: dict[str, Any]) -> None:
    """`base: REF` stands for `base: {image: REF}`; the model learns that before it validates."""
    base_schemas = [schema["properties"]["base"], schema["$defs"]["Gevulot"]["properties"]["base"]]
    for base_schema in base_schemas:
        base_schema["anyOf"] = [{"type": "string"}, {"$ref": base_schema.pop("$ref", "#/$defs/Base")}]


WIDTH = 100
"""Columns of the page."""


def _wrapped(text: str) -> list[str]:
    lines, line = [], ""
    for word in text.split():
        if line and len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [*lines, line] if line else lines
