"""What is decided of one Nanos image, and its file made of the staged tree by one of the two packers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from orchestrator.errors import BuildStepError
from orchestrator.image_kind import ContextFile, ImagePlan, KernelRelease, Packing, PackProgress
from orchestrator.nanos.packers.native import GuestPlan, NativeJob, pack_native, pack_native_again
from orchestrator.nanos.packers.ops import explain, extract_image, ops_version
from orchestrator.resolved import Inputs
from orchestrator.staged import ImageFiles, PackedTree, StagedEntry, host_files, placed_files
from orchestrator.verification import StandIn

OPS_FIELD = "ops"
"""The field of project.yaml that the step `ops build` comes from."""


@dataclass(frozen=True, kw_only=True)
class NanosPlan:
    """One Nanos image. `manifest` is what `ops build` is given (paths relative to /stage); `placed` are the guest paths
    of files that no build step makes."""

    name: str
    packer: Literal["ops", "native"]
    guest: GuestPlan
    nanos_version: str
    manifest: Mapping[str, Any]
    placed: tuple[str, ...] = ()

    @property
    def kernel(self) -> KernelRelease:
        """A release of Nanos, `local` or `stub`."""
        return KernelRelease(name="nanos", version=self.nanos_version)

    @property
    def template(self) -> str:
        """One in which ops makes the image; the native packer takes the tree where it was staged."""
        return "" if self.packer == "native" else "pack-ops.j2"

    @property
    def title(self) -> str:
        """As the progress shows it."""
        return (
            "write the image from the staged tree" if self.packer == "native" else "copy the image out of the container"
        )

    @property
    def steps(self) -> Mapping[str, str]:
        """`ops build` is the only one that isn't a COPY."""
        return {"pack-ops.sh": OPS_FIELD}

    def context(self, inputs: Inputs) -> tuple[ContextFile, ...]:
        """ops, its home as it would be after the downloads that it makes, and the files `placed`, by their number;
        nothing with the native packer."""
        if self.packer == "native":
            return ()
        if inputs.ops is None:
            raise ValueError("the ops packer needs the ops binary among its inputs")
        files = [
            ContextFile(path="ops/ops", content=inputs.ops.local, executable=True),
            ContextFile(path="nanos/latest.txt", content=self.nanos_version.encode()),
            ContextFile(path=f"nanos/{self.nanos_version}", content=inputs.nanos_kernel.local),
        ]
        if inputs.nanos_common is not None:
            files.append(ContextFile(path="nanos/common.tar.gz", content=inputs.nanos_common.local))
        for number, resolved in enumerate(inputs.staged_files):
            files.append(ContextFile(path=f"files/{number}", content=resolved.local))
        sums = "".join(f"{resolved.pin['sha256']}  {resolved.guest_path}\n" for resolved in inputs.staged_files)
        files.append(ContextFile(path="files.sha256", content=sums.encode()))
        return tuple(files)

    def explain(self, field: str, tail: str) -> BuildStepError | None:
        """What a failed `ops build` means."""
        return explain(tail) if field == OPS_FIELD else None

    def pack(self, inputs: Inputs, files: ImageFiles, target: Path, progress: PackProgress) -> Packing:
        """By the project's packer."""
        if self.packer == "native":
            job = self._job(inputs, placed_files(inputs, files), target)
            return pack_native(job, files.open_archive, target, files.sorted_entries("/stage"), progress.ready)
        extract_image(self.name, files, target, progress.copied)
        return Packing(tool_version=ops_version(files.open_archive))

    def pack_again(self, inputs: Inputs, tree: PackedTree, target: Path, progress: Callable[[int], None]) -> Packing:
        """By the native packer, the only one that says what it packed."""
        return pack_native_again(self._job(inputs, host_files(inputs), target), tree, target, progress)

    def _job(self, inputs: Inputs, placed: Mapping[str, StagedEntry], target: Path) -> NativeJob:
        common = inputs.nanos_common.local if inputs.nanos_common else None
        return NativeJob(
            guest=self.guest, nanos=inputs.nanos_kernel.local, common=common, placed=placed, spool=target.parent
        )

    def stand_ins(self, inputs: Inputs) -> tuple[StandIn, ...]:
        """An image made by a stand-in ops looks like the real one's."""
        if inputs.ops is None:
            return ()
        from orchestrator.nanos.verify.subject import stand_in_file  # late: it brings all that verification needs

        stand_in = stand_in_file(inputs.ops.local, "input:ops")
        return (stand_in,) if stand_in is not None else ()


_satisfies: type[ImagePlan] = NanosPlan  # checked by mypy
