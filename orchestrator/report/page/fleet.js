// A fleet: its workers, what they do, those that were lost, and the jobs that wait.
let fleet = null;

function workerRows() {
  const there = fleet.workers.map((worker) => ({ ...worker, state: worker.jobs.length ? ["plain", "building"] : ["good", "idle"] }));
  return [...there, ...fleet.lost.map((worker) => ({ ...worker, state: ["bad", "lost"] }))];
}

const WORKERS = [
  { name: "Worker", cell: (worker) => bdi(worker.name) },
  { name: "State", cell: (worker) => badge(...worker.state) },
  { name: "Slots", number: true, cell: (worker) => worker.at ? `${worker.slots}` : `${worker.running} of ${worker.slots}` },
  { name: "Labels", cell: (worker) => worker.labels.join(", ") },
  { name: "Builds", class: "wrap", cell: (worker) => worker.at
    ? [`${minute(new Date(worker.at * 1000))} UTC`, worker.jobs.length ? ", while it built " : "", list([worker.jobs.join(", ")])]
    : list([worker.jobs.join(", ")]) },
];
const WAITING = [
  { name: "Waiting", cell: (job) => bdi(job.name) },
  { name: "Needs", cell: (job) => job.labels.join(", ") || el("span", { class: "muted" }, "any worker") },
  { name: "For", number: true, cell: (job) => duration(Math.max(0, Date.now() / 1000 - job.since)) },
];

function showFleet() {
  const slots = fleet.workers.reduce((sum, worker) => sum + worker.slots, 0);
  const parts = [plural(fleet.workers.length, "worker"), `${whole.format(fleet.running)} of ${plural(slots, "slot")} busy`,
    `${plural(fleet.waits, "job")} waiting`, `${whole.format(fleet.done)} built`, `${whole.format(fleet.earlier)} known already`,
    `${whole.format(fleet.failed)} failed`];
  if (find("fleet-state").textContent !== parts.join(" · ")) find("fleet-state").textContent = parts.join(" · ");
  const link = /^http:\/\//.test(fleet.dashboard) ? el("a", { href: fleet.dashboard, rel: "noreferrer" }, "Dask’s dashboard") : "";
  fill(find("fleet-link"), link);
  fill(find("workers"), workerRows().length ? table(WORKERS, workerRows(), { caption: "Workers" })
    : el("p", { class: "empty muted" }, "No worker is connected."));
  const more = fleet.waits - fleet.waiting.length;
  fill(find("waiting"), table(WAITING, fleet.waiting, { caption: "Jobs that wait" }), more > 0 ? el("p", { class: "muted more" }, `and ${whole.format(more)} more`) : "");
  find("waiting").hidden = !fleet.waiting.length;
}

heard.fleet = (state) => {
  if (!state.workers) return; // it has only just begun
  fleet = state;
  showFleet();
};
setInterval(() => { if (fleet && fleet.waiting.length) showFleet(); }, 5000);
