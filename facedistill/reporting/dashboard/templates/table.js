// The table of runs: filters, order, selection; and the start.

const data = JSON.parse(document.getElementById("data").textContent);
const find = (id) => document.getElementById(id);
const rows = [...document.querySelectorAll("#runs tbody tr")];
const boxes = rows.map((row) => row.querySelector("input"));
const MOST_DRAWN = 24;
let slots = []; // run index per color slot; a run keeps its color while it is selected

function filter() {
  const words = find("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const wanted = [...document.querySelectorAll("[data-filter]")].filter((one) => one.value);
  for (const row of rows) {
    row.hidden = !(words.every((word) => row.dataset.search.includes(word))
      && wanted.every((one) => row.dataset[one.dataset.filter] === one.value));
  }
  const shown = rows.filter((row) => !row.hidden).length;
  find("count").textContent = `${shown} of ${rows.length} runs shown`;
  find("none-shown").hidden = shown > 0;
}

function sortBy(heading, column) {
  const descending = heading.getAttribute("aria-sort") === "ascending"
    || (!heading.hasAttribute("aria-sort") && heading.classList.contains("number"));
  const up = heading.getAttribute("aria-sort") === "descending" || !descending;
  const key = (row) => row.cells[column].dataset.order;
  const compare = (a, b) => {
    if (key(a) === "" || key(b) === "") return (key(a) === "") - (key(b) === ""); // what is not measured comes last
    const order = heading.classList.contains("number") ? key(a) - key(b) : key(a).localeCompare(key(b));
    return up ? order : -order;
  };
  document.querySelectorAll("[aria-sort]").forEach((one) => one.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  rows[0].parentNode.append(...[...rows[0].parentNode.rows].sort(compare));
}

function select(wanted) {
  boxes.forEach((box, at) => { box.checked = wanted(at, box.checked); });
  update();
}

function update() {
  const chosen = boxes.map((box, at) => (box.checked ? at : -1)).filter((at) => at >= 0);
  rows.forEach((row, at) => row.classList.toggle("chosen", boxes[at].checked));
  slots = slots.map((at) => (chosen.includes(at) ? at : null));
  for (const at of chosen) {
    if (slots.includes(at)) continue;
    const free = slots.indexOf(null);
    if (free >= 0) slots[free] = at; else if (slots.length < MOST_DRAWN) slots.push(at);
  }
  find("num-selected").textContent = chosen.length;
  compare(chosen.length);
}

// A page that is written again and again: what the reader chose survives a reload.

const REFRESH_S = Number(document.body.dataset.refresh);
const KEY = `facedistill ${location.pathname}`;
const choices = () => [...document.querySelectorAll("#search, [data-filter]")];

function reload() {
  const sorted = document.querySelector("[aria-sort]");
  try {
    sessionStorage.setItem(KEY, JSON.stringify({
      values: choices().map((one) => one.value), protocol: find("protocol").value, scroll: scrollY,
      chosen: data.runs.filter((run, at) => boxes[at].checked).map((run) => run.id),
      sorted: sorted && { column: sorted.cellIndex, up: sorted.getAttribute("aria-sort") === "ascending" },
    }));
  } catch { /* storage is off: the page starts over */ }
  location.reload();
}

function restored() {
  let state = null;
  try {
    state = REFRESH_S ? JSON.parse(sessionStorage.getItem(KEY)) : null;
  } catch { /* as above */ }
  if (!state) return null;
  choices().forEach((one, at) => { one.value = state.values[at] ?? ""; });
  if (state.sorted) {
    const heading = document.querySelectorAll("#runs thead th")[state.sorted.column];
    sortBy(heading, state.sorted.column);
    if ((heading.getAttribute("aria-sort") === "ascending") !== state.sorted.up) sortBy(heading, state.sorted.column);
  }
  return state;
}

// Start.

document.querySelectorAll("[data-heading]").forEach((heading) => {
  const button = element("button", { type: "button" }, heading.textContent.trim());
  heading.replaceChildren(button);
  button.addEventListener("click", () => sortBy(heading, heading.cellIndex));
});
document.querySelectorAll(".needs-script").forEach((part) => { part.hidden = false; });
find("filters").addEventListener("input", filter);
find("filters").addEventListener("submit", (event) => event.preventDefault());
find("filters").addEventListener("reset", () => setTimeout(filter));
boxes.forEach((box) => box.addEventListener("change", update));
find("select-shown").addEventListener("click", () => select((at, checked) => checked || !rows[at].hidden));
find("select-none").addEventListener("click", () => select(() => false));
find("protocol").addEventListener("change", update);
const before = restored();
filter();
latency();
const first = new Set(data.runs.map((run, at) => at).filter((at) => Object.keys(data.runs[at].curves).length).slice(0, 6));
select((at) => (before ? before.chosen.includes(data.runs[at].id) : first.has(at)));
if (before) {
  find("protocol").value = before.protocol;
  update();
  scrollTo(0, before.scroll);
}
if (REFRESH_S) setTimeout(reload, REFRESH_S * 1000);
