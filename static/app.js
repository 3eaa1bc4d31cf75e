// Every page: the resume strip, the marks of jobs in lists, whether the page is live, times in the reader's zone.

import { listen } from "./live.js";
import { clock, count, localise, marked, rate, size, timeLeft } from "./wording.js";

const WORKERS_MS = 30000, OFFLINE_MS = 15000, RECONNECTING_MS = 3000;
const ENDS = ["completed", "failed", "cancelled"];
const handlers = [], linkHandlers = [];
let link = { connected: false, signedOut: false, heardAt: 0, lostAt: Date.now() };

export const onItem = (handler) => handlers.push(handler);
// `since` is the instant of the last sign of life while the page is not live, else null.
export const onStale = (handler) => linkHandlers.push(handler);

export function say(text) {
  document.getElementById("status").textContent = text;
}

export function badge(status, failures = 0) {
  const kind = status === "completed" && failures ? "partial" : status === "pending" ? "waiting" : status;
  const found = document.getElementById("badges").content.querySelector(`[data-kind="${kind}"]`).cloneNode(true);
  if (kind === "partial") found.querySelector("[data-word]").textContent = `${count(failures)} failed`;
  return found;
}

export function failuresOf(data, status) {
  const found = data.errors_count ?? data.errors_encountered ?? data.unreadable?.length;
  return found ?? (status === "completed" ? 0 : undefined);
}

const hasTotal = (progress) => !["initializing", "connecting", "scanning", "pending"].includes(progress.status);
export const percentOf = (progress) => (hasTotal(progress) ? Math.min(progress.percent_complete || 0, 99.9) : null);

function noteOf(data) {
  if (data.message || data.status === "initializing") return data.message ?? "";
  if (data.files_scanned !== undefined) return `${count(data.files_scanned)} files, ${size(data.total_size)} so far`;
  if (data.status === "scanning") return `${count(data.total_files)} ${data.total_files === 1 ? "file" : "files"} to copy so far`;
  return data.speed > 0 && data.eta > 0 ? `${rate(data.speed * 1e6)}, ${timeLeft(data.eta)} left` : "";
}

function paint(item) {
  const { job_id: id, seq } = item.data;
  if (item.event === "job_created" && !document.querySelector(`#strip [data-job="${id}"]`)) join(item);
  for (const place of document.querySelectorAll(`main [data-job="${id}"]:not(article), #strip [data-job="${id}"]`)) {
    if (seq && seq <= Number(place.dataset.seq)) continue;
    if (seq) place.dataset.seq = seq;
    if (item.event === "state") place.dataset.status = item.data.to;
    const isOver = ENDS.includes(place.dataset.status);
    if (item.event === "progress" && !isOver) {
      show(place, percentOf(item.data));
      place.querySelector("[data-note]")?.replaceChildren(marked(noteOf(item.data)));
    }
    if (item.event === "state") place.querySelector("[data-meter]")?.toggleAttribute("hidden", item.data.to === "pending");
    if (isOver) place.querySelector("[data-note]")?.replaceChildren();
    if (item.event === "complete") show(place, 100);
    const failures = item.data.result && failuresOf(item.data.result, "completed");
    if (item.event === "state" || item.event === "complete") {
      place.querySelector("[data-badge]")?.replaceChildren(badge(place.dataset.status, failures));
    }
  }
  if (["job_created", "state"].includes(item.event)) arrange();
}

function show(place, percent) {
  const text = place.querySelector("[data-percent]"), bar = place.querySelector("progress");
  if (text) text.textContent = percent === null ? "" : `${Math.floor(percent)} %`;
  if (bar && percent === null) bar.removeAttribute("value");
  else if (bar) bar.value = Math.max(percent, bar.hasAttribute("value") ? bar.value : 0);
}

function join({ data }) {
  const row = document.createElement("li"), anchor = document.createElement("a");
  Object.assign(row.dataset, { job: data.job_id, seq: data.seq, status: "pending" });
  anchor.href = `/jobs/${data.job_id}`;
  const parts = ["badge", "name", "percent"].map((name) => {
    const part = document.createElement("span");
    part.dataset[name] = "";
    return part;
  });
  parts[0].append(badge("pending"));
  parts[1].className = "name";
  parts[1].append(marked(data.title || data.type));
  anchor.append(...parts);
  row.append(anchor);
  document.querySelector("#strip ul").prepend(row);
}

// The newest active job is shown; when none is left, the one that ended last stays, so nothing moves.
function arrange() {
  const strip = document.getElementById("strip"), rows = [...strip.querySelectorAll("[data-job]")];
  const active = rows.filter((row) => !ENDS.includes(row.dataset.status));
  const shown = active[0] ?? rows.find((row) => !row.hidden) ?? rows[0];
  for (const row of rows) if (!row.contains(document.activeElement)) row.hidden = row !== shown;
  strip.querySelector("[data-none]").hidden = Boolean(shown);
  strip.querySelector("[data-more]").hidden = active.length < 2;
  strip.querySelector("[data-count]").textContent = active.length - 1;
}

function showLink() {
  const place = document.getElementById("link"), now = Date.now();
  const silentSince = link.connected ? link.heardAt : link.heardAt || link.lostAt;
  const lostFor = link.connected ? (now - link.heardAt > OFFLINE_MS ? OFFLINE_MS : 0) : now - link.lostAt;
  const at = clock(new Date(silentSince));
  let state = "live", text = "Live";
  if (link.signedOut) [state, text] = ["signed-out", "Signed out"];
  else if (!link.connected && !link.heardAt && lostFor < RECONNECTING_MS) [state, text] = ["off", "Connecting"];
  else if (lostFor >= OFFLINE_MS) [state, text] = ["offline", `Offline, data from ${at}`];
  else if (lostFor >= RECONNECTING_MS) [state, text] = ["reconnecting", `Reconnecting since ${clock(new Date(link.lostAt))}`];
  const isStale = state === "signed-out" || state === "offline";
  document.body.classList.toggle("is-stale", isStale);
  for (const handler of linkHandlers) handler(isStale ? at : null);
  if (place.dataset.link === state && place.dataset.text === text) return;
  Object.assign(place.dataset, { link: state, text });
  place.hidden = false;
  const words = place.querySelector("[data-text]");
  words.textContent = text;
  if (state === "signed-out") {
    const anchor = document.createElement("a");
    anchor.href = `/sign-in?next=${encodeURIComponent(location.pathname + location.search)}`;
    anchor.textContent = "sign in again";
    words.append(": ", anchor);
  }
}

// A second press must not send a form again; a page that comes back from the browser's memory may.
function sendOnce(form) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
    event.submitter?.setAttribute("aria-disabled", "true");
  });
  addEventListener("pageshow", () => {
    delete form.dataset.sent;
    for (const button of form.querySelectorAll("[aria-disabled]")) button.removeAttribute("aria-disabled");
  });
}

// The warning that no worker is there comes and goes by itself.
async function lookForWorkers() {
  if (document.hidden) return;
  const answer = await fetch("/workers", { redirect: "error" }).catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("workers");
  const place = document.getElementById("workers");
  if (fresh && fresh.textContent.trim() !== place.textContent.trim()) {
    place.replaceWith(fresh);
    say(fresh.textContent.trim() || "Workers are there again.");
  }
}

// Times that are typed are those of the reader's clock.
function enterZone() {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  if (!zone) return;
  for (const field of document.querySelectorAll("[data-zone]")) {
    if (field.dataset.zone === "always" || field.value === "UTC") field.value = zone;
  }
  for (const place of document.querySelectorAll("[data-zone-name]")) place.textContent = zone;
}

enterZone();
setInterval(lookForWorkers, WORKERS_MS);
document.querySelectorAll("time").forEach(localise);
setInterval(() => document.querySelectorAll("time[data-form=full]").forEach(localise), 60000);
document.querySelectorAll("form[data-once]").forEach(sendOnce);
document.getElementById("errors")?.focus();

// By now every module of the page has said what it wants to hear of.
document.addEventListener("DOMContentLoaded", () => {
  const { user, after, events } = document.body.dataset;
  listen({
    url: new URL(events, location.href).href,
    name: `haulier-${user}`,
    after: Number(after),
    onItems: (items) => items.forEach((item) => { paint(item); handlers.forEach((handler) => handler(item)); }),
    onLink: (news) => { link = { ...news }; showLink(); },
  });
  setInterval(showLink, 1000);
});
