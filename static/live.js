// A page's end of the stream: through the shared worker, or by itself where there is none, then only while it is looked at.

import { EventStream } from "./stream.js";

export function listen({ url, name, after, onItems, onLink }) {
  let last = after;
  const take = (items) => {
    const fresh = items.filter(({ id }) => id === null || id > last);
    for (const { id } of fresh) if (id !== null) last = id;
    if (fresh.length) onItems(fresh);
  };
  let end = null;
  const alone = () => { end = own({ url, after: () => last, take, onLink }); };
  if (typeof SharedWorker === "undefined") alone();
  else end = shared({ url, name, after: () => last, take, onLink, onFailure: alone });

  addEventListener("online", () => end.wake());
  addEventListener("pageshow", (event) => (event.persisted ? end.hello() : end.wake()));
  addEventListener("pagehide", () => end.bye());
  document.addEventListener("visibilitychange", () => end.turn());
}

function shared({ url, name, after, take, onLink, onFailure }) {
  let worker;
  const fail = () => { onFailure?.(); onFailure = null; };
  try {
    worker = new SharedWorker(new URL("./live-worker.js", import.meta.url), { type: "module", name });
  } catch {
    // Some browsers refuse workers in private windows.
    queueMicrotask(fail);
    return { hello() {}, wake() {}, bye() {}, turn() {} };
  }
  worker.onerror = fail;
  worker.port.onmessage = ({ data }) => {
    if (data.items) take(data.items);
    if (data.link) onLink(data.link);
  };
  const send = (kind) => worker.port.postMessage({ kind, url, after: after() });
  send("hello");
  return {
    hello: () => send("hello"),
    wake: () => send("wake"),
    bye: () => send("bye"),
    turn: () => document.hidden || send("wake"),
  };
}

function own({ url, after, take, onLink }) {
  const stream = new EventStream(url, { after: after(), onItems: take, onLink });
  if (!document.hidden) stream.start();
  const wake = () => document.hidden || stream.wake();
  return { hello: wake, wake, bye: () => stream.stop(), turn: () => (document.hidden ? stream.stop() : wake()) };
}
