"""Defaults + the user's manifest + project.yaml's resources = the manifest that is built with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any, TypeVar

from orchestrator import resources as data_files
from orchestrator.errors import Finding, Severity, UsageError
from orchestrator.findings import Findings
from orchestrator.nanos.manifest import lint as linter
from orchestrator.nanos.manifest.effective import EffectiveManifest, canonical_order
from orchestrator.nanos.manifest.load import load_manifest
from orchestrator.nanos.manifest.report import Report
from orchestrator.nanos.manifest.rules import ManifestValues, absolute_mount
from orchestrator.nanos.manifest.schema import CONFIG, ManifestKey, canonical
from orchestrator.project.load import LoadedProject
from orchestrator.project.paths import LeftOutBy, forgotten
from orchestrator.resolved import ScriptSettings
from orchestrator.suggest import shown
from orchestrator.text import parse_json

WORKSPACE = "/workspace"
UNKNOWN_PROGRAM = "program"
"""For the checks of a manifest whose program an image will name."""
Field = TypeVar("Field")


@dataclass(frozen=True, kw_only=True)
class _Own:
    """The user's manifest: data as written, lines of its fields, and how findings name it."""

    data: Mapping[str, Any]
    lines: Mapping[str, int]
    raw: Mapping[str, str]
    file: str
    prefix: str

    def report(self) -> Report:
        """Nothing found yet."""
        return Report(file=self.file, prefix=self.prefix, lines=self.lines, raw=self.raw)


def merge_manifest(loaded: LoadedProject) -> EffectiveManifest:
    """Merge and check. Raises UsageError with all errors of the manifest at once; warnings stay in `findings`."""
    project = loaded.project
    own = _own(loaded)
    findings = linter.lint(own.report(), own.data, project)
    _raise_errors(own.file, findings)
    data = merge(defaults(loaded), spelled(own.data))
    if loaded.script is not None and loaded.script.arguments:
        data["Args"] = [*loaded.script.arguments, *data.get("Args", ())]  # the user's are the script's
    if "Mounts" in data:
        data["Mounts"] = {key: absolute_mount(path) for key, path in data["Mounts"].items()}
    if isinstance(project.manifest, str):
        findings += _note_filled(own)
    effective = EffectiveManifest(data=canonical_order(data), origin=own.lines, file=own.file)
    findings += linter.lint_effective(own.report(), effective, gpu=project.gpu, shim=project.gevulot is not None)
    _raise_errors(own.file, findings)
    return replace(effective, findings=tuple(findings))


def left_out(loaded: LoadedProject, left_out_by: LeftOutBy) -> list[Finding]:
    """Warnings for what the user's `Files` and `Dirs` name and an ignore file keeps from the build."""
    own = _own(loaded)
    report = own.report()
    values = ManifestValues.of(own.data)
    for where, path in (*values.texts("Files"), *values.texts("Dirs")):
        problem = forgotten(loaded.root / loaded.project.build.context, path, left_out_by)
        if problem is not None:
            report.warning("left-out", where, *problem)
    return report.collected


def _raise_errors(file: str, findings: list[Finding]) -> None:
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        raise Findings(file=file, collected=errors).failure()


def defaults(loaded: LoadedProject) -> dict[str, Any]:
    """manifests/cpu.json or gpu.json, completed from project.yaml (Program, RunConfig) and by the program's image."""
    project = loaded.project
    name = "gpu.json" if project.gpu else "cpu.json"
    data: dict[str, Any] = parse_json((data_files.MANIFESTS / name).read_text(encoding="utf-8"))
    resources = project.resources
    run: dict[str, Any] = {"CPUs": resources.cpus, "Memory": f"{resources.memory}m"}
    if resources.gpus:
        run["GPUs"] = resources.gpus
    data["RunConfig"] = run
    program = project.build.program
    data["Program"] = program.lstrip("/") if program.startswith("/") else PurePosixPath(program).name
    data = _of_image(loaded, data) if project.build.finished or loaded.staged else data
    return data if loaded.script is None else _of_script(loaded.script, data)


def _of_script(script: ScriptSettings, data: dict[str, Any]) -> dict[str, Any]:
    """`data` for a program that its interpreter starts, as it is in the guest."""
    data["Program"] = script.program
    data["Env"] = {**data.get("Env", {}), **script.environment}
    if script.words:
        data["Args"] = list(script.words)
    passthrough = dict(data.get("ManifestPassthrough", {}))
    if script.directory and script.start:
        passthrough.pop("cwd", None)  # which Nanos heeds of static programs alone
    if script.fixed:
        passthrough["noaslr"] = "t"
    if passthrough or "ManifestPassthrough" in data:
        data["ManifestPassthrough"] = passthrough
    return data


def _of_image(loaded: LoadedProject, data: dict[str, Any]) -> dict[str, Any]:
    """`data` for a program that comes in an image, or a tree: it stays where it is, and is started as there."""
    data["Program"] = loaded.project.build.program.lstrip("/") or UNKNOWN_PROGRAM
    image = loaded.image
    if image is None:
        return data
    if image.arguments:
        data["Args"] = list(image.arguments)
    data["Env"] = {**data.get("Env", {}), **image.environment}
    if image.directory.strip("/"):
        data["ManifestPassthrough"] = {**data.get("ManifestPassthrough", {}), "cwd": image.directory}
    return data


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """`over` on `base`: objects key by key, lists and scalars replaced, null removes. Neither is changed.

    Mounts have one rule more: a mount of the user's at a guest directory takes the place of the default there.
    """
    merged = _merged(base, over)
    mounts = merged.get("Mounts")
    own = over.get("Mounts")
    if isinstance(mounts, dict) and isinstance(own, dict):
        taken = {_guest(path) for path in own.values() if isinstance(path, str)}
        merged["Mounts"] = {k: v for k, v in mounts.items() if k in own or _guest(v) not in taken}
    return merged


def spelled(data: Mapping[str, Any], keys: Mapping[str, ManifestKey] = CONFIG) -> dict[str, Any]:
    """The same with known keys in ops's own spelling (Go's decoder ignores letter case)."""
    result: dict[str, Any] = {}
    for key, value in data.items():
        name = canonical(key, keys)
        below = keys[name].keys if name is not None else None
        result[name or key] = _spelled_below(value, below) if below is not None else value
    return result


def _spelled_below(value: Any, keys: Mapping[str, ManifestKey]) -> Any:
    if isinstance(value, dict):
        return spelled(value, keys)
    return [_spelled_below(item, keys) for item in value] if isinstance(value, list) else value


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = {key: _copy(value) for key, value in base.items()}
    for key, value in over.items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict):
            below = result.get(key)
            result[key] = _merged(below if isinstance(below, dict) else {}, value)
        else:
            result[key] = _copy(value)
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


def _guest(path: str) -> str:
    return "/" + absolute_mount(path).partition(":")[0].strip("/")


def _own(loaded: LoadedProject) -> _Own:
    manifest = loaded.project.manifest
    if isinstance(manifest, str):
        path = loaded.path.parent / manifest
        if not os.path.isfile(path):  # noqa: PTH113 - Path.is_file raises for a name that is too long
            raise _no_manifest(loaded, manifest)
        file = load_manifest(path)
        return _Own(data=file.data, lines=file.lines, raw=file.raw, file=file.file, prefix="")
    prefix = "manifest."
    lines, raw = _below(prefix, loaded.lines), _below(prefix, loaded.raw)
    return _Own(data=manifest or {}, lines=lines, raw=raw, file=str(loaded.path), prefix=prefix)


def _below(prefix: str, fields: Mapping[str, Field]) -> dict[str, Field]:
    """What is said of fields that begin with `prefix`, by their names without it."""
    return {name.removeprefix(prefix): said for name, said in fields.items() if name.startswith(prefix)}


def _no_manifest(loaded: LoadedProject, name: str) -> UsageError:
    """Said of project.yaml's own line: that is where the name stands."""
    findings = loaded.findings()
    directory = os.path.isdir(loaded.path.parent / name)  # noqa: PTH112
    message = f"`{shown(name)}` is a directory" if directory else f"there is no file `{shown(name)}`"
    findings.error("path", "manifest", message, "give a JSON file, relative to project.yaml, or write the keys here")
    return findings.failure()


def _note_filled(own: _Own) -> list[Finding]:
    """Notes for what the node needs and the user's file lacks."""
    report = own.report()
    data = spelled(own.data)
    passthrough = data.get("ManifestPassthrough", {})
    if passthrough is not None and "readonly_rootfs" not in passthrough:
        message = "readonly_rootfs is not set; it was added, because the node attaches the disk read-only"
        report.note("filled-in", "ManifestPassthrough", message)
    mounts = data.get("Mounts", {})
    if mounts is not None and WORKSPACE not in {_guest(v) for v in mounts.values() if v is not None}:
        message = f"nothing is mounted at {WORKSPACE}; it was added, because the node passes files there"
        report.note("filled-in", "Mounts", message)
    return report.collected
