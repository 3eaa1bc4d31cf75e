"""The one gate for streams: Django decides, then the hub streams.

A stream must not hold a thread, so it cannot be a Django view; but Host, Origin, CSRF, session, token and
ownership must be checked as everywhere. So every request runs through Django first. A view that allows a
stream grants one in the request's ASGI scope; its answer's headers are kept, its body is dropped, and the
hub writes the stream in its place.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from rest_framework.request import Request

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_KEY = "haulier.grants"
MOST_AT_ONCE = 32
"""Requests inside Django at once: each costs a thread and a database connection."""


@dataclass(frozen=True, slots=True)
class StreamGrant:
    """What a view allows to be streamed: a channel, from which event on (None: see the hub), in which style."""

    channel: str
    after: int | None = None
    style: Literal["events", "progress"] = "events"
    """`events`: named events with ids. `progress`: the first clients' form, which ends with the job's run."""


def grant_stream(request: Request, grant: StreamGrant) -> None:
    """Have the answer to this request followed by a stream, where the server can stream."""
    scope = getattr(request._request, "scope", {})
    if _KEY in scope:
        scope[_KEY].append(grant)


Streamer = Callable[[StreamGrant, Receive, Send], Awaitable[None]]


class Gate:
    """The ASGI application around Django's."""

    def __init__(self, django: Application, streamer: Streamer) -> None:
        self._django = django
        self._streamer = streamer
        self._limit: asyncio.Semaphore | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            # Closed before it was opened, which the server tells as 403.
            await receive()
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            raise ValueError(f"There is no {scope['type']} here.")
        grants: list[StreamGrant] = []
        held: list[Message] = []

        async def hold(message: Message) -> None:
            starts_stream = bool(grants) and scope["method"] != "HEAD" and message.get("status", 500) < 300
            if message["type"] == "http.response.start" and starts_stream:
                held.append(message)
            elif not held:
                await send(message)

        if self._limit is None:
            self._limit = asyncio.Semaphore(MOST_AT_ONCE)
        async with self._limit:
            await self._django({**scope, _KEY: grants}, receive, hold)
        if held:
            await send(_stream_start(held[0]))
            await self._streamer(grants[0], receive, send)


def _stream_start(start: Message) -> Message:
    dropped = (b"content-type", b"content-length", b"cache-control", b"allow")
    headers = [(name, value) for name, value in start["headers"] if name.lower() not in dropped]
    headers += [
        (b"Content-Type", b"text/event-stream; charset=utf-8"),
        (b"Cache-Control", b"no-store"),
        # nginx would collect the stream in a buffer.
        (b"X-Accel-Buffering", b"no"),
    ]
    return {"type": "http.response.start", "status": 200, "headers": headers}
