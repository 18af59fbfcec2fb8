// Charts by Vega-Lite, each with the table of its data behind it. They are drawn when they come into view.
const MOST_LINES = 8, MOST_BARS = 40;

// A colour of the style sheet as it is in the theme of now.
function colour(name) {
  const tip = find("tip");
  tip.style.borderColor = `var(--${name})`;
  return getComputedStyle(tip).borderTopColor;
}

const palette = () => Array.from({ length: 10 }, (_, at) => colour(`series-${at}`));

function config() {
  const ink = colour("ink"), muted = colour("muted"), line = colour("line"), font = getComputedStyle(document.body).fontFamily;
  return {
    aria: false, background: "transparent", font, view: { stroke: null },
    axis: { labelColor: muted, titleColor: muted, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12,
      titleFontSize: 12, titleFontWeight: 400, labelPadding: 6, titlePadding: 10, tickSize: 4 },
    legend: { labelColor: ink, titleColor: muted, labelFontSize: 12, symbolSize: 90, labelLimit: 150, columns: innerWidth < 600 ? 2 : 4,
      orient: "bottom", title: null, rowPadding: 4, columnPadding: 14, offset: 14 },
    range: { category: palette() },
  };
}

const DAY = 86400e3;
function timeAxis(rows) {
  const days = rows.length ? (rows[rows.length - 1].at - rows[0].at) / DAY : 0;
  const format = days < 1 / 24 ? "%H:%M:%S" : days < 1 ? "%H:%M" : days < 6 ? "%d %b %H:%M" : days < 300 ? "%d %b" : "%b %Y";
  return { field: "at", type: "temporal", title: null, scale: { type: "utc", nice: false },
    axis: { grid: false, format, labelOverlap: true, tickCount: days < 6 ? 4 : 6 } };
}
const series = (field, domain) => ({ field, type: "nominal", scale: domain ? { domain } : undefined });

// The projects with the most builds, of which a chart has lines.
function busiest(rows) {
  const counts = new Map();
  rows.forEach((build) => counts.set(build.project, (counts.get(build.project) || 0) + 1));
  return [...counts].sort((a, b) => b[1] - a[1] || a[0].localeCompare(b[0])).slice(0, MOST_LINES).map(([name]) => name).sort();
}

function sizes(rows) {
  const names = busiest(rows), drawn = rows.filter((build) => names.includes(build.project));
  const values = drawn.map((build) => ({ at: build.at, project: build.project, mib: build.size / MIB,
    tip: `${build.project}\n${minute(build.date)}\n${bytes(build.size)}` }));
  const all = new Set(rows.map((build) => build.project)).size, many = values.length > 200;
  return {
    note: all > names.length ? `The ${names.length} of ${all} projects with the most builds; choose a project for another.` : "",
    spec: {
      data: { values },
      encoding: { x: timeAxis(rows), y: { field: "mib", type: "quantitative", title: "MiB", scale: { zero: false, nice: true },
        axis: { tickCount: 5 } }, color: series("project", names) },
      layer: [
        { mark: { type: "line", interpolate: "step-after", strokeWidth: 2, opacity: 0.75 } },
        { mark: { type: "point", filled: true, size: many ? 14 : 60, opacity: 1 },
          encoding: { ...(many ? {} : { shape: series("project", names) }), tooltip: { field: "tip", type: "nominal" } } },
      ],
    },
    rows: [...rows].reverse(),
    columns: [
      { name: "Project", cell: (build) => bdi(build.project) },
      { name: "Finished", cell: (build) => minute(build.date) },
      { name: "Size", cell: (build) => bytes(build.size), number: true },
      { name: "Bytes", cell: (build) => whole.format(build.size), number: true },
    ],
  };
}

const ORDER = ["pull", "inputs", "context", "packages", "gevulot", "program", "script", "staging", "pack", "verify", "receipt"];
const rank = (stage) => (ORDER.includes(stage) ? ORDER.indexOf(stage) : ORDER.length);

function byStage(build) {
  const sums = new Map();
  build.stages.forEach((step) => sums.set(step.stage, (sums.get(step.stage) || 0) + step.seconds));
  return sums;
}

function times(rows) {
  const drawn = rows.slice(-MOST_BARS), totals = new Map();
  drawn.forEach((build) => byStage(build).forEach((seconds, stage) => totals.set(stage, (totals.get(stage) || 0) + seconds)));
  const shown = [...totals].sort((a, b) => b[1] - a[1]).slice(0, 7).map(([stage]) => stage);
  const names = shown.sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
  if (totals.size > names.length) names.push("other");
  const values = drawn.flatMap((build) => {
    const sums = new Map();
    byStage(build).forEach((seconds, stage) => {
      const name = names.includes(stage) ? stage : "other";
      sums.set(name, (sums.get(name) || 0) + seconds);
    });
    return [...sums].map(([stage, seconds]) => ({ build: build.id, stage, seconds, order: names.indexOf(stage),
      tip: `${build.project}, ${minute(build.date)}\n${stage}: ${duration(seconds)} of ${duration(build.seconds)}` }));
  });
  return {
    note: rows.length > MOST_BARS ? `The newest ${MOST_BARS} of ${whole.format(rows.length)} builds.` : "",
    spec: {
      data: { values },
      mark: { type: "bar", cornerRadius: 1, ...(drawn.length < 6 ? { width: 56 } : {}) },
      encoding: {
        x: { field: "build", type: "ordinal", title: "builds, oldest first", axis: { labels: false, ticks: false, grid: false },
          scale: { paddingInner: 0.25, paddingOuter: 0.1 } },
        y: { field: "seconds", type: "quantitative", title: "seconds in steps", axis: { tickCount: 5 } },
        color: series("stage", names), order: { field: "order" }, tooltip: { field: "tip", type: "nominal" },
      },
    },
    rows: drawn.slice().reverse(),
    columns: [
      { name: "Build", cell: (build) => [bdi(build.project), ` ${minute(build.date)}`] },
      ...names.map((name) => ({ name, number: true, cell: (build) => {
        let seconds = 0;
        byStage(build).forEach((value, stage) => { if (stage === name || (name === "other" && !names.includes(stage))) seconds += value; });
        return duration(seconds);
      } })),
      { name: "Together", number: true, cell: (build) => duration(build.seconds) },
    ],
  };
}

function hits(rows) {
  const window = Math.max(5, Math.round(rows.length / 20));
  const values = rows.map((build, at) => {
    const around = rows.slice(Math.max(0, at - window + 1), at + 1);
    return { at: build.at, share: share(build), mean: around.reduce((sum, one) => sum + share(one), 0) / around.length,
      tip: `${build.project}, ${minute(build.date)}\n${build.cached} of ${plural(build.stages.length, "step")} from the cache` };
  });
  const y = { type: "quantitative", title: "of a build’s steps", scale: { domain: [0, 1] }, axis: { format: "%", tickCount: 5 } };
  return {
    note: `The line is the mean of the last ${window} builds.`,
    spec: {
      data: { values },
      encoding: { x: timeAxis(rows) },
      layer: [
        { mark: { type: "point", filled: true, size: values.length > 200 ? 22 : 50, opacity: 0.45, color: colour("series-0") },
          encoding: { y: { ...y, field: "share" }, tooltip: { field: "tip", type: "nominal" } } },
        { mark: { type: "line", strokeWidth: 2.5, color: colour("series-0") }, encoding: { y: { ...y, field: "mean" } } },
      ],
    },
    rows: [...rows].reverse(),
    columns: [
      { name: "Build", cell: (build) => [bdi(build.project), ` ${minute(build.date)}`] },
      { name: "From the cache", cell: (build) => whole.format(build.cached), number: true },
      { name: "Steps", cell: (build) => whole.format(build.stages.length), number: true },
      { name: "Share", cell: (build) => percent(share(build)), number: true },
    ],
  };
}

// Days, weeks or months, so that there are some twenty of them.
function period(rows) {
  const days = rows.length ? (rows[rows.length - 1].at - rows[0].at) / DAY : 0;
  if (days <= 31) return ["day", (at) => Math.floor(at / DAY) * DAY];
  if (days <= 240) return ["week", (at) => (Math.floor((at / DAY + 3) / 7) * 7 - 3) * DAY];
  return ["month", (at) => { const date = new Date(at); return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1); }];
}

function counts(rows) {
  const [name, begin] = period(rows), sums = new Map();
  rows.forEach((build) => {
    const start = begin(build.at);
    if (!sums.has(start)) sums.set(start, Object.fromEntries(Object.keys(RESULTS).map((key) => [key, 0])));
    sums.get(start)[build.result] += 1;
  });
  const kinds = Object.keys(RESULTS).filter((key) => rows.some((build) => build.result === key));
  const values = [...sums].flatMap(([at, counted]) => kinds.filter((key) => counted[key]).map((key) => (
    { at, label: day(new Date(at)), result: RESULTS[key], count: counted[key], order: kinds.indexOf(key),
      tip: `${name === "day" ? "" : `${name} of `}${day(new Date(at))}\n${RESULTS[key]}: ${counted[key]}` })));
  const most = Math.max(1, ...[...sums.values()].map((counted) => kinds.reduce((sum, key) => sum + counted[key], 0)));
  return {
    note: `Images built in each ${name}.`,
    spec: {
      data: { values },
      mark: { type: "bar", cornerRadius: 1, width: sums.size < 6 ? 56 : { band: 0.75 } },
      encoding: {
        x: { field: "label", type: "ordinal", title: null, sort: null, axis: { labelOverlap: true, labelAngle: 0, grid: false } },
        y: { field: "count", type: "quantitative", title: "builds", axis: { tickCount: Math.min(5, most), format: "d" } },
        color: { field: "result", type: "nominal", legend: { columns: innerWidth < 600 ? 1 : 2, labelLimit: 220 },
          scale: { domain: kinds.map((key) => RESULTS[key]), range: kinds.map((key) => colour(`result-${key}`)) } },
        order: { field: "order" }, tooltip: { field: "tip", type: "nominal" },
      },
    },
    rows: [...sums].reverse(),
    columns: [
      { name: `${name[0].toUpperCase()}${name.slice(1)}`, cell: ([at]) => day(new Date(at)) },
      ...kinds.map((key) => ({ name: RESULTS[key], number: true, cell: ([, counted]) => whole.format(counted[key]) })),
    ],
  };
}

const CHARTS = [
  { id: "counts", title: "Builds", make: counts, about: "How many builds ended, by what was found." },
  { id: "sizes", title: "Image size", make: sizes, about: "The size of each image, by project." },
  { id: "times", title: "Build time by stage", make: times, about: "Seconds in each stage’s steps, which may run side by side." },
  { id: "hits", title: "Steps from the cache", make: hits, about: "The share of a build’s steps that an engine’s cache had." },
];

const drawn = new Map();
const watcher = new IntersectionObserver((entries) => entries.forEach((entry) => {
  if (entry.isIntersecting) draw(entry.target.dataset.chart);
}), { rootMargin: "200px" });

function makeCharts() {
  fill(find("charts"), CHARTS.map((chart) => {
    const picture = el("div", { class: "chart", "data-chart": chart.id });
    const behind = el("div", { class: "scroll", role: "group", "aria-label": `${chart.title}, as a table`, tabindex: "0" });
    const details = el("details", { ontoggle: () => { if (details.open) showTable(chart.id); } },
      el("summary", {}, "As a table", el("span", { class: "hidden" }, `: ${chart.title}`)), behind);
    const note = el("p", { class: "muted" });
    drawn.set(chart.id, { picture, behind, note, details, chart });
    return el("figure", { class: "card" }, el("figcaption", {}, el("h3", {}, chart.title), note), picture, details);
  }));
}

function showTable(id) {
  const { behind, chart, made } = drawn.get(id);
  fill(behind, table(made.columns, made.rows, { caption: chart.title, most: 200 }));
}

// New data for all; what is out of view is drawn later.
function updateCharts(rows) {
  for (const place of drawn.values()) {
    place.rows = rows;
    place.stale = true;
    place.made = place.chart.make(rows);
    fill(place.note, [place.chart.about, place.made.note].filter(Boolean).join(" "));
    if (place.details.open) showTable(place.chart.id);
  }
  watchCharts();
}

function redrawCharts() {
  for (const place of drawn.values()) {
    place.stale = true;
    place.made = place.chart.make(place.rows);  // colours are the theme's
  }
  watchCharts();
}

// Whatever is in view is told again.
function watchCharts() {
  for (const { picture } of drawn.values()) {
    picture.hidden = find("library") === null;
    watcher.unobserve(picture);
    if (window.vegaEmbed) watcher.observe(picture);
  }
}

async function draw(id) {
  const place = drawn.get(id);
  if (!place.stale) return;
  place.stale = false;
  if (!place.made.rows.length) return fill(place.picture, el("p", { class: "muted empty" }, "No builds."));
  const inner = el("div", { class: "drawing", role: "img", "aria-label": `${place.chart.title}. ${place.note.textContent} The table below has the same.` });
  fill(place.picture, inner);
  place.view?.finalize();
  const spec = { width: "container", height: 268,
    autosize: { type: "fit", contains: "padding" }, ...place.made.spec };
  const embedded = await window.vegaEmbed(inner, spec,
    { mode: "vega-lite", actions: false, ast: true, renderer: "svg", defaultStyle: false, config: config(), tooltip: showTip });
  place.view = embedded.view;
  inner.querySelector("svg").setAttribute("aria-hidden", "true");  // the picture has a name, the table its content
  return undefined;
}

// Vega's own tip is a style sheet that the page's policy forbids.
function showTip(_handler, event, _item, value) {
  const tip = find("tip"), text = value && typeof value === "object" ? value.tip : value;
  tip.hidden = !text;
  if (!text) return;
  tip.textContent = text;
  const right = Math.min(event.pageX + 14, document.documentElement.clientWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(8, right)}px`;
  tip.style.top = `${event.pageY + 14}px`;
}
