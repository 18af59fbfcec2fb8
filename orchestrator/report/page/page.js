// Filters, colours, and the order in which things are shown: tables first, charts when they are seen.
function chosen() {
  const { project, engine, result, from, to, text } = find("filters").elements;
  const start = from.value ? Date.parse(from.value) : -Infinity, end = to.value ? Date.parse(to.value) + 86400e3 : Infinity;
  const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
  return builds.filter((build) => (!project.value || build.project === project.value)
    && (!engine.value || build.engine === engine.value) && (!result.value || build.result === result.value)
    && build.at >= start && build.at < end && words.every((word) => build.haystack.includes(word)));
}

function update() {
  const rows = chosen();
  find("count").textContent = rows.length === builds.length ? plural(builds.length, "build") : `${whole.format(rows.length)} of ${plural(builds.length, "build")}`;
  tiles(rows);
  state(rows);
  buildTable(rows);
  updateCharts(rows);
}

// The choices of the builds that there are; what was chosen stays so.
function fillFilters() {
  const { project, engine, result, from, to } = find("filters").elements;
  const counted = (key, value) => builds.filter((build) => build[key] === value).length;
  options(project, [["", "All"], ...projects.map((name) => [name, name])], project.value);
  options(engine, [["", "All"], ...Object.entries(ENGINES).filter(([key]) => counted("engine", key))], engine.value);
  options(result, [["", "All"], ...Object.entries(RESULTS).filter(([key]) => counted("result", key))], result.value);
  if (builds.length) for (const input of [from, to]) {
    input.min = day(builds[0].date);
    input.max = day(builds[builds.length - 1].date);
  }
}

function makeFilters() {
  const form = find("filters"), { project } = form.elements;
  let waiting = 0;
  form.addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      update();
      if (event.target === project && project.value) compareNewest(project.value);
    }, event.target.type === "search" ? 200 : 0);
  });
  form.addEventListener("reset", () => setTimeout(update));
  form.addEventListener("submit", (event) => event.preventDefault());
  find("fold").addEventListener("change", () => buildTable(chosen()));
}

function makeTheme() {
  const form = find("theme"), show = (value) => {
    if (value === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = value;
  };
  const before = remembered("theme");
  const radio = [...form.querySelectorAll("input")].find((input) => input.value === before);
  if (radio) { radio.checked = true; show(before); }
  form.addEventListener("change", (event) => {
    show(event.target.value);
    remember("theme", event.target.value);
    redrawCharts();
  });
  dark.addEventListener("change", redrawCharts);
}

function makePair() {
  const form = find("pair"), { project, before: first, after: second } = form.elements;
  const both = () => compare(builds[Number(first.value)], builds[Number(second.value)]);
  form.addEventListener("change", (event) => (event.target === project ? compareNewest(project.value) : both()));
  form.addEventListener("submit", (event) => event.preventDefault());
  find("swap").addEventListener("click", () => {
    [first.value, second.value] = [second.value, first.value];
    both();
  });
}

function showContents() {
  fillFilters();
  fillProjects();
  update();
  const newest = builds.findLast((build) => build.changes && build.changes.length) || builds[builds.length - 1];
  if (newest) compareNewest(find("filters").elements.project.value || newest.project);
  else find("difference").textContent = "There are no builds.";
  unread();
}

makeTheme();
makeFilters();
makePair();
makeCharts();
setContents(find("contents").textContent);
showContents();
// The library is the next script; the tables are on the screen before it runs.
addEventListener("load", () => requestAnimationFrame(() => setTimeout(redrawCharts)));
document.documentElement.dataset.ready = "";
