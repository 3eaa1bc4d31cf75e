// The list of schedules: what runs next and what ran last, kept current.

import { onItem } from "./app.js";
import { localise } from "./wording.js";

const SOON_MS = 500, AGAIN_MS = 60000;
let timer = 0;

async function look() {
  timer = 0;
  if (document.hidden) return;
  const answer = await fetch(location.pathname, { redirect: "error" }).catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const place of document.querySelectorAll(".schedule > [data-part]")) {
    const found = fresh.querySelector(`#${place.parentElement.id} > [data-part]`);
    if (!found || place.contains(document.activeElement)) continue;
    found.querySelectorAll("time").forEach(localise);
    if (found.textContent !== place.textContent) place.replaceWith(found);
  }
}

onItem((item) => {
  if (item.event === "job_created" || item.event === "state") timer ||= setTimeout(look, SOON_MS);
});
setInterval(look, AGAIN_MS);
document.addEventListener("visibilitychange", look);
