// The tiles, the state of each project, all builds, and the files that could not be used.
const PER_PAGE = 25;
const RESULT_BADGES = { clean: "good", warned: "warn", standin: "plain", failed: "bad" };

function tiles(rows) {
  const names = new Set(rows.map((build) => build.project)), steps = rows.reduce((sum, build) => sum + build.stages.length, 0);
  const cached = rows.reduce((sum, build) => sum + build.cached, 0), last = rows[rows.length - 1];
  const changed = rows.filter((build) => !build.again).length;
  const values = [
    ["Builds", whole.format(rows.length), `${plural(changed, "new image")}`],
    ["Projects", whole.format(names.size), last ? `last built ${day(last.date)}` : ""],
    ["Median image", rows.length ? bytes(median(rows.map((build) => build.size))) : "–", "of the builds shown"],
    ["Median time in steps", rows.length ? duration(median(rows.map((build) => build.seconds))) : "–", "steps may run side by side"],
    ["From the cache", steps ? percent(cached / steps) : "–", `of ${plural(steps, "step")}`],
  ];
  fill(find("tiles"), values.map(([name, value, more]) => el("div", {}, el("dt", {}, name), el("dd", {},
    el("span", { class: "value" }, value), el("span", { class: "muted" }, more)))));
}

function findingList(build) {
  const lines = build.findings.map(([severity, title, message, remedy]) => `${title}: ${message}${remedy ? `; ${remedy}` : ""}`);
  const others = build.warnings.filter((text) => !build.findings.some((row) => text.includes(row[2])));
  return [...lines, ...others];
}

function runCell(run, { passed, failed }) {
  if (!run) return el("span", { class: "muted" }, "not recorded");
  return [badge(run.passed ? "good" : "bad", run.passed ? passed : failed), " ", bdi(run.reason),
    el("span", { class: "muted" }, ` (${[run.how === "none" ? "" : run.how, duration(run.seconds), run.peak && bytes(run.peak),
      run.at.slice(0, 10)].filter(Boolean).join(", ")})`)];
}

function state(rows) {
  const newest = new Map(rows.map((build) => [build.project, build]));
  const columns = [
    { name: "Project", cell: (build) => [bdi(build.project), el("span", { class: "muted below" }, minute(build.date))] },
    { name: "Verified", cell: (build) => badge(build.findings.length ? "warn" : "good", plural(build.checks, "check holds", "checks hold")) },
    { name: "Warnings", class: "wrap", cell: (build) => list(findingList(build), "none") },
    { name: "Stand-ins", class: "wrap", cell: (build) => list(build.standIns, "none") },
    { name: "Rehearsal", class: "wrap", cell: (build) => runCell(build.rehearsal, { passed: "ran", failed: "failed" }) },
    { name: "Boot", class: "wrap", cell: (build) => runCell(build.smoke, { passed: "started", failed: "failed" }) },
    { name: "Built again", class: "wrap", cell: (build) => (build.rebuilt
      ? [badge("good", "same bytes"), " with other ", bdi(build.rebuilt.map((text) => text.split(":")[0]).join(", "))] : el("span", { class: "muted" }, "not asked")) },
  ];
  fill(find("state"), table(columns, [...newest.values()].sort((a, b) => a.project.localeCompare(b.project)),
    { caption: "What is known of the newest build of each project" }));
}

// Builds that gave the same image again stand behind the first of them.
function folded(rows) {
  const groups = [], last = new Map();
  for (const build of rows) {
    const group = last.get(build.project);
    if (group && build.again && group.builds[group.builds.length - 1].id === before(build)?.id) group.builds.push(build);
    else { last.set(build.project, { builds: [build] }); groups.push(last.get(build.project)); }
  }
  return groups;
}

function before(build) {
  const all = byProject.get(build.project), at = all.indexOf(build);
  return at > 0 ? all[at - 1] : null;
}

const order = { key: "at", down: true };
const COLUMNS = [
  { key: "project", name: "Project", value: (build) => build.project, cell: (group) => [bdi(group.top.project),
    group.builds.length > 1 && el("span", { class: "muted below" }, `the same ${group.builds.length} times`)].filter(Boolean) },
  { key: "at", name: "Finished", value: (build) => build.at, down: true, cell: (group) => el("time", { datetime: iso(group.top.date) }, minute(group.top.date)) },
  { key: "result", name: "Result", value: (build) => Object.keys(RESULTS).indexOf(build.result),
    cell: (group) => badge(RESULT_BADGES[group.top.result], RESULTS[group.top.result]) },
  { key: "size", name: "Size", number: true, down: true, value: (build) => build.size, cell: (group) => sizeCell(group.builds[0], group.top) },
  { key: "seconds", name: "Time", number: true, down: true, value: (build) => build.seconds, cell: (group) => duration(group.top.seconds) },
  { key: "cached", name: "Cached", number: true, down: true, value: share, cell: (group) => `${group.top.cached} of ${group.top.stages.length}` },
  { key: "engine", name: "Engine", value: (build) => build.engineName, cell: (group) => [group.top.engineName,
    el("span", { class: "muted below" }, group.top.taken ? "taken from a cache" : group.top.engineVersion)] },
  { key: "blake3", name: "BLAKE3", value: (build) => build.blake3, cell: (group) => code(short(group.top.blake3), group.top.blake3) },
  { name: "Why it was built", class: "why", cell: (group) => whyCell(group) },
];

function sizeCell(first, build) {
  const earlier = before(first);
  if (!earlier || earlier.size === build.size) return bytes(build.size);
  return [bytes(build.size), el("span", { class: "muted below" }, signed(build.size - earlier.size, bytes))];
}

function whyCell(group) {
  const first = group.builds[0], { changes } = first, earlier = before(first);
  if (changes === null) return el("span", { class: "muted" }, "first build here");
  if (!changes.length) return el("span", { class: "muted" }, "nothing had changed");
  const told = changes.filter((text) => !text.startsWith("size: ") || changes.length === 1), shown = told.slice(0, 3);
  return [...shown.flatMap((text, at) => (at ? [el("span", { class: "muted" }, " · "), bdi(text)] : [bdi(text)])),
    told.length > 3 && el("span", { class: "muted" }, ` · ${told.length - 3} more`),
    earlier && el("button", { type: "button", class: "link", onclick: () => compare(earlier, first, true),
      "aria-label": `Compare ${first.project} of ${minute(first.date)} with the build before` }, "compare")].filter(Boolean);
}

let page = 0, shownGroups = [];

function buildTable(rows) {
  const groups = find("fold").checked ? folded(rows) : rows.map((build) => ({ builds: [build] }));
  groups.forEach((group) => { group.top = group.builds[group.builds.length - 1]; });
  shownGroups = groups;
  page = 0;
  drawTable();
}

function drawTable(focused) {
  const column = COLUMNS.find((one) => one.key === order.key), sign = order.down ? -1 : 1;
  const compareValues = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  shownGroups.sort((a, b) => sign * compareValues(column.value(a.top), column.value(b.top)) || b.top.at - a.top.at || b.top.id - a.top.id);
  const pages = Math.max(1, Math.ceil(shownGroups.length / PER_PAGE)), rows = shownGroups.slice(page * PER_PAGE, (page + 1) * PER_PAGE);
  const drawnTable = table(COLUMNS.map((one) => ({ ...one, head: heading(one) })), rows, { caption: "Builds, one a row" });
  [...drawnTable.querySelectorAll("thead th")].forEach((cell, at) => {
    const key = COLUMNS[at].key;
    if (key) cell.setAttribute("aria-sort", key !== order.key ? "none" : order.down ? "descending" : "ascending");
  });
  fill(find("table"), rows.length ? drawnTable : el("p", { class: "muted empty" }, "No builds match these filters."));
  fill(find("pages"), pages > 1 ? [
    el("button", { type: "button", disabled: page === 0, onclick: () => turn(-1), "data-turn": "-1" }, "Newer page"),
    el("span", { role: "status" }, `Page ${page + 1} of ${pages}`),
    el("button", { type: "button", disabled: page === pages - 1, onclick: () => turn(1), "data-turn": "1" }, "Older page"),
  ] : []);
  if (pages > 1 && (order.key !== "at" || !order.down)) {
    find("pages").firstChild.textContent = "Previous page";
    find("pages").lastChild.textContent = "Next page";
  }
  if (focused) document.querySelector(focused)?.focus();
}

function heading(column) {
  if (!column.key) return column.name;
  const arrow = column.key !== order.key ? "" : order.down ? "↓" : "↑";
  return el("button", { type: "button", class: "sort", "data-sort": column.key, onclick: () => sort(column) },
    column.name, el("span", { "aria-hidden": "true", class: "arrow" }, arrow));
}

function sort(column) {
  if (order.key === column.key) order.down = !order.down;
  else Object.assign(order, { key: column.key, down: column.down === true });
  page = 0;
  drawTable(`[data-sort="${column.key}"]`);
}

function turn(by) {
  page += by;
  drawTable();
  const next = document.querySelector(`[data-turn="${by}"]`);
  (next && !next.disabled ? next : document.querySelector(`[data-turn="${-by}"]`))?.focus();
}

function unread() {
  find("unread").hidden = !raw.unreadCount;
  if (!raw.unreadCount) return;
  const columns = [
    { name: "File", cell: (row) => code(texts[row[0]]) },
    { name: "Why", class: "wrap", cell: (row) => bdi(texts[row[1]]) },
  ];
  const caption = `${plural(raw.unreadCount, "file")} that could not be used`;
  fill(find("unread-table"), table(columns, raw.unread, { caption, most: 200 }));
}
