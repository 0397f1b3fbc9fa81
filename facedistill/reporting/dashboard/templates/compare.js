// The comparison of the selected runs: curves, accuracies, ROC and DET, histograms, faces, settings.

const CURVES = [
  ["train/loss", "Training loss", "smoothed; its scale differs between methods", { mayLog: true, fromZero: true }],
  ["val/cosine", "Validation cosine", "of student and teacher, on faces never trained on", {}],
  ["val/accuracy", "Validation accuracy, %", "on generated pairs, other than the table's", { most: 100 }],
];
const runName = (at) => `${data.runs[at].method}${data.runs[at].seed === null ? "" : `, seed ${data.runs[at].seed}`}`;

function compare(number) {
  const drawn = slots.map((at, slot) => ({ at, slot, run: data.runs[at] })).filter((one) => one.at !== null);
  find("compare-note").textContent = number === 0 ? "Select runs in the table to compare them here."
    : `${number} selected${number > drawn.length ? `, the first ${drawn.length} drawn` : ""}. Press a name to take it out; point at it, or focus it, to see it alone.`;
  const numNamed = {};
  drawn.forEach((one) => { numNamed[runName(one.at)] = (numNamed[runName(one.at)] || 0) + 1; });
  drawn.forEach((one) => { one.label = numNamed[runName(one.at)] > 1 ? `${runName(one.at)} · ${one.run.id}` : runName(one.at); });
  find("legend").replaceChildren(...drawn.map(legendEntry));
  find("charts").replaceChildren(...CURVES.map((curve) => learning(drawn, ...curve)).filter(Boolean));
  find("bars").replaceChildren(...data.protocols.map(([key, title]) => bars(drawn, key, title)).filter(Boolean));
  verification(drawn);
  faces(drawn);
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

function learning(drawn, key, title, remark, room) {
  const scale = key === "val/accuracy" ? 100 : 1;
  const series = drawn.filter((one) => one.run.curves[key]).map((one) => ({
    ...one, x: one.run.curves[key][0], y: one.run.curves[key][1].map((value) => value * scale),
  }));
  if (!series.length) return null;
  const story = series.map((one) => `${one.label} ${short(one.y[0])} to ${short(one.y.at(-1))}`).join("; ");
  return plot(series, {
    title, remark, xLabel: "images seen", ariaLabel: `${title} over images seen: ${story}.`,
    xRange: { low: 0, high: Math.max(...series.flatMap((one) => one.x)) || 1 }, yRange: range(series.flatMap((one) => one.y), room),
    reading: (seen) => `${seen.toLocaleString("en")} images`,
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

// ROC, DET and histograms of the protocol that is chosen.
function verification(drawn) {
  const choice = find("protocol");
  const there = data.protocols.filter(([key]) => drawn.some((one) => one.run.rocs[key]));
  find("verification").hidden = !there.length;
  if (!there.length) return;
  const wanted = there.some(([key]) => key === choice.value) ? choice.value : there[0][0];
  choice.replaceChildren(...there.map(([key, title]) => element("option", { value: key }, title)));
  choice.value = wanted;
  const title = there.find(([key]) => key === wanted)[1];
  const shown = drawn.filter((one) => one.run.rocs[wanted]).map((one) => ({ ...one, roc: one.run.rocs[wanted], scores: one.run.scores[wanted] }));
  find("rocs").replaceChildren(...rates(shown, title));
  const densest = shown.map((one) => Math.max(...one.scores.genuine, ...one.scores.impostor)).sort((a, b) => a - b);
  const box = {
    low: Math.min(...shown.map((one) => one.scores.low)), high: Math.max(...shown.map((one) => one.scores.high)),
    most: Math.min(densest.at(-1), 3 * densest[Math.floor((densest.length - 1) / 2)]), // one collapsed run must not flatten the rest
  };
  find("histograms").replaceChildren(...shown.map((one) => humps(one, { ...box, threshold: one.run.thresholds[wanted] })));
}

function rates(shown, title) {
  const xRange = { low: Math.min(...shown.map((one) => one.roc.floor)), high: 1, log: true };
  const roc = shown.map((one) => ({ ...one, x: one.roc.far, y: one.roc.tar }));
  const det = shown.map((one) => {
    const first = one.roc.tar.findIndex((tar) => 1 - tar < one.roc.least * (1 - 1e-6)); // from there on, none rejected
    const end = first < 0 ? undefined : one.roc.far[first];
    return { ...one, end, x: one.roc.far.slice(0, first < 0 ? undefined : first), y: one.roc.tar.slice(0, first < 0 ? undefined : first).map((tar) => 1 - tar) };
  }).filter((one) => one.x.length);
  const common = { xLabel: "false accept rate", xRange, steps: true, reading: (far) => `FAR ${far.toPrecision(2)}` };
  const ends = (series) => series.map((one) => `${one.label} ${short(one.y[0])} at FAR ${short(one.x[0])}`).join("; ");
  const charts = [plot(roc, { ...common, title: `${title}: ROC`, remark: "true accept rate of the student; on the left the lowest FAR that the pairs can tell",
    yRange: range(roc.flatMap((one) => one.y), { most: 1 }), ariaLabel: `True accept rate on ${title}: ${ends(roc)}.` })];
  if (det.length) {
    charts.push(plot(det, { ...common, title: `${title}: DET`, remark: "false reject rate of the student; lower is better",
      yRange: { low: Math.min(...det.map((one) => one.roc.least)), high: 1, log: true }, ariaLabel: `False reject rate on ${title}: ${ends(det)}.` }));
  }
  return charts;
}

function faces(drawn) {
  const shown = drawn.filter((one) => one.run.faces);
  find("faces").hidden = !shown.length;
  find("sheets").replaceChildren(...shown.map((one) => element("figure", { "data-slot": one.slot },
    element("figcaption", {}, one.label, element("small", {}, ` ${one.run.faces.caption}`)),
    element("img", { src: one.run.faces.uri, alt: `Rendered faces above their variations; ${one.run.faces.caption}.` }))));
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
