// A SharedWorker: one stream for all tabs of this browser, as six open ones would block every other request.

import { EventStream } from "./stream.js";

const MOST_KEPT = 2000;
const ports = new Set();
let stream = null;
let kept = []; // the last events, for tabs that come later
let keptAfter = 0; // `kept` is complete from here on
let saidAt = 0;

self.onconnect = ({ ports: [port] }) => {
  port.onmessage = ({ data }) => {
    if (data.kind === "bye") ports.delete(port);
    else if (data.kind === "hello") welcome(port, data);
    else stream?.wake();
  };
};

function welcome(port, { url, after }) {
  ports.add(port);
  if (!stream) {
    keptAfter = after;
    stream = new EventStream(url, { after, onItems, onLink });
    stream.start();
    return;
  }
  port.postMessage({ link: stream.link });
  if (after < keptAfter) {
    // Older than what is kept. The others drop what they have had.
    kept = [];
    keptAfter = after;
    stream.restart(after);
    return;
  }
  const missed = kept.filter((item) => item.id > after);
  if (missed.length) port.postMessage({ items: missed });
  stream.wake();
}

function onItems(items) {
  kept.push(...items.filter((item) => item.id !== null));
  const extra = kept.splice(0, Math.max(0, kept.length - MOST_KEPT));
  if (extra.length) keptAfter = extra.at(-1).id;
  for (const port of ports) port.postMessage({ items });
}

function onLink(link) {
  // Every chunk is a sign of life; once a second is often enough to hear of it.
  if (link.connected && link.heardAt - saidAt < 1000) return;
  saidAt = link.connected ? link.heardAt : 0;
  for (const port of ports) port.postMessage({ link });
}
