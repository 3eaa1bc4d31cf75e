// One stream of server-sent events, kept alive. Not EventSource: that hides heartbeats and status codes, and gives up on a 503.

const FIRST_MS = 500, LAST_MS = 15000;
const SILENT_MS = 25000; // the server says something every 10 s
const DOUBTFUL_MS = 12000;

export class EventStream {
  #aborter = null;
  #endPause = null;
  #delay = FIRST_MS;
  #runs = 0;

  // onItems gets lists of {id, event, data}; onLink gets {connected, signedOut, heardAt, lostAt}.
  constructor(url, { after, onItems, onLink }) {
    Object.assign(this, { url, after, onItems, onLink });
    this.isRunning = false;
    this.link = { connected: false, signedOut: false, heardAt: 0, lostAt: Date.now() };
  }

  start() {
    if (this.isRunning) return;
    this.isRunning = true;
    this.#say({ signedOut: false });
    this.#run();
  }

  stop() {
    this.isRunning = false;
    this.#aborter?.abort();
    this.#endPause?.();
  }

  // The machine woke up, the network is back or a page is looked at again.
  wake() {
    this.start();
    this.#delay = FIRST_MS;
    this.#endPause?.();
    if (this.link.connected && Date.now() - this.link.heardAt > DOUBTFUL_MS) this.#aborter.abort();
  }

  // Have everything after an earlier event once more.
  restart(after) {
    this.after = after;
    this.#delay = FIRST_MS;
    this.#aborter?.abort();
    this.wake();
  }

  async #run() {
    const run = ++this.#runs; // one that was stopped and has not noticed yet must not go on beside its successor
    const watchdog = setInterval(() => {
      if (Date.now() - this.heardOrTriedAt > SILENT_MS) this.#aborter.abort();
    }, 1000);
    while (this.isRunning && run === this.#runs) {
      this.#aborter = new AbortController();
      this.heardOrTriedAt = Date.now();
      try {
        const response = await fetch(this.url, {
          headers: { Accept: "text/event-stream", "Last-Event-ID": String(this.after) },
          cache: "no-store",
          signal: this.#aborter.signal,
        });
        if (response.status === 401) {
          this.isRunning = false;
          this.#say({ connected: false, signedOut: true });
          break;
        }
        if (!response.ok) throw new Error(`The stream answered ${response.status}.`);
        await this.#read(response.body.getReader(), this.#aborter.signal);
      } catch {
        // Whatever broke it: it is tried again below, and the link says so meanwhile.
      }
      if (run !== this.#runs) break;
      if (this.link.connected) this.#say({ connected: false, lostAt: Date.now() });
      if (this.isRunning) await this.#pause();
    }
    clearInterval(watchdog);
  }

  #pause() {
    const wait = this.#delay * (0.5 + Math.random() / 2);
    this.#delay = Math.min(this.#delay * 2, LAST_MS);
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, wait);
      this.#endPause = () => { clearTimeout(timer); resolve(); };
    });
  }

  async #read(reader, signal) {
    const decoder = new TextDecoder();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      // A chunk that had come before the abort must not move `after` past what was asked for.
      if (done || signal.aborted) return;
      this.#delay = FIRST_MS;
      this.heardOrTriedAt = Date.now();
      this.#say({ connected: true, heardAt: this.heardOrTriedAt });
      const frames = (rest + decoder.decode(value, { stream: true })).split("\n\n");
      rest = frames.pop();
      const items = frames.map(parse).filter((item) => item && this.#isNew(item));
      if (items.length) this.onItems(items);
    }
  }

  #isNew(item) {
    if (item.id === null) return true;
    if (item.id <= this.after) return false;
    this.after = item.id;
    return true;
  }

  #say(change) {
    Object.assign(this.link, change);
    this.onLink(this.link);
  }
}

function parse(frame) {
  const item = { id: null, event: "message", data: "" };
  for (const line of frame.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line);
    if (name === "id") item.id = Number(value);
    else if (name === "event" || name === "data") item[name] = value;
  }
  return item.data ? { ...item, data: JSON.parse(item.data) } : null;
}
