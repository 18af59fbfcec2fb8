// The contents of the page as builds with their texts, oldest first; docs/report.md has the form.
let raw, texts, builds, projects, byProject;

function setContents(text) {
  raw = JSON.parse(text);
  texts = raw.texts;
  builds = raw.builds.map(readBuild);
  projects = [...new Set(builds.map((build) => build.project))].sort();
  byProject = new Map(projects.map((name) => [name, builds.filter((build) => build.project === name)]));
}

const RESULTS = {
  clean: "Verified, no warnings",
  warned: "Verified, with warnings",
  standin: "Not bootable (stand-in)",
  failed: "A run failed",
};
const ENGINES = { docker: "Docker", podman: "Podman", none: "None (packed)" };

function readBuild(row, id) {
  const stages = row.stages.map(([step, seconds, cached]) => {
    const [stage, title] = raw.steps[step];
    return { stage: texts[stage], title: texts[title], seconds, cached: cached === 1 };
  });
  const build = {
    ...row,
    id,
    stages,
    project: texts[row.project],
    date: new Date(row.at),
    engineName: ENGINES[row.engine],
    changes: row.changes && row.changes.map((number) => texts[number]),
    inputs: row.inputs.map((number) => raw.inputs[number].map((text) => texts[text])),
    findings: row.findings.map(([severity, ...rest]) => [severity, ...rest.map((number) => texts[number])]),
    seconds: stages.reduce((sum, step) => sum + step.seconds, 0),
    cached: stages.filter((step) => step.cached).length,
  };
  for (const key of ["file", "image", "blake3", "sha256", "nanos", "packer", "engineVersion", "orchestrator", "context",
    "manifest", "containerfile"]) build[key] = texts[row[key]];
  for (const key of ["warnings", "standIns"]) build[key] = row[key].map((number) => texts[number]);
  build.taken = row.taken === null ? null : texts[row.taken];
  build.rebuilt = row.rebuilt && row.rebuilt.map((number) => texts[number]);
  for (const key of ["smoke", "rehearsal"]) {
    build[key] = row[key] ? { ...row[key], reason: texts[row[key].reason], how: texts[row[key].how], at: texts[row[key].at] } : null;
  }
  build.result = resultOf(build);
  build.again = build.changes !== null && build.changes.length === 0;
  build.haystack = [build.project, build.image, build.blake3, build.sha256, build.file, build.engineVersion, build.nanos,
    ...build.warnings, ...build.inputs.flat(), ...(build.changes || [])].join("\n").toLowerCase();
  return build;
}

function resultOf(build) {
  if ([build.smoke, build.rehearsal].some((run) => run && !run.passed)) return "failed";
  if (!build.bootable) return "standin";
  return build.warnings.length || build.findings.length ? "warned" : "clean";
}

// What is in a build's image, by kind and name; null where its receipt came without a bill of materials.
function partsOf(build) {
  if (build.list === null) return null;
  const chain = [];
  for (let number = build.list; number !== null; number = raw.lists[number].base) chain.push(raw.lists[number]);
  const rows = new Set();
  for (const list of chain.reverse()) {
    list.drop.forEach((row) => rows.delete(row));
    list.add.forEach((row) => rows.add(row));
  }
  const parts = new Map();
  for (const row of rows) {
    const [kind, name, says, size] = raw.parts[row];
    parts.set(`${kind} ${texts[name]}`, { kind, name: texts[name], says: texts[says], size });
  }
  return parts;
}

const MIB = 1024 * 1024;
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count, unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? tenths.format(value) : value} ${units[unit]}`;
}

function signed(count, show) {
  return count < 0 ? `−${show(-count)}` : `+${show(count)}`;
}

function duration(seconds) {
  if (seconds < 60) return `${tenths.format(seconds)} s`;
  const all = Math.round(seconds), minutes = Math.floor(all / 60);
  return minutes < 60 ? `${minutes} min ${all % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

const iso = (date) => date.toISOString();
const day = (date) => iso(date).slice(0, 10);
const minute = (date) => iso(date).slice(0, 16).replace("T", " ");
const short = (digest) => digest.slice(0, 12);
const share = (build) => (build.stages.length ? build.cached / build.stages.length : 0);
const percent = (value) => `${Math.round(100 * value)} %`;
const plural = (count, word, words = `${word}s`) => `${whole.format(count)} ${count === 1 ? word : words}`;

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  if (!sorted.length) return 0;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
