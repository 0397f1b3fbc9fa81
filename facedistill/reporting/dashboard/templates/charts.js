"use strict";
// Charts as SVG: a color and a dash per run, axes, curves that can be read with pointer and keys.

const COLORS = 6, DASHES = ["", "7 4", "2 4", "10 3 2 3"];
const SVG = "http://www.w3.org/2000/svg";
const color = (slot) => `var(--c${slot % COLORS})`;
const dash = (slot) => DASHES[Math.floor(slot / COLORS)];

function element(name, attributes = {}, ...children) {
  const made = ["svg", "path", "line", "text", "circle"].includes(name)
    ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function short(value) {
  for (const [size, prefix] of [[1e9, "G"], [1e6, "M"], [1e3, "k"]]) {
    if (Math.abs(value) >= size) return `${+(value / size).toPrecision(3)}${prefix}`;
  }
  return `${+value.toPrecision(3)}`;
}

function ticks(low, high, wanted) {
  const rough = (high - low) / wanted, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++) found.push(+(k * step).toPrecision(12));
  return found;
}

// Maps values from `low` to `high` onto pixels `from` to `to`.
function axis({ low, high, log }, from, to) {
  const warp = log ? Math.log10 : (value) => value;
  const [first, last] = [warp(low), warp(high)];
  let marks = log ? ticks(first, last, 5).filter(Number.isInteger).map((power) => 10 ** power) : ticks(low, high, 5);
  if (log && marks.length < 2) marks = [0, 0.33, 0.67, 1].map((part) => +(10 ** (first + part * (last - first))).toPrecision(2));
  return { place: (value) => from + (to - from) * (warp(value) - first) / ((last - first) || 1), marks };
}

// The range of the values with a little room; logarithmic where a loss spans much.
function range(values, { mayLog = false, fromZero = false, most = Infinity } = {}) {
  let low = Math.min(...values), high = Math.max(...values);
  if (mayLog && low > 0 && high / low > 20) return { low: low * 0.8, high: high * 1.25, log: true };
  if (fromZero && low > 0 && low < high / 2) low = 0;
  const room = (high - low) * 0.05 || Math.abs(high) * 0.05 || 1;
  return { low: low === 0 ? 0 : low - room, high: Math.min(most, high + room), log: false };
}

// series: [{ slot, label, x: [], y: [] }]; `steps` draws y as constant from each x to the next, as far as xRange.high.
function plot(series, { title, remark, xLabel, xRange, yRange, steps = false, ariaLabel, reading }) {
  const W = 460, H = 280, left = 46, right = W - 8, top = 10, bottom = H - 40;
  const x = axis(xRange, left, right), y = axis(yRange, bottom, top);
  const parts = [];
  for (const mark of y.marks) {
    parts.push(element("line", { class: "grid", x1: left, x2: right, y1: y.place(mark), y2: y.place(mark) }),
      element("text", { x: left - 7, y: y.place(mark) + 4, "text-anchor": "end" }, short(mark)));
  }
  for (const mark of x.marks) {
    parts.push(element("text", { x: x.place(mark), y: bottom + 17, "text-anchor": x.place(mark) > right - 12 ? "end" : "middle" }, short(mark)));
  }
  parts.push(element("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    element("text", { x: right, y: bottom + 33, "text-anchor": "end" }, xLabel));
  for (const one of series) {
    const style = `stroke: ${color(one.slot)}`;
    const at = (value, k) => `${x.place(value).toFixed(1)} ${y.place(one.y[k]).toFixed(1)}`;
    const d = steps
      ? one.x.map((value, k) => `${k ? `H${x.place(value).toFixed(1)}V${y.place(one.y[k]).toFixed(1)}` : `M${at(value, k)}`}`).join("") + `H${x.place(one.end ?? xRange.high).toFixed(1)}`
      : one.x.map((value, k) => `${k ? "L" : "M"}${at(value, k)}`).join("");
    parts.push(element("path", { class: "curve", d, style, "stroke-dasharray": dash(one.slot), "data-slot": one.slot }));
    if (one.x.length <= 12 && !steps) {
      one.x.forEach((value, k) => parts.push(element("circle", {
        cx: x.place(value), cy: y.place(one.y[k]), r: 3.5, style: `fill: ${color(one.slot)}`, "data-slot": one.slot })));
    }
  }
  const svg = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", tabindex: "0", "aria-label": ariaLabel }, ...parts);
  const output = element("output", { "aria-live": "polite" }, "Point at the chart, or focus it and press arrow keys, to read values.");
  const nearest = (list, wanted) => list.reduce((best, value, k) => (Math.abs(value - wanted) < Math.abs(list[best] - wanted) ? k : best), 0);
  const before = (list, wanted) => Math.max(0, list.findLastIndex((value) => value <= wanted * (1 + 1e-9)));
  readable(svg, output, series, { x, top, bottom, W, reading, index: steps ? before : nearest });
  return element("div", {}, element("h3", {}, title), element("p", { class: "fine" }, remark), svg, output);
}

function readable(svg, output, series, { x, top, bottom, W, reading, index }) {
  const stops = [...new Set(series.flatMap((one) => one.x))].sort((a, b) => a - b);
  const cursor = element("line", { class: "cursor", y1: top, y2: bottom, visibility: "hidden" });
  svg.append(cursor);
  let stop = stops.length;
  const show = (at) => {
    stop = Math.max(0, Math.min(stops.length - 1, at));
    const value = stops[stop];
    cursor.setAttribute("x1", x.place(value));
    cursor.setAttribute("x2", x.place(value));
    cursor.setAttribute("visibility", "visible");
    output.replaceChildren(element("b", {}, reading(value)), ...series.map((one) =>
      element("span", {}, element("span", { style: `color: ${color(one.slot)}`, "aria-hidden": "true" }, "■ "),
        `${one.label} ${one.y[index(one.x, value)].toPrecision(4)}`)));
  };
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const inside = (event.clientX - area.left) / area.width * W;
    show(stops.reduce((best, value, k) => (Math.abs(x.place(value) - inside) < Math.abs(x.place(stops[best]) - inside) ? k : best), 0));
  });
  svg.addEventListener("keydown", (event) => {
    const to = { ArrowLeft: stop - 1, ArrowRight: stop + 1, Home: 0, End: stops.length }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    show(to);
  });
}

// Two humps, of pairs of one person and of two, as areas.
function humps(one, { low, high, most, threshold }) {
  const W = 300, H = 150, left = 4, right = W - 4, bottom = H - 22;
  const x = axis({ low, high }, left, right), y = axis({ low: 0, high: most }, bottom, 6);
  const area = (kind) => {
    const step = (one.scores.high - one.scores.low) / one.scores[kind].length;
    const d = one.scores[kind].map((value, k) =>
      `V${y.place(Math.min(value, most)).toFixed(1)}H${x.place(one.scores.low + (k + 1) * step).toFixed(1)}`).join("");
    const style = kind === "genuine" ? `fill: ${color(one.slot)}; stroke: ${color(one.slot)}` : "";
    return element("path", { class: `hump ${kind}`, d: `M${x.place(one.scores.low).toFixed(1)} ${bottom}${d}V${bottom}Z`, style });
  };
  const parts = [area("impostor"), area("genuine"), element("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom })];
  for (const mark of x.marks) parts.push(element("text", { x: x.place(mark), y: bottom + 16, "text-anchor": "middle" }, short(mark)));
  if (threshold !== undefined) parts.push(element("line", { class: "threshold", x1: x.place(threshold), x2: x.place(threshold), y1: 6, y2: bottom }));
  const label = `Scores of ${one.label} from ${short(one.scores.low)} to ${short(one.scores.high)}.`;
  const svg = element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": label }, ...parts);
  const cut = Math.max(...one.scores.genuine, ...one.scores.impostor) > most;
  return element("figure", { "data-slot": one.slot }, element("figcaption", {}, one.label, element("small", {}, cut ? " cut off at the top" : "")), svg);
}
