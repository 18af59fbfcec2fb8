// Makes the keys of the circuit: keys/circuit.zkey for the prover, keys/verification.json for the verifier.
//
//   node setup.js          npm runs it after it has installed the packages (package.json: postinstall)
//
// No contribution to this ceremony is secret: its beacons are below, so anyone can forge proofs. Fine to try things out,
// and the same keys each time.
"use strict";
const fs = require("fs");
const { writeR1cs } = require("r1csfile");
const { curves, powersOfTau, zKey } = require("snarkjs");
const { WIRES, constraints } = require("./circuit.js");

const POWER = 5; // 2^5 constraints at most
const BEACON = "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20";

async function setup() {
  const curve = await curves.getCurveFromName("bn128");
  const rows = constraints(curve.Fr);
  fs.mkdirSync("keys", { recursive: true });
  await writeR1cs("keys/circuit.r1cs", {
    n8: 32, prime: curve.r, curve, nVars: WIRES, nOutputs: 1, nPubInputs: 0, nPrvInputs: 1, nLabels: WIRES,
    constraints: rows, map: [...Array(WIRES).keys()],
  });
  await powersOfTau.newAccumulator(curve, POWER, "keys/0.ptau");
  await powersOfTau.beacon("keys/0.ptau", "keys/1.ptau", "beacon", BEACON, 10);
  await powersOfTau.preparePhase2("keys/1.ptau", "keys/2.ptau");
  await zKey.newZKey("keys/circuit.r1cs", "keys/2.ptau", "keys/0.zkey");
  await zKey.beacon("keys/0.zkey", "keys/circuit.zkey", "beacon", BEACON, 10);
  fs.writeFileSync("keys/verification.json", JSON.stringify(await zKey.exportVerificationKey("keys/circuit.zkey")));
  for (const name of ["0.ptau", "1.ptau", "2.ptau", "0.zkey", "circuit.r1cs"]) fs.rmSync(`keys/${name}`);
  await curve.terminate();
}

setup().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
