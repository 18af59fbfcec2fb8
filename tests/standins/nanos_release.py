"""A stand-in Nanos release: the vendor's layout, the project's stub kernel, and files that say what they are.

Same arguments, same bytes, so that a test can pin digests.
"""

from __future__ import annotations

import gzip
import io
import shutil
import tarfile
from pathlib import Path

from orchestrator.stub_kernel import stub_boot_image, stub_kernel

VERSION = "0.1.51"
_SAYS = "GEVULOT-ORCHESTRATOR-STAND-IN: this is no {what} of a Nanos release\n"


def make_release(folder: Path, *, klibs: tuple[str, ...] = ("tls",)) -> Path:
    """Fill `folder` as a release unpacks (kernel.img, boot.img, bootx64.efi, klibs/) plus common.tar.gz."""
    (folder / "klibs").mkdir(parents=True, exist_ok=True)
    (folder / "kernel.img").write_bytes(stub_kernel())
    (folder / "boot.img").write_bytes(stub_boot_image())
    (folder / "bootx64.efi").write_bytes(_words("UEFI loader"))
    for name in klibs:
        (folder / "klibs" / name).write_bytes(_words(f"klib {name}"))
    (folder / "common.tar.gz").write_bytes(common_archive())
    return folder


def make_release_archive(out: Path, *, klibs: tuple[str, ...] = ("tls",)) -> Path:
    """The release as the vendor's tar.gz: flat, no top folder, without common.tar.gz."""
    members = {"boot.img": stub_boot_image(), "bootx64.efi": _words("UEFI loader"), "kernel.img": stub_kernel()}
    members.update({f"klibs/{name}": _words(f"klib {name}") for name in klibs})
    out.write_bytes(_archive(members))
    return out


def common_archive() -> bytes:
    """common.tar.gz: certificates and the DNS library, both stand-ins."""
    return _archive(
        {
            "ca-certificates.crt": b"# stand-in certificates: none\n",
            "libnss_dns.so.2": _words("libnss_dns.so.2"),
        }
    )


def seed_ops_home(parent: Path, *, version: str = VERSION, klibs: tuple[str, ...] = ("tls",)) -> Path:
    """Make `parent` an offline OPS_HOME: `.ops/{latest.txt, common.tar.gz, VERSION/…}`. Returns `.ops`."""
    home = parent / ".ops"
    release = make_release(home / version, klibs=klibs)
    shutil.move(release / "common.tar.gz", home / "common.tar.gz")
    (home / "latest.txt").write_text(version)
    return home


def _words(what: str) -> bytes:
    return _SAYS.format(what=what).encode()


def _archive(members: dict[str, bytes]) -> bytes:
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for folder in sorted({name.rpartition("/")[0] for name in members} - {""}):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        for name, data in sorted(members.items()):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(data), 0o644
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(body.getvalue(), mtime=0)
