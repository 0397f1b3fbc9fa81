// Scores, decisions and histograms.
const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 440, HEIGHT = 210, TOP = 40, BOTTOM = 180;

export function svg(name, attributes, text = "") {
  const part = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
  part.textContent = text;
  return part;
}

export function showResult(article, score, choice, histograms) {
  const role = article.dataset.network;
  const histogram = choice && histograms[role]?.[choice.protocol];
  const threshold = choice?.thresholds[role];
  article.querySelector(".score").textContent = score === undefined ? "—" : score.toFixed(4);
  showDecision(article.querySelector(".decision"), score, threshold, choice);
  const drawn = article.querySelector(".histogram"), place = article.querySelector(".place");
  if (!histogram) {
    drawn.replaceChildren();
    place.textContent = choice ? `No scores of the ${role} on ${choice.title} are stored with the run.` : "";
    return;
  }
  const text = placeOf(score, histogram, choice.title);
  place.textContent = text;
  drawn.replaceChildren(draw(histogram, lowest(histograms, choice.protocol), score, threshold, text));
}

function showDecision(part, score, threshold, choice) {
  part.className = "decision";
  part.replaceChildren();
  if (score === undefined) return;
  if (threshold === undefined) { part.textContent = "No threshold, so no decision."; return; }
  const same = score >= threshold, decision = document.createElement("b");
  decision.textContent = same ? "Same person" : "Different people";
  part.classList.add(same ? "same" : "different");
  part.append(decision, `${same ? "at or above" : "below"} the threshold ${threshold.toFixed(4)} (FAR ${choice.far} on ${choice.title})`);
}

// Share of a histogram's pairs that score lower; the score's own bin counts in proportion.
function shareBelow(score, densities, { low, high }) {
  const width = (high - low) / densities.length;
  return densities.reduce((sum, density, k) => sum + density * Math.min(Math.max(score - low - k * width, 0), width), 0);
}

function placeOf(score, histogram, title) {
  if (score === undefined) return `Scores on ${title}.`;
  const part = (share) => `${Math.min(Math.max(100 * share, 0), 100).toFixed(1)} %`;
  return `On ${title}, about ${part(shareBelow(score, histogram.genuine, histogram))} of the pairs of the same person and ` +
    `${part(shareBelow(score, histogram.impostor, histogram))} of the pairs of different people score lower.`;
}

function lowest(histograms, protocol) {
  return Math.min(-0.2, ...Object.values(histograms).map((found) => found[protocol]?.low ?? 0));
}

function draw(histogram, low, score, threshold, text) {
  const x = (value) => Math.min(Math.max((value - low) / (1 - low), 0), 1) * (WIDTH - 20) + 10;
  const highest = Math.max(...histogram.genuine, ...histogram.impostor);
  const y = (density) => BOTTOM - (BOTTOM - TOP) * density / highest;
  const image = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Histogram of cosines. ${text}` });
  for (const kind of ["impostor", "genuine"]) image.append(svg("path", { class: kind, d: steps(histogram, kind, x, y) }));
  image.append(svg("line", { x1: 10, x2: WIDTH - 10, y1: BOTTOM, y2: BOTTOM }));
  for (const value of [0, 0.5, 1]) image.append(svg("text", { x: x(value), y: BOTTOM + 20, "text-anchor": value === 1 ? "end" : "middle" }, value));
  image.append(svg("text", { class: "impostor-text", x: 10, y: 14 }, "different people"));
  image.append(svg("text", { class: "genuine-text", x: WIDTH - 10, y: 14, "text-anchor": "end" }, "same person"));
  if (threshold !== undefined) {
    image.append(svg("line", { class: "threshold", x1: x(threshold), x2: x(threshold), y1: TOP - 4, y2: BOTTOM }));
    image.append(svg("text", { x: x(threshold), y: TOP - 10, "text-anchor": "middle" }, "threshold"));
  }
  if (score !== undefined) image.append(svg("line", { class: "mark", x1: x(score), x2: x(score), y1: TOP + 14, y2: BOTTOM + 4 }));
  return image;
}

function steps(histogram, kind, x, y) {
  const width = (histogram.high - histogram.low) / histogram[kind].length;
  const corners = histogram[kind].map((density, k) => {
    const left = histogram.low + k * width;
    return `L${x(left).toFixed(1)},${y(density).toFixed(1)}L${x(left + width).toFixed(1)},${y(density).toFixed(1)}`;
  });
  return `M${x(histogram.low).toFixed(1)},${BOTTOM}${corners.join("")}L${x(histogram.high).toFixed(1)},${BOTTOM}Z`;
}
