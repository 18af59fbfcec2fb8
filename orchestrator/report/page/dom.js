// Elements made of text alone: nothing that a receipt says is ever read as HTML.
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const find = (id) => document.getElementById(id);

function fill(element, ...children) {
  element.replaceChildren(...children.flat().filter((child) => child !== null && child !== ""));
}

// A table of `columns`, each {name, cell, number}; a row whose cell is a string gets it as text.
function table(columns, rows, { caption, hiddenCaption = true, most = 500 } = {}) {
  const head = el("tr", {}, columns.map((column) => el("th", { scope: "col", class: column.number ? "number" : null },
    column.head || column.name)));
  const body = rows.slice(0, most).map((row) => el("tr", {}, columns.map((column, at) => {
    const kind = at === 0 ? ["th", { scope: "row" }] : ["td", {}];
    return el(kind[0], { ...kind[1], class: column.number ? "number" : column.class || null }, column.cell(row));
  })));
  if (rows.length > most) {
    body.push(el("tr", {}, el("td", { colspan: columns.length, class: "muted" }, `${rows.length - most} more`)));
  }
  return el("table", {}, caption && el("caption", { class: hiddenCaption ? "hidden" : null }, caption),
    el("thead", {}, head), el("tbody", {}, body));
}

const bdi = (text) => el("bdi", {}, text);
const code = (text, title = null) => el("code", { title }, text);
const badge = (kind, text) => el("span", { class: `badge ${kind}` }, text);

function list(lines, empty) {
  if (!lines.length) return empty ? el("span", { class: "muted" }, empty) : "";
  return lines.length === 1 ? bdi(lines[0]) : el("ul", { class: "lines" }, lines.map((line) => el("li", {}, bdi(line))));
}

function options(select, rows, chosen) {
  select.replaceChildren(...rows.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
}

// The element of a theme: what the user chose, else what the system has.
const dark = matchMedia("(prefers-color-scheme: dark)");
function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : dark.matches;
}

function remember(key, value) {
  try { localStorage.setItem(`report.${key}`, value); } catch { /* a browser may keep nothing for a file */ }
}

function remembered(key) {
  try { return localStorage.getItem(`report.${key}`); } catch { return null; }
}
