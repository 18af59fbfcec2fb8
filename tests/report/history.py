"""Receipts of a made-up team: some projects over some months, the same each time. Also for docs/report/."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.receipts import receipt_document

PROJECTS = ("groth16-prover", "groth16-verifier", "halo2-prover", "plonky-prover", "snarkjs-prover", "risc-verifier")
ENGINES = (
    {"kind": "docker", "version": "28.5.1", "builder": "buildkit", "private": False},
    {"kind": "podman", "version": "5.4.2", "builder": "buildah", "private": False},
    {"kind": "podman", "version": "4.3.1", "builder": "buildah", "private": True},
)
STEPS = (
    ("inputs", "pull docker.io/library/debian:bookworm", 2.0),
    ("packages", "RUN sh /orchestrator/install-packages.sh", 9.0),
    ("gevulot", "RUN cargo build --release --locked --package shim", 48.0),
    ("program", "COPY sources/ /build/", 0.3),
    ("program", "RUN cargo build --release --locked", 95.0),
    ("staging", "RUN sh /orchestrator/stage-tree.sh --libraries auto", 0.9),
    ("pack", "write the image from the staged tree", 0.4),
    ("verify", "verify the image", 0.15),
    ("receipt", "hash the image", 0.1),
)
PULL = ("docker.io/library/debian:bookworm could not be pulled (its registry's name does not resolve); "
        "using a base made from Debian bookworm packages instead")  # fmt: skip
STUB = "a stub kernel, which prints one line and stops"
FIRST, LAST = datetime(2026, 6, 1, 8, 0, tzinfo=UTC), datetime(2026, 11, 6, 8, 0, tzinfo=UTC)
TITLES = ("Partitions, logs and extents", "Boot code and kernel", "Program", "Program's loader at its path",
          "Every library that a packed ELF file needs", "Symbol versions", "Mounts", "Environment")  # fmt: skip


def digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


class Project:
    """One project as it changes from build to build."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self.random = random.Random(name)
        self.source = self.manifest = self.debian = self.shim = 0
        self.files = {f"/lib/x86_64-linux-gnu/lib{part}.so.6": (digest(part), 180_000 + 7919 * len(part))
                      for part in ("c", "m", "gmp", "stdc++", "gcc_s")}  # fmt: skip
        self.size = (11 + 9 * number) << 20

    def next_build(self, at: datetime) -> tuple[dict[str, Any], str]:
        """Receipt and bill of materials of its next build."""
        happens = self.random.random()
        ran = {"pack", "verify", "receipt"}
        if happens < 0.62:
            self.source += 1
            self.size += self.random.randint(-40_000, 90_000)
            ran |= {"program", "staging"}
        elif happens < 0.72:
            self.manifest += 1
        elif happens < 0.78:
            self.debian += 1
            self.size += self.random.randint(-900_000, 1_400_000)
            self.files["/lib/x86_64-linux-gnu/libc.so.6"] = (digest("libc", self.debian), 1_926_232 + 64 * self.debian)
            ran |= {stage for stage, _, _ in STEPS}
        elif happens < 0.81:
            self.shim += 1
            ran |= {"gevulot", "program", "staging"}
        self.files[f"/{self.name}"] = (digest(self.name, self.source, self.shim), self.size // 3)
        self.files[f"/params/kzg-{1 + self.source // 20}.srs"] = (digest("srs", self.source // 20), 4 << 20)
        bill = self._bill()
        return self._receipt(at, ran, bill), bill

    def _receipt(self, at: datetime, ran: set[str], bill: str) -> dict[str, Any]:
        slow = 1 + 0.2 * self.number
        stages = [
            {"stage": stage, "step": step, "cached": stage not in ran,
             "seconds": round(seconds * slow * self.random.uniform(0.85, 1.3), 3) if stage in ran else 0.0}
            for stage, step, seconds in STEPS
        ]  # fmt: skip
        blake3 = digest(self.name, self.source, self.manifest, self.debian, self.shim)
        real = self.number != 4
        document = receipt_document(
            self.name, blake3, path=f"target/{self.name}.img", finished=at.isoformat(timespec="seconds"),
            runtime="devnet" if real else "local", nanos_version="0.1.51" if real else "stub", bootable=real,
            engine=ENGINES[self.random.choice((0, 0, 0, 1, 1, 2))], stages=stages, inputs=self._inputs(),
            context_sha256=digest("context", self.name, self.source), manifest_sha256=digest("m", self.manifest),
            warnings=[{"source": "build", "text": PULL}] if self.number == 2 and self.debian % 2 else [],
            resources={"cpus": 2 + 2 * self.number, "memory": 512 << (self.number % 3), "gpus": int(self.number == 3)},
            verification=self._verification(real),
            stand_ins=[] if real else [{"path": "boot:/kernel", "text": STUB}],
            attachments=[{"kind": "sbom", "file": f"{self.name}.sbom.cdx.json",
                          "sha256": hashlib.sha256(bill.encode()).hexdigest()}],
        )  # fmt: skip
        document["image"]["size"] = self.size
        document["image"]["sha256"] = digest("sha256", blake3)
        return document | self._runs(at, real)

    def _inputs(self) -> list[dict[str, Any]]:
        return [
            {"name": "base", "kind": "image", "source": "docker.io/library/debian:bookworm",
             "pin": {"digest": f"sha256:{digest('debian', self.debian)}"}},
            {"name": "nanos", "kind": "archive", "source": "Nanos 0.1.51",
             "pin": {"version": "0.1.51", "sha256": digest("nanos")}},
            {"name": "gevulot", "kind": "git", "source": "https://git.example/gevulot.git",
             "pin": {"commit": digest("shim", self.shim)[:40]}},
        ]  # fmt: skip

    def _verification(self, real: bool) -> dict[str, Any]:
        stub = {"severity": "warning", "code": "kernel-is-stub", "message": "the kernel is this project's stub, which "
                "prints one line and stops: the program will not run", "remedy": "set nanos.version"}  # fmt: skip
        checks = [{"id": f"check-{at}", "title": title, "ok": True, "detail": "", "findings": []}
                  for at, title in enumerate(TITLES)]  # fmt: skip
        if not real:
            checks[1]["findings"] = [stub]
        return {"image": "x", "size": self.size, "ok": True, "bootable": real, "checks": checks, "stand_ins": []}

    def _runs(self, at: datetime, real: bool) -> dict[str, Any]:
        runs: dict[str, Any] = {}
        later = (at + timedelta(minutes=2)).isoformat(timespec="seconds")
        if self.number in (1, 3):
            runs["rebuild"] = {"engine": ENGINES[1], "varied": {"cores": "1", "locale": "tr_TR.UTF-8"}, "seconds": 88.0}
        if self.number in (0, 1, 3, 4):
            runs["rehearsal"] = {"passed": True, "engine": "none", "seconds": 0.4, "at": later,
                                 "reason": "it ended with exit code 0", "peak_memory": self.size * 3}  # fmt: skip
        if real and self.number < 4:
            fails = self.number == 3 and self.source % 9 == 0
            runs["smoke"] = {"passed": not fails, "accel": "kvm", "seconds": 1.4, "at": later,
                             "reason": "it ended with a kernel panic" if fails else "the program started"}  # fmt: skip
        return runs

    def _bill(self) -> str:
        files = [{"type": "file", "name": name, "hashes": [{"alg": "SHA-256", "content": sha256}],
                  "properties": [{"name": "gevulot-orchestrator:size", "value": str(size)}]}
                 for name, (sha256, size) in sorted(self.files.items())]  # fmt: skip
        packages = [{"type": "library", "name": name, "version": version, "purl": f"pkg:{kind}/{name}@{version}"}
                    for kind, name, version in (
                        ("deb/debian", "libc6", f"2.36-9+deb12u{9 + self.debian}"),
                        ("deb/debian", "libgmp10", "2:6.2.1"),
                        ("cargo", "ark-ec", f"0.5.{self.source // 12}"), ("cargo", "rand", "0.9.2"),
                    )]  # fmt: skip
        return json.dumps({"bomFormat": "CycloneDX", "components": files + packages})


def documents(count: int, projects: int = len(PROJECTS), seed: int = 1) -> Iterator[tuple[dict[str, Any], str]]:
    """`count` receipts and their bills of materials, by time, over some five months."""
    team = [Project(name, number) for number, name in enumerate(PROJECTS[:projects])]
    choose, at = random.Random(seed), FIRST
    for _ in range(count):
        at += timedelta(minutes=choose.expovariate(1 / (216_000 / count)))
        yield choose.choices(team, weights=range(len(team) + 1, 1, -1))[0].next_build(at)


def write_history(folder: Path, count: int, projects: int = len(PROJECTS)) -> Path:
    """Write them as CI systems keep them: a directory each run."""
    for number, (receipt, bill) in enumerate(documents(count, projects)):
        run = folder / f"run-{number:04}" / "target"
        run.mkdir(parents=True)
        name = receipt["name"]
        (run / f"{name}.receipt.json").write_text(json.dumps(receipt, indent=2))
        (run / f"{name}.sbom.cdx.json").write_text(bill)
    return folder
