"""Why an image differs from one that was built before: by the differing bytes, and where they don't say, by experiment.

An experiment is another build. The first repeats the rebuild: what differs even then comes from within the step (time,
order, chance). Then one without any variation, and one for each factor that was varied: what makes a file differ is
found by what brings the difference back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath

from orchestrator.build.rebuilds import RebuiltImage, rebuild
from orchestrator.build.state import BuildJob
from orchestrator.errors import UsageError
from orchestrator.events import Notice
from orchestrator.image_kind import BOOT, Difference, ImageKind
from orchestrator.plan.plan import Factor
from orchestrator.reproduce.causes import MOST_BYTES, Cause, Kind, cause_of, cause_of_names, first_texts, is_reordered
from orchestrator.reproduce.report import Author, ExplainedDifference

_OF_FACTOR: Mapping[Factor, Kind] = {
    "cores": "parallelism",
    "locale": "locale",
    "umask": "umask",
    "path": "build path",
}
_WITH_FACTOR: Mapping[Factor, str] = {
    "cores": "it differs on {} alone",
    "locale": "it differs with {}",
    "umask": "it differs with umask {}",
    "path": "it differs in {}",
}
_FOLLOWS = ("form", "free space")
"""Parts in which images differ because others of their parts do."""
_SHIM_SOURCES = "/build/gevulot/"


@dataclass(frozen=True, kw_only=True)
class OriginalImage:
    """The image that a rebuild is compared with. `image` None: only its files' hashes are known (`billed`, by path), or
    nothing (None).

    `engine` is the kind of engine that built it; `built` is when.
    """

    kind: ImageKind
    image: Path | None
    billed: Mapping[str, str] | None = None
    engine: str
    built: datetime

    @cached_property
    def hashes(self) -> Mapping[str, str] | None:
        """Its files' SHA-256 by path, from the image only when asked for: a rebuild with the same bytes needs none."""
        return hashes_of(self.kind, self.image) if self.image is not None else self.billed


@dataclass(kw_only=True)
class Diagnosis:
    """One image's: `first` is the rebuild that differs; further ones are written to new files that `make` gives."""

    job: BuildJob
    original: OriginalImage
    first: RebuiltImage
    factors: tuple[Factor, ...]
    make: Callable[[], Path]
    _causes: dict[str, Cause] = field(default_factory=dict)

    def differences(self) -> list[ExplainedDifference]:
        """What differs, each with its author and likely cause; never empty."""
        if self.original.image is None and self.original.hashes is None:
            return [_unknown()]
        rows = self._rows()
        authors = [self._author(row) for row in rows]
        undecided = []
        for row, author in zip(rows, authors, strict=True):
            if row.part == "tree" and row.change == "~" and not author.package:
                one, other = self._original(row.path), self._content(self.first.image, row.path)
                # A link has no bytes of its own; what differs of it is in the detail.
                mine, _, theirs = row.detail.partition(" / ") if one == other else ("", "", "")
                cause = cause_of(mine.encode() or one, theirs.encode() or other, self._times())
                if cause is not None:
                    self._causes[row.path] = cause
                elif author.field == "build.run" and one != other:
                    undecided.append(row.path)
        self._name_causes([row for row, author in zip(rows, authors, strict=True) if author.field == "build.run"])
        self._experiment(undecided)
        return [self._difference(row, author) for row, author in zip(rows, authors, strict=True)]

    def _name_causes(self, rows: Sequence[Difference]) -> None:
        """Of files that only one of the images has: why they are called as they are."""
        names = {change: [row.path for row in rows if row.part == "tree" and row.change == change] for change in "-+"}
        only = {change: [PurePosixPath(path).name for path in paths] for change, paths in names.items()}
        cause = cause_of_names(only["-"], only["+"], self._times())
        if cause is not None:
            self._causes |= dict.fromkeys([*names["-"], *names["+"]], cause)

    def _rows(self) -> list[Difference]:
        """As `inspect diff` says it. What follows from other differences (how it is written down) is left out."""
        if self.original.image is None:
            return list(_by_hash(self.original.hashes or {}, hashes_of(self.job.order.kind, self.first.image)))
        kind = self.job.order.kind
        with kind.open(self.original.image) as one, kind.open(self.first.image) as other:
            comparison = one.compare(other)
        rows = list(comparison.differences)
        return rows if comparison.same else [row for row in rows if row.part not in _FOLLOWS]

    def _experiment(self, paths: Sequence[str]) -> None:
        """Find what the bytes of these files don't say."""
        if not paths:
            return
        more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
        text = f"the bytes of {', '.join(paths[:3])}{more} do not show why they differ; building again to find out"
        self.job.order.emit(Notice(text=text))
        second = self._again(self.factors)
        steady = []
        for path in paths:
            one, other = self._content(self.first.image, path), self._content(second.image, path)
            if one == other:
                steady.append(path)
            else:
                self._causes[path] = self._unsteady(path, one, other)
        if steady:
            self._find_factors(steady)

    def _unsteady(self, path: str, one: bytes, other: bytes) -> Cause:
        """Why two builds under the same conditions differ."""
        if cause := cause_of(one, other, (datetime.now(UTC),)):
            return cause
        if not (is_reordered(one, other) or is_reordered(self._original(path), one)):
            return _cause("random numbers", first_texts(one, other))
        parallel = "" if "cores" in self.first.varied else "or parallelism, as no build could be limited to one core"
        return _cause("map order", "the same content in a different order in each build", parallel)

    def _find_factors(self, paths: Sequence[str]) -> None:
        """Why files differ that every build under the rebuild's conditions gives alike."""
        plain, left = self._again(()), []
        for path in paths:
            content = self._content(plain.image, path)
            if self._is_original(path, content):
                left.append(path)
            elif content == self._content(self.first.image, path):
                self._causes[path] = self._other_machine(path)
            else:
                self._causes[path] = _cause("parallelism", "it differs only on several cores", self._shown(path))
        varied = [factor for factor in self.factors if factor in self.first.varied]
        for factor in varied:
            if not left:
                break
            # The last one needs no proof: it is what is left.
            alone = self._again((factor,)) if factor != varied[-1] else None
            for path in list(left):
                if alone is None or not self._is_original(path, self._content(alone.image, path)):
                    left.remove(path)
                    how = _WITH_FACTOR[factor].format(self.first.varied[factor])
                    self._causes[path] = _cause(_OF_FACTOR[factor], how, self._shown(path))

    def _other_machine(self, path: str) -> Cause:
        engine, before = self.job.order.engine.info.kind, self.original.engine
        if engine != before:
            return _cause(
                "engine",
                f"every build on {engine} gives the same result, which is not that of {before}",
                self._shown(path),
            )
        return _cause("unknown", "every rebuild gives the same result", self._shown(path))

    def _shown(self, path: str) -> str:
        """How the two versions differ, for people; "" where that can't be shown."""
        one, other = self._original(path), self._content(self.first.image, path)
        return "the same in another order" if is_reordered(one, other) else first_texts(one, other)

    def _again(self, factors: tuple[Factor, ...]) -> RebuiltImage:
        return rebuild(self.job, self.make(), factors, no_cache=False)

    def _content(self, image: Path, path: str) -> bytes:
        """A file's first bytes, as many as are looked at; b"" where the image has no such file."""
        content = bytearray()
        with self.job.order.kind.open(image) as opened, suppress(UsageError):
            for chunk in opened.read(path):
                content += chunk
                if len(content) >= MOST_BYTES:
                    break
        return bytes(content[:MOST_BYTES])

    def _original(self, path: str) -> bytes:
        return self._content(self.original.image, path) if self.original.image is not None else b""

    def _is_original(self, path: str, content: bytes) -> bool:
        if self.original.image is not None:
            return content == self._original(path)
        return hashlib.sha256(content).hexdigest() == (self.original.hashes or {}).get(path)

    def _times(self) -> tuple[datetime, ...]:
        return (self.original.built, datetime.now(UTC))

    def _difference(self, row: Difference, author: Author) -> ExplainedDifference:
        cause = self._causes.get(row.path) if row.part == "tree" else None
        how = {"-": "only in the first image", "+": "only in the rebuild"}.get(row.change, row.detail)
        return ExplainedDifference(path=row.path, how=how, author=author, cause=cause or _cause_of_part(author))

    def _author(self, row: Difference) -> Author:
        plan, packer = self.job.plan, self.job.order.loaded.project.packer
        if row.part in ("boot", "kernel", "klibs"):
            return Author(field="nanos", step=f"the kernel's release, {plan.image.kernel.version}")
        if row.part in _FOLLOWS:
            return Author(field="packer", step=f"packer {packer}")
        if row.part == "manifest" or (row.change != "-" and self.first.staged and not self._source(row.path)):
            return Author(field="manifest", step=f"packer {packer}, from the manifest")
        package = self._package(row.path)
        if package:
            installed = package.partition(" ")[0] in plan.packages
            return Author(
                field="build.packages" if installed else "base",
                step="the installation of packages" if installed else "the base",
                package=package,
            )
        if plan.shim is not None and self._source(row.path).startswith(_SHIM_SOURCES):
            return Author(field="gevulot", step="stage gevulot (cargo build)")
        # The base is pinned, so what no package owns is from the user's step, wherever it lies.
        return Author(field="build.run", step=f"`RUN {plan.run_interpreter} /orchestrator/build.sh`")

    def _package(self, path: str) -> str:
        hashes = [
            (self.original.hashes or {}).get(path, ""),
            hashlib.sha256(self._content(self.first.image, path)).hexdigest(),
        ]
        owner = next((owner for digest in hashes if (owner := self.first.records.owners.get(digest))), None)
        return f"{owner.package.name} {owner.package.version}" if owner is not None else ""

    def _source(self, path: str) -> str:
        staged = self.first.staged
        if path in staged:
            return staged[path]
        above = [directory for directory in staged if directory.endswith("/") and path.startswith(directory)]
        return staged[max(above, key=len)] if above else ""


def _cause(kind: Kind, *evidence: str) -> Cause:
    return Cause(kind=kind, evidence="; ".join(filter(None, evidence)))


def _unknown() -> ExplainedDifference:
    cause = Cause(kind="unknown", evidence="put the image, or NAME.sbom.cdx.json, beside its receipt")
    return ExplainedDifference(path="the image", how="", author=Author(field="", step="an unknown step"), cause=cause)


def hashes_of(kind: ImageKind, image: Path) -> Mapping[str, str]:
    """Path of each file in an image (in the boot file system with the prefix `boot:`) -> its SHA-256."""
    return {file.path: file.sha256 for file in kind.packed_files(image, (), {})}


def _by_hash(hashes: Mapping[str, str], there: Mapping[str, str]) -> Iterator[Difference]:
    for path in sorted({*hashes, *there}, key=lambda name: (name.startswith(BOOT), name)):
        if hashes.get(path) != there.get(path):
            change = "+" if path not in hashes else "-" if path not in there else "~"
            yield Difference(
                part="boot" if path.startswith(BOOT) else "tree",
                change=change,  # type: ignore[arg-type]
                path=path.removeprefix(BOOT),
            )


def _cause_of_part(author: Author) -> Cause:
    if author.field == "nanos":
        return Cause(kind="input", evidence="the receipt names another kernel")
    if author.field == "packer":
        return Cause(kind="packer", evidence="all files are the same, but they are stored differently")
    if author.package:
        return Cause(kind="package", evidence="another version of it")
    if author.field == "gevulot":
        return Cause(kind="unknown", evidence="the shim was rebuilt and came out different")
    return Cause(kind="unknown")
