#!/bin/sh
# `make demo`: build my-prover and my-verifier, look into both images, check them, hash them.
set -eu
cd "$(dirname "$0")/.."
orchestrator() { "${PYTHON:-python3}" -m orchestrator "$@"; }
out=target/demo

say() { printf '\n== %s\n' "$*"; }

say "build my-prover and my-verifier (packer: native)"
orchestrator build examples/my-prover/project.yaml examples/my-verifier/project.yaml -o "$out"

for name in my-prover my-verifier; do
    say "inspect $out/$name.img tree"
    orchestrator inspect "$out/$name.img" tree
    say "verify $out/$name.img"
    orchestrator verify "$out/$name.img"
    say "hash $out/$name.img"
    orchestrator hash "$out/$name.img"
done

say "done"
for name in my-prover my-verifier; do
    echo "$out/$name.img, with its receipt $out/$name.receipt.json"
done
orchestrator inspect "$out/my-prover.img" stand-ins
orchestrator inspect "$out/my-verifier.img" stand-ins
