"""sbom-records.sh, run in both shells that containers have, and the reader of what it writes."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.provenance.records import LARGEST_FILE, Records, parse_records, read_records, with_shim_lock
from orchestrator.resources import SCRIPTS
from orchestrator.staged import OpenArchive
from tests.provenance.conftest import sha256

SHELLS = {"dash": ("dash",), "busybox": ("busybox", "sh")}
TOOLS = (
    "awk", "cat", "cmp", "cut", "find", "grep", "head", "md5sum", "mkdir", "mktemp", "rm", "sed", "sha256sum", "sort",
    "tr", "wc",
)  # fmt: skip
STATUS = """\
Package: {name}
Status: install ok installed
Architecture: {architecture}
Version: {version}
{more}Maintainer: nobody <n@example.org>
Description: a package

"""


@dataclass(frozen=True, kw_only=True)
class Container:
    """A root with a dpkg database of its own, a staged tree, a work directory, and the shell."""

    root: Path
    stage: Path
    work: Path
    shell: tuple[str, ...]
    path: str

    def install(self, name: str, files: Mapping[str, bytes], *, more: str = "", md5: bool = True) -> None:
        """A package `NAME[:ARCHITECTURE]` with these files (absolute paths), version 1.0-1."""
        info = self.root / "var/lib/dpkg/info"
        info.mkdir(parents=True, exist_ok=True)
        plain, _, architecture = name.partition(":")
        if architecture:
            more = f"Multi-Arch: same\n{more}"
        status = STATUS.format(name=plain, architecture=architecture or "all", version="1:1.0-1", more=more)
        with (info.parent / "status").open("a") as sink:
            sink.write(status)
        for path, data in files.items():
            target = self.root / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        (info / f"{name}.list").write_text("".join(f"{path}\n" for path in ["/.", *files]))
        sums = [f"{hashlib.md5(data).hexdigest()}  {path.lstrip('/')}\n" for path, data in files.items()]
        if md5:
            (info / f"{name}.md5sums").write_text("".join(sums))

    def put(self, path: str, data: bytes) -> None:
        """Stage a file."""
        target = self.stage / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def records(self) -> Records:
        """Run the script and read what it wrote, as the build does."""
        out = self.work.parent / "sbom"
        shell = [shutil.which(self.shell[0]) or self.shell[0], *self.shell[1:]]
        options = ["--stage", str(self.stage), "--out", str(out), "--root", str(self.root)]
        done = subprocess.run(
            [*shell, str(SCRIPTS / "sbom-records.sh"), *options],
            cwd=self.work,
            env={"PATH": self.path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return read_records(archive({str(path.relative_to(out)): path.read_bytes() for path in files_below(out)}))


def files_below(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.rglob("*")) if path.is_file()]


def archive(files: Mapping[str, bytes]) -> OpenArchive:
    """What an engine gives for /sbom."""

    @contextmanager
    def opened(path: str) -> Iterator[BinaryIO]:
        assert path == "/sbom"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for name, data in files.items():
                info = tarfile.TarInfo(f"sbom/{name}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        buffer.seek(0)
        yield buffer

    return opened


@pytest.fixture(params=sorted(SHELLS))
def container(tmp_path: Path, request: pytest.FixtureRequest) -> Container:
    made = {name: tmp_path / name for name in ("root", "stage", "work dir", "tools")}
    for directory in made.values():
        directory.mkdir()
    for name in (*TOOLS, "dpkg-query"):
        program = shutil.which("busybox" if request.param == "busybox" and name != "dpkg-query" else name)
        assert program is not None
        (made["tools"] / name).symlink_to(program)
    (made["root"] / "etc").mkdir()
    (made["root"] / "etc/os-release").write_text('PRETTY_NAME="Debian"\nID=debian\nVERSION_CODENAME=bookworm\n')
    return Container(
        root=made["root"], stage=made["stage"], work=made["work dir"], shell=SHELLS[request.param],
        path=str(made["tools"]),
    )  # fmt: skip


def test_a_staged_library_is_its_packages_wherever_it_is_put(container: Container) -> None:
    container.install("libc6:amd64", {"/usr/lib/libc.so.6": b"libc"}, more="Source: glibc (2.0)\n")
    container.put("lib64/renamed library", b"libc")
    container.put("program", b"own")
    records = container.records()
    owner = records.owners[sha256(b"libc")]
    assert (owner.package.name, owner.package.version, owner.package.architecture) == ("libc6", "1:1.0-1", "amd64")
    assert (owner.package.source, owner.package.source_version) == ("glibc", "2.0")
    assert (owner.path, owner.evidence) == ("/usr/lib/libc.so.6", "md5")
    assert set(records.owners) == {sha256(b"libc")}
    assert (records.system, records.codename) == ("debian", "bookworm")


def test_a_changed_library_is_no_packages(container: Container) -> None:
    container.install("libz", {"/lib/libz.so.1": b"as packaged"})
    container.put("lib/libz.so.1", b"changed")
    assert not container.records().owners


@pytest.mark.parametrize("listed", ["/etc/protocols", "/usr/etc/protocols"])
def test_a_configuration_file_is_known_by_its_path(container: Container, listed: str) -> None:
    """dpkg keeps no md5 of it, and may know it by its name without the /usr that is a link."""
    container.install("netbase", {listed: b"tcp 6"}, md5=False)
    (container.root / "etc/protocols").write_bytes(b"tcp 6")
    container.put("etc/protocols", b"tcp 6")
    owner = container.records().owners[sha256(b"tcp 6")]
    assert (owner.package.name, owner.path, owner.evidence) == ("netbase", listed, "path")


def test_an_edited_configuration_file_is_no_packages(container: Container) -> None:
    container.install("netbase", {"/etc/protocols": b"tcp 6"}, md5=False)
    container.put("etc/protocols", b"mine")
    assert not container.records().owners


def test_an_empty_file_says_nothing_about_where_it_is_from(container: Container) -> None:
    container.install("marker", {"/usr/share/marker": b""})
    container.put("empty", b"")
    container.put("program", b"own")
    assert not container.records().owners


def test_names_that_are_hard_to_handle(container: Container) -> None:
    container.install("odd", {"/usr/share/x": b"one", "/usr/share/y z": b"two", "/usr/share/b": b"three"})
    for name, data in (("a\\b", b"three"), ("  spaces  ", b"one"), ("-n", b"two"), ("tab\there", b"own")):
        container.put(name, data)
    # A name with a backslash is escaped by md5sum; such a file is taken to be nobody's.
    assert {owner.path for owner in container.records().owners.values()} >= {"/usr/share/x", "/usr/share/y z"}


def test_without_dpkg_there_are_lock_files_all_the_same(container: Container) -> None:
    container.put("program", b"own")
    (container.work / "Cargo.lock").write_text("version = 3\n")
    (container.work / "gevulot").mkdir()
    (container.work / "gevulot/Cargo.lock").write_text("version = 4\n")
    (container.work / "go.sum").write_bytes(b"x" * 4_194_305)
    records = container.records()
    assert dict(records.locks) == {"Cargo.lock": b"version = 3\n", "gevulot/Cargo.lock": b"version = 4\n"}
    assert records.left_out == ("go.sum",)
    assert records.warnings == ("go.sum is larger than 4194304 bytes; its packages will not be listed",)
    assert not records.owners


def test_the_machines_own_dpkg(container: Container) -> None:
    """The real thing: a library of this machine, by its own package database."""
    library = Path("/lib/x86_64-linux-gnu/libc.so.6").read_bytes()
    container.put("lib/x86_64-linux-gnu/libc.so.6", library)
    real = Container(
        root=Path("/"), stage=container.stage, work=container.work, shell=container.shell, path=container.path
    )
    owner = real.records().owners[sha256(library)]
    said = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "libc6"], capture_output=True, text=True, check=True)
    assert (owner.package.name, owner.package.version) == ("libc6", said.stdout)


def test_too_large_a_record_is_left_out_and_named() -> None:
    records = read_records(archive({"locks/Cargo.lock": bytes(LARGEST_FILE + 1), "os-release": b"ID=debian\n"}))
    assert records.left_out == ("Cargo.lock",)
    assert records.system == "debian"


def test_warnings_are_a_line_each_and_move_no_cursor() -> None:
    text = "/build/a\x1b[2Kb is left out\n\n" + "x" * 5000 + "\n" + "more\n" * 300
    warnings = read_records(archive({"warnings": text.encode() + b"\xff"})).warnings
    assert warnings[0] == "/build/a?[2Kb is left out"
    assert len(warnings) == 201 and max(map(len, warnings)) == 2000
    assert warnings[-1] == "103 more warnings of staging are in the step's own output"


def test_the_shims_lock_file_is_the_containers_or_the_sources(tmp_path: Path) -> None:
    """A finished shim comes without its sources; what the container says is nearer to what was built."""
    (tmp_path / "Cargo.lock").write_bytes(b"of the sources")
    of_container = Records(locks={"gevulot/Cargo.lock": b"of the container"})
    assert with_shim_lock(of_container, tmp_path) == of_container
    assert with_shim_lock(Records(), tmp_path).locks == {"gevulot/Cargo.lock": b"of the sources"}
    assert with_shim_lock(Records(), tmp_path / "none") == with_shim_lock(Records(), None) == Records()
    (tmp_path / "Cargo.lock").write_bytes(bytes(LARGEST_FILE + 1))
    assert with_shim_lock(Records(), tmp_path).left_out == ("gevulot/Cargo.lock",)


words = st.text(max_size=12)
lines = st.lists(st.lists(words, min_size=3, max_size=6).map("\t".join), max_size=6).map("\n".join)


@given(
    files=st.dictionaries(
        st.sampled_from(["os-release", "packages", "owners", "left-out", "warnings", "locks/Cargo.lock", "x"]),
        st.binary(max_size=200) | lines.map(str.encode),
    )
)
def test_any_bytes_are_records(files: dict[str, bytes]) -> None:
    records = parse_records(files)
    assert all(len(key) == 64 for key in records.owners)
    assert "\n" not in records.system + records.codename
