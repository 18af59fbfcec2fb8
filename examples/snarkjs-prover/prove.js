#!/usr/bin/env node
// Proves with Groth16 (snarkjs) that it knows a secret with a hash, and verifies the proof.
//
//   prove.js SECRET [DIRECTORY]      DIRECTORY gets proof.json and public.json; the default is /workspace
"use strict";
const fs = require("fs");
const path = require("path");
const { groth16, curves } = require("snarkjs");
const { PRIME, witness } = require("./circuit.js");

// snarkjs's file of a witness (.wtns): a header, then the value of each wire, 32 bytes each, the least first.
function wtns(values) {
  const bytes = (value) => Buffer.from(value.toString(16).padStart(64, "0"), "hex").reverse();
  const section = (type, data) => {
    const head = Buffer.alloc(12);
    head.writeUInt32LE(type, 0);
    head.writeBigUInt64LE(BigInt(data.length), 4);
    return Buffer.concat([head, data]);
  };
  const number = (value) => Buffer.from(Uint32Array.of(value).buffer);
  const header = Buffer.concat([number(32), bytes(PRIME), number(values.length)]);
  const parts = [Buffer.from("wtns"), number(2), number(2), section(1, header), section(2, Buffer.concat(values.map(bytes)))];
  return new Uint8Array(Buffer.concat(parts));
}

async function main([secret, directory = "/workspace"]) {
  const keys = path.join(__dirname, "keys");
  const { proof, publicSignals } = await groth16.prove(path.join(keys, "circuit.zkey"), wtns(witness(BigInt(secret))));
  fs.writeFileSync(path.join(directory, "proof.json"), JSON.stringify(proof));
  fs.writeFileSync(path.join(directory, "public.json"), JSON.stringify(publicSignals));
  const key = JSON.parse(fs.readFileSync(path.join(keys, "verification.json"), "utf8"));
  const forged = publicSignals.map((value) => String((BigInt(value) + 1n) % PRIME));
  console.log("hash", publicSignals[0]);
  console.log("proof", await groth16.verify(key, publicSignals, proof), "forged", await groth16.verify(key, forged, proof));
  await (await curves.getCurveFromName("bn128")).terminate(); // its threads
}

main(process.argv.slice(2)).catch((error) => { console.error(error); process.exit(1); });
