"""Server-sent events (WHATWG HTML, section 9.2) written to a client, in two styles."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

from sessions_app.events import ENDINGS
from sessions_app.gate import Receive, Send, StreamGrant
from sessions_app.hub import BATCH, Hub, Item

HEARTBEAT_S = 10.0
LOOK_S = 2.0
"""How often a silent stream looks whether its job is still there."""
LONGEST_S = 3600.0
MOST_BYTES = 64 * 1024 * 1024
"""A stream ends after so much: the server keeps what a slow client does not take in memory."""


def frame(data: Any, *, event: str = "", event_id: int | None = None) -> bytes:
    """One frame: `id:`, `event:`, one `data:` line, in this order."""
    lines = [f"id: {event_id}\n"] if event_id is not None else []
    if event:
        lines.append(f"event: {event}\n")
    lines.append(f"data: {json.dumps(data, separators=(',', ':'))}\n\n")
    return "".join(lines).encode()


_DELETED = Item(UUID(int=0), 0, "failed", {"error": "The session was deleted."})
"""Ends the stream of a job whose last events went with it."""


class SseStreamer:
    """Streams what a grant allows until the client goes, the run ends or the stream has grown old."""

    def __init__(self) -> None:
        self._hub = Hub()

    async def __call__(self, grant: StreamGrant, receive: Receive, send: Send) -> None:
        """Write the body of one answer."""
        gone = asyncio.create_task(_wait_until_gone(receive))
        writer = asyncio.create_task(self._write(grant, send))
        try:
            await asyncio.wait({gone, writer}, return_when=asyncio.FIRST_COMPLETED)
            if writer.done():
                await writer
                await send({"type": "http.response.body", "body": b""})
        finally:
            for task in (gone, writer):
                task.cancel()
            await asyncio.gather(gone, writer, return_exceptions=True)

    async def _write(self, grant: StreamGrant, send: Send) -> None:
        write = _events_frame if grant.style == "events" else _progress_frame
        started, written = time.monotonic(), 0
        # The first bytes tell proxies and clients at once that the stream is there.
        await send({"type": "http.response.body", "body": b": stream\n\n", "more_body": True})
        async for items in self._items(grant):
            chunk = b"".join(map(write, items)) if items else b": alive\n\n"
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            written += len(chunk)
            if grant.style == "progress" and any(item.type in ENDINGS for item in items):
                return
            is_old = time.monotonic() - started > LONGEST_S or written > MOST_BYTES
            if grant.style == "events" and is_old:
                return

    async def _items(self, grant: StreamGrant) -> AsyncIterator[list[Item]]:
        """Lists of items, an empty one when nothing came for HEARTBEAT_S."""
        hub = self._hub
        is_person = grant.channel.startswith("person-")
        # Read before joining, so that nothing between the two is lost.
        after = grant.after
        if after is None:
            after = await hub.last_id(grant.channel) if is_person else 0
        # An id of the future, as after a database was put back, would hide everything to come.
        after = min(after, await hub.newest_id())
        listener = await hub.join(grant.channel)
        silent_since = time.monotonic()
        try:
            while missed := await hub.replay(grant.channel, after):
                after = missed[-1].id or after
                yield missed
                if any(item.type in ENDINGS for item in missed) and grant.style == "progress":
                    return
                if len(missed) < BATCH:
                    break
            yield await hub.progress(grant.channel)
            while not listener.is_overrun:
                try:
                    await asyncio.wait_for(listener.has_news.wait(), LOOK_S)
                except TimeoutError:
                    if not is_person and not await hub.exists(grant.channel):
                        yield [_DELETED] if grant.style == "progress" else []
                        return
                    if time.monotonic() - silent_since >= HEARTBEAT_S:
                        silent_since = time.monotonic()
                        yield []
                    continue
                silent_since = time.monotonic()
                fresh = [item for item in listener.take() if item.id is None or item.id > after]
                after = max([after, *(item.id for item in fresh if item.id is not None)])
                if fresh:
                    yield fresh
        finally:
            hub.leave(listener)


def _events_frame(item: Item) -> bytes:
    return frame(item.data, event=item.type, event_id=item.id)


_FIRST_CLIENTS: dict[str, Callable[[Item], bytes]] = {
    "job_created": lambda item: frame(item.data, event="job_created", event_id=item.id),
    "progress": lambda item: frame(item.data),
    "complete": lambda item: frame(item.data["result"], event="complete", event_id=item.id),
    "failed": lambda item: frame({"error": item.data["error"]}, event="error", event_id=item.id),
    "cancelled": lambda item: frame({"error": "Cancelled"}, event="error", event_id=item.id),
}


def _progress_frame(item: Item) -> bytes:
    # Their parsers show every other event as progress, so no other one is sent.
    write = _FIRST_CLIENTS.get(item.type)
    return write(item) if write is not None else b""


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
