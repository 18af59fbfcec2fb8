// Groth16 by snarkjs, whole: powers of tau, key, proof and verification for x * x = y, all in memory.
import { curves, groth16, powersOfTau, zKey } from "snarkjs";
import { r1cs, witness } from "./circuit.mjs";

const curve = await curves.getCurveFromName("bn128", { singleThread: true });
const file = () => ({ type: "mem" });
const [first, contributed, prepared, key] = [file(), file(), file(), file()];
await powersOfTau.newAccumulator(curve, 4, first);
await powersOfTau.contribute(first, contributed, "stranger", "not random at all");
await powersOfTau.preparePhase2(contributed, prepared);
await zKey.newZKey(r1cs(), prepared, key);
const { proof, publicSignals } = await groth16.prove(key, witness(7n));
const vkey = await zKey.exportVerificationKey(key);
const right = await groth16.verify(vkey, publicSignals, proof);
const wrong = await groth16.verify(vkey, ["50"], proof);
console.log(`snarkjs y=${publicSignals} proof=${right} other=${wrong}`);
process.exit(right && !wrong ? 0 : 1);
