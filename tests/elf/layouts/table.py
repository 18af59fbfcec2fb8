"""ELF layouts that a Nanos kernel may treat differently from Linux, each as the command that makes one.

docs/elf-layouts.md says what came of them on a kernel; `measure.py` asks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

SHARED, CUT, OVERLAP, HIGH = "elf-page-shared", "elf-bss-cut", "elf-segments-overlap", "elf-too-high"
LATE, ELSEWHERE, READ_ONLY, ALIGNMENT = (
    "elf-headers-late", "elf-headers-elsewhere", "elf-bss-read-only", "elf-alignment",
)  # fmt: skip

_BARE = "gcc -O1 -nostdlib -static -fno-stack-protector"
# A "loader" that says OK by itself.
_INTERPRETER = "gcc -O1 -nostdlib -fPIE -static-pie -fno-stack-protector -DRELRO bare.c -o interp"
_FARTHER = "/opt/loaders/x86_64/glibc/ld-linux-x86-64.so.2"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One row.

    `build` is a shell line in a folder with this folder's files; it leaves the program `prog`. `$LLD` and `$LLD14`
    stand for gcc's flags for a current lld and for Debian bookworm's own. `codes`: what is found wrong with the program
    or its loader. `runs`: it prints OK on Nanos 0.1.51, as measured. `passthrough`: kernel settings of its image;
    `files`: guest path → file of the folder, beside the program's libraries; `memory`: MiB.
    """

    name: str
    build: str
    codes: tuple[str, ...] = ()
    runs: bool = True
    passthrough: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    memory: int = 512

    @property
    def needs(self) -> tuple[str, ...]:
        """The commands, besides gcc and Python, without which it can't be made."""
        marks = {"$LLD14": "ld.lld-14", "$LLD ": "lld", "=gold": "ld.gold", "=mold": "mold", "musl-gcc": "musl-gcc"}
        commands = {command for mark, command in marks.items() if mark in self.build + " "}
        return tuple(sorted(commands | ({"patchelf"} if "patchelf" in self.build else set())))


def _ok(name: str, build: str) -> Layout:
    return Layout(name=name, build=build)


def _bad(name: str, build: str, *codes: str) -> Layout:
    return Layout(name=name, build=build, codes=codes, runs=False)


def _linkers() -> Iterator[Layout]:
    flags = {
        "GNU ld": "-fuse-ld=bfd",
        "gold": "-fuse-ld=gold",
        "lld 14": "$LLD14",
        "lld": "$LLD",
        "mold": "-fuse-ld=mold",
    }
    kinds = {"PIE": "-pie", "no PIE": "-no-pie -fno-pie", "static": "-static", "static PIE": "-static-pie"}
    for linker, flag in flags.items():
        for kind, kind_flags in kinds.items():
            if (linker, kind) == ("gold", "static PIE"):
                continue  # gold can't
            make = _bad if linker in ("lld", "mold") else _ok
            codes = (SHARED,) if linker in ("lld", "mold") else ()
            yield make(f"{linker}, {kind}", f"gcc -O1 {kind_flags} {flag} probe.c -o prog", *codes)


def _lld_and_mold() -> Iterator[Layout]:
    lld = "gcc $LLD probe.c -o prog"
    yield _ok("lld -z norelro", f"{lld} -Wl,-z,norelro")
    yield _ok("lld -z separate-loadable-segments", f"{lld} -Wl,-z,separate-loadable-segments")
    for option in (
        "-z now",
        "-z lazy",
        "-z separate-code",
        "--no-rosegment",
        "-z nognustack",
        "-z max-page-size=65536",
    ):
        yield _bad(f"lld {option}", f"{lld} -Wl,{option.replace(' ', ',')}", SHARED)
    yield _bad("lld -z max-page-size=2 MiB", f"{lld} -Wl,-z,max-page-size=0x200000", SHARED)
    yield _bad("lld --icf=all --gc-sections -s", f"{lld} -ffunction-sections -Wl,--icf=all,--gc-sections,-s", SHARED)
    relr = "-Wl,-z,pack-relative-relocs"
    yield _bad("lld, DT_RELR", f"{lld} {relr}", SHARED)
    yield _ok("lld, DT_RELR, -z norelro", f"{lld} {relr},-z,norelro")
    yield _ok("lld, DT_RELR, -z norelro, static PIE", f"{lld} -static-pie {relr},-z,norelro")
    yield _ok("mold -z norelro", "gcc -fuse-ld=mold -Wl,-z,norelro probe.c -o prog")
    yield _bad("mold -z separate-code", "gcc -fuse-ld=mold -Wl,-z,separate-code probe.c -o prog", SHARED)
    late = "gcc -O1 -DLATE_RELRO $LLD -Wl,-z,separate-loadable-segments probe.c -o prog"
    yield _ok("relro read late, lld -z separate-loadable-segments, PIE", late)
    yield _ok("relro read late, lld -z separate-loadable-segments, static", f"{late} -static")


def _gnu_and_gold() -> Iterator[Layout]:
    ld = "gcc probe.c -o prog"
    yield _ok("GNU ld -z norelro", f"{ld} -Wl,-z,norelro")
    yield _ok("GNU ld -z relro -z now", f"{ld} -Wl,-z,relro,-z,now")
    yield _ok("GNU ld -z relro -z lazy", f"{ld} -Wl,-z,relro,-z,lazy")
    yield _ok("GNU ld -z noseparate-code", f"{ld} -Wl,-z,noseparate-code")
    yield _ok(
        "GNU ld -z noseparate-code -z norelro, no PIE", f"{ld} -no-pie -fno-pie -Wl,-z,noseparate-code,-z,norelro"
    )
    yield _ok("GNU ld -z max-page-size=65536", f"{ld} -Wl,-z,max-page-size=65536")
    yield _ok("GNU ld -z max-page-size=2 MiB", f"{ld} -Wl,-z,max-page-size=0x200000")
    yield _ok("GNU ld -z common-page-size=65536", f"{ld} -Wl,-z,max-page-size=65536,-z,common-page-size=65536")
    yield _ok("GNU ld, no PT_GNU_STACK", f"{ld} && python3 patch.py no-stack prog")
    yield _ok("GNU ld, no section headers", f"{ld} && strip prog && python3 patch.py no-sections prog")
    yield _ok("GNU ld -N (omagic), no C library", f"{_BARE} -Wl,-N bare.c -o prog")
    yield _ok("GNU ld -n (nmagic), no C library", f"{_BARE} -Wl,-n bare.c -o prog")
    yield _ok("relro read late, GNU ld, static", f"{ld} -O1 -DLATE_RELRO -static")
    yield _ok("gold -z max-page-size=65536", f"{ld} -fuse-ld=gold -Wl,-z,max-page-size=65536")


def _contents() -> Iterator[Layout]:
    gcc = "gcc probe.c -o prog"
    yield _ok("TEXTREL", f"{gcc} -DTEXTREL -Wl,-z,notext")
    yield _bad("TEXTREL, lld", f"{gcc} -DTEXTREL $LLD -Wl,-z,notext", SHARED)
    yield _ok("IFUNC, PIE", f"{gcc} -DIFUNC")
    yield _ok("IFUNC, static", f"{gcc} -DIFUNC -static")
    yield _ok("IFUNC, static PIE", f"{gcc} -DIFUNC -static-pie")
    yield _ok("TLS of 1 MiB, local-exec", f"{gcc} -DTLS_KIB=1024 -ftls-model=local-exec")
    yield _ok("TLS of 1 MiB, initial-exec", f"{gcc} -DTLS_KIB=1024 -fPIC -ftls-model=initial-exec")
    yield _ok("TLS of 1 MiB, global-dynamic", f"{gcc} -DTLS_KIB=1024 -fPIC -ftls-model=global-dynamic")
    yield _ok("TLS by descriptors", f"{gcc} -DTLS_KIB=64 -fPIC -mtls-dialect=gnu2")
    yield _ok("TLS of 1 MiB, static", f"{gcc} -DTLS_KIB=1024 -static")
    yield _ok("executable stack, not used", f"{gcc} -Wl,-z,execstack")
    yield _bad("executable stack, code runs on it", f"{gcc} -DSTACK_CODE -Wl,-z,execstack")
    yield _bad(".data aligned to 64 KiB, PIE", f"{gcc} -DALIGN=65536", ALIGNMENT)
    yield _bad(".data aligned to 64 KiB, static PIE", f"{gcc} -DALIGN=65536 -static-pie", ALIGNMENT)
    yield _bad(".data aligned to 2 MiB, PIE", f"{gcc} -DALIGN=0x200000", ALIGNMENT)
    yield _ok(".data aligned to 64 KiB, no PIE", f"{gcc} -DALIGN=65536 -no-pie -fno-pie")
    big = f"{gcc} -mcmodel=large -DBSS_MIB"
    yield Layout(name=".bss of 1 GiB, 2 GiB of memory", build=f"{big}=1024", memory=2048)
    yield _ok(".bss of 1 GiB, 512 MiB of memory", f"{big}=1024")
    yield Layout(name=".bss of 3 GiB", build=f"{big}=3072", codes=(HIGH,), runs=False, memory=4096)
    yield _ok("musl, dynamic", "musl-gcc probe.c -o prog")
    yield _ok("musl, static", "musl-gcc -static probe.c -o prog")
    yield _ok("musl, static PIE", "musl-gcc -static-pie -fPIE probe.c -o prog")
    yield _bad("musl, dynamic, lld", "musl-gcc $LLD probe.c -o prog", SHARED)
    yield _bad("musl, static PIE, lld", "musl-gcc $LLD -static-pie -fPIE probe.c -o prog", SHARED)
    yield _bad("reads its own file", f"{gcc} -DREAD_SELF")


def _odd() -> Iterator[Layout]:
    yield _ok("only .bss to write, fits its pages", f"{_BARE} -DNO_DATA $LLD bare.c -o prog")
    yield _bad("only .bss to write, one page more", f"{_BARE} -DNO_DATA -DSIZE=8100 $LLD bare.c -o prog", CUT)
    yield _ok("only .bss to write, GNU ld", f"{_BARE} -DNO_DATA -DSIZE=8100 bare.c -o prog")
    yield _bad(
        "headers at the file's end", "gcc probe.c -o prog && python3 patch.py move-headers prog", LATE, ELSEWHERE
    )
    yield _bad(
        "a segment below the headers'",
        "gcc -no-pie -fno-pie probe.c -o prog && python3 patch.py low-segment prog",
        ELSEWHERE,
    )
    yield _ok("headers in no segment, no C library", f"{_BARE} bare.c -o prog -Wl,-T,no-headers.ld")
    yield _bad("linked at 3.5 GiB", f"{_BARE} -Wl,-Ttext-segment=0xe0000000 bare.c -o prog", HIGH)
    yield _ok("linked at 64 KiB", f"{_BARE} -Wl,-Ttext-segment=0x10000 bare.c -o prog")
    read_only = f"{_BARE} -DREAD_ONLY bare.c -o prog && python3 patch.py read-only-bss prog"
    yield _bad("read-only segment with .bss", read_only, READ_ONLY)
    yield _bad("two segments in one page", f"{_BARE} bare.c -o prog -Wl,-T,one-page.ld", OVERLAP)
    rpath = "patchelf --set-rpath /opt/some/where/else/far/away/lib prog"
    yield _ok("patchelf --set-rpath, PIE", f"gcc probe.c -o prog && {rpath}")
    yield _ok("patchelf --set-rpath, no PIE", f"gcc -no-pie -fno-pie probe.c -o prog && {rpath}")
    farther = (
        f"gcc probe.c -o prog && patchelf --set-interpreter {_FARTHER} prog && cp /lib64/ld-linux-x86-64.so.2 loader"
    )
    yield Layout(name="patchelf --set-interpreter", build=farther, files={_FARTHER: "loader"})


def _others() -> Iterator[Layout]:
    """ELF files other than the program: a library, which the program's loader maps, and the loader itself."""
    shared = "gcc -O1 -shared -fPIC -Dmain=probe_main probe.c -o libprobe.so"
    main = "gcc call.c -o prog -L. -lprobe -Wl,-rpath,/lib"
    for linker, flag in {"GNU ld": "-fuse-ld=bfd", "lld": "$LLD", "mold": "-fuse-ld=mold"}.items():
        build = f"{shared} {flag} && {main}"
        yield Layout(name=f"library by {linker}", build=build, files={"/lib/libprobe.so": "libprobe.so"})
    program = "gcc probe.c -o prog -Wl,--dynamic-linker=/interp"
    loader = {"/interp": "interp"}
    yield Layout(name="loader by GNU ld", build=f"{_INTERPRETER} && {program}", files=loader)
    yield Layout(
        name="loader by lld", build=f"{_INTERPRETER} $LLD && {program}", codes=(SHARED,), runs=False, files=loader
    )


def _settings() -> Iterator[Layout]:
    """Kernel settings that help."""
    for what, build in {
        "GNU ld, PIE": "gcc probe.c -o prog",
        "lld, PIE": "gcc $LLD probe.c -o prog",
        "lld, static": "gcc -static $LLD probe.c -o prog",
        "mold, PIE": "gcc -fuse-ld=mold probe.c -o prog",
        "only .bss to write, one page more": f"{_BARE} -DNO_DATA -DSIZE=8100 $LLD bare.c -o prog",
        "reads its own file": "gcc -DREAD_SELF probe.c -o prog",
    }.items():
        yield Layout(name=f"{what}, static_map_program", build=build, passthrough={"static_map_program": "t"})
    loader = {"/interp": "interp"}
    program = "gcc probe.c -o prog -Wl,--dynamic-linker=/interp"
    yield Layout(
        name="loader by lld, static_map_program",
        build=f"{_INTERPRETER} $LLD && {program}",
        passthrough={"static_map_program": "t"},
        files=loader,
    )
    aligned = "gcc probe.c -o prog -DALIGN="
    yield Layout(name=".data aligned to 64 KiB, PIE, noaslr", build=f"{aligned}65536", passthrough={"noaslr": "t"})
    yield Layout(name=".data aligned to 2 MiB, PIE, noaslr", build=f"{aligned}0x200000", passthrough={"noaslr": "t"})


LAYOUTS = (
    *_linkers(), *_lld_and_mold(), *_gnu_and_gold(), *_contents(), *_odd(), *_others(), *_settings(),
)  # fmt: skip
