"""Images of real programs: compiled by gcc, with the machine's own loader and C library, packed by our writer."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from orchestrator.image.listing import path_key
from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.nanos.verify.image import verify_image
from orchestrator.stub_kernel import stub_boot_image
from orchestrator.values import Value
from orchestrator.verification import Verification

LOADER = "/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "/lib/x86_64-linux-gnu"
DIRECTORY = None  # as a file's content: an empty directory

Compile = Callable[..., Path]
Content = bytes | Path | str | None
"""Bytes, a host file, a link's target, or None for a directory."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What an image is made of; `but` gives a changed one."""

    files: dict[str, Content]
    attributes: dict[str, Value]
    kernel: bytes
    klibs: dict[str, bytes] = field(default_factory=dict)
    boot_img: bytes | None = field(default_factory=stub_boot_image)

    def but(
        self,
        *,
        files: Mapping[str, Content] | None = None,
        without: tuple[str, ...] = (),
        attributes: Mapping[str, Value] | None = None,
        no_attributes: tuple[str, ...] = (),
        klibs: Mapping[str, bytes] | None = None,
    ) -> Recipe:
        """The same, with some files and attributes added or changed, and some left out."""
        kept = {path: content for path, content in self.files.items() if path not in without}
        root = {name: value for name, value in self.attributes.items() if name not in no_attributes}
        return replace(
            self,
            files={**kept, **(files or {})},
            attributes={**root, **(attributes or {})},
            klibs={**self.klibs, **(klibs or {})},
        )


@pytest.fixture(scope="session")
def compile_c(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """`compile_c(name, source, *flags)` → the path of what was made."""
    directory = tmp_path_factory.mktemp("compiled")

    def inner(name: str, source: str, *flags: str) -> Path:
        target = directory / name
        file = directory / "source.c"
        file.write_text(source)
        # Without a soname, what links to the library would need it by its path on this machine.
        names = [f"-Wl,-soname,{name}"] if "-shared" in flags else []
        subprocess.run(["gcc", "-o", str(target), str(file), *names, *flags], check=True, cwd=directory)
        return target

    return inner


@pytest.fixture(scope="session")
def good(compile_c: Compile) -> Recipe:
    """A program with a library of its own, a plugin that it opens by name, and a (vsock) shim: all is well."""
    own = compile_c("libown.so", "int own(void) { return 0; }", "-shared", "-fPIC")
    shim = compile_c(
        "libgevulot_shim_ffi.so",
        'const char *service(void) { return "/vm_service.VMService/GetTask"; }',
        "-shared",
        "-fPIC",
    )
    plugin = compile_c("libplugin.so", "int own(void); int plug(void) { return own(); }", "-shared", "-fPIC", str(own))
    program = compile_c(
        "prog",
        "int own(void); const char *service(void); int main(void) { return own() + !service(); }",
        str(own),
        str(shim),
    )
    kernel = compile_c("kernel.img", "void _start(void) {}", "-nostdlib", "-static")
    return Recipe(
        files={
            "/prog": program,
            LOADER: Path(LOADER),
            f"{LIBRARIES}/libc.so.6": Path(f"{LIBRARIES}/libc.so.6"),
            f"{LIBRARIES}/libown.so": own,
            f"{LIBRARIES}/libgevulot_shim_ffi.so": shim,
            f"{LIBRARIES}/libplugin.so": plugin,
            "/etc/resolv.conf": b"nameserver  8.8.8.8\n",
            "/workspace": DIRECTORY,
        },
        attributes={
            "program": "/prog",
            "arguments": ["prog", "-v"],
            "environment": {"RUST_LOG": "debug"},
            "mounts": {"%0": "/workspace"},
            "readonly_rootfs": "true",
        },
        kernel=kernel.read_bytes(),
    )


@pytest.fixture
def build(tmp_path: Path) -> Callable[[Recipe], Path]:
    """Write an image."""

    def inner(recipe: Recipe) -> Path:
        path = tmp_path / "test.img"
        boot = BootFiles(boot_img=recipe.boot_img, kernel=recipe.kernel, klibs=recipe.klibs)
        with ImageWriter(path, boot) as writer:
            for name, content in sorted(recipe.files.items(), key=lambda item: path_key(item[0])):
                if content is None:
                    writer.add_directory(name)
                elif isinstance(content, str):
                    writer.add_symlink(name, content)
                else:
                    data = content if isinstance(content, bytes) else content.read_bytes()
                    writer.add_file(name, len(data), [data])
            writer.finish(recipe.attributes)
        return path

    return inner


@pytest.fixture
def verify(build: Callable[[Recipe], Path]) -> Callable[..., Verification]:
    """Write an image and verify it."""

    def inner(recipe: Recipe, runtime: str | None = None) -> Verification:
        return verify_image(build(recipe), project_runtime=runtime)

    return inner
