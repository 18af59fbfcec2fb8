"""Each thing broken alone: the right check fails, with the right finding, and every other check still holds."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.errors import Severity
from orchestrator.image.reader import open_image
from orchestrator.nanos.verify.image import verify_image
from orchestrator.nanos.verify.libs import library_report
from orchestrator.stub_kernel import stub_kernel
from orchestrator.values import Value
from orchestrator.verification import Verification
from tests.support.linkers import lld_flags

from .conftest import DIRECTORY, LIBRARIES, LOADER, Compile, Content, Recipe

Verify = Callable[..., Verification]
Break = Callable[[Recipe, Compile], Recipe]

FIRMWARE = "/nvidia/535.113.01/gsp_ga10x.bin"
RISCV = (
    b"\x7fELF\x02\x01\x01"
    + bytes(9)
    + struct.pack("<HHI", 2, 243, 1)
    + bytes(28)
    + struct.pack("<HHHHHH", 64, 56, 0, 64, 0, 0)
)


def failed(result: Verification) -> dict[str, set[str]]:
    """Check id → codes of its errors, for the checks that don't hold."""
    return {
        check.id: {f.code for f in check.findings if f.severity is Severity.ERROR}
        for check in result.checks
        if not check.ok
    }


def warned(result: Verification) -> set[str]:
    return {f.code for f in result.findings if f.severity is Severity.WARNING}


def test_a_good_image_holds(verify: Verify, good: Recipe) -> None:
    result = verify(good, "devnet")
    assert result.ok and result.bootable
    assert warned(result) == set()
    assert result.stand_ins == ()
    document = json.loads(json.dumps(result.to_dict()))
    assert document["ok"] is True
    assert [check["id"] for check in document["checks"]] == [
        "format", "boot", "program", "interpreter", "loading", "libraries", "versions", "by-name", "links", "mounts",
        "klibs", "gpu", "environment", "root", "shim", "stand-ins", "history",
    ]  # fmt: skip


def test_what_lld_linked_holds_when_it_is_linked_as_advised(verify: Verify, good: Recipe, compile_c: Compile) -> None:
    refused = verify(linked_by_lld(good, compile_c))
    (finding,) = [finding for finding in refused.findings if finding.code == "elf-page-shared"]
    assert finding.message.startswith("/prog: its segments at 0x")
    assert "Nanos 0.1.51 zeroes it behind the first one's end: the second loses" in finding.message
    for advice in ("-Clinker-features=-lld", "-fuse-ld=bfd", "static_map_program"):
        assert advice in finding.remedy
    assert verify(linked_by(*lld_flags(), "-fuse-ld=bfd")(good, compile_c)).ok
    assert verify(linked_by_lld(good, compile_c).but(attributes={"static_map_program": "t"})).ok
    newer_kernel: dict[str, Value] = {"environment": {"NANOS_VERSION": "0.1.52"}}
    assert verify(linked_by_lld(good, compile_c).but(attributes=newer_kernel)).ok


def newer(recipe: Recipe, compile_c: Compile) -> Recipe:
    """The program asks for a version that the packed C library, made of the real one, no longer has."""
    data = Path(f"{LIBRARIES}/libc.so.6").read_bytes().replace(b"\0GLIBC_2.34\0", b"\0GLIBC_2.99\0")
    return recipe.but(files={f"{LIBRARIES}/libc.so.6": data})


def needing_more(recipe: Recipe, compile_c: Compile) -> Recipe:
    """A plugin, which nothing in the image names, needs a library that is not there."""
    gone = compile_c("libgone.so.1", "int gone(void) { return 0; }", "-shared", "-fPIC", "-Wl,-soname,libgone.so.1")
    plugin = compile_c("libextra.so", "int gone(void); int x(void) { return gone(); }", "-shared", "-fPIC", str(gone))
    return recipe.but(files={"/plugins/libextra.so": plugin})


def local_shim(recipe: Recipe, compile_c: Compile) -> Recipe:
    source = 'const char *service(void) { return "/workspace/task_result.json"; }'
    shim = compile_c("liblocal.so", source, "-shared", "-fPIC")
    return recipe.but(files={f"{LIBRARIES}/libgevulot_shim_ffi.so": shim})


def shim_in_program(recipe: Recipe, compile_c: Compile) -> Recipe:
    source = 'int puts(const char *); int main(void) { return puts("/workspace/task_result.json"); }'
    program = compile_c("with-shim", source)
    return recipe.but(files={"/prog": program}, without=(f"{LIBRARIES}/libgevulot_shim_ffi.so",))


def object_file(recipe: Recipe, compile_c: Compile) -> Recipe:
    return recipe.but(files={"/prog": compile_c("prog.o", "int main(void) { return 0; }", "-c")})


def foreign(recipe: Recipe, compile_c: Compile) -> Recipe:
    return recipe.but(files={"/prog": compile_c("i386", "void _start(void) {}", "-m32", "-nostdlib", "-static")})


def linked_by(*flags: str) -> Break:
    """The good program without its libraries, linked in some other way."""

    def change(recipe: Recipe, compile_c: Compile) -> Recipe:
        source = "int data[2000] = {1}; int bss[9]; int main(void) { return data[0] - 1 + bss[3]; }"
        return recipe.but(files={"/prog": compile_c("linked", source, *flags)})

    return change


def linked_by_lld(recipe: Recipe, compile_c: Compile) -> Recipe:
    return linked_by(*lld_flags())(recipe, compile_c)


UNLOADABLE = {"libraries": set[str](), "versions": set[str]()}
KLIB = {"gpu_nvidia": RISCV.replace(struct.pack("<H", 243), struct.pack("<H", 62))}

BREAKAGES: dict[str, tuple[Break, dict[str, set[str]]]] = {
    "no program named": (
        lambda r, c: r.but(no_attributes=("program",)),
        {"program": {"program-missing"}, **UNLOADABLE},
    ),
    "program not packed": (lambda r, c: r.but(without=("/prog",)), {"program": {"program-not-found"}, **UNLOADABLE}),
    "program is a directory": (
        lambda r, c: r.but(files={"/prog": DIRECTORY}),
        {"program": {"program-not-found"}, **UNLOADABLE},
    ),
    "program is a script": (
        lambda r, c: r.but(files={"/prog": b"#!/bin/sh\necho\n"}),
        {"program": {"program-is-script"}, **UNLOADABLE},
    ),
    "program is noise": (
        lambda r, c: r.but(files={"/prog": b"\x7fELF" + bytes(9)}),
        {"program": {"program-not-elf"}, **UNLOADABLE},
    ),
    "program of another machine": (foreign, {"program": {"program-wrong-machine"}, **UNLOADABLE}),
    "program is an object file": (object_file, {"program": {"program-not-linked"}, **UNLOADABLE}),
    "loader not packed": (
        lambda r, c: r.but(without=(LOADER,)),
        {"interpreter": {"interpreter-missing"}, **UNLOADABLE},
    ),
    "loader elsewhere": (
        lambda r, c: r.but(without=(LOADER,), files={f"{LIBRARIES}/ld-linux-x86-64.so.2": Path(LOADER)}),
        {"interpreter": {"interpreter-missing"}, **UNLOADABLE},
    ),
    "loader is text": (
        lambda r, c: r.but(files={LOADER: b"text"}),
        {"interpreter": {"interpreter-not-elf"}, **UNLOADABLE},
    ),
    "program linked by lld": (linked_by_lld, {"loading": {"elf-page-shared"}}),
    "library not packed": (
        lambda r, c: r.but(without=(f"{LIBRARIES}/libown.so",)),
        {"libraries": {"library-missing"}},
    ),
    "library at the build's path": (
        lambda r, c: r.but(
            without=(f"{LIBRARIES}/libown.so",), files={"/build/lib/libown.so": r.files[f"{LIBRARIES}/libown.so"]}
        ),
        {"libraries": {"library-missing"}},
    ),
    "library is a linker script": (
        lambda r, c: r.but(files={f"{LIBRARIES}/libown.so": b"INPUT ( x )"}),
        {"libraries": {"library-broken"}},
    ),
    "library is a dangling link": (
        lambda r, c: r.but(files={f"{LIBRARIES}/libown.so": "nowhere.so"}),
        {"libraries": {"library-missing"}},
    ),
    "a plugin's library not packed": (needing_more, {"libraries": {"library-missing"}}),
    "C library too old": (newer, {"versions": {"symbol-version-missing"}}),
    "mount %1": (
        lambda r, c: r.but(attributes={"mounts": {"%1": "/workspace"}}),
        {"mounts": {"mount-label"}},
    ),
    "mount from a volume": (
        lambda r, c: r.but(attributes={"mounts": {"data": "/workspace"}}),
        {"mounts": {"mount-label"}},
    ),
    "mount without directory": (
        lambda r, c: r.but(without=("/workspace",)),
        {"mounts": {"mount-directory-missing"}},
    ),
    "mount on a file": (
        lambda r, c: r.but(files={"/workspace": b"x"}),
        {"mounts": {"mount-directory-missing"}},
    ),
    "no workspace": (lambda r, c: r.but(no_attributes=("mounts",)), {"mounts": {"workspace-not-mounted"}}),
    "mounts is text": (
        lambda r, c: r.but(attributes={"mounts": "/workspace"}),
        {"mounts": {"mounts-not-a-table"}},
    ),
    "mount of nothing": (
        lambda r, c: r.but(attributes={"mounts": {"%0": "/workspace", "%2": "data"}}),
        {"mounts": {"mount-target"}},
    ),
    "klib asked for, not packed": (
        lambda r, c: r.but(attributes={"klibs": "bootfs"}),
        {"klibs": {"klibs-missing"}},
    ),
    "klib is noise": (
        lambda r, c: r.but(attributes={"klibs": "bootfs"}, klibs={"tls": b"noise"}),
        {"klibs": {"klib-not-elf"}},
    ),
    "klib of another machine": (
        lambda r, c: r.but(attributes={"klibs": "bootfs"}, klibs={"tls": RISCV}),
        {"klibs": {"klib-wrong-machine"}},
    ),
    "GPU klib without firmware": (
        lambda r, c: r.but(attributes={"klibs": "bootfs"}, klibs=KLIB),
        {"gpu": {"gpu-firmware-missing"}},
    ),
    "firmware without GPU klib": (lambda r, c: r.but(files={FIRMWARE: RISCV}), {"gpu": {"gpu-klib-missing"}}),
    "environment is a list": (
        lambda r, c: r.but(attributes={"environment": ["A=b"]}),
        {"environment": {"environment-not-a-table"}},
    ),
    "variable is a table": (
        lambda r, c: r.but(attributes={"environment": {"A": {"b": "c"}}}),
        {"environment": {"environment-not-text"}},
    ),
    "arguments is text": (
        lambda r, c: r.but(attributes={"arguments": "prog"}),
        {"root": {"arguments-not-a-list"}},
    ),
    "cwd not there": (lambda r, c: r.but(attributes={"cwd": "/nowhere"}), {"root": {"cwd-not-found"}}),
    "shim of the other runtime": (local_shim, {"shim": {"shim-runtime-mismatch"}}),
    "shim of the other runtime, linked in": (shim_in_program, {"shim": {"shim-runtime-mismatch"}}),
    "kernel is noise": (lambda r, c: replace(r, kernel=b"noise"), {"boot": {"kernel-not-elf"}}),
    "kernel of another machine": (lambda r, c: replace(r, kernel=RISCV), {"boot": {"kernel-wrong-machine"}}),
    "kernel is empty": (lambda r, c: replace(r, kernel=b""), {"boot": {"kernel-missing"}}),
}


@pytest.mark.parametrize("name", BREAKAGES)
def test_breakages(verify: Verify, good: Recipe, compile_c: Compile, name: str) -> None:
    change, expected = BREAKAGES[name]
    result = verify(change(good, compile_c), "devnet")
    assert failed(result) == expected
    assert not result.ok
    for check in result.checks:
        for finding in check.findings:
            assert finding.message
            assert finding.remedy or finding.severity is not Severity.ERROR or finding.code == "program-not-linked"


WARNINGS: dict[str, tuple[Callable[[Recipe], Recipe], set[str]]] = {
    "writable": (lambda r: r.but(no_attributes=("readonly_rootfs",)), {"rootfs-writable"}),
    "klibs not loaded": (
        lambda r: r.but(files={FIRMWARE: RISCV}, klibs=KLIB),
        {"klibs-not-loaded", "gpu-driver-library-missing"},
    ),
    "an argument dropped by TFS 4": (
        lambda r: r.but(attributes={"arguments": {"0": "prog", "1": "-v", "3": "-x"}}),
        {"argument-empty"},
    ),
    "no arguments": (lambda r: r.but(no_attributes=("arguments",)), {"arguments-missing"}),
    "cwd of a dynamic program": (lambda r: r.but(attributes={"cwd": "/workspace"}), {"cwd-ignored"}),
    "null variable": (lambda r: r.but(attributes={"environment": {"A": None}}), {"environment-empty"}),
    "stub kernel": (lambda r: replace(r, kernel=stub_kernel()), {"kernel-is-stub"}),
    "no boot code": (lambda r: replace(r, boot_img=None), {"no-boot-sector"}),
    "GPU libraries of another version": (
        lambda r: r.but(
            files={FIRMWARE: RISCV, f"{LIBRARIES}/libcuda.so.1": b"version 545.0"},
            attributes={"klibs": "bootfs"},
            klibs=KLIB,
        ),
        {"gpu-version-mismatch"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WARNINGS)
def test_warnings_fail_nothing(verify: Verify, good: Recipe, name: str) -> None:
    change, expected = WARNINGS[name]
    result = verify(change(good), "devnet")
    assert result.ok
    assert warned(result) == expected
    assert result.bootable is (name not in ("stub kernel", "no boot code"))


def test_a_whole_gpu_image_holds(verify: Verify, good: Recipe) -> None:
    files = {FIRMWARE: RISCV, f"{LIBRARIES}/libcuda.so.1": b"NVRM 535.113.01"}
    result = verify(good.but(files=files, attributes={"klibs": "bootfs"}, klibs=KLIB), "devnet")
    assert result.ok and warned(result) == set()


def test_a_static_program_needs_no_loader(verify: Verify, good: Recipe, compile_c: Compile) -> None:
    program = compile_c("static", "int main(void) { return 0; }", "-static")
    result = verify(replace(good, files={"/prog": program, "/workspace": DIRECTORY}))
    assert result.ok
    assert {f.code for f in result.findings} == {"shim-none"}


def test_the_dns_module_that_ops_adds_fails_no_image(verify: Verify, good: Recipe, compile_c: Compile) -> None:
    """It comes from Nanos's common files into every image, whatever C library the program has."""
    resolver = compile_c("libresolv.so.2", "int resolve(void) { return 0; }", "-shared", "-fPIC")
    source = "int resolve(void); int puts(const char *); int dns(void) { return puts(0) + resolve(); }"
    module = compile_c("libnss_dns.so.2", source, "-shared", "-fPIC", str(resolver))
    path = f"{LIBRARIES}/libnss_dns.so.2"
    static = compile_c("static", "int main(void) { return 0; }", "-static")
    for recipe in (
        good.but(files={path: module}),
        replace(good, files={"/prog": static, "/workspace": DIRECTORY, path: module}),
    ):
        result = verify(recipe)
        assert result.ok, failed(result)
        (finding,) = (f for f in result.findings if f.code == "dns-module-unusable")
        assert "libresolv.so.2" in finding.message
    linked = compile_c("linked", "int dns(void); int main(void) { return dns(); }", str(module), str(resolver))
    assert failed(verify(good.but(files={"/prog": linked, path: module}))) == {"libraries": {"library-missing"}}


def test_a_library_behind_links_is_found(verify: Verify, good: Recipe) -> None:
    """usr-merged trees: /lib and /lib64 are links to directories."""
    moved = {f"/usr{path}" if path.startswith("/lib") else path: content for path, content in good.files.items()}
    result = verify(replace(good, files={**moved, "/lib": "usr/lib", "/lib64": "usr/lib64"}), "devnet")
    assert result.ok, result.findings


@pytest.mark.parametrize("tags", ["--disable-new-dtags", "--enable-new-dtags"])
def test_a_library_that_another_ones_rpath_leads_to(
    verify: Verify, good: Recipe, compile_c: Compile, tags: str
) -> None:
    """As in a Python wheel: a module's DT_RPATH serves libraries that have none themselves; a RUNPATH doesn't."""
    shared = ("-shared", "-fPIC")
    second = compile_c("libsecond.so", "int second(void) { return 0; }", *shared)
    first = compile_c("libfirst.so", "int second(void); int first(void) { return second(); }", *shared, str(second))
    path = f"-Wl,{tags},-rpath,$ORIGIN/../pack.libs"
    source = "int first(void); int module(void) { return first(); }"
    module = compile_c("module.so", source, *shared, str(first), path, f"-Wl,-rpath-link,{first.parent}")
    files: dict[str, Content] = {
        "/site/pack/module.so": module, "/site/pack.libs/libfirst.so": first, "/site/pack.libs/libsecond.so": second,
    }  # fmt: skip
    assert verify(good.but(files=files)).ok == (tags == "--disable-new-dtags")
    alone = verify(good.but(files={path: content for path, content in files.items() if "module" not in path}))
    assert [finding.code for finding in alone.findings if finding.severity == "error"] == ["library-missing"]


def test_the_environment_of_the_image_is_the_loaders(verify: Verify, good: Recipe) -> None:
    own = f"{LIBRARIES}/libown.so"
    recipe = good.but(without=(own,), files={"/opt/libown.so": good.files[own]})
    assert not verify(recipe).ok
    assert verify(recipe.but(attributes={"environment": {"LD_LIBRARY_PATH": "/opt"}})).ok


def test_the_remedy_names_where_a_misplaced_library_lies(verify: Verify, good: Recipe) -> None:
    own = f"{LIBRARIES}/libown.so"
    result = verify(good.but(without=(own,), files={"/build/libown.so": good.files[own]}))
    (finding,) = (f for f in result.findings if f.code == "library-missing")
    assert "/build/libown.so" in finding.remedy
    assert "/prog" in finding.message and f"{LIBRARIES}/libplugin.so" in finding.message


@pytest.mark.parametrize(("libraries", "sets"), [("auto", False), ("none", True), (None, True)])
def test_auto_is_advised_where_it_is_not_set(
    build: Callable[[Recipe], Path], good: Recipe, libraries: str | None, sets: bool
) -> None:
    path = build(good.but(without=(f"{LIBRARIES}/libown.so",)))
    (finding,) = (f for f in verify_image(path, libraries=libraries).findings if f.code == "library-missing")
    assert ("set stage.libraries: auto" in finding.remedy) is sets
    assert ("it is none" in finding.remedy) is (libraries == "none")
    assert "build.packages" in finding.remedy


def test_the_kind_of_shim_is_told(verify: Verify, good: Recipe, compile_c: Compile) -> None:
    assert "shim-devnet" in {f.code for f in verify(good).findings}
    assert "shim-local" in {f.code for f in verify(local_shim(good, compile_c), "local").findings}


def test_stand_ins_are_listed_never_silently(verify: Verify, good: Recipe) -> None:
    mark = b"GEVULOT-ORCHESTRATOR-STAND-IN"
    late = bytes(1024 * 1024 - 10) + mark + b": cut by a chunk\nmore"
    files = {f"{LIBRARIES}/libcuda.so.1": b"\x7fELF" + mark + b" libcuda 580\0rest", "/late": late, "/bare": mark}
    result = verify(good.but(files=files), "devnet")
    assert result.ok
    assert {stand_in.path: stand_in.text for stand_in in result.stand_ins} == {
        "/bare": "", "/late": "cut by a chunk", f"{LIBRARIES}/libcuda.so.1": "libcuda 580",
    }  # fmt: skip
    assert sum(f.code == "stand-in" for f in result.findings) == 3


def test_a_stand_in_klib_or_kernel_need_not_be_elf(verify: Verify, good: Recipe) -> None:
    mark = b"GEVULOT-ORCHESTRATOR-STAND-IN klib\n"
    files = {FIRMWARE: mark, f"{LIBRARIES}/libcuda.so.1": mark}
    recipe = good.but(files=files, attributes={"klibs": "bootfs"}, klibs={"gpu_nvidia": mark})
    result = verify(recipe, "devnet")
    assert result.ok and result.bootable
    assert "boot:/klib/gpu_nvidia" in {stand_in.path for stand_in in result.stand_ins}
    result = verify(replace(recipe, kernel=mark), "devnet")
    assert result.ok and not result.bootable


def test_an_image_that_ran(build: Callable[[Recipe], Path], good: Recipe) -> None:
    path = build(good)
    with open_image(path) as image:
        start = image.partitions[0].offset - 4096
    with path.open("r+b") as stream:
        stream.seek(start)
        stream.write(b"KLOG" + struct.pack("<Qi", 7, 1) + b"boom\0")
    result = verify_image(path)
    assert result.ok
    assert "ran-before" in {f.code for f in result.findings}


@pytest.mark.parametrize("damage", ["cut", "zeroed log", "no partition table", "text", "missing", "empty"])
def test_what_can_not_be_read_is_one_failed_check(build: Callable[[Recipe], Path], good: Recipe, damage: str) -> None:
    path = build(good)
    data = bytearray(path.read_bytes())
    with open_image(path) as image:
        root = image.partitions[-1].offset
    if damage == "cut":
        data = data[: root + 1000]
    elif damage == "zeroed log":
        data[root : root + 64] = bytes(64)
    elif damage == "no partition table":
        data[446:512] = bytes(66)
    path.write_bytes({"text": b"hello\n" * 999, "empty": b""}.get(damage, bytes(data)))
    if damage == "missing":
        path.unlink()
    result = verify_image(path)
    assert not result.ok and not result.bootable
    assert failed(result) == {"format": {"image-unreadable"}}


def test_libs_lists_where_each_need_is_found(build: Callable[[Recipe], Path], good: Recipe) -> None:
    path = build(good.but(without=(f"{LIBRARIES}/libplugin.so", f"{LIBRARIES}/libgevulot_shim_ffi.so")))
    with open_image(path) as image:
        report = library_report(image)
    assert report[0].path == "/prog" and report[0].interpreter == LOADER
    assert dict(report[0].needed) == {
        "libown.so": f"{LIBRARIES}/libown.so",
        "libgevulot_shim_ffi.so": None,
        "libc.so.6": f"{LIBRARIES}/libc.so.6",
    }
    assert [row.path for row in report[1:]] == sorted(row.path for row in report[1:])
    json.dumps([row.to_dict() for row in report])
