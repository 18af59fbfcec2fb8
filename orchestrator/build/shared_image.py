"""A finished image that another machine built: taken from a shared cache, and put there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator.build.brought_image import NotBroughtError, image_files, write_brought
from orchestrator.build.image_key import image_key
from orchestrator.build.last_build import Asked, LastBuild
from orchestrator.build.result import Result
from orchestrator.build.state import phase
from orchestrator.events import Emit
from orchestrator.provenance.dsse import SigningKey
from orchestrator.receipt.receipt import Receipt, TakenImage
from orchestrator.shared_cache.results import SharedResults, SignedResult


@dataclass(frozen=True, kw_only=True)
class _SharedFiles:
    """The files of a signed result, as `brought_image` wants them."""

    results: SharedResults
    result: SignedResult

    @property
    def shown(self) -> str:
        return "the shared cache"

    @property
    def digests(self) -> dict[str, str]:
        return {name: file.digest.sha256 for name, file in self.result.files.items()}

    def fetch(self, name: str, target: Path) -> bool:
        return self.results.fetch(self.result, name, target)

    def refuse(self, why: str) -> None:
        self.results.refuse(self.result, why)

    def marked(self, receipt: Receipt, at: str) -> Receipt:
        taken = TakenImage(cache=self.results.shown, key=self.result.key, signed_by=self.result.signed_by, at=at)
        return receipt.model_copy(update={"taken": taken})


def take_image(asked: Asked, results: SharedResults, emit: Emit, sign: SigningKey | None = None) -> Result | None:
    """Write the image that a trusted key signed for, and all that lies beside it; None where it has to be built.

    It is compared with what was signed, verified as an image that was built here, and written like one.
    """
    with phase(emit, "shared", "look for the finished image in the shared cache"):
        key = image_key(asked.checked, sign.id if sign is not None else "") if results.readable else None
        result = results.find(key) if key is not None else None
    if result is None:
        return None
    try:
        return write_brought(asked, _SharedFiles(results=results, result=result), emit, sign)
    except NotBroughtError:
        return None


def offer_image(asked: Asked, result: Result, results: SharedResults, emit: Emit, sign: SigningKey | None) -> None:
    """Put a finished image there, if all that decides it is now as it was when its build began."""
    if not results.writable or result.document.taken is not None:
        return
    key = image_key(asked.checked, sign.id if sign is not None else "")
    # After the key: what changed while it was made, or since the build began, shows.
    same = LastBuild(asked).unchanged() if key is not None else None
    if key is None or same is None or same.document != result.document:
        return
    name, directory = result.document.name, result.image.parent
    with phase(emit, "shared", "put the finished image into the shared cache"):
        results.offer(key, {file: directory / file for file in image_files(name, sign)})
