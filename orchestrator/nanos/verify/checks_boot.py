"""Checks of what the machine and the kernel need: boot sector, kernel, klibs, root attributes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO, cast

from orchestrator.elf.facts import ElfError, read_elf
from orchestrator.errors import Finding, error, note, warning
from orchestrator.image.reader import Filesystem
from orchestrator.image.tree import Directory, File, Special
from orchestrator.nanos.verify.subject import Subject
from orchestrator.values import Value

WORKSPACE = "/workspace"
NODE_LABEL = "%0"
_READ_ONLY = "readonly_rootfs"


def check_boot(subject: Subject) -> Iterator[Finding]:
    """The boot sector, and the kernel in the boot file system."""
    image = subject.image
    if image.bootfs is None:
        yield error(
            "bootfs-missing", "the image is a bare file system, without a kernel", "give the image that build wrote"
        )
        return
    if not image.boot_sector and not image.uefi:
        yield warning(
            "no-boot-sector",
            "there is no boot code: no machine can boot this image",
            "take a Nanos release that has boot.img",
        )
    kernel = image.bootfs.lookup("/kernel")
    if not isinstance(kernel, File) or kernel.size == 0:
        yield error("kernel-missing", "the boot file system has no kernel", "build the image again")
    elif image.is_stub:
        yield warning(
            "kernel-is-stub",
            "the kernel is this project's stub, which prints one line and stops: the program will not run",
            "set nanos.version or nanos.path for an image to deploy",
        )
    elif not subject.is_stand_in("boot:/kernel"):
        yield from _native(image.bootfs, kernel, "kernel", "the kernel")


def _native(filesystem: Filesystem, file: File, code: str, what: str) -> Iterator[Finding]:
    remedy = "take it from the Nanos release for x86-64"
    with filesystem.open_file(file) as stream:
        try:
            facts = read_elf(cast("BinaryIO", stream))
        except ElfError as problem:
            yield error(f"{code}-not-elf", f"{what}: {problem.message}", remedy)
            return
    if not facts.native:
        yield error(f"{code}-wrong-machine", f"{what} is for {facts.machine}, {facts.bits} bits", remedy)


def check_klibs(subject: Subject) -> Iterator[Finding]:
    """Kernel libraries: all files in /klib are loaded, and one that fails stops the kernel."""
    wanted = "klibs" in subject.attributes
    if wanted and subject.attributes["klibs"] != "bootfs":
        yield warning("klibs-elsewhere", f"klibs are loaded from {subject.attributes['klibs']!r}, not from bootfs")
    elif wanted and not subject.klibs:
        yield error(
            "klibs-missing",
            "the manifest asks for klibs, but the image holds none (ops only prints a warning)",
            "check Klibs and KlibDir in the manifest, and gpu-assets",
        )
    elif subject.klibs and not wanted:
        yield warning("klibs-not-loaded", f"klibs are packed but not loaded: {', '.join(subject.klibs)}")
    for name, file in subject.klibs.items():
        if subject.image.bootfs is not None and not subject.is_stand_in(f"boot:/klib/{name}"):
            yield from _native(subject.image.bootfs, file, "klib", f"klib {name}")


def check_mounts(subject: Subject) -> Iterator[Finding]:
    """Every mount has its directory, and /workspace has the label of the node's share."""
    value = subject.attributes.get("mounts", {})
    if not isinstance(value, dict):
        yield error(
            "mounts-not-a-table", "root attribute mounts is not a table", 'write "Mounts": {"%0": "/workspace"}'
        )
        return
    for label, target in value.items():
        path = target.partition(":")[0].rstrip("/") if isinstance(target, str) else ""
        if not path.startswith("/"):
            yield error(
                "mount-target",
                f"mount {label}: {target!r} is not an absolute path",
                "name a directory such as /workspace",
            )
            continue
        node = subject.rootfs.lookup(path)
        if not isinstance(node, Directory):
            what = "does not exist" if node is None else "is not a directory"
            yield error(
                "mount-directory-missing",
                f"mount {label}: {path} {what}: Nanos says 'mount point not found'",
                "declare the mount under Mounts in the manifest: the packer then creates the directory",
            )
        if path == WORKSPACE and label != NODE_LABEL:
            yield _wrong_label(label)
    if WORKSPACE not in [str(target).partition(":")[0].rstrip("/") for target in value.values()]:
        report = error if subject.project_runtime or subject.marks.shims else warning
        yield report(
            "workspace-not-mounted",
            "nothing is mounted at /workspace, where the node puts a task's files",
            'add "Mounts": {"%1": "/workspace"} to the manifest (ops 0.1.42 and newer write it as %0)',
        )


def _wrong_label(label: str) -> Finding:
    if label == "%1":
        return error(
            "mount-label",
            "/workspace is mounted from %1, but the node and shim-executor share it as %0 (since May 2024):"
            " the directory would stay empty",
            "build with ops 0.1.42 or newer, or the native packer, which write %0",
        )
    return error(
        "mount-label", f"/workspace is mounted from {label}; the node shares it as %0", 'use the key "%1" in Mounts'
    )


def check_environment(subject: Subject) -> Iterator[Finding]:
    """Variables that would not reach the program."""
    value = subject.attributes.get("environment", {})
    if not isinstance(value, dict):
        yield error("environment-not-a-table", "root attribute environment is not a table", "write Env as a table")
        return
    for name, text in value.items():
        if text is None or text == "":
            message = f"variable {name} is empty: {subject.kernel_name} drops it"
            yield warning("environment-empty", message, "give it a value")
        elif not isinstance(text, str):
            yield error("environment-not-text", f"variable {name} is not a string", "quote its value in the manifest")


def check_root(subject: Subject) -> Iterator[Finding]:
    """Arguments, working directory and the read-only flag."""
    yield from _arguments(subject.attributes.get("arguments"))
    if _READ_ONLY not in subject.attributes:
        yield warning(
            "rootfs-writable",
            "readonly_rootfs is not set, yet the node attaches the disk read-only: writes outside /workspace fail late",
            'add "ManifestPassthrough": {"readonly_rootfs": "true"} to the manifest',
        )
    cwd = subject.attributes.get("cwd")
    if cwd is not None:
        if not isinstance(cwd, str) or not isinstance(subject.rootfs.lookup(cwd), Directory):
            yield error(
                "cwd-not-found", f"cwd {cwd!r} is not a directory in the image", "create it with Dirs, or remove cwd"
            )
        elif subject.program_facts is not None and subject.program_facts.interpreter is not None:
            message = f"{subject.kernel_name} honours cwd only for static programs; this one is dynamic"
            yield warning("cwd-ignored", message, "use absolute paths in the program")


def _arguments(value: Value) -> Iterator[Finding]:
    if value is None:
        yield warning("arguments-missing", "no arguments: Nanos passes the program's path as the only one")
        return
    value = _as_list(value)
    if not isinstance(value, list) or not all(isinstance(argument, str) for argument in value):
        yield error("arguments-not-a-list", "root attribute arguments is not a list of strings", 'write "Args": ["…"]')
    elif not value:
        yield warning("arguments-missing", "no arguments: Nanos passes the program's path as the only one")
    elif "" in value:
        yield warning("argument-empty", "an argument is empty: Nanos drops it", "give it a value")


def _as_list(value: Value) -> Value:
    """TFS 4 has no lists: there they are tables keyed "0", "1", …, and an empty text leaves a gap; then "" is last."""
    if not isinstance(value, dict) or not all(key.isascii() and key.isdigit() and len(key) < 10 for key in value):
        return value
    indexes = sorted(value, key=int)
    gap = bool(indexes) and int(indexes[-1]) >= len(indexes)
    return [*(value[index] for index in indexes), *([""] if gap else [])]


def check_history(subject: Subject) -> Iterator[Finding]:
    """Whether the image has run: then its bytes are no longer what was built."""
    crash = subject.image.crash_log
    if crash is not None:
        yield note(
            "ran-before", f"the image has run before: exit code {crash.exit_code}, {len(crash.text)} bytes of log"
        )
    special = [path for path, node in subject.rootfs.walk() if isinstance(node, Special)]
    if special:
        yield note("ran-before", f"the image has run before: it holds {special[0]} ({len(special)} such nodes)")
