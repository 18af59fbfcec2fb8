// Two builds of one project beside each other, and why the later one was not the earlier one again.
const MOST_PARTS = 200;

function fillProjects() {
  options(find("pair").elements.project, projects.map((name) => [name, name]));
}

function label(build) {
  return `${minute(build.date)} · ${bytes(build.size)} · ${short(build.blake3)}`;
}

// Choose a pair; the selects follow.
function compare(earlier, later, moved = false) {
  const { project, before: first, after: second } = find("pair").elements;
  const rows = [...byProject.get(later.project)].reverse().map((build) => [String(build.id), label(build)]);
  project.value = later.project;
  options(first, rows, String(earlier.id));
  options(second, rows, String(later.id));
  showDifference(earlier, later);
  if (moved) {
    const title = find("compare-title");
    title.scrollIntoView({ block: "start" });
    title.focus({ preventScroll: true });
  }
}

// The newest build of a project that is not the one before again, and that one before.
function compareNewest(name) {
  const rows = byProject.get(name) || [];
  const later = rows.findLast((build) => build.changes && build.changes.length) || rows[rows.length - 1];
  if (later) compare(before(later) || later, later);
}

function inputsOf(build) {
  return new Map(build.inputs.map(([name, kind, source, pin, note]) => [name, { kind, source, pin, note }]));
}

const REASONS = [
  ["context", "The sources"], ["manifest", "The manifest"], ["containerfile", "The build’s steps (Containerfile)"],
  ["nanos", "Nanos"], ["packer", "Packer"], ["orchestrator", "Orchestrator"], ["runtime", "Runtime"],
];

function reasons(earlier, later) {
  const rows = REASONS.filter(([key]) => earlier[key] !== later[key]).map(([key, name]) => [name, earlier[key], later[key]]);
  const given = (build) => `${plural(build.resources[0], "CPU")}, ${whole.format(build.resources[1])} MiB, ${plural(build.resources[2], "GPU")}`;
  if (given(earlier) !== given(later)) rows.push(["Resources", given(earlier), given(later)]);
  const engine = (build) => `${build.engineName} ${build.engineVersion}`;
  if (engine(earlier) !== engine(later)) rows.push(["Engine", engine(earlier), engine(later)]);
  const old = inputsOf(earlier), now = inputsOf(later);
  for (const name of new Set([...old.keys(), ...now.keys()])) {
    const a = old.get(name), b = now.get(name);
    if (a?.pin !== b?.pin || a?.source !== b?.source) {
      const show = (row) => (row ? (a && b && a.source === b.source ? row.pin : `${row.source}: ${row.pin}`) : "–");
      rows.push([`Input ${name}`, show(a), show(b)]);
    }
  }
  return rows;
}

function parts(earlier, later, kind) {
  const old = partsOf(earlier), now = partsOf(later);
  if (!old || !now) return null;
  const rows = [];
  for (const key of new Set([...old.keys(), ...now.keys()])) {
    const a = old.get(key), b = now.get(key);
    if ((a || b).kind === kind && a?.says !== b?.says) rows.push({ name: (a || b).name, a, b });
  }
  return rows.sort((one, other) => one.name.localeCompare(other.name));
}

const CHANGE = { added: "good", removed: "bad", changed: "warn" };
const changeOf = (row) => (!row.a ? "added" : !row.b ? "removed" : "changed");

function partTable(rows, kind) {
  const changed = { name: "Change", cell: (row) => badge(CHANGE[changeOf(row)], changeOf(row)) };
  const columns = kind === 0 ? [
    { name: "File", cell: (row) => code(row.name) }, changed,
    { name: "Size", number: true, cell: (row) => ((row.b || row.a).size === null ? "" : bytes((row.b || row.a).size)) },
    { name: "Difference", number: true, cell: (row) => (row.a && row.b && row.a.size !== null && row.b.size !== null
      ? signed(row.b.size - row.a.size, (count) => `${whole.format(count)} B`) : "") },
    { name: "SHA-256", cell: (row) => digests(row.a?.says, row.b?.says) },
  ] : [
    { name: "Package", cell: (row) => bdi(row.name) }, changed,
    { name: "Version", cell: (row) => digests(row.a?.says, row.b?.says) },
  ];
  return el("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": kind ? "Packages that differ" : "Files that differ" },
    table(columns, rows, { caption: kind ? "Packages that differ" : "Files that differ", most: MOST_PARTS }));
}

function digests(a, b) {
  return [a, b].filter(Boolean).flatMap((text, at) => (at ? [" → ", code(text)] : [code(text)]));
}

function summaryOf(earlier, later) {
  const size = later.size - earlier.size;
  const tile = (name, value, more) => el("div", {}, el("dt", {}, name), el("dd", {}, el("span", { class: "value" }, value), el("span", { class: "muted" }, more)));
  return el("dl", { class: "tiles small" },
    tile("Image", earlier.blake3 === later.blake3 ? "the same" : "another", `${short(earlier.blake3)} → ${short(later.blake3)}`),
    tile("Size", size ? signed(size, bytes) : "the same", `${bytes(earlier.size)} → ${bytes(later.size)}`),
    tile("Time in steps", duration(later.seconds), `before: ${duration(earlier.seconds)}`),
    tile("Steps run", `${later.stages.length - later.cached} of ${later.stages.length}`, `before: ${earlier.stages.length - earlier.cached} of ${earlier.stages.length}`));
}

function block(title, body, ...more) {
  return el("div", { class: "block" }, el("h3", {}, title), ...more, body);
}

function showDifference(earlier, later) {
  const target = find("difference");
  if (earlier === later) return fill(target, el("p", { class: "muted empty" }, "There is one build of this project only, or the same one twice."));
  const why = reasons(earlier, later), files = parts(earlier, later, 0), packages = parts(earlier, later, 1);
  const ran = later.stages.filter((step) => !step.cached);
  const none = (text) => el("p", { class: "muted" }, text);
  const missing = "Without the bills of materials of both builds beside their receipts, nobody knows.";
  return fill(target, summaryOf(earlier, later),
    block(why.length ? "Why it was rebuilt" : "What differs", why.length ? el("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": "Reasons" },
      table([{ name: "What", cell: (row) => bdi(row[0]) }, { name: "Earlier", class: "wrap", cell: (row) => code(row[1]) },
        { name: "Later", class: "wrap", cell: (row) => code(row[2]) }], why, { caption: "What decides an image, and differs", most: MOST_PARTS }))
      : none("Nothing that decides the image: its inputs, sources, steps and manifest are the same."))
    , block("Files of the image", files === null ? none(missing) : files.length ? partTable(files, 0) : none("The same files.")),
    block("Packages, also those of lock files", packages === null ? none(missing) : packages.length ? partTable(packages, 1) : none("The same packages.")),
    block("Steps that ran", ran.length ? el("div", { class: "scroll", role: "group", tabindex: "0", "aria-label": "Steps that ran" },
      table([{ name: "Stage", cell: (step) => bdi(step.stage) }, { name: "Step", class: "wrap", cell: (step) => bdi(step.title) },
        { name: "Time", number: true, cell: (step) => duration(step.seconds) }], ran, { caption: "Steps of the later build that ran", most: MOST_PARTS }))
      : none("All of its steps were taken from the cache.")));
}
