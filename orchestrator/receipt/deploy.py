"""The `gevulot-cli deploy` line of a prover and a verifier, from their receipts."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from orchestrator.receipt.read import load_receipt


@dataclass(frozen=True, kw_only=True)
class DeployPart:
    """What a deployment needs of one receipt. `memory` is MiB."""

    image: str
    blake3: str
    bootable: bool
    name: str
    cpus: int
    memory: int
    gpus: int

    @classmethod
    def read(cls, path: Path) -> DeployPart:
        """From a receipt file. UsageError when it isn't one."""
        receipt = load_receipt(path)
        return cls(
            # The image lies beside its receipt, wherever both were moved to.
            image=str(path.parent / Path(receipt.image.path).name),
            blake3=receipt.image.blake3,
            bootable=receipt.bootable,
            name=receipt.name,
            cpus=receipt.resources.cpus,
            memory=receipt.resources.memory,
            gpus=receipt.resources.gpus,
        )


def deploy_command(
    name: str, prover: DeployPart, verifier: DeployPart, *, prover_url: str | None, verifier_url: str | None
) -> str:
    """The `gevulot-cli deploy` line of a pair: by hash and URL where one is given, else the files themselves."""
    words = ["gevulot-cli", "deploy", "--name", name]
    for role, part, url in (("prover", prover, prover_url), ("verifier", verifier, verifier_url)):
        words += [f"--{role}", part.blake3 if url else part.image, f"--{role}name", part.name]
        words += [f"--{role}imgurl", url] if url else []
        words += [f"--{role}cpus", str(part.cpus), f"--{role}mem", str(part.memory), f"--{role}gpus", str(part.gpus)]
    return shlex.join(words)
