// The curve of a job's rate: drawn by the server, gone on with from progress, as `sessions_app/curve.py` does.

import { count, rate } from "./wording.js";

const MOST_SAMPLES = 240, GAP_S = 5, WIDTH = 1000, HEIGHT = 100, LEAST_SPAN = 60;
let step = 0, rates = [], isNew = false;

const place = () => document.getElementById("curve");
const known = (list) => list.filter((value) => value !== null);
const mean = (list) => (known(list).length ? Math.round(known(list).reduce((sum, value) => sum + value, 0) / known(list).length) : null);

function read() {
  if (step || !place()) return;
  step = Number(place().dataset.step);
  rates = JSON.parse(place().dataset.rates);
}

export function noteRate(at, value) {
  read();
  if (!step || !(at >= 0)) return;
  while (at >= step * MOST_SAMPLES) {
    step *= 2;
    rates = rates.flatMap((_, index) => (index % 2 ? [] : [mean(rates.slice(index, index + 2))]));
  }
  const silent = Math.floor(at / step) - rates.length;
  if (silent < 0) return;
  for (let number = 0; number < silent; number++) rates.push(silent * step <= GAP_S ? Math.round(value) : null);
  rates.push(Math.round(value));
  isNew = true;
}

export function paintCurve() {
  if (!isNew || !place()) return;
  isNew = false;
  place().closest("section").hidden = false;
  const span = Math.max(rates.length, LEAST_SPAN) - 1, top = Math.max(0, ...known(rates));
  let line = "", pen = "M";
  rates.forEach((value, at) => {
    if (value === null) return void (pen = "M");
    const isAlone = pen === "M" && (rates[at + 1] ?? null) === null;
    line += `${pen}${Math.round((WIDTH * at) / span)} ${Math.round(HEIGHT - ((HEIGHT - 4) * value) / (top || 1))}${isAlone ? "h.1" : ""}`;
    pen = "L";
  });
  place().querySelector("path").setAttribute("d", line);
  write("highest", rate(top));
  write("mean", rate(mean(rates) ?? 0));
  place().setAttribute("aria-label", `Rate over ${count(rates.length * step)} seconds, at most ${rate(top)}`);
}

function write(name, text) {
  const element = document.querySelector(`[data-curve="${name}"]`);
  if (element && element.textContent !== text) element.textContent = text;
}
