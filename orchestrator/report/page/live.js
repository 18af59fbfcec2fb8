// Builds as they run, by server-sent events: their steps, and the last lines of what these say.
const LAST_LINES = 300, MOST_RUNNING = 100, MOST_ENDED = 40, MOST_OPEN = 8;
const STATUS = {
  running: ["plain", "running"], waiting: ["warn", "waits for another worker"], built: ["good", "built"], unchanged: ["good", "unchanged"], taken: ["good", "taken from a cache"],
  failed: ["bad", "failed"], stopped: ["warn", "stopped"], lost: ["bad", "killed"],
};
const logs = new Map();
// What the server says, by its name; fleet.js adds to it.
const heard = {};

function seen(log, line) {
  if (line.event === "build-started") {
    logs.set(log, { project: line.project, file: line.file, began: line.time, status: "running", steps: new Map(), lines: [], told: "" });
    return;
  }
  const build = logs.get(log);
  if (!build) return;
  build.changed = true;
  const step = build.steps.get(line.id);
  if (line.event === "run-started") Object.assign(build, { worker: line.worker, labels: line.labels, run: line.number, steps: new Map(), status: "running", told: "" });
  else if (line.event === "run-over") Object.assign(build, { status: "waiting", told: line.why });
  else if (line.event === "step-started") build.steps.set(line.id, { stage: line.stage, title: line.title, status: "running", began: line.time });
  else if (line.event === "step-progress" && step) step.progress = line;
  else if (line.event === "step-finished" && step) Object.assign(step, { status: line.status, seconds: line.seconds });
  else if (line.event === "build-finished") Object.assign(build, { status: line.status, ended: line.time, told: line.error || "" });
  const output = line.event === "step-output" ? line.text.split("\n") : line.event === "notice" ? [`${line.level}: ${line.text}`]
    : line.event === "step-finished" && line.error ? [line.error] : [];
  build.lines.push(...output);
  if (build.lines.length > LAST_LINES) build.lines.splice(0, build.lines.length - LAST_LINES);
}

function card(log, build) {
  const title = `live-${log}`;
  const place = { badge: el("span"), where: el("p", { class: "muted below where" }), steps: el("ol", { class: "steps" }), time: el("span", { class: "muted" }),
    told: el("p", { class: "told" }), log: el("pre", { tabindex: "0", role: "log", "aria-live": "off", "aria-label": `Output of ${build.project}` }) };
  const running = [...logs.values()].filter((other) => other.status === "running").length;
  place.details = el("details", { open: build.status === "running" && running <= MOST_OPEN }, el("summary", {}, "Output", el("span", { class: "hidden" }, ` of ${build.project}`)), place.log);
  place.card = el("article", { class: "card", "aria-labelledby": title }, el("div", { class: "heading" },
    el("h3", { id: title }, bdi(build.project), " ", place.badge), place.time), place.where, place.steps,
    place.told, place.details);
  build.changed = true;
  return place;
}

function stepLine(step) {
  const known = step.progress && step.progress.total ? ` ${Math.floor(100 * step.progress.done / step.progress.total)} %` : "";
  const title = step.title.replace(/^RUN (?:--[a-z]+=\S+ +)+/, "RUN "); // what it mounts is ours, and long
  return el("li", {}, el("span", { class: "muted" }, `${step.stage} `), bdi(title), el("span", { class: "muted" }, known));
}

function where(build) {
  if (!build.worker) return [bdi(build.file)];
  return ["on ", bdi(build.worker), build.labels.length ? ` (${build.labels.join(", ")})` : "", build.run > 1 ? `, run ${build.run}` : ""];
}

function showBuild(log, build) {
  build.place ||= card(log, build);
  const { place } = build;
  const running = [...build.steps.values()].filter((step) => step.status === "running");
  const done = [...build.steps.values()].filter((step) => step.status !== "running").length;
  fill(place.badge, badge(...(STATUS[build.status] || ["plain", build.status])));
  fill(place.steps, build.status === "running" ? running.map(stepLine) : []);
  place.steps.hidden = !place.steps.children.length;
  place.told.textContent = build.told;
  place.told.hidden = !build.told;
  const end = build.ended || (build.status === "running" ? Date.now() / 1000 : null);
  place.time.textContent = [plural(done, "step"), end && duration(Math.max(0, end - build.began))].filter(Boolean).join(", ");
  if (!build.changed) return place.card;
  build.changed = false;
  fill(place.where, where(build));
  place.atEnd = !place.log.clientHeight || place.log.scrollHeight - place.log.scrollTop - place.log.clientHeight < 40;
  place.log.textContent = build.lines.join("\n");
  place.details.hidden = !build.lines.length;
  return place.card;
}

function showLogs() {
  const newest = [...logs].reverse(), running = newest.filter(([, build]) => build.status === "running");
  const waiting = newest.filter(([, build]) => build.status === "waiting");
  const ended = newest.filter(([, build]) => build.status !== "running" && build.status !== "waiting");
  for (const [log] of ended.splice(MOST_ENDED)) logs.delete(log);
  const all = [...[...running, ...waiting].slice(0, MOST_RUNNING), ...ended];
  const cards = all.map(([log, build]) => showBuild(log, build)), place = find("running");
  // Only where the order changed: what has the focus keeps it.
  if (cards.length !== place.children.length || cards.some((one, at) => one !== place.children[at])) fill(place, cards);
  for (const [, build] of all) if (build.place.atEnd) build.place.log.scrollTop = build.place.log.scrollHeight;
  const count = running.length, more = count > MOST_RUNNING ? `, ${MOST_RUNNING} of them shown` : "";
  const text = count ? `${plural(count, "build")} running${more}` : "No build is running.";
  if (find("live-state").textContent !== text) find("live-state").textContent = text;
}

async function readAgain() {
  const answer = await fetch("/contents.json");
  if (!answer.ok) return;
  setContents(await answer.text());
  find("of").textContent = `${plural(builds.length, "build")} of ${plural(projects.length, "project")}, read ${minute(new Date())} UTC`;
  showContents();
}

heard.begin = () => { logs.clear(); showLogs(); };
heard.lines = (lines) => { lines.forEach(({ log, ...line }) => seen(log, line)); showLogs(); };
heard.receipts = () => { readAgain().catch(() => {}); };

// A browser comes back by itself where a connection ends, and not where it was refused: as while a server restarts.
function connect() {
  const source = new EventSource("/events");
  for (const [name, take] of Object.entries(heard)) source.addEventListener(name, (event) => take(JSON.parse(event.data)));
  source.addEventListener("open", () => { if (connect.lost) heard.receipts(); connect.lost = false; });
  source.addEventListener("error", () => {
    connect.lost = true;
    find("live-state").textContent = "The connection was lost; trying again …";
    if (source.readyState === EventSource.CLOSED) setTimeout(again, 3000);
  });
}

async function again() {
  const answer = await fetch("/contents.json").catch(() => null);
  if (answer && answer.status === 401) find("live-state").textContent = "The server wants the token again: load this page anew.";
  else connect();
}

queueMicrotask(connect); // after fleet.js
setInterval(() => { if ([...logs.values()].some((build) => build.status === "running")) showLogs(); }, 1000);
