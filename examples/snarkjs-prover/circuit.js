// The circuit: whoever proves knows `secret` with hash(secret) = output, where the hash is eight rounds of
// x -> (x + round)^3 over BN254's scalar field. A toy: what it shows is the way from a circuit to a proof.
"use strict";

const ROUNDS = 8;
const PRIME = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;

// Wires: 0 is one, 1 the output (public), 2 the secret; then of each round the square and the cube, the last cube aside,
// which is the output.
const square = (round) => 3 + 2 * round;
const cube = (round) => (round === ROUNDS - 1 ? 1 : 4 + 2 * round);
const input = (round) => (round === 0 ? 2 : cube(round - 1));
const WIRES = 2 + 2 * ROUNDS;

// Rank-1 constraints A * B = C, each side a map from wire to coefficient.
function constraints(field) {
  const [one, number] = [field.one, (value) => field.e(value)];
  const rows = [];
  for (let round = 0; round < ROUNDS; round++) {
    const sum = round === 0 ? { [input(round)]: one } : { 0: number(round), [input(round)]: one };
    rows.push([sum, sum, { [square(round)]: one }]);
    rows.push([{ [square(round)]: one }, sum, { [cube(round)]: one }]);
  }
  return rows;
}

// The value of each wire for a secret.
function witness(secret) {
  const values = Array(WIRES).fill(0n);
  values[0] = 1n;
  values[2] = ((secret % PRIME) + PRIME) % PRIME;
  for (let round = 0; round < ROUNDS; round++) {
    const sum = (values[input(round)] + BigInt(round)) % PRIME;
    values[square(round)] = (sum * sum) % PRIME;
    values[cube(round)] = (values[square(round)] * sum) % PRIME;
  }
  return values;
}

module.exports = { PRIME, WIRES, constraints, witness };
