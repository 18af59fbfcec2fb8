"""Whether anything that decides an image has changed since its last build: if not, there is nothing to do.

Light on purpose: no engine is asked, no template rendered and no source read. What the record of a build compares is in
`_decided`; docs/decisions.md, 17, says why each part counts.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from orchestrator import __version__
from orchestrator.build.check import CheckedProject
from orchestrator.build.proof import Proof, digest_of, files_of, stamps_of
from orchestrator.build.result import BuiltTree, Result
from orchestrator.build.stamps import RECENT_NS, Stamps, contents
from orchestrator.containerfile.git_index import index_files
from orchestrator.containerfile.sources import user_sources
from orchestrator.containerfile.tree import Walk
from orchestrator.docker_config import chosen_context
from orchestrator.documents import Document, DocumentError, read_document
from orchestrator.errors import Severity, UsageError
from orchestrator.files import make_directory, write_text
from orchestrator.inputs.trees import GEVULOT_SKIP
from orchestrator.network import ca_bundle
from orchestrator.project.load import LoadedProject, lock_path
from orchestrator.project.project import Project
from orchestrator.project.secrets import read_secrets
from orchestrator.receipt.read import read_receipt, receipt_path
from orchestrator.resolved import FILE_PREFIX
from orchestrator.resources import CONTAINERFILES, MANIFESTS, PACKAGE
from orchestrator.user_paths import cache_root

if TYPE_CHECKING:
    from orchestrator.build.kept_trees import KeptTree

FOLDER: Final = "builds"
"""Of the cache: one small file for each image, named by a hash of the image's path."""
ENGINE_VARIABLES: Final = (
    "DOCKER_HOST", "DOCKER_CONTEXT", "CONTAINER_HOST", "CONTAINER_CONNECTION", "DOCKER_BUILDKIT",
)  # fmt: skip
_OF_NO_TREE: Final[dict[str, Any]] = {"name": True, "manifest": True, "resources": {"cpus", "memory"}}
"""Keys of project.yaml that decide nothing of the staged tree; what the manifest does of it, is asked by itself."""
_TICK_NS: Final = 50_000_000
"""Longer than the clock of any file system that keeps fractions of a second goes without moving (Linux: 10 ms)."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One build, as it is asked for. `engine` as in --engine; `sign` is the file of the key."""

    checked: CheckedProject
    output: Path
    engine: str = "auto"
    locked: bool = False
    offline: bool = False
    sign: Path | None = None

    @property
    def image(self) -> Path:
        """Where the image is written."""
        return self.output / f"{self.checked.loaded.project.name}.img"


class Record(Document):
    """What is remembered of a build: how what decided it looked when it began, and its results when it had ended."""

    version: Literal[1]
    decided: str
    """Digest of all that decides the image; files by their stamps."""
    taken_ns: int
    """When the stamps were taken, in nanoseconds since 1970."""
    recent: str
    """Digest of the contents of those files that had changed shortly before."""
    salt: str
    secrets: str
    """Of the build secrets, by scrypt: who reads this file must not be able to try short ones in numbers."""
    results: dict[str, str]
    """The image and what lies beside it: the stamp of each, by name."""
    receipt: str
    """Digest of what the receipt says, but for what runs of the image add."""
    written_ns: int


class LastBuild:
    """The last build of one image, and how all that decides the image looks now."""

    def __init__(self, asked: Asked) -> None:
        """Looks at every file that counts, and reads none."""
        self._asked = asked
        self._taken_ns = time.time_ns()
        self._recent = self._recent_of_tree = ""
        place = hashlib.sha256(os.fsencode(os.path.realpath(asked.image))).hexdigest()[:40]
        self._path = cache_root() / FOLDER / f"{place}.json"
        try:
            self._stamps, self._beside = _stamps(asked), _stamps_beside(asked)
        except (OSError, UsageError, ValueError):  # the build says it with the place in project.yaml
            self._stamps = self._beside = Stamps()
            self._stamps.complete = False

    def unchanged(self) -> Result | None:
        """The finished build, when a new one would have nothing to do; None when anything is otherwise or unsure."""
        result = self._checked()
        if result is None:
            with suppress(OSError):
                self._recent = contents(self._recent_files(self._taken_ns))
                self._recent_of_tree = contents(self._stamps.recent(self._taken_ns))
        return result

    def trees(self) -> Iterator[KeptTree]:
        """The staged tree that a build would make, where a finished image holds it already: image by image.

        Of another project's image too, where that has the same tree.
        """
        from orchestrator.build.kept_trees import kept_trees

        if not self._stamps.complete:
            return
        with suppress(OSError, UsageError, ValueError):
            for tree in kept_trees(self._key_of_tree()):
                decided = tree.record.decided
                if decided.written_ns > self._taken_ns:
                    continue
                if contents(self._stamps.recent(decided.taken_ns)) != decided.recent:
                    continue
                if hmac.compare_digest(_secrets(self._asked, decided.salt), decided.secrets):
                    yield tree

    def remember(self, result: Result) -> None:
        """Take note of the build that has followed `unchanged`. What can't be vouched for isn't noted."""
        from orchestrator.build.finish import only_build_of
        from orchestrator.events import ignore

        asked = self._asked
        if not self._stamps.complete:
            return
        # A cache that can't be written only means that the next build takes its time.
        with suppress(OSError, UsageError), only_build_of(asked.output, asked.checked.loaded.project.name, ignore):
            if read_receipt(result.image) != result.document or not _outlasted(result):
                return
            if result.tree is not None and _lock_agrees(asked, result, of_tree=True):
                self._remember_tree(result, result.tree)
            if not self._beside.complete or not _lock_agrees(asked, result):
                return
            salt = secrets.token_hex(16)
            record = Record(
                version=1, decided=self._decided(), taken_ns=self._taken_ns, recent=self._recent, salt=salt,
                secrets=_secrets(asked, salt), results=stamps_of(result), receipt=digest_of(result.document),
                written_ns=time.time_ns(),
            )  # fmt: skip
            self._write(record)

    def _remember_tree(self, result: Result, tree: BuiltTree) -> None:
        from orchestrator.build.kept_trees import Decided, keep_tree

        salt = secrets.token_hex(16)
        decided = Decided(
            taken_ns=self._taken_ns, recent=self._recent_of_tree, salt=salt, secrets=_secrets(self._asked, salt),
            written_ns=time.time_ns(),
        )  # fmt: skip
        keep_tree(self._key_of_tree(), tree, Proof.of(result), decided)

    def _checked(self) -> Result | None:
        try:
            record = read_document(self._path, Record, links=False)
            # A clock that was set back makes every time doubtful.
            complete = self._stamps.complete and self._beside.complete
            if not complete or record.written_ns > self._taken_ns or record.decided != self._decided():
                return None
            result = self._result()
            if result is None or digest_of(result.document) != record.receipt or stamps_of(result) != record.results:
                return None
            recent = self._recent_files(record.taken_ns)
            if contents(recent) != record.recent:
                return None
            if not hmac.compare_digest(_secrets(self._asked, record.salt), record.secrets):
                return None
        except (OSError, DocumentError, UsageError):
            return None
        if recent and not self._recent_files(self._taken_ns):
            with suppress(OSError):  # they have been read, and their stamps are old enough now: once is enough
                self._write(record.model_copy(update={"taken_ns": self._taken_ns, "recent": ""}))
        return result

    def _result(self) -> Result | None:
        image = self._asked.image
        document = read_receipt(image)
        if document is None or document.image.path != str(image):
            return None
        return Result(image=image, receipt=receipt_path(image), document=document)

    def _decided(self) -> str:
        """Digest of all that decides the image; OSError where there is no lock: then inputs would be asked for anew."""
        asked, loaded = self._asked, self._asked.checked.loaded
        parts = [
            loaded.text,
            loaded.project.model_dump_json(),  # with the user's settings
            asked.checked.settings.text,
            lock_path(loaded.path).read_text(encoding="utf-8"),
            *(
                str(finding) for finding in asked.checked.findings if finding.severity is Severity.WARNING
            ),  # the receipt's
            __version__,
            sys.version,
            _engine(asked),
            f"{asked.locked} {asked.offline} {asked.sign}",
            f"{self._stamps.digest} {self._beside.digest}",
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def _key_of_tree(self) -> str:
        """Of all that decides the staged tree: a part of `_decided`. OSError where there is no lock."""
        asked, loaded, settings = self._asked, self._asked.checked.loaded, self._asked.checked.settings
        parts = [
            os.path.realpath(loaded.root),
            _project_of_tree(loaded.project),
            *(settings.program, list(settings.files), [list(option) for option in settings.staging]),
            _lock_of_tree(loaded),
            __version__,
            sys.version,
            _engine(asked),
            f"{asked.locked} {asked.offline}",
            self._stamps.digest,
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:40]

    def _recent_files(self, taken_ns: int) -> list[Path]:
        return [*self._stamps.recent(taken_ns), *self._beside.recent(taken_ns)]

    def _write(self, record: Record) -> None:
        make_directory(self._path.parent.parent)
        make_directory(self._path.parent, 0o700)
        write_text(self._path, record.model_dump_json(indent=1) + "\n")


def _project_of_tree(project: Project) -> dict[str, Any]:
    """What of project.yaml decides the staged tree. Of a file that no step makes this has the place alone."""
    whole = project.model_dump(mode="json", exclude=_OF_NO_TREE)
    for index, entry in project.stage.outside.items():
        whole["stage"]["files"][index] = {"to": entry.guest_path}
    return whole


def _lock_of_tree(loaded: LoadedProject) -> list[Any]:
    """What of the lock does; OSError where there is none."""
    from orchestrator.lock.project_lock import read_lock

    lock = read_lock(lock_path(loaded.path))
    if lock is None:
        raise FileNotFoundError(lock_path(loaded.path))
    entries = sorted(lock.entries.items())
    return [[name, entry.model_dump(mode="json")] for name, entry in entries if not name.startswith(FILE_PREFIX)]


def _engine(asked: Asked) -> str:
    return f"{asked.engine} {chosen_context()} {[os.environ.get(name) for name in ENGINE_VARIABLES]}"


def _stamps(asked: Asked) -> Stamps:
    """Of everything on this machine that decides the staged tree."""
    loaded, stamps = asked.checked.loaded, Stamps()
    _add_program(stamps)
    build = loaded.project.build
    if build.containerfile is not None:  # its own context may leave it out
        stamps.add_file("containerfile", loaded.root / build.context / build.containerfile)
    if build.image is None:
        _add_context(stamps, loaded)
    else:
        stamps.complete = not _is_local_image(loaded)
    _add_inputs(stamps, loaded, _inputs_of_tree(loaded.project))
    stamps.add_file("certificates", ca_bundle())
    if loaded.project.network.ca is not None:
        stamps.add_file("network.ca", loaded.root / loaded.project.network.ca)
    return stamps


def _stamps_beside(asked: Asked) -> Stamps:
    """Of what else decides the image and what lies beside it."""
    loaded, stamps = asked.checked.loaded, Stamps()
    _add_inputs(stamps, loaded, _inputs_beside(loaded.project))
    if asked.sign is not None:
        stamps.add_file("sign", asked.sign)
    return stamps


def _add_inputs(stamps: Stamps, loaded: LoadedProject, inputs: Iterable[tuple[str, str, Iterable[str]]]) -> None:
    for name, local, skip in inputs:
        if (loaded.root / local).is_dir():
            stamps.add_tree(name, loaded.root / local, skip)
        else:
            stamps.add_file(name, loaded.root / local)


def _add_program(stamps: Stamps) -> None:
    """Our own code and data, and the libraries that it uses."""
    stamps.add_tree("program", PACKAGE)
    for folder in (CONTAINERFILES, MANIFESTS):
        stamps.add_tree(folder.name, folder)
    for path in sys.path:  # a library that is installed, removed or upgraded changes its directory
        if path.endswith("-packages") and Path(path).is_dir():
            status = Path(path).stat()
            stamps.add_text(path, f"{status.st_mtime_ns}:{status.st_ctime_ns}")


def _add_context(stamps: Stamps, loaded: LoadedProject) -> None:
    """The user's sources, and what git has of them: it decides how old a file is in the context."""
    folders = set()
    for member in Walk(tree=user_sources(loaded), say=lambda _text: None).members():
        if member.source is None:
            stamps.add_text(member.path, f"{member.kind} {member.target}")
        else:
            stamps.add_own(member.path, member.source)
            folders.add(os.path.dirname(member.source))  # noqa: PTH120 (of thousands of files: a Path is slow to hash)
    for index in index_files(map(Path, folders)):
        stamps.add_file("git", index)


def _is_local_image(loaded: LoadedProject) -> bool:
    """Whether only the engine knows if the program's image has changed: it is of no registry."""
    from orchestrator.lock.project_lock import read_lock

    lock = read_lock(lock_path(loaded.path))
    entry = lock.entries.get("image") if lock is not None else None
    return entry is None or entry.ground == "engine"


def local_inputs(project: Project) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Name, path and what doesn't count at its top, of every input that is the user's own file or directory."""
    yield from _inputs_of_tree(project)
    yield from _inputs_beside(project)


def _inputs_of_tree(project: Project) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Those that decide the staged tree."""
    if project.ops.path is not None:
        yield "ops", project.ops.path, ()
    if project.gpu_assets is not None and project.gpu_assets.path is not None:
        yield "gpu-assets", project.gpu_assets.path, ()
    if project.gevulot is not None and project.gevulot.path is not None:
        yield "gevulot", project.gevulot.path, GEVULOT_SKIP


def _inputs_beside(project: Project) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Those that are packed beside the staged tree."""
    if project.nanos.path is not None:
        yield "nanos", project.nanos.path, ()
    for entry in project.stage.outside.values():
        if entry.host is not None:
            yield f"{FILE_PREFIX}{entry.guest_path}", entry.host, ()


def _secrets(asked: Asked, salt: str) -> str:
    """What shows whether a build secret is another one; "" without any."""
    values = read_secrets(asked.checked.loaded).values
    if not values:
        return ""
    parts = [part for name, value in sorted(values.items()) for part in (name.encode(), hashlib.sha256(value).digest())]
    return hashlib.scrypt(b"".join(parts), salt=salt.encode(), n=2**14, r=8, p=1).hex()


def _outlasted(result: Result) -> bool:
    """Wait until the file system's clock has moved since the results were written: from then on, their stamps tell of
    every change. False where that would take long: in whole seconds, or in another machine's time."""
    for path in files_of(result):
        status = path.lstat()
        written = max(status.st_mtime_ns, status.st_ctime_ns)
        age = time.time_ns() - written
        if age < RECENT_NS and (age < 0 or not written % 1_000_000_000):
            return False
        if age < _TICK_NS:
            time.sleep((_TICK_NS - age) / 1e9)
    return True


def _lock_agrees(asked: Asked, result: Result, *, of_tree: bool = False) -> bool:
    """Whether the lock, as it is now, says what the build used: not so where local files differ from it, or where
    somebody has just changed it. `of_tree`: of what decides the staged tree alone."""
    from orchestrator.lock.project_lock import read_lock
    from orchestrator.receipt.record import pin_used

    lock = read_lock(lock_path(asked.checked.loaded.path))
    used = {recorded.name: recorded.pin for recorded in result.document.inputs}
    return lock is not None and all(
        used.get(name) in (None, pin_used(entry.kind, entry.resolved, entry.packages))
        for name, entry in lock.entries.items()
        if not of_tree or not name.startswith((FILE_PREFIX, "nanos"))
    )
