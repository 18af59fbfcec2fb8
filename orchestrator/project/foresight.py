"""What would stop a build, or spoil its image, minutes later, and shows in project.yaml and the sources already."""

from __future__ import annotations

import re
import struct
import unicodedata
from collections.abc import Callable
from pathlib import Path

from orchestrator.errors import Severity
from orchestrator.findings import Findings
from orchestrator.package_locks import unread_locks
from orchestrator.project.load import LoadedProject
from orchestrator.suggest import nearest, shown

# From buster on, and the names that Debian's mirrors have for whatever is current.
_RELEASES = (
    "buster", "bullseye", "bookworm", "trixie", "forky", "duke", "sid", "oldoldstable", "oldstable", "stable",
    "testing", "unstable",
)  # fmt: skip
_FOLDED = re.compile(r"^(?P<indent> *)(?:- +)?run: +>[-+1-9]*\s*(?:#.*)?$")
# A command over several lines is what `>` is for: an option, or an operator of the shell.
_GOES_ON = re.compile(r"-|&&|\|")
_WANTS_MORE = ("&&", "|", ";", "\\")
# A few of ELF's e_machine (elf.h), for the message.
_MACHINES = {3: "32-bit x86", 40: "32-bit ARM", 183: "AArch64", 243: "RISC-V", 22: "s390", 21: "64-bit PowerPC"}
_X86_64 = 62
_MAX_LOCK = 4 * 1024 * 1024


def foresee(loaded: LoadedProject, left_out_by: Callable[[str], str]) -> Findings:
    """Warnings. `left_out_by` says of a path relative to the context which ignore file leaves it out ("" when none)."""
    findings = loaded.findings()
    _check_script(loaded, findings)
    _check_releases(loaded, findings)
    _check_prebuilt(loaded, left_out_by, findings)
    _check_git_crates(loaded, findings)
    _check_locks(loaded, left_out_by, findings)
    return findings


def _check_script(loaded: LoadedProject, findings: Findings) -> None:
    lines = loaded.text.split("\n")
    at = loaded.lines.get("build.run", 0)
    folded = _FOLDED.match(lines[at - 1]) if 0 < at <= len(lines) else None
    kept = sum(bool(text.strip()) for text in loaded.project.build.run.split("\n"))
    if folded and kept < _commands_below(lines[at:], len(folded["indent"])):
        message = "`>` joins lines of the script into one command"
        findings.warning("folded-script", "build.run", message, "write `run: |`, which keeps the lines")
    for number, text in enumerate(loaded.project.build.run.split("\n")):
        odd = next((c for c in text if _is_odd_space(c)), None)
        if odd is not None:
            message = f"contains {unicodedata.name(odd).lower()} (U+{ord(odd):04X}), which no shell takes for a space"
            line = loaded.run_line + number
            findings.add(
                Severity.WARNING, "odd-space", "build.run", message, "write a plain space, or remove it", line=line
            )
            return


def _commands_below(lines: list[str], indent: int) -> int:
    """How many commands a block scalar seems to have whose key is indented by `indent`: its lines of text, but not
    those that go on with the line before.
    """
    count, before = 0, ""
    for line in lines:
        text = line.strip()
        if text and len(line) - len(line.lstrip(" ")) <= indent:
            break
        count += bool(text) and not _GOES_ON.match(text) and not before.endswith(_WANTS_MORE)
        before = text
    return count


def _is_odd_space(character: str) -> bool:
    return character != " " and (unicodedata.category(character) == "Zs" or character in "\u200b\u2060\ufeff")


def _check_releases(loaded: LoadedProject, findings: Findings) -> None:
    """A name that no mirror of Debian has; with a mirror of the project's own it may be another distribution's."""
    project = loaded.project
    if any(prefix.startswith("debian:") for prefix in project.mirrors):
        return
    bases = {"base": project.base, **({"gevulot.base": project.gevulot.base} if project.gevulot is not None else {})}
    for name, base in bases.items():
        if base.bootstrap is None or base.bootstrap.debian in _RELEASES:
            continue
        close = nearest(base.bootstrap.debian, _RELEASES)
        message = f"`{shown(base.bootstrap.debian)}` is not a release of Debian that we know"
        remedy = f"did you mean `{close}`?" if close else "write its code name, such as bookworm"
        findings.warning("debian-release", f"{name}.bootstrap.debian", message, remedy)


def _check_prebuilt(loaded: LoadedProject, left_out_by: Callable[[str], str], findings: Findings) -> None:
    """A program that lies among the sources and is for another machine: an image of it is refused after the build."""
    build = loaded.project.build
    path = loaded.root / build.context / build.program
    machine = None if build.program.startswith("/") or build.finished else _machine(path)
    if machine in (None, _X86_64) or left_out_by(build.program):
        return
    what = _MACHINES.get(machine or 0, f"machine {machine} of ELF's list")
    message = f"`{build.program}` in the context is for {what}; Gevulot's nodes are x86-64"
    findings.warning("machine", "build.program", message, "compile it for x86-64, unless `build.run` does")


def needs_fetched_crates(loaded: LoadedProject) -> bool:
    """Whether Cargo.lock has crates from git by http(s), and the cargo that builds them can't fetch any: Debian's 1.96
    with its libgit2 1.5 ends with "invalid version 0 on git_proxy_options", even where git itself fetches (measured).
    """
    return loaded.project.debian_cargo and b'"git+http' in _cargo_lock(loaded)


def _check_git_crates(loaded: LoadedProject, findings: Findings) -> None:
    if not loaded.project.debian_cargo:
        return
    why = "and Debian's cargo fetches none (its libgit2 is older than it asks for)"
    if re.search(rb'"git\+(?!https?:)', _cargo_lock(loaded)):
        message = f"Cargo.lock has crates from git that are not fetched over https, {why}"
        findings.warning("git-crates", "base", message, "name their https addresses, or an image with another cargo")
    elif loaded.project.build.dependencies == "never" and needs_fetched_crates(loaded):
        message = f"Cargo.lock has crates from git, {why}"
        findings.warning(
            "git-crates", "build.dependencies", message, "remove it: they are then fetched on this machine"
        )


def _check_locks(loaded: LoadedProject, left_out_by: Callable[[str], str], findings: Findings) -> None:
    """Lock files at the context's top that nothing reads, where the step gets no packages but those that are read."""
    if loaded.project.build.dependencies != "always":
        return
    try:
        names = [path.name for path in (loaded.root / loaded.project.build.context).iterdir()]
    except OSError:  # said elsewhere
        return
    for name, remedy in unread_locks(name for name in names if not left_out_by(name)):
        findings.warning("unread-lock", "build.dependencies", f"`{name}` is not read", remedy)


def _cargo_lock(loaded: LoadedProject) -> bytes:
    try:
        with (loaded.root / loaded.project.build.context / "Cargo.lock").open("rb") as handle:
            return handle.read(_MAX_LOCK)
    except OSError:
        return b""


def _machine(path: Path) -> int | None:
    """e_machine of an ELF file; None for anything else, also what can't be read."""
    try:
        if not path.is_file():
            return None
        with path.open("rb") as handle:
            head = handle.read(20)
    except (OSError, ValueError):
        return None
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return None
    return int(struct.unpack_from("<H" if head[5] == 1 else ">H", head, 18)[0])
