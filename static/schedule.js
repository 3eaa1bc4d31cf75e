// The form of a schedule: what its times mean, while they are typed.

import "./app.js";
import { localise } from "./wording.js";

const TYPED_MS = 300;
const place = document.getElementById("preview");
const fields = ["cron", "timezone"].map((name) => document.querySelector(`[name$="-${name}"]`));
let timer = 0, asked = "";

async function look() {
  const [cron, timezone] = fields.map((field) => field.value), query = new URLSearchParams({ cron, timezone }).toString();
  if (query === asked) return;
  asked = query;
  const answer = await fetch(`${place.dataset.address}?${query}`, { redirect: "error" }).catch(() => null);
  const text = answer?.ok ? await answer.text() : "";
  if (!text || query !== asked) return;
  const found = new DOMParser().parseFromString(text, "text/html").body;
  found.querySelectorAll("time").forEach(localise);
  place.replaceChildren(...found.childNodes);
}

for (const field of fields) {
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, TYPED_MS);
  });
}
document.querySelector("[data-scripted]").hidden = true;
look();
