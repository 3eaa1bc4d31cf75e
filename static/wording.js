// Numbers, times and names as people read them; migration_app/pages/wording.py says the same on the server.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const HIDDEN = /[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\u{d800}-\u{dfff}\u{e0000}-\u{e007f}]/u;

const grouped = (value, digits = 0) =>
  value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const count = (value) => grouped(Math.round(value || 0));

export function size(bytes) {
  let value = bytes || 0, unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) { value /= 1024; unit += 1; }
  return `${grouped(value, unit && value < 10 ? 1 : 0)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  if (!(seconds >= 1)) return "under a second";
  const all = Math.round(seconds), s = all % 60, min = Math.floor(all / 60) % 60;
  const h = Math.floor(all / 3600) % 24, d = Math.floor(all / 86400);
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${min} min`;
  return min ? `${min} min ${s} s` : `${s} s`;
}

export function timeLeft(seconds) {
  if (!(seconds > 0)) return "–";
  if (seconds < 60) return "under a minute";
  if (seconds < 3600) return `about ${Math.round(seconds / 60)} min`;
  if (seconds < 21600) {
    const all = Math.round(seconds / 300) * 5, min = all % 60;
    return `about ${Math.floor(all / 60)} h${min ? ` ${min} min` : ""}`;
  }
  return `about ${Math.round(seconds / 1800) / 2} h`;
}

export const rate = (bytesPerSecond) => (bytesPerSecond > 0 ? `${size(bytesPerSecond)}/s` : "–");

const codePoint = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

export const plain = (text) =>
  Array.from(String(text), (character) => (HIDDEN.test(character) ? `‹${codePoint(character)}›` : character)).join("");

// A name from outside: isolated from the text around it, its hidden characters as marked code points.
export function marked(text) {
  const isolated = document.createElement("bdi");
  let run = "";
  for (const character of String(text)) {
    if (!HIDDEN.test(character)) { run += character; continue; }
    const mark = document.createElement("span");
    mark.className = "codepoint";
    mark.textContent = codePoint(character);
    isolated.append(run, mark);
    run = "";
  }
  isolated.append(run);
  return isolated;
}

const two = (number) => String(number).padStart(2, "0");

export const clock = (at) => [at.getHours(), at.getMinutes(), at.getSeconds()].map(two).join(":");

const AGES = [[86400, "day"], [3600, "hour"], [60, "minute"]];
const ages = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function ago(at) {
  const seconds = (at - Date.now()) / 1000;
  for (const [length, unit] of AGES) if (-seconds >= length) return ages.format(Math.ceil(seconds / length), unit);
  return "just now";
}

// <time> in the reader's zone; the title keeps UTC.
const DAYS = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];

// Named, as a schedule may follow another one's clock.
const zone = (at) =>
  new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(at).find((part) => part.type === "timeZoneName").value;

export function localise(time) {
  const at = new Date(time.dateTime);
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  if (time.dataset.form === "clock") time.textContent = clock(at);
  else if (time.dataset.form === "day") time.textContent = `${DAYS[at.getDay()]} ${day} ${clock(at).slice(0, 5)} ${zone(at)}`;
  else time.textContent = `${ago(at)}, ${day} ${clock(at)}`;
}
