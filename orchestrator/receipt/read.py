"""The receipt beside an image, for what runs and judges images."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from orchestrator.documents import DocumentError, read_document
from orchestrator.errors import UsageError
from orchestrator.receipt.receipt import Receipt

SUFFIX = ".receipt.json"
_GIVE_RECEIPT = "give the NAME.receipt.json that `build` wrote"


def receipt_path(image: Path) -> Path:
    """Where an image's receipt lies."""
    return image.with_suffix(SUFFIX)


def read_receipt(image: Path) -> Receipt | None:
    """The receipt beside an image; None where there is none. UsageError for one that can't be used, with the reason."""
    path = receipt_path(image)
    try:
        return read_document(path, Receipt, newer=True)
    except FileNotFoundError:
        return None
    except (OSError, DocumentError) as error:
        remedy = "put back the receipt that `build` wrote, or remove it to go without"
        raise UsageError(f"{path} is not a receipt: {_reason(error)}", remedy=remedy) from error


def load_receipt(path: Path) -> Receipt:
    """A receipt that must be there, by its own path. UsageError when it isn't one."""
    try:
        return read_document(path, Receipt, newer=True)
    except OSError as error:
        raise UsageError(f"{path}: {_reason(error)}", remedy=_GIVE_RECEIPT) from error
    except DocumentError as error:
        raise UsageError(f"{path} is not a receipt: {error}", remedy=_GIVE_RECEIPT) from error


def _reason(error: OSError | DocumentError) -> str:
    return str(error) if isinstance(error, DocumentError) else (error.strerror or "unreadable").lower()


class GuestLimits(NamedTuple):
    """What a guest is given; `memory` in MiB."""

    memory: int
    cpus: int


def guest_limits(receipt: Receipt | None, *, memory: int | None = None, cpus: int | None = None) -> GuestLimits:
    """What to run an image with: what is given, else its receipt's, else 512 MiB and 2."""
    said = receipt.resources if receipt is not None else None
    return GuestLimits(
        memory=memory or (said.memory if said is not None else 512), cpus=cpus or (said.cpus if said is not None else 2)
    )


def takes_task_files(receipt: Receipt | None, runtime: str | None = None) -> bool:
    """Whether an image's tasks are files: by `runtime`, else its receipt. One without a receipt is taken for such."""
    return (runtime or (receipt.runtime if receipt is not None else "local")) == "local"
