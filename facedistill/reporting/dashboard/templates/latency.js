// Accuracy against latency of all runs that were measured alike, and the line of those that no other run beats in both.

function latency() {
  const measured = data.runs.filter((run) => Object.keys(run.latencies).length);
  const protocols = data.protocols.filter(([key]) => measured.some((run) => run.accuracy[key]));
  find("latency").hidden = !protocols.length;
  if (!protocols.length) return;
  const count = {};
  measured.forEach((run) => Object.keys(run.latencies).forEach((name) => { count[name] = (count[name] || 0) + 1; }));
  const conditions = Object.keys(count).sort((a, b) => count[b] - count[a] || b.startsWith("onnx,") - a.startsWith("onnx,") || a.localeCompare(b));
  const [protocol, condition] = [find("latency-protocol"), find("latency-condition")];
  protocol.replaceChildren(...protocols.map(([key, title]) => element("option", { value: key }, title)));
  condition.replaceChildren(...conditions.map((name) => element("option", {}, name)));
  const draw = () => {
    const points = measured.filter((run) => run.accuracy[protocol.value] && condition.value in run.latencies)
      .map((run) => ({ run, x: run.latencies[condition.value], y: 100 * run.accuracy[protocol.value][0] }));
    const others = measured.filter((run) => run.accuracy[protocol.value] && !(condition.value in run.latencies)).length;
    find("latency-note").textContent = `Median time of one face; the line joins the runs that no other beats in both.${others
      ? ` ${others} ${others === 1 ? "run was" : "runs were"} measured under other conditions only and ${others === 1 ? "is" : "are"} not drawn.` : ""}`;
    find("latency-chart").replaceChildren(...points.length ? [scatter(points)] : []);
  };
  for (const choice of [protocol, condition]) choice.addEventListener("change", draw);
  draw();
}

function unbeaten(points) {
  const best = [];
  for (const point of [...points].sort((a, b) => a.x - b.x || b.y - a.y)) {
    if (!best.length || point.y > best.at(-1).y) best.push(point);
  }
  return best;
}

function scatter(points) {
  const W = 700, H = 340, left = 46, right = W - 12, top = 14, bottom = H - 40;
  const x = axis(range(points.map((one) => one.x), { fromZero: true }), left, right);
  const heights = range(points.map((one) => one.y), { most: 100 });
  const y = axis({ ...heights, low: heights.low - (heights.high - heights.low) / 10 }, bottom, top); // room for a name
  const best = unbeaten(points), parts = [];
  for (const mark of y.marks) {
    parts.push(element("line", { class: "grid", x1: left, x2: right, y1: y.place(mark), y2: y.place(mark) }),
      element("text", { x: left - 7, y: y.place(mark) + 4, "text-anchor": "end" }, short(mark)));
  }
  for (const mark of x.marks) parts.push(element("text", { x: x.place(mark), y: bottom + 17, "text-anchor": "middle" }, short(mark)));
  const d = best.map((one, k) => `${k ? `H${x.place(one.x)}V${y.place(one.y)}` : `M${x.place(one.x)} ${y.place(one.y)}`}`).join("");
  parts.push(element("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }),
    element("text", { x: right, y: bottom + 33, "text-anchor": "end" }, "ms a face"),
    element("path", { class: "curve", d, style: "stroke: var(--c0); stroke-width: 1.5" }));
  for (const one of points) {
    const told = `${one.run.id}: ${one.y.toFixed(2)} %, ${one.x.toFixed(2)} ms`;
    const circle = element("circle", { cx: x.place(one.x), cy: y.place(one.y), r: 5, class: best.includes(one) ? "best" : "beaten" });
    const title = document.createElementNS(SVG, "title");
    title.append(told);
    circle.append(title);
    parts.push(circle);
  }
  for (const one of best.slice(0, 12)) {
    const above = x.place(one.x) > left + (right - left) / 3; // nothing is above the line there
    parts.push(element("text", { x: x.place(one.x) + (above ? -8 : 8), y: y.place(one.y) + (above ? -7 : 17), "text-anchor": above ? "end" : "start" }, one.run.id));
  }
  const story = best.map((one) => `${one.run.id} ${one.y.toFixed(2)} % in ${one.x.toFixed(2)} ms`).join("; ");
  return element("div", {}, element("svg", { viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `Unbeaten in accuracy and latency: ${story}.` }, ...parts));
}
