// The circuit x * x = y as circom would write it, with y public: wires are 1, y, x.
const PRIME = 21888242871839275222246405745257275088548364400416034343698204186575808495617n;

const u32 = (number) => Buffer.from(new Uint32Array([number]).buffer);
const u64 = (number) => Buffer.from(new BigUint64Array([BigInt(number)]).buffer);
const element = (number) => Buffer.from(number.toString(16).padStart(64, "0"), "hex").reverse();

function file(magic, version, sections) {
  const parts = [Buffer.from(magic), u32(version), u32(sections.length)];
  sections.forEach((section, at) => parts.push(u32(at + 1), u64(section.length), section));
  return { type: "mem", data: new Uint8Array(Buffer.concat(parts)) };
}

export function r1cs() {
  const header = Buffer.concat([u32(32), element(PRIME), u32(3), u32(1), u32(0), u32(1), u64(3), u32(1)]);
  const term = (wire) => Buffer.concat([u32(1), u32(wire), element(1n)]);
  const labels = Buffer.concat([u64(0), u64(1), u64(2)]);
  return file("r1cs", 1, [header, Buffer.concat([term(2), term(2), term(1)]), labels]);
}

export function witness(x) {
  const header = Buffer.concat([u32(32), element(PRIME), u32(3)]);
  return file("wtns", 2, [header, Buffer.concat([element(1n), element((x * x) % PRIME), element(x)])]);
}
