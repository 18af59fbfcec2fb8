"""ELF layouts that a Nanos kernel may treat differently from Linux, each as the command that makes one.

`build` is a shell line in a folder with probe.c, bare.c and the scripts of this folder; it leaves the program `prog`.
`$LLD` and `$LLD14` stand for gcc's flags for a current lld and for Debian bookworm's own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

# A "loader" that says OK by itself: it needs relro to be padded, so a constant pointer.
_INTERPRETER = "gcc -O1 -nostdlib -fPIE -static-pie -fno-stack-protector -DRELRO bare.c -o interp"
_BARE = "gcc -O1 -nostdlib -static -fno-stack-protector"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One row. `needs`: commands without which it can't be made here. `passthrough`: kernel settings of its image;
    `files`: guest path → file of the folder, beside the program's own libraries."""

    name: str
    build: str
    needs: tuple[str, ...] = ()
    passthrough: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    memory: int = 512


def _linkers() -> list[Layout]:
    flags = {
        "GNU ld": ("-fuse-ld=bfd", ()),
        "gold": ("-fuse-ld=gold", ("ld.gold",)),
        "lld 14": ("$LLD14", ("ld.lld-14",)),
        "lld": ("$LLD", ("lld",)),
        "mold": ("-fuse-ld=mold", ("mold",)),
    }
    kinds = {"PIE": "-pie", "no PIE": "-no-pie -fno-pie", "static": "-static", "static PIE": "-static-pie"}
    return [
        Layout(name=f"{linker}, {kind}", build=f"gcc -O1 {kind_flags} {flag} probe.c -o prog", needs=needs)
        for linker, (flag, needs) in flags.items()
        for kind, kind_flags in kinds.items()
    ]


def _options() -> list[Layout]:
    rows = {
        "lld -z norelro": "gcc $LLD -Wl,-z,norelro probe.c -o prog",
        "lld -z now": "gcc $LLD -Wl,-z,now probe.c -o prog",
        "lld -z lazy": "gcc $LLD -Wl,-z,lazy probe.c -o prog",
        "lld -z separate-code": "gcc $LLD -Wl,-z,separate-code probe.c -o prog",
        "lld -z separate-loadable-segments": "gcc $LLD -Wl,-z,separate-loadable-segments probe.c -o prog",
        "lld --no-rosegment": "gcc $LLD -Wl,--no-rosegment probe.c -o prog",
        "lld -z nognustack": "gcc $LLD -Wl,-z,nognustack probe.c -o prog",
        "lld -z max-page-size=65536": "gcc $LLD -Wl,-z,max-page-size=65536 probe.c -o prog",
        "lld -z max-page-size=2 MiB": "gcc $LLD -Wl,-z,max-page-size=0x200000 probe.c -o prog",
        "lld -z pack-relative-relocs": "gcc $LLD -Wl,-z,pack-relative-relocs probe.c -o prog",
        "lld -z pack-relative-relocs -z norelro": "gcc $LLD -Wl,-z,pack-relative-relocs,-z,norelro probe.c -o prog",
        "lld -z pack-relative-relocs -z norelro, static PIE": (
            "gcc -static-pie $LLD -Wl,-z,pack-relative-relocs,-z,norelro probe.c -o prog"
        ),
        "lld --icf=all --gc-sections, -s": "gcc $LLD -ffunction-sections -Wl,--icf=all,--gc-sections,-s probe.c -o prog",
        "GNU ld -z norelro": "gcc -Wl,-z,norelro probe.c -o prog",
        "GNU ld -z relro -z now": "gcc -Wl,-z,relro,-z,now probe.c -o prog",
        "GNU ld -z relro -z lazy": "gcc -Wl,-z,relro,-z,lazy probe.c -o prog",
        "GNU ld -z noseparate-code": "gcc -Wl,-z,noseparate-code probe.c -o prog",
        "GNU ld -z noseparate-code, no PIE, norelro": (
            "gcc -no-pie -fno-pie -Wl,-z,noseparate-code,-z,norelro probe.c -o prog"
        ),
        "GNU ld -z max-page-size=65536": "gcc -Wl,-z,max-page-size=65536 probe.c -o prog",
        "GNU ld -z max-page-size=2 MiB": "gcc -Wl,-z,max-page-size=0x200000 probe.c -o prog",
        "GNU ld -z common-page-size=65536": "gcc -Wl,-z,max-page-size=65536,-z,common-page-size=65536 probe.c -o prog",
        "GNU ld -z nognustack": "gcc -Wa,--noexecstack probe.c -o prog && python3 patch.py no-stack prog",
        "GNU ld -N (omagic), static": f"{_BARE} -Wl,-N bare.c -o prog",
        "GNU ld -n (nmagic), static": f"{_BARE} -Wl,-n bare.c -o prog",
        "gold -z max-page-size=65536": "gcc -fuse-ld=gold -Wl,-z,max-page-size=65536 probe.c -o prog",
        "mold -z norelro": "gcc -fuse-ld=mold -Wl,-z,norelro probe.c -o prog",
        "mold -z separate-code": "gcc -fuse-ld=mold -Wl,-z,separate-code probe.c -o prog",
    }
    return [Layout(name=name, build=build, needs=_needed(build)) for name, build in rows.items()]


def _contents() -> list[Layout]:
    rows = {
        "TEXTREL (PIE)": "gcc -DTEXTREL -Wl,-z,notext probe.c -o prog",
        "TEXTREL (PIE), lld": "gcc -DTEXTREL $LLD -Wl,-z,notext probe.c -o prog",
        "IFUNC": "gcc -DIFUNC probe.c -o prog",
        "IFUNC, static": "gcc -DIFUNC -static probe.c -o prog",
        "IFUNC, static PIE": "gcc -DIFUNC -static-pie probe.c -o prog",
        "TLS local-exec, 1 MiB": "gcc -DTLS_KIB=1024 -ftls-model=local-exec probe.c -o prog",
        "TLS initial-exec, 1 MiB": "gcc -DTLS_KIB=1024 -fPIC -ftls-model=initial-exec probe.c -o prog",
        "TLS global-dynamic, 1 MiB": "gcc -DTLS_KIB=1024 -fPIC -ftls-model=global-dynamic probe.c -o prog",
        "TLS, descriptors": "gcc -DTLS_KIB=64 -fPIC -mtls-dialect=gnu2 probe.c -o prog",
        "TLS 1 MiB, static": "gcc -DTLS_KIB=1024 -static probe.c -o prog",
        "executable stack, not used": "gcc -Wl,-z,execstack probe.c -o prog",
        "executable stack, code runs on it": "gcc -DSTACK_CODE -Wl,-z,execstack probe.c -o prog",
        ".data aligned to 64 KiB, PIE": "gcc -DALIGN=65536 probe.c -o prog",
        ".data aligned to 64 KiB, no PIE": "gcc -DALIGN=65536 -no-pie -fno-pie probe.c -o prog",
        ".data aligned to 64 KiB, static PIE": "gcc -DALIGN=65536 -static-pie probe.c -o prog",
        ".data aligned to 2 MiB, PIE": "gcc -DALIGN=0x200000 probe.c -o prog",
        ".bss of 1 GiB, 2 GiB of memory": "gcc -DBSS_MIB=1024 -mcmodel=large probe.c -o prog",
        ".bss of 1 GiB, 512 MiB of memory": "gcc -DBSS_MIB=1024 -mcmodel=large probe.c -o prog",
        ".bss of 3 GiB": "gcc -DBSS_MIB=3072 -mcmodel=large probe.c -o prog",
        "musl, dynamic": "musl-gcc probe.c -o prog",
        "musl, static": "musl-gcc -static probe.c -o prog",
        "musl, static PIE": "musl-gcc -static-pie -fPIE probe.c -o prog",
        "musl, dynamic, lld": "musl-gcc $LLD probe.c -o prog",
        "musl, static PIE, lld": "musl-gcc $LLD -static-pie -fPIE probe.c -o prog",
        "relro read late, lld -z separate-loadable-segments, static": (
            "gcc -O1 -DLATE_RELRO -static $LLD -Wl,-z,separate-loadable-segments probe.c -o prog"
        ),
        "relro read late, lld -z separate-loadable-segments, PIE": (
            "gcc -O1 -DLATE_RELRO $LLD -Wl,-z,separate-loadable-segments probe.c -o prog"
        ),
        "relro read late, GNU ld, static": "gcc -O1 -DLATE_RELRO -static probe.c -o prog",
        "reads its own file": "gcc -DREAD_SELF probe.c -o prog",
        "no segment but .bss, fits its pages": f"{_BARE} -DNO_DATA $LLD bare.c -o prog",
        "no segment but .bss, one page more": f"{_BARE} -DNO_DATA -DSIZE=8100 $LLD bare.c -o prog",
        "no segment but .bss, GNU ld": f"{_BARE} -DNO_DATA -DSIZE=8100 bare.c -o prog",
        "program headers moved to the end of the file": "gcc probe.c -o prog && python3 patch.py move-headers prog",
        "patchelf --set-rpath": "gcc probe.c -o prog && patchelf --set-rpath /opt/some/where/else/far/away/lib prog",
        "patchelf --set-rpath, no PIE": (
            "gcc -no-pie -fno-pie probe.c -o prog && patchelf --set-rpath /opt/some/where/else/far/away/lib prog"
        ),
        "first segment not at offset 0": f"{_BARE} -Wl,-Ttext-segment=0x500000 -Wl,-T,no-headers.ld bare.c -o prog",
        "linked at 3.5 GiB, static": f"{_BARE} -Wl,-Ttext-segment=0xe0000000 bare.c -o prog",
        "linked at 64 KiB, static": f"{_BARE} -Wl,-Ttext-segment=0x10000 bare.c -o prog",
        "read-only segment with .bss": f"{_BARE} -DREAD_ONLY bare.c -o prog && python3 patch.py read-only-bss prog",
        "two segments in one page": f"{_BARE} bare.c -o prog -Wl,-T,one-page.ld",
        "strip, objcopy --strip-section-headers": "gcc probe.c -o prog && strip prog && python3 patch.py no-sections prog",
    }
    memory = {".bss of 1 GiB, 2 GiB of memory": 2048, ".bss of 3 GiB": 4096}
    return [
        Layout(name=name, build=build, needs=_needed(build), memory=memory.get(name, 512)) for name, build in rows.items()
    ]


def _needed(build: str) -> tuple[str, ...]:
    marks = {"$LLD ": "lld", "=gold": "ld.gold", "=mold": "mold", "musl-gcc": "musl-gcc", "patchelf": "patchelf"}
    return tuple(command for mark, command in marks.items() if mark in build)


def _remedies() -> list[Layout]:
    static_map = {"static_map_program": "t"}
    return [
        Layout(
            name="lld, PIE, static_map_program", build="gcc $LLD probe.c -o prog", needs=("lld",), passthrough=static_map
        ),
        Layout(
            name="mold, PIE, static_map_program",
            build="gcc -fuse-ld=mold probe.c -o prog",
            needs=("mold",),
            passthrough=static_map,
        ),
        Layout(name="GNU ld, PIE, static_map_program", build="gcc probe.c -o prog", passthrough=static_map),
        Layout(name="reads its own file, static_map_program", build="gcc -DREAD_SELF probe.c -o prog", passthrough=static_map),
        Layout(
            name=".data aligned to 64 KiB, PIE, noaslr",
            build="gcc -DALIGN=65536 probe.c -o prog",
            passthrough={"noaslr": "t"},
        ),
    ]


def _others() -> list[Layout]:
    """ELF files other than the program: a library, which the dynamic loader maps, and the loader itself."""
    main = "gcc call.c -o prog -L. -lprobe -Wl,-rpath,/lib"
    library = {"/lib/libprobe.so": "libprobe.so"}
    shared = "gcc -O1 -shared -fPIC -Dmain=probe_main probe.c -o libprobe.so"
    return [
        Layout(name="library by lld", build=f"{shared} $LLD && {main}", needs=("lld",), files=library),
        Layout(name="library by mold", build=f"{shared} -fuse-ld=mold && {main}", needs=("mold",), files=library),
        Layout(name="library by GNU ld", build=f"{shared} && {main}", files=library),
        Layout(
            name="loader by lld",
            build=f"{_INTERPRETER} $LLD && gcc probe.c -o prog -Wl,--dynamic-linker=/interp",
            needs=("lld",),
            files={"/interp": "interp"},
        ),
        Layout(
            name="patchelf --set-interpreter",
            build="gcc probe.c -o prog && patchelf --set-interpreter /opt/loaders/x86_64/glibc/ld-linux-x86-64.so.2 prog"
            " && cp /lib64/ld-linux-x86-64.so.2 loader",
            needs=("patchelf",),
            files={"/opt/loaders/x86_64/glibc/ld-linux-x86-64.so.2": "loader"},
        ),
        Layout(
            name="loader by GNU ld",
            build=f"{_INTERPRETER} && gcc probe.c -o prog -Wl,--dynamic-linker=/interp",
            files={"/interp": "interp"},
        ),
    ]


LAYOUTS = (*_linkers(), *_options(), *_contents(), *_others(), *_remedies())
