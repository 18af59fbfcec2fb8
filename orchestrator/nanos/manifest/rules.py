"""Rules about values: what ops or the kernel would silently do with them, said before anything is built.

Types were checked before (lint.py), and are an error there: values of a wrong type are passed over here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from orchestrator.nanos.manifest import run_rules
from orchestrator.nanos.manifest.effective import EffectiveManifest, volume_size
from orchestrator.nanos.manifest.report import Report
from orchestrator.nanos.manifest.schema import (
    ALL_KERNEL_KEYS,
    CONFIG,
    NEWER_KERNEL_KEYS,
    ROOT_FROM_MANIFEST,
    canonical,
    parse_release,
)
from orchestrator.project.project import Project
from orchestrator.project.vendor import Nanos
from orchestrator.suggest import nearest, shown

WORKSPACE = "/workspace"
_VARIABLE = re.compile(r"\$(\{\w|[A-Za-z_])")
_FALSE = {"false", "f", "no", "n", "0", "off"}
_GLOB = re.compile(r"[*?\[]")


@dataclass(frozen=True, kw_only=True)
class ManifestValues:
    """A manifest by ops's own key names; values of a wrong type count as absent."""

    keys: Mapping[str, str]
    data: Mapping[str, Any]

    @staticmethod
    def of(manifest: Mapping[str, Any]) -> ManifestValues:
        """`keys`: ops's spelling -> the user's; of two that differ by case, the first."""
        keys: dict[str, str] = {}
        for key in manifest:
            name = canonical(key, CONFIG)
            if name is not None:
                keys.setdefault(name, key)
        return ManifestValues(keys=keys, data={name: manifest[key] for name, key in keys.items()})

    def field(self, name: str) -> str:
        """The key as the user wrote it."""
        return self.keys.get(name, name)

    def text(self, name: str) -> str | None:
        """A text, or None."""
        value = self.data.get(name)
        return value if isinstance(value, str) else None

    def list(self, name: str) -> list[Any]:
        """A list, or []."""
        value = self.data.get(name)
        return value if isinstance(value, list) else []

    def texts(self, name: str) -> Iterator[tuple[str, str]]:
        """(field, text) of each text in a list."""
        for index, item in enumerate(self.list(name)):
            if isinstance(item, str):
                yield f"{self.field(name)}[{index}]", item

    def object(self, name: str) -> dict[str, Any]:
        """An object, or {}."""
        value = self.data.get(name)
        return value if isinstance(value, dict) else {}

    def table(self, name: str) -> Iterator[tuple[str, str, str]]:
        """(field, key, text) of each text in an object."""
        for key, item in self.object(name).items():
            if isinstance(item, str):
                yield f"{self.field(name)}.{shown(key)}", key, item


def check(report: Report, values: ManifestValues, project: Project) -> None:
    """All rules about the user's own values."""
    _check_program(report, values, project.build.program)
    _check_files(report, values)
    _check_dirs(report, values)
    _check_map_dirs(report, values)
    _check_environment(report, values)
    _check_mounts(report, values)
    _check_passthrough(report, values, project.nanos)
    _check_root_flags(report, values, project.nanos)
    _check_klibs(report, values)
    _check_disk(report, values)
    _check_variables(report, values)
    run_rules.check(report, values.object("RunConfig"), values.field("RunConfig"), project.resources)


def check_effective(report: Report, effective: EffectiveManifest, *, gpu: bool, shim: bool) -> None:
    """What the merged manifest must hold for the node."""
    if gpu and "gpu_nvidia" not in effective.klibs:
        message = "the klib gpu_nvidia is not packed, so the guest sees no GPU"
        report.error("gpu-klib", "Klibs", message, "add gpu_nvidia to `Klibs`, or leave `Klibs` out")
    if "readonly_rootfs" not in effective.passthrough:
        message = "readonly_rootfs was removed, but the node attaches the disk read-only"
        report.warning("rootfs-writable", "ManifestPassthrough", message, "do not set it to null")
    served = effective.mounts.get("%0", "").split(":")[0].rstrip("/")
    if WORKSPACE not in (path.split(":")[0].rstrip("/") for path in effective.mounts.values()):
        why = "the Gevulot shim waits for it and then gives up" if shim else "the node passes files there"
        report.warning("no-workspace", "Mounts", f"nothing is mounted at {WORKSPACE}; {why}", "do not remove the mount")
    elif served != WORKSPACE:
        message = f"ops numbers the mounts in the order of their keys, and %0, the one the node serves, is `{served}`"
        report.error("mount-order", "Mounts", message, f'give {WORKSPACE} the key that sorts first, as "%0"')
    if len(effective.mounts) > 1:
        message = f"the node serves one share; only {effective.mounts['%0']} will hold files"
        report.warning("many-mounts", "Mounts", message, "keep one mount, and put input under it")
    names = {effective.program_argument, *effective.args}
    for key, guest in effective.map_dirs.items():
        if posixpath.basename(guest) in names:
            message = f"its guest directory is named like the program or an argument (`{posixpath.basename(guest)}`)"
            report.error("map-name", f"MapDirs.{shown(key)}", message, "rename one of them; ops refuses this")


def _check_program(report: Report, values: ManifestValues, built: str) -> None:
    program = values.text("Program")
    where = values.field("Program")
    if program is None:
        return
    if not program.strip("./"):
        report.error("program-path", where, "does not name a file", "leave `Program` out: it follows `build.program`")
    elif ".." in program.split("/"):
        report.error("program-path", where, "contains `..`", "write a path inside /build")
    elif program.endswith("/"):
        report.error("program-path", where, "ends in `/`, so it names a directory", "name the program's file")
    elif _is_unprintable(program):
        report.error("program-path", where, "contains a control character", "use a plain file name")
    elif posixpath.basename(program) != posixpath.basename(built):
        message = f"names `{shown(program)}`, but build.program is `{built}`, which is packed under that name"
        report.warning("program-name", where, message, "leave `Program` out: it follows `build.program`")
    elif program.startswith("/"):
        message = "is absolute; ops would take it from the build container's root"
        report.warning("program-path", where, message, f"write `{shown(program.lstrip('/'))}`, which is how it is read")


def _check_files(report: Report, values: ManifestValues) -> None:
    for where, path in values.texts("Files"):
        if _refuse_path(report, where, path):
            continue
        if path.startswith("/"):
            message = f"is absolute, but ops looks for it under its own directory: /build{shown(path)}"
            report.note("files-absolute", where, message, f"write `{shown(path.lstrip('/'))}` to say so")
        elif path.endswith("/"):
            report.error("files-directory", where, "names a directory", "put it into `Dirs`")


def _check_dirs(report: Report, values: ManifestValues) -> None:
    for where, path in values.texts("Dirs"):
        if _refuse_path(report, where, path):
            continue
        plain = path.removeprefix("./").strip("/")
        if plain in ("", "."):
            message = f"`{shown(path)}` would pack all of the directory under a child named `.`"
            report.error("dirs-dot", where, message, "name the directories to pack")
        elif path.startswith("./"):
            report.warning("dirs-dot", where, "makes a stray directory `.` in the guest", f"write `{shown(plain)}`")
        elif path.startswith("/"):
            message = "is absolute; ops would take it from the build container's root"
            report.warning("dirs-absolute", where, message, f"write `{shown(plain)}`, relative to /build")


def _refuse_path(report: Report, where: str, path: str) -> bool:
    if not path:
        report.error("empty-path", where, "is empty", "remove it")
    elif ".." in path.split("/"):
        message = "contains `..`, which becomes a directory of that name in the guest"
        report.error("dotdot-path", where, message, "write a path inside /build")
    elif _is_unprintable(path):
        report.error("path-character", where, "contains a control character", "use a plain path")
    else:
        return False
    return True


def _check_map_dirs(report: Report, values: ManifestValues) -> None:
    for where, key, guest in values.table("MapDirs"):
        base = key.rsplit("/", 1)[-1]
        if not _GLOB.search(base):
            message = "has no pattern in its last part, so none of its files are packed"
            report.error("map-glob", where, message, f"write `{shown(key.rstrip('/'))}/*` to copy the tree")
        elif ".." in key.split("/"):
            report.error("map-glob", where, "contains `..`", "write a path inside /build")
        elif _GLOB.search(key.removesuffix(base)):
            report.error("map-glob", where, "has a pattern before its last part", "only the last part may hold one")
        if not guest.startswith("/"):
            report.warning("map-target", where, f"`{shown(guest)}` is not absolute", f"write `/{shown(guest)}`")


def _check_environment(report: Report, values: ManifestValues) -> None:
    for where, name, text in values.table("Env"):
        if not name or "=" in name or _is_unprintable(name):
            report.error(
                "env-name", where, f"`{shown(name)}` cannot be a variable's name", "use letters, digits and `_`"
            )
        elif name in ALL_KERNEL_KEYS:
            message = "is a kernel setting, not an environment variable"
            report.warning("env-kernel-key", where, message, "move it into `ManifestPassthrough`")
        elif not text:
            message = "is empty, and Nanos drops empty variables: the program will not see it"
            report.warning("env-empty", where, message, "give it a value or remove it")
        elif name == "LD_LIBRARY_PATH":
            _check_library_path(report, where, text)


def _check_library_path(report: Report, where: str, text: str) -> None:
    for part in text.split(":"):
        if part == "/build" or part.startswith("/build/"):
            message = f"`{shown(part)}` is a path of the build container, not of the guest"
            guest = part.removeprefix("/build") or "/"
            report.warning("library-path", where, message, f"write `{shown(guest)}`, where ops packs it")
        elif not part.startswith("/"):
            message = f"`{shown(part)}` is not absolute"
            report.warning("library-path", where, message, "list absolute guest directories")


def _check_mounts(report: Report, values: ManifestValues) -> None:
    at: dict[str, str] = {}
    for where, key, text in values.table("Mounts"):
        path, _, option = text.partition(":")
        guest = "/" + absolute_mount(path).strip("/")
        if guest == "/" or ".." in path.split("/") or _is_unprintable(text):
            message = f"`{shown(text)}` is not a guest directory to mount at"
            report.error("mount-path", where, message, f'write "{WORKSPACE}"')
        elif not key:
            report.error("mount-key", where, "has no key", 'write "%1"')
        elif option not in ("", "ro") or (option == "" and ":" in text):
            report.error("mount-option", where, f"`:{shown(option)}` is not a mount option", "only `:ro` is known")
        elif guest in at:
            report.error("mount-twice", where, f"{guest} is mounted twice (also as `{at[guest]}`)", "keep one of them")
        elif option == "ro" and guest == WORKSPACE:
            message = "is mounted read-only, so the program cannot leave a result there"
            report.warning("mount-readonly", where, message, "remove `:ro`")
        elif not path.startswith("/"):
            message = f"`{shown(path)}` is relative; it is read as `{shown(guest)}`"
            report.warning("mount-relative", where, message, f'write "{shown(guest)}" to say so')
        at.setdefault(guest, shown(key))


def absolute_mount(text: str) -> str:
    """A mount with a relative directory as seen from the guest's root (`data:ro` -> `/data:ro`); others as they are."""
    if text.startswith("/"):
        return text
    path, colon, option = text.partition(":")
    return posixpath.normpath("/" + path) + colon + option


def _check_passthrough(report: Report, values: ManifestValues, nanos: Nanos) -> None:
    where = values.field("ManifestPassthrough")
    for key, value in values.object("ManifestPassthrough").items():
        name = f"{where}.{shown(key)}"
        _check_writable(report, name, value)
        if key in ("children", ""):
            report.error("passthrough-tree", name, "would replace the image's file tree", "remove it")
        elif key in ROOT_FROM_MANIFEST:
            other = ROOT_FROM_MANIFEST[key]
            report.warning("passthrough-replaces", name, f"replaces all that comes from `{other}`", f"use `{other}`")
        else:
            _check_kernel_key(report, name, key, nanos)
        if key == "readonly_rootfs" and str(value).lower() in _FALSE:
            message = "any value turns it on, including this one"
            report.warning("passthrough-false", name, message, "write null to leave it out")


def _check_root_flags(report: Report, values: ManifestValues, nanos: Nanos) -> None:
    """`Debugflags` are keys of the root tuple too, each set to "t"."""
    for where, flag in values.texts("Debugflags"):
        _check_kernel_key(report, where, flag, nanos)


def _check_kernel_key(report: Report, where: str, key: str, nanos: Nanos) -> None:
    """A key that nothing reads is dropped without a word by ops and by the kernel."""
    kernel = f"Nanos {nanos.version}" if nanos.version else "Nanos"
    release, first = parse_release(nanos.version or ""), NEWER_KERNEL_KEYS.get(key)
    if first is not None and release is not None and release < first:
        newer = ".".join(map(str, first))
        message = f"is a setting of Nanos {newer} and newer; {kernel} ignores it"
        report.note("passthrough-newer", where, message, f"set `nanos: {{version: {newer}}}`, or remove it")
    elif key not in ALL_KERNEL_KEYS and not re.fullmatch(r"en\d+", key):
        close = nearest(key, ALL_KERNEL_KEYS)
        message = f"is not a setting that {kernel} reads"
        if close is not None:
            report.error("passthrough-unknown", where, message, f"did you mean `{close}`?")
        else:
            report.warning("passthrough-unknown", where, message, "check its spelling; the kernel ignores it")


def _check_writable(report: Report, where: str, value: Any) -> None:
    """ops writes texts, lists and objects; for anything else it fails when half of the image is written."""
    if isinstance(value, bool):
        message = "true and false cannot be written into the image"
        report.error(
            "passthrough-type", where, message, 'write "t"' if value else "remove it: a flag that is absent is off"
        )
    elif isinstance(value, int | float):
        report.error(
            "passthrough-type",
            where,
            "a number cannot be written into the image",
            f'quote it: "{report.written(where, value)}"',
        )
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if item is None:
                report.error(
                    "passthrough-type", f"{where}[{index}]", "null cannot be written into the image", "remove it"
                )
            _check_writable(report, f"{where}[{index}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_writable(report, f"{where}.{shown(key)}", item)


def _check_klibs(report: Report, values: ManifestValues) -> None:
    for where, name in values.texts("Klibs"):
        if not name or "/" in name or _is_unprintable(name):
            report.error(
                "klib-name", where, f"`{shown(name)}` is not a klib's name", "name the file; its directory is `KlibDir`"
            )


def _check_disk(report: Report, values: ManifestValues) -> None:
    size = values.text("BaseVolumeSz")
    if size is not None and volume_size(size) is None:
        message = f"`{shown(size)}` is not a size; ops would ignore it"
        report.error(
            "volume-size", values.field("BaseVolumeSz"), message, "write digits and one of k, m, g, such as 512m"
        )
    if values.text("TargetRoot"):
        message = "puts libraries at guest paths where the loader will not look"
        report.warning("target-root", values.field("TargetRoot"), message, "stage the files instead and remove it")


def _check_variables(report: Report, values: ManifestValues) -> None:
    """`$X` is replaced only when ops_render_config=true, which a build here never sets."""
    for name in ("Program", "KlibDir", "BaseVolumeSz"):
        text = values.text(name)
        if text is not None and _VARIABLE.search(text):
            _check_literal(report, values.field(name), text)
    for name in ("Args", "Files", "Dirs", "Klibs", "NameServers"):
        for where, text in values.texts(name):
            if _VARIABLE.search(text):
                _check_literal(report, where, text)
    for name in ("Env", "MapDirs", "Mounts"):
        for where, _, text in values.table(name):
            if _VARIABLE.search(text):
                _check_literal(report, where, text)


def _check_literal(report: Report, where: str, text: str) -> None:
    message = f"`{shown(text)}` is taken literally; variables are not expanded"
    report.warning("not-interpolated", where, message, "write the value")


def _is_unprintable(text: str) -> bool:
    return any(ord(c) < 32 or ord(c) == 127 for c in text)
