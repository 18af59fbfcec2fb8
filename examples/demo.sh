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

# workflows SUFFIX: the same by run-workflow, on the images my-prover-SUFFIX and my-verifier-SUFFIX.
workflows() {
    orchestrator run-workflow examples/workflow.json --program my-prover="$out/my-prover$1.img" \
        --program my-verifier="$out/my-verifier$1.img" > "$out/verdict.txt"
    cat "$out/verdict.txt"
    grep -qx "my-verifier: true" "$out/verdict.txt" || { echo "demo: my-verifier should have said true" >&2; exit 1; }
    orchestrator run-workflow "$out/tampered/workflow.json" --program my-verifier="$out/my-verifier$1.img" \
        > "$out/verdict.txt"
    cat "$out/verdict.txt"
    grep -qx "my-verifier: false" "$out/verdict.txt" || { echo "demo: my-verifier should have said false" >&2; exit 1; }
}

cp "$rehearsal/public.txt" "$out/tampered/"
cat > "$out/tampered/workflow.json" <<'END'
[{"program": "my-verifier", "inputs": [
  {"Input": {"local_path": "proof.bin", "vm_path": "/workspace/proof.bin"}},
  {"Input": {"local_path": "public.txt", "vm_path": "/workspace/public.txt"}}]}]
END
say "the same as a node's workflow (examples/workflow.json), and with the changed proof"
workflows ""

say "and for Devnet: the programs ask a node for their task, over vsock; a stand-in answers"
orchestrator build examples/my-prover/project.devnet.yaml examples/my-verifier/project.devnet.yaml -o "$out"
workflows -devnet
rm -f "$out/verdict.txt"

say "done"
for name in my-prover my-verifier; do
    echo "$out/$name.img, with its receipt $out/$name.receipt.json"
done
orchestrator inspect "$out/my-prover.img" stand-ins
orchestrator inspect "$out/my-verifier.img" stand-ins
