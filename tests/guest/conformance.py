"""How far `rehearse` agrees with the real kernel: two probes and a dozen programs, in QEMU and rehearsed.

    make guest-conformance NANOS=DIR            DIR: a Nanos release, or a kernel that was built: kernel.img, boot.img
    … ARGS="--only probe2 --accel tcg"          only some rows; QEMU's emulation
    … ARGS=--record                             also keep the kernel's answers and the result, in docs/guest.md

Exit 0: the agreement is at least what was recorded. 1: it is less. 2: it can't be run here.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from orchestrator.errors import Severity
from orchestrator.files import write_text
from orchestrator.nanos.verify.image import verify_image
from tests.guest.answers import STOPS, Answers, answers_text, differences, read_answers
from tests.guest.packing import pack
from tests.guest.page import DOCUMENT
from tests.guest.probing import PROBES, Ended, Runner, ask, compile_probe, in_qemu, in_rehearsal, refused
from tests.guest.programs import PROGRAMS, PROVER_TOOLS, Build, BuildError, make_provers
from tests.guest.record import Group, Record, Where, answers_file, read_record, reason, where
from tests.guest.tasks import Way, prove_and_verify


@dataclass(frozen=True, kw_only=True)
class Row:
    """A program's two ends. `note` says why it was not run, or what differs."""

    name: str
    verdict: str
    note: str = ""


def main() -> int:
    options = _options()
    if not (options.nanos / "kernel.img").is_file() or not (options.nanos / "boot.img").is_file():
        print(f"{options.nanos}: give a directory with kernel.img and boot.img (NANOS=DIR)", file=sys.stderr)
        return 2
    for tool in ("qemu-system-x86_64", "gcc"):
        if shutil.which(tool) is None:
            print(f"not run: no {tool}", file=sys.stderr)
            return 2
    guest, rehearsal = in_qemu(options.accel, options.quiet), in_rehearsal(600, options.engine)
    groups: dict[str, Group] = {}
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        for probe in PROBES:
            if not options.only or probe in options.only:
                groups[probe] = _probe(probe, Path(folder), options, guest, rehearsal)
        if not options.only or "programs" in options.only:
            groups["programs"] = _programs(Path(folder), options, guest, rehearsal)
    return _finish(groups, where(options.nanos, options.accel), record=options.record)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0] if __doc__ else "")
    parser.add_argument("nanos", type=Path, metavar="DIR", help="a directory with kernel.img and boot.img")
    parser.add_argument("--accel", choices=["auto", "kvm", "tcg"], default="auto", help="auto: KVM where it works")
    parser.add_argument("--engine", default="none", help="where to rehearse: none, docker, podman (default: none)")
    parser.add_argument("--only", action="append", choices=[*PROBES, "programs"], help="only these; may be repeated")
    parser.add_argument("--recorded-answers", action="store_true", help="don't ask the kernel again: its kept answers")
    parser.add_argument(
        "--quiet", type=float, default=120, help="seconds without a line until a guest counts as hanging (default: 120)"
    )
    parser.add_argument("--record", action="store_true", help="keep the answers and the result")
    return parser.parse_args()


def _probe(name: str, folder: Path, options: argparse.Namespace, guest: Runner, rehearsal: Runner) -> Group:
    program = compile_probe(name, folder)
    if options.recorded_answers:
        answers: Answers = read_answers(answers_file(name))
    else:
        print(f"{name}: asking the kernel …", flush=True)
        answers = ask(program, options.nanos, guest)
        if options.record:
            header = [
                f"What Nanos answers to {', '.join(PROBES[name])} in tests/guest.",
                *where(options.nanos, options.accel).lines,
            ]
            write_text(answers_file(name), answers_text(answers, header))
    print(f"{name}: asking the rehearsal …", flush=True)
    rows = differences(answers, ask(program, options.nanos, rehearsal))
    stopping = [row for row, (there, _) in rows.items() if there.outcome == STOPS]
    for row in refused(program, options.nanos, rehearsal, stopping):
        del rows[row]
    print(f"\n{name}: {len(answers)} rows, {len(answers) - len(rows)} agree, {len(rows)} differ")
    for row, (there, here) in rows.items():
        print(f"  {row:26} guest {there!s:24} rehearsal {here!s:24} {reason(name, row)}")
    stops = sum(answer.outcome == STOPS for answer in answers.values())
    return Group(rows=len(answers), agree=len(answers) - len(rows), differ=tuple(rows), note=f"{stops} stop the guest")


def _programs(folder: Path, options: argparse.Namespace, guest: Runner, rehearsal: Runner) -> Group:
    rows = []
    for build in PROGRAMS:
        rows.append(_shown(_program(build, folder, options.nanos, guest, rehearsal)))
    rows.append(_shown(_provers(folder, options)))
    differ = tuple(row.name for row in rows if row.verdict == "differ")
    ran = [row for row in rows if row.verdict != "not run"]
    notes = "; ".join(f"{row.name}: {row.note}" for row in rows if row.verdict == "not run")
    return Group(rows=len(ran), agree=len(ran) - len(differ), differ=differ, note=notes)


def _shown(row: Row) -> Row:
    print(f"  {row.name:28} {row.verdict:8} {row.note}", flush=True)
    return row


def _program(build: Build, folder: Path, nanos: Path, guest: Runner, rehearsal: Runner) -> Row:
    if build.missing:
        return Row(name=build.name, verdict="not run", note=f"no {build.missing}")
    with tempfile.TemporaryDirectory(dir=folder) as inside:
        try:
            contents = build.make(Path(inside))
        except BuildError as error:
            return Row(name=build.name, verdict="not run", note=str(error))
        image = pack(nanos, contents, Path(inside) / "program.img")
        return _compare(build.name, image, _once(guest, image), _once(rehearsal, image))


def _once(run: Runner, image: Path) -> Ended:
    with tempfile.TemporaryDirectory(dir=image.parent) as workspace:
        return run(image, Path(workspace))


def _compare(name: str, image: Path, there: Ended, here: Ended) -> Row:
    """They agree when both end well with the same lines, or when the guest fails and we say so beforehand."""
    refused = _refused(image)
    said = refused or here.reason
    if there.ok != (here.ok and not refused):
        last = _lines(there.text)[-1:] or ["nothing"]
        return Row(name=name, verdict="differ", note=f"guest: {there.reason} ({last[0]}); here: {said}")
    if not refused and (missing := [line for line in _lines(here.text) if line not in _lines(there.text)]):
        return Row(name=name, verdict="differ", note=f"only rehearsed: {missing[0]}")
    if there.ok:
        return Row(name=name, verdict="agree", note=f"ends well, {len(_lines(here.text))} lines")
    return Row(name=name, verdict="agree", note=f"guest: {there.reason}; here: {said}")


def _refused(image: Path) -> str:
    """What `verify` has against the image, "" if nothing."""
    return "; ".join(finding.message for finding in verify_image(image).findings if finding.severity is Severity.ERROR)


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def _provers(folder: Path, options: argparse.Namespace) -> Row:
    name = "my-prover -> my-verifier"
    missing = next((tool for tool in PROVER_TOOLS if shutil.which(tool) is None), None)
    if missing:
        return Row(name=name, verdict="not run", note=f"no {missing}")
    try:
        prover, verifier = make_provers(folder)
    except BuildError as error:
        return Row(name=name, verdict="not run", note=str(error))
    images = tuple(pack(options.nanos, program, folder / f"{program.name}.img") for program in (prover, verifier))
    there = prove_and_verify((images[0], images[1]), folder / "guest", Way(accel=options.accel))
    here = prove_and_verify((images[0], images[1]), folder / "here", Way(accel=None, engine=options.engine))
    if there == here:
        return Row(name=name, verdict="agree", note=there)
    return Row(name=name, verdict="differ", note=f"guest: {there}; here: {here}")


def _finish(groups: dict[str, Group], place: Where, *, record: bool) -> int:
    before = read_record()
    worse = [
        f"{name}: {group.agree} of {group.rows} agree, {before.groups[name].agree} were recorded"
        for name, group in groups.items()
        if name in before.groups and group.agree < before.groups[name].agree
    ]
    print()
    for name, group in groups.items():
        print(f"{name:10} {group.rows:5} rows {group.agree:5} agree {len(group.differ):5} differ  {group.note}")
    if record:
        Record(where=place, groups={**before.groups, **groups}).write()
        print(f"recorded in {DOCUMENT}")
        return 0
    for line in worse:
        print(line, file=sys.stderr)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
