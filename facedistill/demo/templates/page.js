// Two photographs, by file, drop or camera; the comparison when both show a face.
import { showResult, svg } from "/result.js";

const data = JSON.parse(document.querySelector("#data").textContent);
const choice = document.querySelector("#choice");
const message = document.querySelector("#compare-message");
const chosen = [null, null];
let scores = {}, comparisons = 0;

function say(part, text, wrong = false) {
  part.textContent = text;
  part.classList.toggle("wrong", wrong);
}

async function send(address, type, body) {
  const answer = await fetch(address, { method: "POST", headers: { "Content-Type": type }, body }).catch(() => null);
  if (!answer) throw new Error("The server does not answer; is `facedistill demo` still running?");
  const content = await answer.json().catch(() => ({ error: `The server answers with ${answer.status}.` }));
  if (!answer.ok) throw new Error(content.error);
  return content;
}

function showResults() {
  const chosenChoice = choice ? data.choices[choice.value] : null;
  for (const article of document.querySelectorAll("[data-network]"))
    showResult(article, scores[article.dataset.network], chosenChoice, data.histograms);
}

async function compare() {
  const number = ++comparisons;
  scores = {};
  showResults();
  const missing = chosen.filter((crop) => !crop).length;
  if (missing) return say(message, missing === 2 ? "Choose two photographs." : "Choose the other photograph.");
  say(message, "Comparing …");
  try {
    const found = await send("/compare", "application/json", JSON.stringify({ a: chosen[0], b: chosen[1] }));
    if (number !== comparisons) return;
    scores = found;
    showResults();
    say(message, "Cosine of the two faces, −1 to 1:");
  } catch (error) {
    if (number === comparisons) say(message, error.message, true);
  }
}

function setUp(section, index) {
  const one = (selector) => section.querySelector(selector);
  const input = one("input"), stage = one(".stage"), video = one("video"), picture = one(".picture");
  const note = one(".message"), faces = one(".faces"), name = "AB"[index];
  let uploads = 0;

  function reset() {
    uploads += 1;
    chosen[index] = null;
    picture.hidden = faces.hidden = true;
    compare();
  }

  function choose(found, k) {
    chosen[index] = found.faces[k].crop;
    picture.querySelectorAll("rect").forEach((box, other) => box.classList.toggle("chosen", other === k));
    compare();
  }

  function show(found) {
    picture.querySelector("img").src = found.preview;
    picture.querySelector("svg")?.remove();
    const boxes = svg("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none", "aria-hidden": "true" });
    for (const { box: [left, top, right, bottom] } of found.faces)
      boxes.append(svg("rect", { x: left, y: top, width: right - left, height: bottom - top }));
    picture.append(boxes);
    picture.hidden = false;
    one(".hint").hidden = true;
    faces.querySelectorAll("label").forEach((label) => label.remove());
    found.faces.forEach((face, k) => {
      const label = document.createElement("label"), radio = document.createElement("input"), image = new Image();
      Object.assign(radio, { type: "radio", name: `face-${name}`, checked: k === 0, ariaLabel: `Face ${k + 1} of photograph ${name}` });
      Object.assign(image, { src: face.crop, alt: "" });
      radio.addEventListener("change", () => choose(found, k));
      label.append(radio, image);
      faces.append(label);
    });
    faces.hidden = found.faces.length === 0;
    faces.classList.toggle("many", found.faces.length > 1);
    if (!found.found) return say(note, "No face is found; give a photograph in which the face is clearly visible.", true);
    const shown = found.found > found.faces.length ? `, the ${found.faces.length} largest are shown` : "";
    say(note, found.found === 1 ? "One face found." : `${found.found} faces found${shown}; the chosen one is compared.`);
    choose(found, 0);
  }

  async function upload(file) {
    stop();
    reset();
    const number = uploads;
    if (!data.types.includes(file.type)) return say(note, "Only JPEG, PNG, WebP and BMP photographs are taken.", true);
    if (file.size > data.mostBytes) return say(note, `More than ${data.mostBytes / 2 ** 20} MiB; give a smaller file.`, true);
    say(note, "Looking for faces …");
    try {
      const found = await send("/faces", file.type, file);
      if (number === uploads) show(found);
    } catch (error) {
      if (number === uploads) say(note, error.message, true);
    }
  }

  async function start() {
    try {
      video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } } });
    } catch (error) {
      return say(note, `The camera cannot be used (${error.message}).`, true);
    }
    reset();
    say(note, "");
    await video.play();
    toggle(true);
    one(".take").focus();
  }

  function stop() {
    video.srcObject?.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
    toggle(false);
  }

  function toggle(isOn) {
    video.hidden = one(".take").hidden = one(".stop").hidden = !isOn;
    one(".start").hidden = isOn;
    one(".hint").hidden = isOn || !picture.hidden;
  }

  function take() {
    const canvas = document.createElement("canvas");
    Object.assign(canvas, { width: video.videoWidth, height: video.videoHeight });
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob(upload, "image/jpeg", 0.95);
    one(".start").hidden = false;
    one(".start").focus();
  }

  input.addEventListener("change", () => { if (input.files[0]) upload(input.files[0]); input.value = ""; });
  one(".start").addEventListener("click", start);
  one(".take").addEventListener("click", take);
  one(".stop").addEventListener("click", () => { stop(); one(".start").focus(); });
  section.addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
  section.addEventListener("dragleave", () => stage.classList.remove("over"));
  section.addEventListener("drop", (event) => {
    event.preventDefault();
    stage.classList.remove("over");
    if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
  });
}

document.querySelectorAll(".slot").forEach(setUp);
choice?.addEventListener("change", showResults);
for (const kind of ["dragover", "drop"]) addEventListener(kind, (event) => event.preventDefault());
showResults();
