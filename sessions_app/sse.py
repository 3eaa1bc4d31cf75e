"""Server-sent events (WHATWG HTML, section 9.2) written to a client, in two styles."""

import asyncio
import json
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

from sessions_app.feed import follow
from sessions_app.gate import Receive, Send, StreamGrant
from sessions_app.hub import Hub, Item


class SseStreamer:
    """Streams what a grant allows until the client goes or the feed ends."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

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
        write = _event_frame if grant.style == "events" else _progress_frame
        async with aclosing(follow(self._hub, grant)) as feed:
            async for items in feed:
                chunk = "".join(map(write, items)).encode() if items else b": alive\n\n"
                await send({"type": "http.response.body", "body": chunk, "more_body": True})


def _frame(text: str, event: str = "", event_id: int | None = None) -> str:
    """One frame: `id:`, `event:`, one `data:` line, in this order."""
    number = "" if event_id is None else f"id: {event_id}\n"
    name = f"event: {event}\n" if event else ""
    return f"{number}{name}data: {text}\n\n"


def _event_frame(item: Item) -> str:
    return _frame(item.text, item.type, item.id)


def _json(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"))


_FIRST_CLIENTS: dict[str, Callable[[Item], str]] = {
    "job_created": lambda item: _frame(item.text, "job_created", item.id),
    "progress": lambda item: _frame(item.text),
    "complete": lambda item: _frame(_json(item.data["result"]), "complete", item.id),
    "failed": lambda item: _frame(_json({"error": item.data["error"]}), "error", item.id),
    "cancelled": lambda item: _frame(_json({"error": "Cancelled"}), "error", item.id),
}


def _progress_frame(item: Item) -> str:
    # Their parsers show every other event as progress, so no other one is sent.
    write = _FIRST_CLIENTS.get(item.type)
    return write(item) if write is not None else ""


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
