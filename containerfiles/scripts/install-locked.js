// Unpacks the packages of package-lock.json into node_modules, from files: for a base that has node and no npm, as
// Debian's, whose npm brings four hundred packages with it. Like `npm ci --omit=dev` it runs the project's own scripts for
// that time; unlike it, it makes no links to packages' commands, and refuses a package that has such scripts.
//
//   node install-locked.js
//
// In the directory of the lock file. The tarballs lie as in npm's own cache, by the digests of the lock file, by which
// they were checked when they were fetched.
"use strict";
const { execFileSync } = require("child_process");
const fs = require("fs");
const path = require("path");

const CONTENT = "/orchestrator/dependencies/npm/_cacache/content-v2";
const name = ["npm-shrinkwrap.json", "package-lock.json"].find((file) => fs.existsSync(file));
const rows = JSON.parse(fs.readFileSync(name, "utf8")).packages || {};

const allows = (names, ours) => {
  if (!names || names.includes("!" + ours)) return !names;
  const wanted = names.filter((entry) => !entry.startsWith("!"));
  return wanted.length === 0 || wanted.includes(ours) || wanted.includes("any");
};
const fitsLibc = (names) => !names || names.includes("glibc");

// The file of a row's strongest digest that is there; "" for none.
const tarball = (row) => {
  for (const algorithm of ["sha512", "sha384", "sha256"]) {
    const word = (row.integrity || "").split(/\s+/).find((entry) => entry.startsWith(algorithm + "-"));
    if (!word) continue;
    const hex = Buffer.from(word.slice(algorithm.length + 1).split("?")[0], "base64").toString("hex");
    const file = path.join(CONTENT, algorithm, hex.slice(0, 2), hex.slice(2, 4), hex.slice(4));
    if (fs.existsSync(file)) return file;
  }
  return "";
};

const refuse = (what) => {
  console.error(`${name}: ${what}; add npm to build.packages, or name a base that has it`);
  process.exit(1);
};

let count = 0;
fs.rmSync("node_modules", { recursive: true, force: true });
for (const place of Object.keys(rows).sort()) {
  const row = rows[place];
  if (!place.includes("node_modules/") || row.dev || row.inBundle) continue;
  if (!allows(row.os, "linux") || !allows(row.cpu, "x64") || !fitsLibc(row.libc)) continue;
  if (row.link) {
    fs.mkdirSync(path.dirname(place), { recursive: true });
    fs.symlinkSync(path.relative(path.dirname(place), row.resolved), place);
    continue;
  }
  if (row.hasInstallScript && !row.optional) refuse(`${place} has an install script, which only npm runs`);
  const file = tarball(row);
  if (!file) refuse(`${place} is not among the fetched packages`);
  fs.mkdirSync(place, { recursive: true });
  execFileSync("tar", ["-xzof", file, "-C", place, "--strip-components=1", "--no-same-permissions"]);
  count += 1;
}
const own = JSON.parse(fs.readFileSync("package.json", "utf8")).scripts || {};
for (const script of ["preinstall", "install", "postinstall", "prepare"]) {
  if (own[script]) execFileSync("sh", ["-c", own[script]], { stdio: "inherit" });
}
console.log(`${count} packages of ${name}`);
