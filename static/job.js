// The page of a job: drawn by the server as the job stood, moved on from there, event by event.

import { badge, failuresOf, onItem, onStale, percentOf, say } from "./app.js";
import { noteRate, paintCurve } from "./curve.js";
import { clock, count, duration, localise, marked, plain, rate, size, timeLeft } from "./wording.js";

const PAINT_MS = 250, LOG_MS = 1000, SPEAK_MS = 60000, STALLED_MS = 15000, AGAIN_MS = 3000;
const MOST_ROWS = 500, MOST_FAILURES = 100;
const ENDS = ["completed", "failed", "cancelled"];

const page = document.getElementById("job"), { job: id, type, title } = page.dataset;
const log = document.getElementById("log"), bar = document.getElementById("bar"), follow = document.getElementById("follow");
let seq = Number(page.dataset.seq), run = Number(page.dataset.run), status = page.dataset.status;
let failures = Number(page.dataset.failures), percent = Number(page.dataset.percent || 0);
let progress = null, stale = null, paintTimer = 0, paintedAt = 0, logTimer = 0, rows = [];
let elapsed = Number(page.dataset.elapsed), elapsedAt = Date.now();
let movedAt = Date.now(), moved = "", spokenAt = 0, spokenPercent = Math.floor(percent / 25), spokenFailures = failures;

const isOver = () => ENDS.includes(status);

onItem(({ event, id: eventId, data }) => {
  if (data.job_id !== id) return;
  if (eventId === null) return takeProgress(data);
  if (data.seq <= seq) return;
  seq = data.seq;
  page.dataset.seq = seq;
  addRow(event, data);
  if (event === "state") takeState(data);
  if (event === "phase") say(`${title}: ${page.querySelector(`[data-phase="${data.phase}"]`)?.textContent ?? data.phase}`);
  if (event === "file_failed") addFailure(data);
  if (event === "complete" || event === "failed" || event === "cancelled") end(data);
});

function takeProgress(data) {
  if (isOver() && data.run <= run) return;
  run = data.run;
  progress = data;
  if (data.elapsed_seconds !== undefined) [elapsed, elapsedAt] = [data.elapsed_seconds, Date.now()];
  if (status === "running" && ["transferring", "verifying"].includes(data.status)) noteRate(data.elapsed_seconds, data.speed * 1e6);
  const work = `${data.bytes_transferred}/${data.files_transferred}/${data.files_skipped}/${data.status}`;
  if (work !== moved) [moved, movedAt] = [work, Date.now()];
  schedule();
}

function takeState({ from, to }) {
  if (isOver()) beginAgain();
  if (to === "running" && from !== "paused") [elapsed, elapsedAt] = [0, Date.now()];
  const isUnderWay = to === "pending" || to === "running";
  for (const id of ["now", "flight"]) document.getElementById(id)?.toggleAttribute("hidden", !isUnderWay);
  if (from === "paused" || to === "paused" || isOver()) refresh();
  else if (to === "running") refresh('#job [data-part="facts"]');
  status = to;
  page.dataset.status = to;
  say(`${title}: ${badge(status, 0).textContent.trim()}`);
  schedule();
}

// Another run of the same job.
function beginAgain() {
  [percent, failures, spokenPercent, spokenFailures, progress, run] = [0, 0, 0, 0, null, run + 1];
  bar.removeAttribute("value");
  const place = document.getElementById("failures");
  place.hidden = true;
  place.querySelector("ul").replaceChildren();
}

function end(data) {
  failures = failuresOf(data.result ?? {}, status) ?? failures;
  say(`${title}: ${badge(status, failures).textContent.trim()}. ${data.error ?? ""}`);
  schedule();
  flushLog();
  refresh();
}

// Painted at most four times a second, and not at all while nobody looks, but for the tab's title.
function schedule() {
  if (paintTimer) return;
  const wait = Math.max(0, PAINT_MS - (Date.now() - paintedAt));
  paintTimer = setTimeout(() => {
    paintTimer = 0;
    paintedAt = Date.now();
    if (document.hidden) paintTab();
    else requestAnimationFrame(paint);
  }, wait);
}

function write(element, text, hint) {
  if (element && element.textContent !== text) element.textContent = text;
  if (element && hint !== undefined && element.title !== hint) element.title = hint;
}

const number = (name, text, hint) => write(page.querySelector(`[data-number="${name}"] dd`), text, hint);

function paint() {
  paintTab();
  const found = isOver() ? null : progress;
  if (found) {
    if (type === "scan") paintScan(found);
    else paintTransfer(found);
    failures = Math.max(failures, failuresOf(found) ?? 0);
    showName("message", status === "failed" ? "" : found.message ?? "");
    paintPhases(found.status);
  }
  document.getElementById("now").hidden = isOver();
  if (isOver()) paintFlight();
  showName("current", isOver() ? "" : found?.current_file ?? found?.current_path ?? undefined);
  number("failed", count(failures));
  paintBar(found);
  speakProgress();
}

function showName(where, text) {
  const place = document.getElementById(where);
  if (text === undefined || place.dataset.shown === text) return;
  place.dataset.shown = text;
  place.title = plain(text);
  place.replaceChildren(marked(text));
}

// Once a second, as the names change too fast to be read otherwise.
function paintFlight() {
  const place = document.getElementById("flight");
  if (!place) return;
  place.hidden = isOver();
  const files = isOver() ? [] : progress?.files_in_flight;
  if (!files) return;
  while (place.children.length > files.length) place.lastElementChild.remove();
  files.forEach((file, index) => {
    let row = place.children[index];
    if (!row) {
      row = document.createElement("li");
      row.append(document.createElement("span"), " ", document.createElement("span"));
      row.firstElementChild.className = "path";
      place.append(row);
    }
    const [name, amount] = row.children;
    if (row.dataset.path !== file.path) name.replaceChildren(marked(file.path));
    row.dataset.path = file.path;
    write(amount, `${size(file.done_bytes)} of ${size(file.size_bytes)}`);
  });
}

function paintScan(found) {
  number("files", count(found.files_scanned));
  number("folders", count(found.dirs_scanned));
  number("size", size(found.total_size), `${count(found.total_size)} bytes`);
}

function paintTransfer(found) {
  const soFar = found.totals_grow ? " so far" : "";
  number("files", `${count(found.files_transferred)} of ${count(found.total_files)}${soFar}`);
  number("size", `${size(found.bytes_transferred)} of ${size(found.total_bytes)}${soFar}`,
    `${count(found.bytes_transferred)} of ${count(found.total_bytes)} bytes`);
  number("skipped", count(found.files_skipped));
  const isStalled = status === "running" && Date.now() - movedAt > STALLED_MS;
  number("rate", stale || isStalled ? "–" : rate((found.speed || 0) * 1e6));
  number("left", stale ? "–" : isStalled ? `stalled since ${clock(new Date(movedAt))}` : untilDone(found.eta));
}

function untilDone(seconds) {
  const text = timeLeft(seconds);
  return seconds < 60 || text === "–" ? text : `${text}, done ${clock(new Date(Date.now() + seconds * 1000)).slice(0, 5)}`;
}

function paintPhases(name) {
  const steps = [...page.querySelectorAll("[data-phase]")], at = steps.findIndex((step) => step.dataset.phase === name);
  if (at < 0) return;
  steps.forEach((step, index) => {
    step.className = index < at ? "done" : index === at ? "now" : "later";
    if (index === at) step.setAttribute("aria-current", "step");
    else step.removeAttribute("aria-current");
  });
}

// Never backwards within a run; open while the total is not known; 100 % is for the state to say.
function paintBar(found) {
  bar.hidden = status === "pending";
  bar.className = badge(status, failures).dataset.kind;
  const known = status === "completed" ? 100 : found ? percentOf(found) : undefined;
  const isOpen = known === null || (known === undefined && !isOver() && !bar.hasAttribute("value"));
  percent = Math.max(percent, known ?? 0);
  page.dataset.percent = percent;
  if (isOpen) bar.removeAttribute("value");
  else bar.value = percent;
  const text = status === "completed" ? "100 %" : `${percent.toFixed(1)} %`;
  write(document.getElementById("percent"), isOpen || bar.hidden ? "" : text);
}

function paintTab() {
  const mark = badge(status, failures), place = page.querySelector("[data-part=badge]");
  if (place.textContent.trim() !== mark.textContent.trim()) place.replaceChildren(mark);
  const icon = document.getElementById("favicon");
  if (icon.getAttribute("href") !== mark.dataset.favicon) icon.href = mark.dataset.favicon;
  const known = progress && percentOf(progress);
  let text = `${mark.dataset.sign} ${title}`.trim();
  if (isOver() && failures) text = `${mark.dataset.sign} ${count(failures)} failed · ${title}`;
  else if (status === "running" && known !== null && known !== undefined) text = `${Math.floor(Math.max(percent, known))}% ${title}`;
  text += " · Haulier";
  if (document.title !== text) document.title = text;
}

function speakProgress() {
  const quarter = Math.floor(percent / 25), now = Date.now();
  if (isOver() || now - spokenAt < SPEAK_MS) return;
  if (failures > spokenFailures) say(`${title}: ${count(failures)} failed so far`);
  else if (quarter > spokenPercent && percent > 0) say(`${title}: ${quarter * 25} percent`);
  else return;
  [spokenAt, spokenPercent, spokenFailures] = [now, quarter, failures];
}

const LINES = {
  job_created: (data) => (data.by ? `Created by ${data.by}` : "Created"),
  state: ({ to, reason }) => `Now ${to === "pending" ? "waiting" : to}${reason ? `: ${reason}` : ""}`,
  phase: ({ phase }) => `Phase: ${phase}`,
  file_failed: ({ path, error }) => `${path}: ${error}`,
  log: ({ message }) => message,
  complete: () => "Completed",
  failed: ({ error }) => `Failed: ${error}`,
  cancelled: () => "Cancelled",
};

function addRow(event, data) {
  const row = document.createElement("li"), time = document.createElement("time"), text = document.createElement("span");
  row.dataset.seq = data.seq;
  const isError = event === "file_failed" || event === "failed" || data.level === "error";
  row.className = isError ? "error" : data.level === "warning" ? "warning" : "info";
  time.dateTime = data.at;
  time.dataset.form = "clock";
  time.title = data.at.slice(0, 19).replace("T", " ") + " UTC";
  localise(time);
  text.append(marked(LINES[event] ? LINES[event](data) : event));
  row.append(time, " ", text);
  rows.push(row);
  if (rows.length > MOST_ROWS) rows.shift();
  logTimer ||= setTimeout(flushLog, LOG_MS);
}

const isAtBottom = () => log.scrollHeight - log.scrollTop - log.clientHeight < 24;

function isSelecting() {
  const selection = getSelection();
  return !selection.isCollapsed && log.contains(selection.anchorNode);
}

function flushLog() {
  clearTimeout(logTimer);
  logTimer = 0;
  if (!rows.length) return;
  if (isSelecting()) {
    showWaiting(rows.length);
    logTimer = setTimeout(flushLog, LOG_MS);
    return;
  }
  const wasAtBottom = isAtBottom(), height = log.scrollHeight;
  const list = log.firstElementChild;
  list.append(...rows);
  const extra = [...list.children].slice(0, Math.max(0, list.children.length - MOST_ROWS));
  for (const row of extra) row.remove();
  if (wasAtBottom) log.scrollTop = log.scrollHeight;
  else if (extra.length) log.scrollTop -= Math.max(0, height - log.scrollHeight);
  showWaiting(wasAtBottom ? 0 : Number(follow.dataset.count || 0) + rows.length);
  rows = [];
}

function showWaiting(waiting) {
  follow.dataset.count = waiting;
  follow.hidden = !waiting;
  write(follow.querySelector("[data-count]"), count(waiting));
}

follow.addEventListener("click", () => {
  getSelection().removeAllRanges();
  flushLog();
  log.scrollTop = log.scrollHeight;
  showWaiting(0);
  log.focus();
});
log.addEventListener("scroll", () => { if (!rows.length && isAtBottom()) showWaiting(0); });

function addFailure({ path, error }) {
  const place = document.getElementById("failures"), list = place.querySelector("ul");
  failures = Math.max(failures, list.children.length + 1);
  schedule();
  if (list.children.length >= MOST_FAILURES) return;
  const row = document.createElement("li"), name = document.createElement("span"), reason = document.createElement("span");
  name.className = "path";
  reason.className = "reason";
  name.append(marked(path));
  reason.append(marked(error));
  row.append(name, " ", reason);
  list.append(row);
  place.hidden = false;
}

// What a run leaves behind is drawn by the server alone.
async function refresh(parts = "#job [data-part], #numbers, #message") {
  const answer = await fetch(location.href, { cache: "no-store" }).catch(() => null);
  if (!answer || answer.status >= 500) setTimeout(refresh, AGAIN_MS, parts);
  if (!answer?.ok) return;
  const drawn = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const fresh of drawn.querySelectorAll(parts)) swap(fresh);
  // Where it stopped: the last progress may have been too quick to be told.
  if (isOver()) percent = Math.max(percent, Number(drawn.getElementById("job")?.dataset.percent || 0));
  schedule();
  page.querySelectorAll("time").forEach(localise);
}

function swap(fresh) {
  const old = fresh.id ? document.getElementById(fresh.id) : page.querySelector(`[data-part="${fresh.dataset.part}"]`);
  const replace = () => old.replaceWith(document.importNode(fresh, true));
  // What has the focus is not pulled away.
  if (old.contains(document.activeElement)) old.addEventListener("focusout", () => setTimeout(replace), { once: true });
  else replace();
}

onStale((since) => {
  if (since === stale) return;
  stale = since;
  const note = document.getElementById("stale");
  write(note, stale ? `as of ${stale}` : "");
  note.hidden = !stale;
  schedule();
});

setInterval(() => {
  if (status !== "running" || stale) return;
  if (!document.hidden) paintCurve();
  if (!document.hidden) paintFlight();
  number("elapsed", duration(elapsed + (Date.now() - elapsedAt) / 1000));
  schedule();
}, 1000);
document.addEventListener("visibilitychange", schedule);
log.scrollTop = log.scrollHeight;
