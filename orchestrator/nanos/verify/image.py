"""All checks that can be made of an image without booting it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from orchestrator.elf.nanos import Kernel
from orchestrator.errors import Finding, Severity, error
from orchestrator.image.errors import ImageError
from orchestrator.image.reader import open_image
from orchestrator.image.tree import File
from orchestrator.image_kind import FileDigests
from orchestrator.nanos.packed import files_of
from orchestrator.nanos.verify import checks_boot, checks_by_name, checks_gpu, checks_links, checks_program
from orchestrator.nanos.verify.subject import Subject
from orchestrator.verification import Check, Verification


@dataclass(frozen=True, kw_only=True)
class _CheckRule:
    """A check by name. `needs_loader`: it can say nothing where the program or its loader can't be read."""

    id: str
    title: str
    run: Callable[[Subject], Iterator[Finding]]
    needs_loader: bool = False
    detail: Callable[[Subject], str] = lambda _subject: ""


_RULES = (
    _CheckRule(id="boot", title="Boot code and kernel", run=checks_boot.check_boot),
    _CheckRule(id="program", title="Program", run=checks_program.check_program, detail=lambda s: s.program),
    _CheckRule(
        id="interpreter",
        title="Program's loader at its path",
        run=checks_program.check_interpreter,
        detail=lambda s: s.loader.interpreter or ("static program" if s.program_facts else "no program"),
    ),
    _CheckRule(
        id="loading",
        title="Segments as Nanos maps them",
        run=checks_program.check_loading,
        detail=lambda s: Kernel.of(s.attributes).words,
    ),
    _CheckRule(
        id="libraries",
        title="Every library that a packed ELF file needs",
        run=checks_program.check_libraries,
        needs_loader=True,
        detail=lambda s: f"{len(s.elf_paths)} ELF files",
    ),
    _CheckRule(id="versions", title="Symbol versions", run=checks_program.check_versions, needs_loader=True),
    _CheckRule(id="by-name", title="What glibc loads by name", run=checks_by_name.check_by_name),
    _CheckRule(
        id="links",
        title="Every link leads somewhere",
        run=checks_links.check_links,
        detail=lambda s: f"{len(s.symlinks)} links" if len(s.symlinks) != 1 else "1 link",
    ),
    _CheckRule(id="mounts", title="Mounts", run=checks_boot.check_mounts),
    _CheckRule(
        id="klibs", title="Kernel libraries", run=checks_boot.check_klibs, detail=lambda s: ", ".join(s.klibs) or "none"
    ),
    _CheckRule(
        id="gpu", title="GPU driver and firmware", run=checks_gpu.check_gpu, detail=lambda s: ", ".join(s.firmware)
    ),
    _CheckRule(id="environment", title="Environment", run=checks_boot.check_environment),
    _CheckRule(id="root", title="Arguments and root attributes", run=checks_boot.check_root),
    _CheckRule(id="shim", title="Gevulot shim", run=checks_program.check_shim),
    _CheckRule(
        id="stand-ins",
        title="Stand-ins",
        run=checks_program.check_stand_ins,
        detail=lambda s: f"{len(s.marks.stand_ins)} found" if s.marks.stand_ins else "none",
    ),
    _CheckRule(id="history", title="As it was built", run=checks_boot.check_history),
)


_NOT_CHECKED = "not checked: the program or its loader cannot be read"


def verify_image(
    path: Path,
    *,
    project_runtime: str | None = None,
    gpu_families: Sequence[str] = (),
    libraries: str | None = None,
    known: FileDigests | None = None,
    unmarked: Collection[str] = (),
) -> Verification:
    """Check the image at `path`; `project_runtime` (devnet, local) is what its shim must speak, if known;
    `gpu_families` (project.yaml, the receipt) which GPUs its program must run on; `libraries` is project.yaml's
    stage.libraries (auto, none), for the advice. With `known`, the result lists the image's files, and those needn't be
    read for it. `unmarked` are guest paths of files that were looked through for stand-ins' words in an earlier image.

    What is wrong with the image is in the result; nothing about it raises. An image that can't be read at all has
    the one check `format`.
    """
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    try:
        with open_image(path) as image:
            subject = Subject(image, project_runtime, tuple(gpu_families), libraries, unmarked)
            checks = tuple(_checks(subject))
            return Verification(
                image=path,
                size=image.size,
                checks=checks,
                stand_ins=subject.marks.stand_ins,
                bootable=_bootable(subject),
                files=files_of(image, subject.marks.stand_ins, known) if known is not None else (),
            )
    except ImageError as problem:
        finding = error("image-unreadable", problem.message, problem.remedy or "build the image again")
        return Verification(image=path, size=size, checks=(_format((finding,)),))


def _format(findings: tuple[Finding, ...] = (), detail: str = "") -> Check:
    return Check(id="format", title="Partitions, logs and extents", ok=not findings, findings=findings, detail=detail)


def _checks(subject: Subject) -> Iterator[Check]:
    rootfs = subject.rootfs
    yield _format(detail=f"TFS version {rootfs.version}, {rootfs.used_end} of {rootfs.length} bytes used")
    for rule in _RULES:
        if rule.needs_loader and not subject.loadable:
            yield Check(id=rule.id, title=rule.title, ok=False, detail=_NOT_CHECKED)
            continue
        findings = tuple(rule.run(subject))
        failed = any(finding.severity is Severity.ERROR for finding in findings)
        yield Check(id=rule.id, title=rule.title, ok=not failed, findings=findings, detail=rule.detail(subject))


def _bootable(subject: Subject) -> bool:
    image = subject.image
    if image.bootfs is None or image.is_stub or subject.is_stand_in("boot:/kernel"):
        return False
    kernel = image.bootfs.lookup("/kernel")
    return isinstance(kernel, File) and kernel.size > 0 and (image.boot_sector or image.uefi)
