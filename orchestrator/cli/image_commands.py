"""Commands that start at an image: inspect, verify, hash, deploy-command. No root, no mount, no engine."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from orchestrator.amounts import size
from orchestrator.cli.console import answer, answer_json, say, say_findings
from orchestrator.cli.parameters import PATH, existing_image, image_argument, json_failures, json_option
from orchestrator.errors import ExitCode, Severity, UsageError, VerificationError

if TYPE_CHECKING:
    from orchestrator.image_kind import OpenedImage


@click.command(short_help="Look into any Nanos image: files, libraries, manifest.")
@image_argument
@click.argument(
    "action",
    metavar="[ACTION]",
    type=click.Choice(["summary", "ls", "tree", "cat", "extract", "manifest", "libs", "diff", "convert", "stand-ins"]),
    default="summary",
)
@click.argument("arguments", nargs=-1, type=str, metavar="[ARGUMENTS]...")
@click.option("--lossy", is_flag=True, help="convert: leave out what has no place in canonical form.")
@json_option
@json_failures
def inspect(image: Path, action: str, arguments: tuple[str, ...], lossy: bool, as_json: bool) -> None:
    """Look into any Nanos image, whether we or ops built it.

    \b
    IMAGE                    what it is: kernel, program, size, partitions
    IMAGE ls [PATH]          one directory (default /), with sizes
    IMAGE tree [PATH]        everything below PATH
    IMAGE cat PATH           a file's bytes
    IMAGE extract DIR        the whole tree into an empty directory
    IMAGE manifest           program, arguments, environment, mounts … as JSON
    IMAGE libs               every ELF file's libraries and where the guest's loader finds them
    IMAGE diff OTHER         how two images differ: files, manifest, klibs, kernel, free space
                             (exit 1), or only in how that is written down (form; exit 0)
    IMAGE convert OUT        write the image anew in canonical form: the bytes of `packer: native`
    IMAGE stand-ins          the parts that only stand in for real ones
    """
    if lossy and action != "convert":
        raise UsageError("--lossy only applies to convert", remedy="leave it out")
    with _open_image(image) as opened:
        if action == "convert":
            _convert(opened, Path(_one(arguments, "file to write")), lossy, as_json)
        else:
            _ACTIONS[action](opened, image, arguments, as_json)


def _open_image(image: Path) -> OpenedImage:
    from orchestrator.kinds import kind_of_image

    return kind_of_image(existing_image(image)).open(image)


def _one(arguments: tuple[str, ...], what: str, default: str | None = None) -> str:
    if len(arguments) == 1:
        return arguments[0]
    if not arguments and default is not None:
        return default
    raise UsageError(f"give one {what}", remedy="`inspect --help` shows how")


def _summary(image: OpenedImage, _path: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    if arguments:
        raise UsageError("summary takes no arguments")
    if as_json:
        answer_json(image.summary())
        return
    for line in image.summary_lines():
        answer(line)


def _ls(image: OpenedImage, _path: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    rows = image.entries(_one(arguments, "path", "/"), recursive=False)
    if as_json:
        answer_json([asdict(row) for row in rows])
        return
    for row in rows:
        answer(row.line())


def _tree(image: OpenedImage, _path: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    top = _one(arguments, "path", "/")
    if as_json:
        answer_json([asdict(row) for row in image.entries(top, recursive=True)])
        return
    for line in image.tree_lines(top):
        answer(line)


def _cat(image: OpenedImage, _path: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        raise UsageError("cat writes a file's bytes; it has no --json")
    for chunk in image.read(_one(arguments, "path")):
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


def _extract(image: OpenedImage, _path: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    directory = Path(_one(arguments, "directory"))
    count = image.write_tree(directory)
    say(f"extracted {count} entries")
    if as_json:
        answer_json({"directory": str(directory), "entries": count})
    else:
        answer(str(directory))


def _manifest(image: OpenedImage, _path: Path, arguments: tuple[str, ...], _as_json: bool) -> None:
    if arguments:
        raise UsageError("manifest takes no arguments")
    answer_json(image.settings)


def _libs(image: OpenedImage, _path: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    if arguments:
        raise UsageError("libs takes no arguments")
    report = image.libraries()
    if as_json:
        answer_json([row.to_dict() for row in report])
        return
    for row in report:
        answer(row.path)
        for name, where in row.needed:
            answer(f"    {name} => {where or 'NOT FOUND'}")


def _diff(image: OpenedImage, path: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    with _open_image(Path(_one(arguments, "other image"))) as other:
        compared = image.compare(other)
    rows = compared.differences
    if as_json:
        answer_json([asdict(row) for row in rows])
    for row in () if as_json else rows:
        answer(f"{row.change} {row.part}: {row.path}" + (f" ({row.detail})" if row.detail else ""))
    if not compared.same:
        sys.exit(1)
    also = "; they differ only in how it is stored (`inspect IMAGE convert OUT` makes them the same)" if rows else ""
    say(f"{path} and {arguments[0]} hold the same{also or ', byte for byte'}")


def _convert(image: OpenedImage, output: Path, lossy: bool, as_json: bool) -> None:
    from orchestrator.digest import file_blake3
    from orchestrator.files import replacing

    if output.is_dir():
        raise UsageError(f"{output} is a directory", remedy="give the name of the image to write")
    with replacing(output) as temporary:
        left_out = image.convert(temporary, lossy=lossy)
    checksum = file_blake3(output)
    for line in left_out:
        say(f"left out: {line}")
    if as_json:
        document = {"image": str(output), "size": output.stat().st_size, "blake3": checksum}
        answer_json({**document, "left_out": list(left_out)})
        return
    say(f"BLAKE3 {checksum}")
    answer(str(output))


def _stand_ins(_image: OpenedImage, path: Path, arguments: tuple[str, ...], as_json: bool) -> None:
    from orchestrator.image_kind import Expected
    from orchestrator.kinds import kind_of_image

    if arguments:
        raise UsageError("stand-ins takes no arguments")
    verification = kind_of_image(path).verify(path, Expected())
    rows = [stand_in.to_dict() for stand_in in verification.stand_ins]
    if as_json:
        answer_json(rows)
        return
    count = {0: "no stand-in", 1: "1 stand-in"}.get(len(rows), f"{len(rows)} stand-ins")
    answer(f"{path}: {count}")
    for row in rows:
        answer(f"  {row['path']}: {row['text']}")


_ACTIONS: dict[str, Callable[[OpenedImage, Path, tuple[str, ...], bool], None]] = {
    "summary": _summary,
    "ls": _ls,
    "tree": _tree,
    "cat": _cat,
    "extract": _extract,
    "manifest": _manifest,
    "libs": _libs,
    "diff": _diff,
    "stand-ins": _stand_ins,
}


@click.command(short_help="Run every check that needs no booting; exit 0 only if all pass.")
@image_argument
@click.option(
    "--runtime", type=click.Choice(["devnet", "local"]), help="Also check that the image's shim is for this runtime."
)
@click.option("--key", type=PATH, metavar="PUBLIC.PEM", help="Also check that this key signed the image's provenance.")
@json_option
@json_failures
def verify(image: Path, runtime: str | None, key: Path | None, as_json: bool) -> None:
    """Run every check that needs no booting; exit 0 only if all pass."""
    from orchestrator.image_kind import Expected
    from orchestrator.kinds import kind_of_image
    from orchestrator.provenance.beside import check_beside

    existing_image(image)
    public_key = None
    if key is not None:
        from orchestrator.provenance.dsse import load_public_key

        public_key = load_public_key(key)  # a wrong key is said before the image is read
    expected = Expected(runtime=runtime, gpu_families=_families(image))
    result = kind_of_image(image).verify(image, expected)
    result = replace(result, checks=(*result.checks, *check_beside(image, public_key)))
    if as_json:
        answer_json(result.to_dict())
        sys.exit(int(ExitCode.OK if result.ok else ExitCode.VERIFICATION))
    for check in result.checks:
        detail = f": {check.detail}" if check.detail else ""
        answer(f"{'ok  ' if check.ok else 'FAIL'} {check.title}{detail}")
        say_findings(check.findings)
    if not result.bootable:
        answer("note: not bootable as a program")
    if not result.ok:
        failed = sum(not check.ok for check in result.checks)
        raise VerificationError(f"{image}: {failed} of {len(result.checks)} checks failed")
    warnings = sum(finding.severity is Severity.WARNING for finding in result.findings)
    said = f", with {warnings} warning{'s' if warnings != 1 else ''}" if warnings else ""
    answer(f"{image}: all {len(result.checks)} checks hold{said}")


def _families(image: Path) -> tuple[str, ...]:
    """The GPU families of the image's receipt; a receipt that can't be used is said to be that."""
    from orchestrator.receipt.read import read_receipt

    try:
        receipt = read_receipt(image)
    except UsageError as error:
        say(f"warning: {error.message}; no GPU families are checked")
        return ()
    return receipt.resources.gpu_families if receipt is not None else ()


@click.command(name="hash", short_help="Print BLAKE3-256 as the node computes it, or the program hash.")
@image_argument
@click.option(
    "--program", nargs=2, metavar="NAME URL", help="Print the program hash instead, as NAME deployed from URL."
)
@json_option
@json_failures
def hash_command(image: Path, program: tuple[str, str] | None, as_json: bool) -> None:
    """Print the image's BLAKE3-256 as the node computes it, or the program hash."""
    from orchestrator.digest import file_blake3, program_hash

    checksum = file_blake3(existing_image(image))
    hashed = None
    if program is not None:
        name, url = program
        hashed = program_hash(name=name, image_file_name=image.name, image_url=url, checksum=checksum)
    if as_json:
        answer_json({"image": str(image), "size": image.stat().st_size, "blake3": checksum, "program": hashed})
        return
    answer(hashed or checksum)
    if image.stat().st_size:
        say(f"{image}: {size(image.stat().st_size)}")


@click.command(name="deploy-command", short_help="Print the `gevulot-cli deploy` line for a prover and a verifier.")
@click.argument("receipts", type=PATH, metavar="PROVER.RECEIPT VERIFIER.RECEIPT", nargs=2)
@click.option("--name", required=True, help="Name of the deployment.")
@click.option("--prover-url", help="URL the prover's image will be fetched from (default: served from here).")
@click.option("--verifier-url", help="URL the verifier's image will be fetched from (default: served from here).")
def deploy_command_command(
    receipts: tuple[Path, Path], name: str, prover_url: str | None, verifier_url: str | None
) -> None:
    """Print the `gevulot-cli deploy` line for a prover and a verifier."""
    from orchestrator.receipt.deploy import DeployPart, deploy_command

    prover, verifier = (DeployPart.read(path) for path in receipts)
    for part, path in zip((prover, verifier), receipts, strict=True):
        _require_image_of(part.image, path, part.blake3)
    if prover.blake3 == verifier.blake3:
        say("warning: prover and verifier are the same image; give the prover's receipt, then the verifier's")
    for part, url in dict.fromkeys([(prover, prover_url), (verifier, verifier_url)]):
        if not part.bootable:
            say(f"warning: {part.image} is not bootable as a program (its kernel is a stand-in); do not deploy it")
        if url is None and not Path(part.image).is_file():
            say(f"warning: {part.image} does not exist; put it beside its receipt, or give its URL")
    answer(deploy_command(name, prover, verifier, prover_url=prover_url, verifier_url=verifier_url))


def _require_image_of(image: str, receipt: Path, blake3: str) -> None:
    """VerificationError where the image that lies beside a receipt is another one."""
    from orchestrator.provenance.beside import AGAIN, difference

    if Path(image).is_file() and (problem := difference(Path(image), blake3)):
        raise VerificationError(f"{receipt} is of another image than {image}: {problem}", remedy=AGAIN)


COMMANDS = (inspect, verify, hash_command, deploy_command_command)
