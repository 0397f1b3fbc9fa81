"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const find = (id) => document.getElementById(id);
  const rows = [...document.querySelectorAll("#runs tbody tr")];
  const boxes = rows.map((row) => row.querySelector("input"));
  const MOST_DRAWN = 24, COLORS = 6, DASHES = ["", "7 4", "2 4", "10 3 2 3"];
  const SVG = "http://www.w3.org/2000/svg";
  const CURVES = [
    ["train/loss", "Training loss", "smoothed; its scale differs between methods"],
    ["val/cosine", "Validation cosine", "of student and teacher, on faces never trained on"],
    ["val/accuracy", "Validation accuracy, %", "on generated pairs, other than the table's"],
  ];
  let slots = []; // run index per color slot; a run keeps its color while it is selected

  function element(name, attributes = {}, ...children) {
    const made = ["svg", "path", "line", "text", "circle"].includes(name)
      ? document.createElementNS(SVG, name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // The table: filters, order, selection.

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

  // The comparison.

  const name = (at) => `${data.runs[at].method}${data.runs[at].seed === null ? "" : `, seed ${data.runs[at].seed}`}`;
  const color = (slot) => `var(--c${slot % COLORS})`;
  const dash = (slot) => DASHES[Math.floor(slot / COLORS)];

  function compare(number) {
    const drawn = slots.map((at, slot) => ({ at, slot, run: data.runs[at] })).filter((one) => one.at !== null);
    find("compare-note").textContent = number === 0 ? "Select runs in the table to compare them here."
      : `${number} selected${number > drawn.length ? `, the first ${drawn.length} drawn` : ""}. Press a name to take it out; point at it, or focus it, to see it alone.`;
    const numNamed = {};
    drawn.forEach((one) => { numNamed[name(one.at)] = (numNamed[name(one.at)] || 0) + 1; });
    drawn.forEach((one) => { one.label = numNamed[name(one.at)] > 1 ? `${name(one.at)} · ${one.run.id}` : name(one.at); });
    find("legend").replaceChildren(...drawn.map(legendEntry));
    find("charts").replaceChildren(...CURVES.map((curve) => chart(drawn, ...curve)).filter(Boolean));
    find("bars").replaceChildren(...data.protocols.map(([key, title]) => bars(drawn, key, title)).filter(Boolean));
    find("differences").replaceChildren(...differences(drawn));
  }

  function legendEntry(one) {
    const line = element("svg", { viewBox: "0 0 26 10", "aria-hidden": "true" },
      element("path", { d: "M1 5H25", class: "curve", "stroke-dasharray": dash(one.slot), style: `stroke: ${color(one.slot)}` }));
    const button = element("button", { type: "button", title: `Take out ${one.run.id}` }, line, one.label);
    button.addEventListener("click", () => {
      boxes[one.at].checked = false;
      update();
      (find("legend").querySelector("button") || find("compare")).focus();
    });
    const fade = (on) => document.querySelectorAll("[data-slot]").forEach((part) =>
      part.classList.toggle("faded", on && part.dataset.slot !== String(one.slot)));
    for (const event of ["pointerenter", "focus"]) button.addEventListener(event, () => fade(true));
    for (const event of ["pointerleave", "blur"]) button.addEventListener(event, () => fade(false));
    return element("li", {}, button);
  }

  function ticks(low, high, wanted) {
    const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
    const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
    const found = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(+(k * step).toPrecision(12));
    return found;
  }

  function short(value) {
    for (const [size, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
      if (Math.abs(value) >= size) return `${+(value / size).toPrecision(3)}${prefix}`;
    }
    return `${+value.toPrecision(3)}`;
  }

  function chart(drawn, key, title, remark) {
    const scale = key === "val/accuracy" ? 100 : 1;
    const series = drawn.filter((one) => one.run.curves[key]).map((one) => ({
      ...one, seen: one.run.curves[key][0], value: one.run.curves[key][1].map((value) => value * scale),
    }));
    if (!series.length) return null;
    const W = 460, H = 280, left = 46, right = W - 8, top = 10, bottom = H - 40;
    const all = series.flatMap((one) => one.value);
    let low = Math.min(...all), high = Math.max(...all);
    const log = key === "train/loss" && low > 0 && high / low > 20;
    const warp = log ? Math.log10 : (value) => value;
    if (key === "train/loss" && !log && low > 0 && low < high / 2) low = 0;
    [low, high] = [warp(low), warp(high)];
    const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
    if (low !== 0) low -= room;
    high = key === "val/accuracy" ? Math.min(100, high + room) : high + room;
    const last = Math.max(...series.flatMap((one) => one.seen)) || 1;
    const x = (seen) => left + (right - left) * seen / last;
    const y = (value) => bottom - (bottom - top) * (warp(value) - low) / (high - low);
    const parts = [];
    const marks = log ? ticks(low, high, 4).filter(Number.isInteger).map((power) => 10 ** power) : ticks(low, high, 5);
    if (log && marks.length < 2) marks.splice(0, 9, ...[0, 0.33, 0.67, 1].map((part) => +(10 ** (low + part * (high - low))).toPrecision(2)));
    for (const mark of marks) {
      parts.push(element("line", { class: "grid", x1: left, x2: right, y1: y(mark), y2: y(mark) }),
        element("text", { x: left - 7, y: y(mark) + 4, "text-anchor": "end" }, short(mark)));
    }
    for (const mark of ticks(0, last, 5)) {
      parts.push(element("text", { x: x(mark), y: bottom + 17, "text-anchor": mark / last > 0.97 ? "end" : "middle" }, short(mark)));
    }
    parts.push(element("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
      element("text", { x: right, y: bottom + 33, "text-anchor": "end" }, "images seen"));
    for (const one of series) {
      const style = `stroke: ${color(one.slot)}`;
      const path = one.seen.map((seen, k) => `${k ? "L" : "M"}${x(seen).toFixed(1)} ${y(one.value[k]).toFixed(1)}`).join("");
      parts.push(element("path", { class: "curve", d: path, style, "stroke-dasharray": dash(one.slot), "data-slot": one.slot }));
      if (one.seen.length <= 12) {
        one.seen.forEach((seen, k) => parts.push(element("circle", {
          cx: x(seen), cy: y(one.value[k]), r: 3.5, style: `fill: ${color(one.slot)}`, "data-slot": one.slot })));
      }
    }
    const story = series.map((one) => `${one.label} ${short(one.value[0])} to ${short(one.value.at(-1))}`).join("; ");
    const svg = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: "0", "aria-label": `${title} over images seen: ${story}.` }, ...parts);
    const output = element("output", { "aria-live": "polite" }, "Point at the chart, or focus it and press arrow keys, to read values.");
    readable(svg, output, series, { x, left, right, top, bottom, W });
    return element("div", {}, element("h3", {}, title), element("p", { class: "fine" }, remark), svg, output);
  }

  function readable(svg, output, series, box) {
    const stops = [...new Set(series.flatMap((one) => one.seen))].sort((a, b) => a - b);
    const cursor = element("line", { class: "cursor", y1: box.top, y2: box.bottom, visibility: "hidden" });
    svg.append(cursor);
    let stop = stops.length;
    const nearest = (list, wanted) => list.reduce((best, seen, k) => (Math.abs(seen - wanted) < Math.abs(list[best] - wanted) ? k : best), 0);
    const show = (at) => {
      stop = Math.max(0, Math.min(stops.length - 1, at));
      const seen = stops[stop];
      cursor.setAttribute("x1", box.x(seen));
      cursor.setAttribute("x2", box.x(seen));
      cursor.setAttribute("visibility", "visible");
      output.replaceChildren(element("b", {}, `${seen.toLocaleString("en")} images`), ...series.map((one) =>
        element("span", {}, element("span", { style: `color: ${color(one.slot)}`, "aria-hidden": "true" }, "■ "),
          `${one.label} ${one.value[nearest(one.seen, seen)].toPrecision(4)}`)));
    };
    svg.addEventListener("pointermove", (event) => {
      const area = svg.getBoundingClientRect();
      const inside = (event.clientX - area.left) / area.width * box.W;
      show(nearest(stops, (inside - box.left) / (box.right - box.left) * stops.at(-1)));
    });
    svg.addEventListener("keydown", (event) => {
      const to = { ArrowLeft: stop - 1, ArrowRight: stop + 1, Home: 0, End: stops.length }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      show(to);
    });
  }

  function bars(drawn, key, title) {
    const measured = drawn.filter((one) => one.run.accuracy[key]);
    if (!measured.length) return null;
    const from = Math.min(...measured.flatMap((one) => one.run.accuracy[key])) < 0.5 ? 0 : 0.5;
    const part = (value) => `${100 * (value - from) / (1 - from)}%`;
    const lines = measured.map((one) => {
      const [value, low, high] = one.run.accuracy[key];
      const track = element("div", { class: "track", "aria-hidden": "true" },
        element("span", { style: `width: ${part(value)}; background: ${color(one.slot)}` }));
      if (low !== undefined) track.append(element("i", { style: `left: ${part(low)}; right: calc(100% - ${part(high)})` }));
      const interval = low === undefined ? "" : ` [${(100 * low).toFixed(2)}, ${(100 * high).toFixed(2)}]`;
      return element("div", { class: "one", "data-slot": one.slot }, element("dt", {}, one.label), track,
        element("dd", {}, `${(100 * value).toFixed(2)} %`, element("small", {}, interval)));
    });
    return element("div", { class: "bars" }, element("h3", {}, `${title} accuracy`),
      element("p", { class: "fine" }, `Bars from ${from ? "50 %, which is chance," : "0"} to 100 %; lines are 95 % intervals.`),
      element("dl", {}, ...lines));
  }

  function differences(drawn) {
    if (drawn.length < 2) return [];
    const keys = [...new Set(drawn.flatMap((one) => Object.keys(one.run.settings)))]
      .filter((key) => new Set(drawn.map((one) => one.run.settings[key])).size > 1);
    if (!keys.length) return [];
    const head = element("tr", {}, element("th", { scope: "col" }, "Setting"), ...drawn.map((one) => element("th", { scope: "col" }, one.label)));
    const body = keys.map((key) => element("tr", {}, element("th", { scope: "row" }, key), ...drawn.map((one) => element("td", {}, one.run.settings[key] ?? "—"))));
    const region = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Settings that differ" },
      element("table", {}, element("thead", {}, head), element("tbody", {}, ...body)));
    return [element("h3", {}, "Settings that differ"), region];
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
  filter();
  const first = new Set(data.runs.map((run, at) => at).filter((at) => Object.keys(data.runs[at].curves).length).slice(0, 6));
  select((at) => first.has(at));
})();
