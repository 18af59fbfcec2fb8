"""`inspect`, `verify`, `hash` and `deploy-command` on good images and on what isn't one."""

from __future__ import annotations

from pathlib import Path

import pytest
from blake3 import blake3

from orchestrator.image.writer import BootFiles, ImageWriter
from orchestrator.stub_kernel import stub_boot_image, stub_kernel
from tests.cli.conftest import FILES, cli, unchanged
from tests.support.receipts import receipt_text

READ_ONLY = [("inspect",), ("inspect", "--json"), ("verify",), ("verify", "--json"), ("hash",), ("hash", "--json")]


def test_summary(image: Path) -> None:
    text = cli("inspect", image).text
    rows = dict(line.split(":", 1) for line in text.splitlines())
    assert rows["size"].split()[-2:] == [f"({image.stat().st_size}", "bytes)"]
    assert rows["kernel"].strip().startswith("stub")
    assert "not bootable" in rows["kernel"]
    assert rows["boot"].strip() == "BIOS"
    assert rows["arguments"].strip() == "prog 'two words'"
    assert rows["mounts"].strip() == "%0 at /workspace"
    assert rows["files"].strip() == str(len(FILES))
    document = cli("inspect", image, "--json").json()
    assert (document["kernel"], document["boot"], document["program"]) == ("stub", ["bios"], "/prog")
    assert document["size"] == image.stat().st_size


def test_listing_and_contents(image: Path) -> None:
    assert [line.split()[-1] for line in cli("inspect", image, "ls").text.splitlines()] == ["/etc", "/prog", "/zeros"]
    assert cli("inspect", image, "ls", "/etc").text.split()[-2:] == ["6", "/etc/motd"]
    assert "└── motd  (6)" in cli("inspect", image, "tree").text
    assert {row["path"] for row in cli("inspect", image, "tree", "--json").json()} == {*FILES, "/etc"}
    for name, data in FILES.items():
        assert cli("inspect", image, "cat", name).out == data
    assert cli("inspect", image, "manifest").json()["arguments"] == ["prog", "two words"]
    assert "boot:/kernel" in cli("inspect", image, "stand-ins").text


def test_extract(image: Path) -> None:
    ended = cli("inspect", image, "extract", "tree")
    assert (ended.code, ended.text) == (0, "tree\n")
    assert {
        f"/{path.relative_to('tree')}": path.read_bytes() for path in Path("tree").rglob("*") if path.is_file()
    } == FILES
    with unchanged(Path()):
        again = cli("inspect", image, "extract", "tree")
    assert again.code == 2
    assert "not empty" in again.err


@pytest.mark.parametrize(
    "receipt",
    [
        b"[" * 200_000,
        b'{"image": ' * 60_000,
        b'{"resources": {"memory": -5, "cpus": 2}}',
        b'{"resources": {"memory": true, "cpus": []}}',
        b'{"resources": {"memory": 1' + b"0" * 5000 + b"}}",
        b'{"resources": {"cpus": "x\\u001b"}}',
    ],
)
def test_receipts_that_nobody_wrote(image: Path, receipt: bytes) -> None:
    """What runs an image by its receipt says what is wrong with it; `verify` does, and checks all the same."""
    path = image.with_suffix(".receipt.json")
    path.write_bytes(receipt)
    ended = cli("verify", image)
    assert ended.code == 6  # as without one: it holds no program
    assert "x.receipt.json is not a receipt: " in ended.err and "no GPU families are checked" in ended.err
    ended = cli("deploy-command", path, path, "--name", "x")
    assert (ended.code, "is not a receipt" in ended.err) == (2, True)
    for command in ("rehearse", "boot"):
        ended = cli(command, image, "--timeout", "5", *(("--engine", "none") if command == "rehearse" else ()))
        assert (ended.code, len(ended.err.splitlines())) == (2, 2), ended.err
        assert "x.receipt.json is not a receipt: " in ended.err and "remove it" in ended.err


def test_diff(image: Path) -> None:
    assert cli("inspect", image, "diff", image).code == 0
    assert cli("inspect", image, "diff", image, "--json").json() == []


def other_image(path: Path, *, kernel: bytes, version: int) -> Path:
    """What the fixture's image holds, with this kernel and encoding."""
    with ImageWriter(path, BootFiles(boot_img=stub_boot_image(), kernel=kernel), version=version) as writer:
        for name, data in FILES.items():
            writer.add_file(name, len(data), [data])
        writer.finish({"program": "/prog", "arguments": ["prog", "two words"], "mounts": {"%0": "/workspace"}})
    return path


def test_diff_tells_what_is_held_from_how_it_is_written(image: Path) -> None:
    ended = cli("inspect", image, "diff", other_image(Path("form.img"), kernel=stub_kernel(), version=4))
    assert ended.code == 0, ended.text
    assert {line.split(":")[0] for line in ended.text.splitlines()} == {"~ form"}
    assert "hold the same; they differ only in how it is stored" in ended.err
    other = other_image(Path("kernel.img"), kernel=stub_kernel() + b"!", version=5)
    ended = cli("inspect", image, "diff", other, "--json")
    assert ended.code == 1
    (row,) = (difference for difference in ended.json() if difference["part"] != "form")
    assert row == {
        "part": "kernel", "change": "~", "path": "/kernel", "detail": "192 / 193 bytes, from byte 192 on",
        "offset": 192,
    }  # fmt: skip
    with Path("free.img").open("wb") as free:
        free.write(image.read_bytes() + b"hidden".ljust(512, b"\0"))
    ended = cli("inspect", image, "diff", "free.img")
    assert (ended.code, ended.text) == (
        1,
        "~ free space: size (0 / 512 bytes)\n"
        "~ free space: contents (0 / 6 non-zero bytes that belong to no file)\n"
        f"~ form: size ({image.stat().st_size} / {image.stat().st_size + 512})\n"
        "~ form: partitions (bootfs 12582912 at 5120, rootfs 536064 at 12588032 / "
        "bootfs 12582912 at 5120, rootfs 536576 at 12588032)\n",
    )


def test_convert(image: Path) -> None:
    canonical = image.read_bytes()
    other = bytearray(canonical)
    other[12588032 + 8 : 12588032 + 24] = bytes(range(16))  # the root file system's UUID
    Path("other.img").write_bytes(other)
    ended = cli("inspect", "other.img", "convert", "new.img")
    assert (ended.code, ended.text, Path("new.img").read_bytes() == canonical) == (0, "new.img\n", True)
    assert ended.err == f"BLAKE3 {blake3(canonical).hexdigest()}\n"
    ended = cli("inspect", "other.img", "convert", "other.img", "--json")  # onto itself
    assert ended.json() == {
        "image": "other.img", "size": len(canonical), "blake3": blake3(canonical).hexdigest(), "left_out": [],
    }  # fmt: skip
    assert Path("other.img").read_bytes() == canonical


def test_convert_refuses_what_it_would_lose(image: Path) -> None:
    with image.open("ab") as free:
        free.write(b"hidden".ljust(512, b"\0"))
    with unchanged(Path()):
        ended = cli("inspect", image, "convert", "new.img")
    assert ended.code == 6
    assert "6 bytes in free space that are not zero" in ended.err
    ended = cli("inspect", image, "convert", "new.img", "--lossy")
    assert (ended.code, ended.text) == (0, "new.img\n")
    assert ended.err.startswith("left out: 6 bytes in free space that are not zero\n")
    assert Path("new.img").stat().st_size == image.stat().st_size  # the free space stays, and is empty
    assert cli("inspect", image, "ls", "--lossy").code == 2
    with unchanged(Path()):
        assert cli("inspect", image, "convert", ".").code == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("convert",), "give one file to write"),
        (("ls", "/nope"), "the image has no /nope"),
        (("cat", "/prgo"), "did you mean /prog?"),
        (("cat", "/etc"), "not a regular file"),
        (("cat",), "give one path"),
        (("ls", "/a", "/b"), "give one path"),
        (("diff",), "give one other image"),
        (("diff", "nope.img"), "there is no file nope.img"),
        (("extract", "x.img"), "x.img: "),
        (("manifest", "x"), "takes no arguments"),
        (("cat", "/prog", "--json"), "no --json"),
    ],
)
def test_wrong_paths_and_arguments(image: Path, arguments: tuple[str, ...], words: str) -> None:
    with unchanged(Path()):
        ended = cli("inspect", image, *arguments)
    assert ended.code == 2
    assert words in ended.err
    assert len(ended.err.splitlines()) <= 2


@pytest.mark.parametrize("command", READ_ONLY, ids=" ".join)
def test_what_is_no_file(image: Path, command: tuple[str, ...]) -> None:
    for path, words in (("nope", "there is no file nope"), (".", "did you mean x.img?"), ("x", "did you mean x.img?")):
        ended = cli(command[0], path, *command[1:])
        assert ended.code == 2
        assert words in ended.err
    assert cli(command[0], "/dev/null", *command[1:]).code == 2


@pytest.mark.parametrize("command", READ_ONLY[:4], ids=" ".join)
@pytest.mark.parametrize("damage", ["empty", "text", "cut", "elf"])
def test_what_is_no_image(image: Path, command: tuple[str, ...], damage: str) -> None:
    data = image.read_bytes()
    damaged = {
        "empty": b"",
        "text": b"hello\n" * 1000,
        "cut": data[: len(data) - 4096],
        "elf": b"\x7fELF" + bytes(9000),
    }
    Path("bad.img").write_bytes(damaged[damage])
    with unchanged(Path()):
        ended = cli(command[0], "bad.img", *command[1:])
    assert ended.code == 6
    assert "bad.img" in ended.err + ended.text
    if "--json" in command:
        assert ended.json()["ok"] is False
    else:
        assert len(ended.err.splitlines()) <= 2


def test_verify_counts_what_failed(image: Path) -> None:
    ended = cli("verify", image)
    assert ended.code == 6  # its program is no ELF file
    assert ended.err.splitlines()[-1].startswith("error: x.img: ")
    checks = [line for line in ended.text.splitlines() if line.startswith(("FAIL", "ok  "))]
    failed = [line for line in checks if line.startswith("FAIL")]
    assert f"{len(failed)} of {len(checks)} checks failed" in ended.err
    document = cli("verify", image, "--json").json()
    assert document["ok"] is False
    assert [check["ok"] for check in document["checks"]] == [line.startswith("ok") for line in checks]


def test_hash(image: Path) -> None:
    expected = blake3(image.read_bytes()).hexdigest()
    assert cli("hash", image).text == f"{expected}\n"
    document = cli("hash", image, "--json").json()
    assert document == {"image": "x.img", "size": image.stat().st_size, "blake3": expected, "program": None}
    one = cli("hash", image, "--program", "p", "http://h/x.img").text
    assert len(one.strip()) == 64
    assert one != cli("hash", image, "--program", "p", "http://other/x.img").text


def receipt(name: str, **changes: object) -> str:
    Path(f"{name}.img").write_text(name)
    checksum = blake3(name.encode()).hexdigest()
    Path(f"{name}.receipt.json").write_text(receipt_text(name, checksum, path=f"elsewhere/{name}.img", **changes))
    return f"{name}.receipt.json"


def test_deploy_command(here: Path) -> None:
    prover, verifier = receipt("prover"), receipt("verifier", resources={"cpus": 1, "memory": 256, "gpus": 1})
    ended = cli("deploy-command", prover, verifier, "--name", "a pair")
    assert (ended.code, ended.err) == (0, "")
    assert ended.text.startswith("gevulot-cli deploy --name 'a pair' --prover prover.img --provername prover ")
    assert "--verifiercpus 1 --verifiermem 256 --verifiergpus 1" in ended.text
    ended = cli("deploy-command", prover, verifier, "--name", "n", "--prover-url", "http://h/p.img")
    assert f"--prover {blake3(b'prover').hexdigest()} --provername prover --proverimgurl http://h/p.img" in ended.text


def test_deploy_command_warns(here: Path) -> None:
    prover, verifier = receipt("prover", bootable=False), receipt("verifier")
    Path("verifier.img").unlink()
    ended = cli("deploy-command", prover, verifier, "--name", "n")
    assert ended.code == 0
    assert "prover.img is not bootable" in ended.err
    assert "verifier.img does not exist" in ended.err
    assert "same image" in cli("deploy-command", verifier, verifier, "--name", "n").err


@pytest.mark.parametrize("url", [(), ("--verifier-url", "http://h/v.img")])
def test_deploy_command_refuses_another_image(here: Path, url: tuple[str, ...]) -> None:
    prover, verifier = receipt("prover"), receipt("verifier")
    Path("verifier.img").write_text("another")
    ended = cli("deploy-command", prover, verifier, "--name", "n", *url)
    assert (ended.code, ended.text) == (6, "")
    assert "verifier.receipt.json is of another image than verifier.img: it says BLAKE3 " in ended.err


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b"\xff\xfe", b'{"image": 3}'])
def test_deploy_command_with_what_is_no_receipt(here: Path, content: bytes | None) -> None:
    if content is not None:
        Path("r.json").write_bytes(content)
    ended = cli("deploy-command", "r.json", "r.json", "--name", "n")
    assert ended.code == 2
    assert ended.err.startswith("error: r.json")
    assert len(ended.err.splitlines()) == 2
