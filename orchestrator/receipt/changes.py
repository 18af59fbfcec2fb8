"""What is otherwise in a receipt than in an earlier one of the same project. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from orchestrator.receipt.receipt import InputUsed, Receipt

_SHOWN = 12
"""Characters of a digest that are shown."""


def list_changes(before: Receipt, now: Receipt) -> list[str]:
    """A line each, for people; empty when the same things gave the same image."""
    return list(_changes(before, now))


def _changes(before: Receipt, now: Receipt) -> Iterator[str]:
    if before.context_sha256 != now.context_sha256:
        yield "the sources"
    old, new = _by_name(before), _by_name(now)
    for name in dict.fromkeys((*old, *new)):
        if name not in old:
            yield f"{name} is new"
        elif name not in new:
            yield f"{name} is gone"
        elif old[name].pin != new[name].pin:
            yield f"{name}: {_pin(old[name])} → {_pin(new[name])}"
    if before.manifest_sha256 != now.manifest_sha256:
        yield "the manifest"
    if before.containerfile_sha256 != now.containerfile_sha256:
        yield "the build's steps"
    for what, earlier, later in (
        ("Nanos", before.nanos_version, now.nanos_version),
        ("packer", before.packer, now.packer),
        ("engine", f"{before.engine.kind} {before.engine.version}", f"{now.engine.kind} {now.engine.version}"),
        ("orchestrator", before.orchestrator, now.orchestrator),
    ):
        if earlier != later:
            yield f"{what}: {earlier} → {later}"
    if before.image.size != now.image.size:
        yield f"size: {now.image.size - before.image.size:+,} bytes"
    elif before.image.blake3 != now.image.blake3:
        yield "the image's content"


def _by_name(receipt: Receipt) -> Mapping[str, InputUsed]:
    return {row.name: row for row in receipt.inputs}


def _pin(row: InputUsed) -> str:
    """What tells two versions of an input apart for a person: its version, else the start of its digest."""
    for key in ("version", "commit", "digest", "sha256"):
        if value := row.pin.get(key):
            return value if key == "version" else value.removeprefix("sha256:")[:_SHOWN]
    return " ".join(row.pin.values())[: 2 * _SHOWN] or "nothing"
