#!/usr/bin/env python3
"""Proves that it knows the opening of a Pedersen commitment on BN254 (Okamoto's protocol, made non-interactive by
Fiat-Shamir), and verifies the proof.

    prove.py VALUE BLINDING [DIRECTORY]      DIRECTORY gets proof.json; the default is /workspace
"""

import json
import sys
from pathlib import Path

from sigma import commit, prove, verify


def main(value: str, blinding: str, directory: str = "/workspace") -> int:
    opening = int(value), int(blinding)
    commitment = commit(*opening)
    proof = prove(commitment, opening)
    shown = {"commitment": [str(x) for x in commitment], **{name: str(number) for name, number in proof.items()}}
    Path(directory, "proof.json").write_text(json.dumps(shown), encoding="utf-8")
    forged = {**proof, "first": proof["first"] + 1}
    print("commitment", commitment[0] % 10**12)
    print("proof", verify(commitment, proof), "forged", verify(commitment, forged))
    return 0


if __name__ == "__main__":
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    sys.exit(main(*sys.argv[1:]))
