from __future__ import annotations

import stat
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import InputError
from orchestrator.events import Event, Notice
from orchestrator.inputs import userns
from orchestrator.inputs.access import Access
from orchestrator.inputs.bases import resolve_base
from orchestrator.inputs.debian import bootstrap_rootfs, packages_of
from orchestrator.label import LABEL
from orchestrator.project.bases import Base, Bootstrap
from orchestrator.project.build_step import Build
from orchestrator.project.project import Project
from tests.inputs.fakes import ImageEngine

REF = "docker.io/library/rust:bookworm"
BOOTSTRAP = Bootstrap(debian="bookworm", packages=("gcc", "ca-certificates"))

# A stand-in for mmdebstrap: the interface that we use (options, suite, target), a tar with dpkg's status file. It gets
# none of our variables, so that what it needs lies beside it.
STAND_IN = r"""#!/bin/sh
STAND_IN_LOG=${0%/*}/../mmdebstrap.log
[ "$1" = --version ] && { echo "mmdebstrap 1.3.5"; exit 0; }
printf '%s\n' "$SOURCE_DATE_EPOCH $*" >>"$STAND_IN_LOG"
case "$*" in *nosuchpackage*) echo "I: start" >&2; echo "E: Unable to locate package nosuchpackage" >&2; exit 25;; esac
while [ "$1" != -- ]; do
    # The hook that asks apt's index, which isn't there.
    case "$1" in *apt-cache*) sums=${1##*> }; sums=${sums% || true};; esac
    shift
done
target=$3
[ ! -e "${0%/*}/index" ] || cat "${0%/*}/index" >"$sums"
env | sed 's/=.*//' | sort >"$STAND_IN_LOG.environment"
work=$(mktemp -d)
mkdir -p "$work/var/lib/dpkg"
status=$work/var/lib/dpkg/status
printf 'Package: gcc\nStatus: install ok installed\nVersion: 4:12.2.0-3\nDescription: x\n  y: z\n\n' >"$status"
printf 'Package: old\nStatus: deinstall ok config-files\nVersion: 1\n' >>"$status"
tar -C "$work" --sort=name --mtime=@0 --owner=0 --group=0 -cf "$target" .
rm -r "$work"
"""


@pytest.fixture
def mmdebstrap(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # It runs as nobody of this host's, who can't enter pytest's own directories.
    with tempfile.TemporaryDirectory(prefix="stand-in-") as directory:
        top = Path(directory)
        tools, log = top / "tools", top / "mmdebstrap.log"
        tools.mkdir()
        log.write_text("")
        (tools / "mmdebstrap").write_text(STAND_IN)
        for path, mode in ((top, 0o777), (tools, 0o755), (tools / "mmdebstrap", 0o755), (log, 0o666)):
            path.chmod(mode)
        monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin:/usr/sbin:/sbin")
        yield log


def engine(tmp_path: Path, **images: dict[str, str]) -> ImageEngine:
    """A fake with an endpoint of its own: failed pulls are remembered by endpoint."""
    return ImageEngine(endpoint=str(tmp_path), **images)


def notices(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


def test_local_image_is_used_as_it_is(access: Access, tmp_path: Path) -> None:
    fake = engine(tmp_path, local={REF: "sha256:1"}, registry={REF: "sha256:2"})
    base = resolve_base(access, Base(image=REF), fake)
    assert (base.kind, base.reference, base.pin, base.path) == ("image", REF, {"digest": "sha256:1"}, None)
    assert base.ground == "engine"
    assert fake.pulls == []
    fresh = resolve_base(replace(access, refresh=True), Base(image=REF), fake)
    assert (fresh.pin, fresh.ground) == ({"digest": "sha256:2"}, "registry")


def test_image_is_pulled_through_its_mirror(access: Access, tmp_path: Path) -> None:
    mirrored = replace(access, mirrors={"docker.io/library/": "mirror.local/"})
    fake = engine(tmp_path, registry={"mirror.local/rust:bookworm": "sha256:2"})
    base = resolve_base(mirrored, Base(image=REF), fake, "gevulot-base")
    assert (base.name, base.source, base.reference) == ("gevulot-base", REF, "mirror.local/rust:bookworm")


def test_a_mirror_makes_no_place_on_this_machine_of_an_image(access: Access, tmp_path: Path) -> None:
    """Two names that are harmless alone: buildah would read `oci:bookworm` as a directory."""
    mirrored = replace(access, mirrors={"docker.io/library/rust": "oci"})
    fake = engine(tmp_path, local={"oci:bookworm": "sha256:1"})
    with pytest.raises(InputError, match=r"mirrors: .* becomes oci:bookworm"):
        resolve_base(mirrored, Base(image=REF), fake)


def test_refresh_without_a_registry_keeps_the_local_image_and_says_so(
    access: Access, tmp_path: Path, events: list[Event]
) -> None:
    fake = engine(tmp_path, local={REF: "sha256:1"})
    assert resolve_base(replace(access, refresh=True), Base(image=REF), fake).pin == {"digest": "sha256:1"}
    assert any("could not be pulled" in text for text in notices(events))


def test_no_bootstrap_is_an_error_with_the_remedy(access: Access, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="connection refused") as caught:
        resolve_base(access, Base(image=REF), engine(tmp_path))
    assert "bootstrap" in caught.value.remedy


def test_bootstrap_where_the_pull_fails(access: Access, tmp_path: Path, mmdebstrap: Path, events: list[Event]) -> None:
    fake = engine(tmp_path)
    base = resolve_base(access, Base(image=REF, bootstrap=BOOTSTRAP), fake)
    assert (base.kind, base.ground) == ("bootstrap", "signature")
    assert base.reference == f"localhost/orchestrator/base:{base.pin['sha256'][:12]}"
    assert base.packages == ("gcc=4:12.2.0-3",)
    assert "connection refused" in base.note
    assert "long story" not in base.note
    assert any("Debian bookworm packages" in text and REF in text for text in notices(events))
    (imported,) = fake.imports
    assert imported == (base.path, base.reference, {LABEL: "base"})
    (call,) = mmdebstrap.read_text().splitlines()
    assert call.startswith("1577836800 --mode=")
    assert "--variant=minbase" in call
    assert "--include=ca-certificates,gcc" in call
    assert call.split(" -- ")[1].split()[0] == "bookworm"
    assert len(call.split(" -- ")[1].split()) == 2  # suite and target: the mirror is mmdebstrap's own


def test_packages_with_what_apt_knows_of_them(access: Access, tmp_path: Path, mmdebstrap: Path) -> None:
    """The sha256 of each .deb, and of a mirror that keeps snapshots its time."""
    other = f"Package: gcc\nVersion: 4:9\nSHA256: {'b' * 64}\nPackage: x\nSHA256: zzz"
    (mmdebstrap.parent / "tools/index").write_text(f"Package: gcc\nVersion: 4:12.2.0-3\nSHA256: {'a' * 64}\n{other}\n")
    snapshots = replace(access, mirrors={"debian:": "http://mirror.local/archive/debian/20260101T000000Z/"})
    base = resolve_base(snapshots, Base(image=REF, bootstrap=BOOTSTRAP), engine(tmp_path))
    assert base.packages == (f"gcc=4:12.2.0-3 sha256:{'a' * 64}",)
    assert base.pin["snapshot"] == "20260101T000000Z"
    assert base.path is not None
    assert [path.name for path in base.path.parent.iterdir() if path.name in ("debs", "preferences")] == []


def test_second_build_reuses_tar_image_and_the_failed_pull(access: Access, tmp_path: Path, mmdebstrap: Path) -> None:
    fake, base = engine(tmp_path), Base(image=REF, bootstrap=BOOTSTRAP)
    first = resolve_base(access, base, fake)
    assert resolve_base(access, base, fake, "gevulot-base").reference == first.reference
    assert len(fake.pulls) == 1
    assert len(fake.imports) == 1
    other = ImageEngine(endpoint=str(tmp_path) + "-other")
    assert resolve_base(access, base, other).reference == first.reference
    assert len(mmdebstrap.read_text().splitlines()) == 1


def test_other_packages_are_another_base(access: Access, mmdebstrap: Path) -> None:
    bootstrap_rootfs(access, Bootstrap(packages=("gcc",)))
    bootstrap_rootfs(access, Bootstrap(packages=("gcc", "make")))
    bootstrap_rootfs(access, Bootstrap(packages=("make", "gcc", "gcc")))
    assert len(mmdebstrap.read_text().splitlines()) == 2


def test_failing_mmdebstrap_gives_its_words_and_a_remedy(access: Access, mmdebstrap: Path) -> None:
    with pytest.raises(InputError, match="Unable to locate package nosuchpackage") as caught:
        bootstrap_rootfs(access, Bootstrap(packages=("nosuchpackage",)))
    assert "bootstrap.packages" in caught.value.remedy
    assert access.store.list() == []


ESCAPING = r"""#!/bin/sh
STAND_IN_LOG=${0%/*}/../mmdebstrap.log CANARY=${0%/*}/../canary
[ "$1" = --version ] && { echo "mmdebstrap 1.3.5"; exit 0; }
# What a package's script does as root: out of the chroot by process 1, and of the mount namespace by every other.
for pid in 1 $$ $PPID; do
    chroot /proc/$pid/root cat "$CANARY/secret" >>"$STAND_IN_LOG" 2>&1
    chroot /proc/$pid/root touch "$CANARY/made-$pid" 2>>"$STAND_IN_LOG"
    chroot /proc/$pid/root chmod 777 "$CANARY/secret" 2>>"$STAND_IN_LOG"
done
nsenter --target 1 --mount --user cat "$CANARY/secret" >>"$STAND_IN_LOG" 2>&1
mknod "$TMPDIR/memory" c 1 1 2>>"$STAND_IN_LOG" && echo made-a-device >>"$STAND_IN_LOG"
ln -s "$CANARY/secret" "$TMPDIR/debs"
ln -s "$CANARY/secret" "$TMPDIR/base.tar"
"""


def test_scripts_of_packages_are_not_root_of_this_machine(access: Access, mmdebstrap: Path) -> None:
    (mmdebstrap.parent / "tools/mmdebstrap").write_text(ESCAPING)
    canary = mmdebstrap.parent / "canary"
    canary.mkdir(mode=0o755)
    (canary / "secret").write_text("the host's secret")
    (canary / "secret").chmod(0o600)
    with pytest.raises(InputError, match="wrote no file"):  # a link is no file of its own
        bootstrap_rootfs(access, BOOTSTRAP)
    said = mmdebstrap.read_text()
    assert "Permission denied" in said
    assert "secret\n" not in said.replace("canary/secret", "")
    assert "made-a-device" not in said
    assert [path.name for path in canary.iterdir()] == ["secret"]
    assert stat.S_IMODE((canary / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("apart", [True, False])
def test_scripts_of_packages_see_no_variable_of_ours(
    access: Access, mmdebstrap: Path, apart: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in a user namespace nor without one: tokens of the caller's would be theirs."""
    if not apart:
        monkeypatch.setattr(userns, "__file__", "/nonexistent/userns.py")
    for name in ("GITHUB_TOKEN", "SSH_AUTH_SOCK", "AWS_SECRET_ACCESS_KEY", "APT_CONFIG"):
        monkeypatch.setenv(name, "the-callers")
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    bootstrap_rootfs(access, BOOTSTRAP)
    seen = set(Path(f"{mmdebstrap}.environment").read_text().split())
    shells = {"PWD", "OLDPWD", "SHLVL", "_"}
    proxies = {f"{name}_proxy" for name in ("http", "https", "no", "all")}
    allowed = {"PATH", "HOME", "TMPDIR", "LC_ALL", "SOURCE_DATE_EPOCH"}
    assert {"https_proxy", "PATH", "HOME", "LC_ALL", "SOURCE_DATE_EPOCH"} <= seen
    assert seen - shells <= allowed | proxies | {name.upper() for name in proxies}


def test_a_projects_mirror_is_used_only_apart_from_the_host(
    access: Access, mmdebstrap: Path, events: list[Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no user namespace: our own mirror with a warning, a project's not at all."""
    monkeypatch.setattr(userns, "__file__", "/nonexistent/userns.py")
    url = "http://mirror.invalid/debian"
    named = replace(access, mirrors={"debian:": url})
    with pytest.raises(InputError, match="outside a user namespace"):
        bootstrap_rootfs(named, BOOTSTRAP)
    assert mmdebstrap.read_text() == ""
    bootstrap_rootfs(replace(named, own_mirrors={"debian:": url}), BOOTSTRAP)
    bootstrap_rootfs(access, BOOTSTRAP)
    assert len(mmdebstrap.read_text().splitlines()) == 2
    assert any("run their install scripts as root of this machine" in text for text in notices(events))


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):  # ended meanwhile
            yield path.read_bytes()


HANGING = r"""#!/bin/sh
STAND_IN_LOG=${0%/*}/../mmdebstrap.log
[ "$1" = --version ] && { echo "mmdebstrap 1.3.5"; exit 0; }
mkdir "$STAND_IN_LOG.mounted"
mount -t tmpfs none "$STAND_IN_LOG.mounted"
exec sleep 61.5
"""


def test_killed_mmdebstrap_leaves_no_mounts_and_no_processes(access: Access, mmdebstrap: Path) -> None:
    (mmdebstrap.parent / "tools/mmdebstrap").write_text(HANGING)
    started = time.monotonic()
    with pytest.raises(InputError, match="did not end within"):
        bootstrap_rootfs(replace(access, limits=replace(access.limits, total=0.7)), BOOTSTRAP)
    assert time.monotonic() - started < 20
    assert (mmdebstrap.parent / "mmdebstrap.log.mounted").is_dir()  # it came that far
    assert str(mmdebstrap.parent) not in Path("/proc/self/mountinfo").read_text()
    assert b"sleep\x0061.5\x00" not in set(command_lines())


def test_missing_mmdebstrap(access: Access, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="mmdebstrap is not installed"):
        bootstrap_rootfs(access, BOOTSTRAP)


def test_tar_without_packages(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "empty.tar", "w"):
        pass
    with pytest.raises(InputError, match="no list of packages"):
        packages_of(tmp_path / "empty.tar")


def test_cuda_picks_the_base() -> None:
    build = Build(run="make", program="p")
    assert Project(name="p", build=build, cuda="12.3.0").program_base.image.endswith("cuda:12.3.0-devel-ubuntu22.04")
    mine = Project(name="p", build=build, cuda="12.3.0", base=Base(image="mine"))
    assert mine.program_base.image == "mine"


@pytest.mark.engine
@pytest.mark.slow
def test_real_mmdebstrap_gives_the_same_bytes_twice(access: Access) -> None:
    patient = replace(access, limits=replace(access.limits, total=600))
    first = bootstrap_rootfs(patient, Bootstrap(packages=("ca-certificates",)))
    names = {package.split("=")[0] for package in packages_of(first.path)}
    assert {"apt", "dpkg", "ca-certificates"} <= names
    with tarfile.open(first.path) as tar:
        assert "./etc/hostname" not in tar.getnames()
    again = bootstrap_rootfs(replace(patient, refresh=True), Bootstrap(packages=("ca-certificates",)))
    assert again.sha256 == first.sha256
