"""A manifest against ops's schema: unknown keys, keys in the wrong place, wrong types, keys without effect.

`lint` is the user's manifest alone; `lint_effective` looks at what all of it adds up to. Value rules: rules.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from orchestrator.errors import Finding
from orchestrator.nanos.manifest import rules
from orchestrator.nanos.manifest.effective import EffectiveManifest
from orchestrator.nanos.manifest.report import Report
from orchestrator.nanos.manifest.schema import (
    ALL_KERNEL_KEYS,
    CONFIG,
    RUN_CONFIG,
    SECTIONS,
    Effect,
    ManifestKey,
    Release,
    ValueKind,
    canonical,
    parse_release,
    sections_with_key,
)
from orchestrator.project.project import Project
from orchestrator.project.yaml_reader import is_changed_number
from orchestrator.suggest import did_you_mean, nearest, shown

_ENVIRONMENT_NAME = re.compile(r"[A-Z][A-Z0-9]*_[A-Z0-9_]+")
_EXPECTED_BY_DEFAULT = {"CPUs", "Memory", "GPUs"}
_INT64 = 1 << 63

_IGNORED: Mapping[str, tuple[str, str]] = {
    "NanosVersion": ("is ignored by `ops build`", "set `nanos: {version: …}` in project.yaml"),
    "Boot": ("is blanked when a Nanos version is given", "set `nanos: {path: …}` in project.yaml"),
    "Kernel": ("is blanked when a Nanos version is given", "set `nanos: {path: …}` in project.yaml"),
    "UefiBoot": ("is recomputed by ops", "remove it; `Uefi: true` is enough"),
    "LocalFilesParentDirectory": ("is overwritten by ops", "remove it; paths are relative to /build"),
    "RunConfig.ImageName": ("is replaced by the project's name", "set `name` in project.yaml"),
    "CloudConfig.ImageName": ("is recomputed by ops", "set `name` in project.yaml"),
    "RunConfig.Nics.IPv6Address": ("is never written by ops", "remove it"),
}
_OTHER_NAMES: Mapping[str, str] = {
    "environment": "Env",
    "variables": "Env",
    "arguments": "Args",
    "directories": "Dirs",
    "volumes": "Mounts",
    "dns": "NameServers",
}
"""What people write for some of ops's keys, in lower case."""
_FORBIDDEN: Mapping[str, tuple[str, str]] = {
    "BuildDir": ("ops deletes this directory, with all in it, after the build", "remove the key"),
    "NightlyBuild": ("uses last night's build of Nanos", "set `nanos: {version: …}` in project.yaml"),
}


def lint(report: Report, manifest: Mapping[str, Any], project: Project) -> list[Finding]:
    """All findings about a user's manifest. An ops whose version is no release number checks no `since`."""
    release = parse_release(project.ops_release)
    _section(report, manifest, CONFIG, "", release)
    rules.check(report, rules.ManifestValues.of(manifest), project)
    _run_only(report, manifest)
    if not project.gpu and "gpu_nvidia" in rules.ManifestValues.of(manifest).list("Klibs"):
        message = "gpu_nvidia is packed but the project has no GPU"
        report.warning("gpu-klib", "Klibs", message, "set `cuda` and `resources.gpus` in project.yaml")
    return report.collected


def lint_effective(report: Report, effective: EffectiveManifest, *, gpu: bool, shim: bool) -> list[Finding]:
    """What the merged manifest lacks for the node. `shim`: the project links the Gevulot shim."""
    rules.check_effective(report, effective, gpu=gpu, shim=shim)
    return report.collected


def _section(
    report: Report, data: Mapping[str, Any], keys: Mapping[str, ManifestKey], path: str, release: Release | None
) -> None:
    """One object whose keys the schema knows."""
    seen: dict[str, str] = {}
    for key, value in data.items():
        where = f"{path}.{key}" if path else key
        name = canonical(key, keys)
        if name is None:
            _unknown(report, key, value, keys, path)
            continue
        if name in seen:
            report.error(
                "duplicate-key", where, f"means the same as `{seen[name]}` to ops", "keep one; ops takes the last"
            )
            continue
        seen[name] = key
        if name != key:
            report.note("letter-case", where, f"ops spells it `{name}`", f"write `{name}`")
        if value is None or _out_of_range(report, keys[name], where, release):
            continue
        if _right_type(report, keys[name], value, where):
            _effect(report, keys[name], value, where)
            _inner(report, keys[name], value, where, release)


def _inner(report: Report, key: ManifestKey, value: Any, where: str, release: Release | None) -> None:
    if key.keys is None:
        return
    if key.kind is ValueKind.OBJECT:
        _section(report, value, key.keys, where, release)
    else:
        for index, item in enumerate(value):
            _section(report, item, key.keys, f"{where}[{index}]", release)


def _unknown(report: Report, key: str, value: Any, keys: Mapping[str, ManifestKey], path: str) -> None:
    where = f"{path}.{shown(key)}" if path else shown(key)
    section_words = f"in `{path}`" if path else "at the top level of the manifest"
    message = f"unknown key {section_words}"
    elsewhere = [section for section in sections_with_key(key) if SECTIONS[section] is not keys]
    others = {name: section for section, names in SECTIONS.items() for name in names if names is not keys}
    close = nearest(key, keys)
    meant = _OTHER_NAMES.get(key.lower())
    if meant is not None:
        remedy = (
            f"did you mean `{meant}`?"
            if keys is CONFIG
            else f"did you mean `{meant}` at the top level of the manifest?"
        )
    elif elsewhere:
        section = elsewhere[0]
        remedy = f"move it into `{section}`" if section else "move it to the top level of the manifest"
        message = f"is not a key {section_words}"
    elif key in ALL_KERNEL_KEYS:
        remedy = "it is a kernel setting: move it into `ManifestPassthrough`"
    elif close is None and isinstance(value, str) and _ENVIRONMENT_NAME.fullmatch(key):
        remedy = "an environment variable goes into `Env`"
    elif close is None and (kernel := nearest(key, ALL_KERNEL_KEYS)) is not None:
        remedy = f"did you mean `{kernel}` in `ManifestPassthrough`?"
    elif close is None and (other := nearest(key, others)) is not None:
        section = others[other]
        remedy = f"did you mean `{other}` {f'in `{section}`' if section else 'at the top level of the manifest'}?"
    else:
        remedy = did_you_mean(key, keys) or "remove it; ops refuses unknown keys"
    report.error("unknown-key", where, message, remedy)


def _out_of_range(report: Report, key: ManifestKey, where: str, release: Release | None) -> bool:
    """Whether the chosen ops lacks the key (said as an error)."""
    if release is None:
        return False
    if key.since > release:
        first = ".".join(map(str, key.since))
        report.error(
            "newer-ops", where, f"is a key of ops {first} and newer", f"set `ops: {{version: {first}}}` or remove it"
        )
        return True
    if key.until is not None and release > key.until:
        last = ".".join(map(str, key.until))
        report.error("gone-key", where, f"is no longer a key of ops ({last} was the last to have it)", "remove it")
        return True
    return False


def _right_type(report: Report, key: ManifestKey, value: Any, where: str) -> bool:
    """Whether the value has the key's type; each wrong part is an error."""
    before = len(report.collected)
    match key.kind:
        case ValueKind.TEXT:
            _text(report, value, where)
        case ValueKind.FLAG if not isinstance(value, bool):
            _wrong(report, where, key.kind, value, _flag_remedy(value))
        case ValueKind.NUMBER:
            _number(report, value, where)
        case ValueKind.TEXTS if not isinstance(value, list):
            _wrong(
                report,
                where,
                key.kind,
                value,
                "write [" + (f'"{shown(value)}"' if isinstance(value, str) else "…") + "]",
            )
        case ValueKind.TEXTS:
            for index, item in enumerate(value):
                _text(report, item, f"{where}[{index}]")
        case ValueKind.TABLE | ValueKind.ANY | ValueKind.OBJECT if not isinstance(value, dict):
            _wrong(report, where, key.kind, value, "write { … }")
        case ValueKind.TABLE:
            for name, item in value.items():
                if item is not None:
                    _text(report, item, f"{where}.{shown(name)}")
        case ValueKind.OBJECTS if not isinstance(value, list) or not all(isinstance(i, dict) for i in value):
            _wrong(report, where, key.kind, value, "write [{ … }]")
    return len(report.collected) == before


def _text(report: Report, value: Any, where: str) -> None:
    if not isinstance(value, str):
        simple = isinstance(value, bool | int | float)
        _wrong(
            report,
            where,
            ValueKind.TEXT,
            value,
            f'quote it: "{shown(report.written(where, value))}"' if simple else "write a single string",
        )
    elif "\0" in value:
        report.error("nul", where, "contains a NUL character", "remove it")


def _number(report: Report, value: Any, where: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        text = str(value)
        _wrong(
            report,
            where,
            ValueKind.NUMBER,
            value,
            f"write {text} without quotes" if text.isdigit() else "write digits only",
        )
    elif is_changed_number(written := report.written(where, value)):
        message = f"YAML reads {shown(written)} as the number {value}"
        report.error("changed-number", where, message, "write it in plain decimal digits")
    elif not -_INT64 <= value < _INT64:
        report.error("wrong-type", where, "is too large for a number", "write a smaller number")


def _flag_remedy(value: Any) -> str:
    if str(value).lower() in ("true", "t", "1", "yes", "on"):
        return "write true"
    return "write false" if str(value).lower() in ("false", "f", "0", "no", "off") else "write true or false"


def _wrong(report: Report, where: str, kind: ValueKind, value: Any, remedy: str) -> None:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
    }
    report.error("wrong-type", where, f"must be {kind}, not {names.get(type(value), 'null')}", remedy)


def _effect(report: Report, key: ManifestKey, value: Any, where: str) -> None:
    """Keys that an `ops build` ignores, or that do damage."""
    plain = re.sub(r"\[\d+\]", "", where)
    name = ".".join(_names(plain))
    if key.effect is Effect.FORBIDDEN and value not in ("", False):
        message, remedy = _FORBIDDEN[name]
        report.error("forbidden-key", where, message, remedy)
    elif key.effect is Effect.IGNORED:
        message, remedy = _IGNORED.get(name, ("has no effect on `ops build`", "remove it"))
        report.warning("ignored-key", where, message, remedy)
    elif key.effect is Effect.CLOUD and "." not in plain:
        report.note("cloud-key", where, "only matters for cloud providers; the image is the same without it")


def _names(plain: str) -> list[str]:
    """The dotted path in ops's own spelling."""
    top, _, rest = plain.partition(".")
    section = canonical(top, CONFIG) or top
    if not rest:
        return [section]
    first, _, last = rest.partition(".")
    inner = canonical(first, SECTIONS.get(section, {})) or first
    return [section, inner, *([last] if last else [])]


def _run_only(report: Report, manifest: Mapping[str, Any]) -> None:
    """One note for all the RunConfig keys that an image doesn't hold."""
    for key, section in manifest.items():
        if canonical(key, CONFIG) != "RunConfig" or not isinstance(section, dict):
            continue
        names = {canonical(name, RUN_CONFIG): name for name in section}
        idle = [n for n in names if n and RUN_CONFIG[n].effect is Effect.RUN and n not in _EXPECTED_BY_DEFAULT]
        if idle:
            report.note("run-only", key, f"{', '.join(sorted(idle))}: only for `ops run`, not part of the image")
