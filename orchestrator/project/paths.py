"""project.yaml against this machine's disk, and fields against each other. Reads names and sizes, never contents."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Finding, Severity
from orchestrator.findings import Findings
from orchestrator.network import is_plain
from orchestrator.project.languages import STARTS, Language
from orchestrator.project.load import LoadedProject
from orchestrator.project.mirrors import redirect
from orchestrator.project.project import RUNTIME_REFS
from orchestrator.project.secrets import RESERVED, report_missing, secret_files
from orchestrator.project.stage_files import StagedFile

COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
SHIM_CRATE = Path("crates/shim-ffi/Cargo.toml")


LeftOutBy = Callable[[str], str]
"""Says of a path relative to the context which ignore file leaves it out, by name; "" when it is kept."""


def check_paths(loaded: LoadedProject, left_out_by: LeftOutBy) -> list[Finding]:
    """Findings about host paths and about fields that don't fit each other; errors are for the caller to raise.

    The manifest's own file is for `merge_manifest` to read, and to miss.
    """
    checker = _Checker(loaded=loaded, left_out_by=left_out_by, findings=loaded.findings())
    checker.check_context()
    checker.check_program()
    checker.check_gevulot()
    checker.check_nanos()
    checker.check_tools()
    checker.check_secrets()
    checker.check_gpu()
    checker.check_stage()
    checker.check_transport()
    return checker.findings.collected


@dataclass(kw_only=True)
class _Checker:
    loaded: LoadedProject
    left_out_by: LeftOutBy
    findings: Findings

    def error(self, name: str, message: str, remedy: str) -> None:
        self.findings.error("path", name, message, remedy)

    def warning(self, name: str, message: str, remedy: str) -> None:
        self.findings.warning("check", name, message, remedy)

    def find_directory(self, name: str, value: str) -> Path | None:
        """The directory `value` names, or None after saying why there is none."""
        path = self.loaded.root / value
        if _is_dir(path):
            return path
        message = f"`{value}` is a file" if _is_file(path) else f"there is no directory `{value}`"
        self.error(name, message, self._hint(value, "give a directory"))
        return None

    def find_file(self, name: str, value: str) -> Path | None:
        """The file `value` names, or None after saying why there is none."""
        path = self.loaded.root / value
        if _is_file(path):
            return path
        message = f"`{value}` is a directory" if _is_dir(path) else f"there is no file `{value}`"
        self.error(name, message, self._hint(value, "give a file"))
        return None

    def _hint(self, value: str, what: str) -> str:
        if value.startswith("~"):
            return "`~` is not expanded here; write the full path"
        return f"{what}, relative to {self.loaded.path.parent} or absolute"

    def check_context(self) -> None:
        value = self.loaded.project.build.context
        path = self.find_directory("build.context", value)
        if path is not None and path.resolve() == Path("/"):
            self.error("build.context", "is the root of the file system", "give the directory of the sources")

    def check_program(self) -> None:
        """A program that nothing builds has to be there, and one that comes in an image can't be what needs a build."""
        project, build = self.loaded.project, self.loaded.project.build
        if build.finished:
            field = "build.image" if build.image is not None else "build.containerfile"
            remedy = "make it the `base` instead, with `build.run`"
            if project.gpu:
                self.error(field, "GPU projects are not packed from a finished image", remedy)
            if project.reproducible == "strict":
                self.error("reproducible", f"strict cannot build {field} a second time", "use `environment`")
        elif not build.run and not build.program.startswith("/"):
            self._check_prebuilt(self.loaded.root / build.context, build.program)

    def _check_prebuilt(self, context: Path, program: str) -> None:
        path = context / program
        if left_out := self.left_out_by(os.path.normpath(program)) if _is_file(path) else "":
            self.error("build.program", f"`{program}` is excluded by {left_out}", f"add `!{program}` to {left_out}")
        elif not _is_file(path):
            language = self.loaded.project.build.language
            if language is not None and _starts(path, language):
                return
            what = f"`{program}` is a directory" if _is_dir(path) else f"there is no file `{program}` in the context"
            remedy = "say in `build.run` how it is built, or name a binary that is there"
            if language is not None:
                what += f" without {' or '.join(STARTS[language])}" if _is_dir(path) else ""
                remedy = "name the script that starts the program, or say in `build.run` how it is made"
            self.error("build.program", f"{what}, and no `build.run` makes it", remedy)

    def check_gevulot(self) -> None:
        project = self.loaded.project
        gevulot = project.gevulot
        if gevulot is None:
            return
        if gevulot.path is not None:
            path = self.find_directory("gevulot.path", gevulot.path)
            if path is not None and not _is_file(path / SHIM_CRATE):
                message = f"`{gevulot.path}` has no {SHIM_CRATE}"
                self.error("gevulot.path", message, "give the root of a checkout of the Gevulot workspace")
        others = {ref: runtime for runtime, ref in RUNTIME_REFS.items() if runtime != project.runtime}
        if gevulot.ref in others:
            message = f"`{gevulot.ref}` is the shim for runtime {others[gevulot.ref]}, but runtime is {project.runtime}"
            remedy = f"remove ref: it follows runtime (`{RUNTIME_REFS[project.runtime]}`)"
            self.warning("gevulot.ref", message, remedy)

    def check_nanos(self) -> None:
        nanos = self.loaded.project.nanos
        if nanos.path is not None:
            path = self.find_directory("nanos.path", nanos.path)
            if path is not None and not _is_file(path / "kernel.img"):
                self.error("nanos.path", f"`{nanos.path}` has no kernel.img", "give an unpacked Nanos release")
            elif path is not None and not _is_file(path / "boot.img"):
                message = f"`{nanos.path}` has no boot.img, so the image will not boot by BIOS, as the node does"
                self.warning("nanos.path", message, "add boot.img of the same release")

    def check_tools(self) -> None:
        project = self.loaded.project
        if project.ops.path is not None:
            path = self.find_file("ops.path", project.ops.path)
            if path is not None and not os.access(path, os.X_OK):
                self.error("ops.path", f"`{project.ops.path}` is not executable", "run chmod +x on it")
        if project.packer == "native" and "ops" in self.loaded.lines:
            default = "" if "packer" in self.loaded.lines else ", which is the default"
            self.warning("ops", f"has no effect with the native packer{default}", "remove it, or set `packer: ops`")
        if project.network.ca is not None:
            self.find_file("network.ca", project.network.ca)

    def check_secrets(self) -> None:
        seen: set[str] = set()
        for index, secret in enumerate(self.loaded.project.build.secrets):
            name = f"build.secrets[{index}]"
            if secret.id in seen:
                self.error(f"{name}.id", f"`{secret.id}` is used twice", "give each secret its own id")
            elif secret.id in RESERVED:
                self.error(f"{name}.id", f"`{secret.id}` is reserved", "choose another id")
            seen.add(secret.id)
        build = self.loaded.project.build
        for key in ("secrets", "ssh", "caches", "dependencies", "rust-linker"):
            if not build.run and not build.finished and f"build.{key}" in self.loaded.lines:
                self.warning(f"build.{key}", "has no effect: there is no `build.run`", "remove it, or write build.run")
        # Warnings: `check` runs where the secrets needn't be. `build` reads them first, and then these are errors.
        report_missing(self.findings, self.loaded, os.environ, Severity.WARNING)

    def check_gpu(self) -> None:
        project = self.loaded.project
        assets = project.gpu_assets
        if project.gpu_families and not project.gpu:
            self.warn_without_gpu("gpu-families")
        if project.resources.gpus and project.cuda is None:
            message = "`resources` asks for a GPU, but `cuda` is not set, so no CUDA toolkit is added to the base"
            self.warning("resources.gpus", message, 'set `cuda: "12.3.0"`, unless your base already contains CUDA')
        if project.cuda is not None and not project.resources.gpus:
            message = "the program is built with CUDA, but `resources` asks for no GPU"
            self.warning("cuda", message, "set `resources: {gpus: 1}`")
        if assets is None:
            return
        if not project.gpu:
            self.warn_without_gpu("gpu-assets")
        if assets.path is not None:
            path = self.find_directory("gpu-assets.path", assets.path)
            if path is not None and not _is_file(path / "gpu_nvidia"):
                message = f"`{assets.path}` has no klib gpu_nvidia"
                self.error("gpu-assets.path", message, "give a directory with gpu_nvidia, nvidia/ and the libraries")

    def warn_without_gpu(self, name: str) -> None:
        message = "has no effect: this is not a GPU project"
        self.warning(name, message, "set `cuda` and `resources: {gpus: 1}`, or remove it")

    def check_transport(self) -> None:
        """Addresses without TLS of what only project.lock could pin, and only after it was believed once."""
        project = self.loaded.project
        gevulot, assets = project.gevulot, project.gpu_assets
        unpinned = {
            "gevulot.archive": gevulot.archive if gevulot is not None and gevulot.sha256 is None else None,
            "gevulot.git": gevulot.git if gevulot is not None and not COMMIT.fullmatch(gevulot.ref or "") else None,
            "gpu-assets.url": assets.url if assets is not None and assets.sha256 is None else None,
            **{
                f"stage.files[{index}].url": entry.url if entry.sha256 is None else None
                for index, entry in project.stage.outside.items()
            },
        }
        for name, url in unpinned.items():
            if url is not None and is_plain(real := redirect(url, project.mirrors)):
                pin = "name a commit by its full id as `ref`" if name.endswith("git") else "give its `sha256`"
                message = (
                    f"is fetched over {real.partition(':')[0]}: anyone on the way can change it until it is locked"
                )
                self.warning(name, message, f"use https, or {pin}")

    def check_stage(self) -> None:
        project = self.loaded.project
        if project.stage.libraries == "none" and project.stage.extra:
            message = "with `libraries: none`, only these libraries are packed, not the ones they need"
            self.warning("stage.extra", message, "set `libraries: auto`, or list those too")
        if project.stage.trim is not None:
            self.check_trim(project.stage.trim)
        for index, entry in project.stage.built.items():
            self.check_built(f"stage.files[{index}]", entry.path or "", entry.to)
        for index, entry in project.stage.outside.items():
            self.check_staged_file(f"stage.files[{index}]", entry)

    def check_trim(self, path: str) -> None:
        """A list of files among the sources, for a program that an interpreter starts."""
        build = self.loaded.project.build
        if build.finished:
            self.error("stage.trim", "a finished image is packed as it is", "remove it")
            return
        context = self.loaded.root / build.context
        left_out = forgotten(context, path, self.left_out_by)
        if left_out is not None:
            self.warning("stage.trim", *left_out)
        elif not path.startswith("/") and not _is_file(context / path):
            message = f"there is no file `{path}` in the build context"
            self.warning(
                "stage.trim", message, "`rehearse --trace --trim` writes one, of an image that was built without it"
            )

    def check_built(self, where: str, path: str, to: str | None) -> None:
        """A path of the build stage: what is relative may be in the context."""
        if not path.strip("./") and (to is None or path.startswith("/")):
            self.error(where, f"`{path}` is everything", "name what the program needs, or give it a place with `to`")
        if path.startswith("/") or self.loaded.project.build.finished:
            return
        context = self.loaded.root / self.loaded.project.build.context
        left_out = forgotten(context, path, self.left_out_by)
        if left_out is not None:
            self.warning(where, *left_out)
        elif not _exists(context / path) and not _matches(context, path):
            message = f"`{path}` is not in the build context; it is looked for after `build.run`"
            self.findings.note("check", where, message, "check the name, unless `build.run` creates it")

    def check_staged_file(self, where: str, entry: StagedFile) -> None:
        project = self.loaded.project
        if entry.host is not None:
            source = self.find_file(f"{where}.from", entry.host)
            secret = next(
                (file for file in secret_files(self.loaded) if source is not None and _is_same(source, file)), None
            )
            if secret is not None:
                message = f"`{entry.host}` is the file of a build secret, and the image holds what is listed here"
                self.error(f"{where}.from", message, "remove it: a secret reaches build.run alone")
        path = entry.guest_path
        built = {os.path.normpath(other.to or (other.path or "").lstrip("/")) for other in project.stage.built.values()}
        if sum(other.guest_path == path for other in project.stage.outside.values()) > 1:
            self.error(f"{where}.to", f"`{path}` is the place of two files", "give each its own place")
        elif path in built:
            self.error(f"{where}.to", f"`{path}` is also a file of the build", "list it once, or give it another place")
        # They stand in a Containerfile, whose escapes differ from builder to builder.
        if project.packer == "ops" and not re.fullmatch(r"[A-Za-z0-9_.+@=/-]+", path):
            message = f"`{path}` has a character that cannot be passed to ops's build step"
            self.error(f"{where}.to", message, "use letters, digits and _ . + @ = - only, or set `packer: native`")


def forgotten(context: Path, name: str, left_out_by: LeftOutBy) -> tuple[str, str] | None:
    """Words and remedy for a file that is to be packed, and that an ignore file keeps from the build; else None."""
    name = name.lstrip("/")
    file = left_out_by(os.path.normpath(name)) if _exists(context / name) else ""
    if not file:
        return None
    return f"`{name}` is excluded by {file}", f"add `!{name}` to {file}, unless `build.run` creates it"


def _matches(context: Path, glob: str) -> bool:
    """Whether a glob matches something in the context, as far as that is quickly known."""
    if not set("*?[") & set(glob):
        return False
    try:
        return "**" in glob or any(context.glob(glob))
    except (OSError, ValueError, NotImplementedError):
        return False


def _is_same(path: Path, other: Path) -> bool:
    """Whether both are one file, by whatever names and links."""
    try:
        return path.samefile(other)
    except (OSError, ValueError):
        return False


def _starts(path: Path, language: Language) -> bool:
    """Whether a directory can be started by its interpreter."""
    return any(_is_file(path / name) for name in STARTS[language])


def _is_dir(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, a loop of links
        return False


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False


def _exists(path: Path) -> bool:
    return _is_dir(path) or _is_file(path)
