#!/bin/sh
# `make demo`: build my-prover and my-verifier, look into both images, check them, hash them, and rehearse them: a
# proof is made and accepted, and rejected with one byte changed. Fails when the verifier says anything else.
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

# verify_with PROOF ANSWER: what my-verifier says of a proof.
verify_with() {
    orchestrator rehearse "$out/my-verifier.img" --task examples/my-verifier/task.json \
        --file "$1" --file "$rehearsal/public.txt" > "$out/verdict.txt"
    cat "$out/verdict.txt"
    grep -qx "result: $2" "$out/verdict.txt" || { echo "demo: my-verifier should have said $2" >&2; exit 1; }
}

rehearsal=$out/rehearsal
rm -rf "$rehearsal" "$out/tampered"
say "rehearse $out/my-prover.img on examples/my-prover/task.json, from its own files, under the guest's limits"
orchestrator rehearse "$out/my-prover.img" --task examples/my-prover/task.json --workspace "$rehearsal"

say "hand its proof to my-verifier, which accepts it"
verify_with "$rehearsal/proof.bin" true

say "change one byte of the proof: my-verifier rejects it"
mkdir -p "$out/tampered"
"${PYTHON:-python3}" -c 'import pathlib, sys
proof = bytearray(pathlib.Path(sys.argv[1]).read_bytes())
proof[20] ^= 1
pathlib.Path(sys.argv[2]).write_bytes(proof)' "$rehearsal/proof.bin" "$out/tampered/proof.bin"
verify_with "$out/tampered/proof.bin" false

say "the same as a node's workflow: examples/workflow.json"
orchestrator run-workflow examples/workflow.json --program my-prover="$out/my-prover.img" \
    --program my-verifier="$out/my-verifier.img" > "$out/verdict.txt"
cat "$out/verdict.txt"
grep -qx "my-verifier: true" "$out/verdict.txt" || { echo "demo: my-verifier should have said true" >&2; exit 1; }
rm -f "$out/verdict.txt"

say "done"
for name in my-prover my-verifier; do
    echo "$out/$name.img, with its receipt $out/$name.receipt.json"
done
orchestrator inspect "$out/my-prover.img" stand-ins
orchestrator inspect "$out/my-verifier.img" stand-ins
