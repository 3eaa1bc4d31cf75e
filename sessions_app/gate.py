"""The one gate for streams and sockets: Django decides, then the hub streams.

A stream must not hold a thread, so it cannot be a Django view; but Host, Origin, CSRF, session, token and
ownership must be checked as everywhere. So every request runs through Django first. A view that allows a
stream grants one in the request's ASGI scope; its answer's headers are kept, its body is dropped, and the
hub writes the stream in its place. The handshake of a WebSocket is a GET, and runs through Django as one.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from rest_framework.request import Request

from sessions_app.problems import body

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_GRANTS = "haulier.grants"
_SOCKET = "haulier.socket"
GRANT = "haulier.grant"
"""Where in its scope a socket's application finds what Django granted."""
MOST_AT_ONCE = 32
"""Requests inside Django at once: each costs a thread and a database connection."""


Style = Literal["events", "progress", "socket"]
"""`events`: named events with ids. `progress`: the first clients' form, which ends with the job's run.
`socket`: the events as messages of a WebSocket."""


@dataclass(frozen=True, slots=True)
class StreamGrant:
    """What a view allows to be streamed: a channel, from which event on (None: see the hub), in which style."""

    channel: str
    after: int | None = None
    style: Style = "events"


def grant_stream(request: Request, grant: StreamGrant) -> None:
    """Have the answer to this request followed by a stream, where the server can stream."""
    scope = getattr(request._request, "scope", {})
    if _GRANTS in scope:
        scope[_GRANTS].append(grant)


def is_handshake(request: Request) -> bool:
    """Whether this request opens a WebSocket."""
    return _SOCKET in getattr(request._request, "scope", {})


Streamer = Callable[[StreamGrant, Receive, Send], Awaitable[None]]


class Gate:
    """The ASGI application around Django's."""

    def __init__(self, django: Application, streamer: Streamer, socket: Application) -> None:
        self._django = django
        self._streamer = streamer
        self._socket = socket
        self._limit: asyncio.Semaphore | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await self._open_socket(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            raise ValueError(f"There is no {scope['type']} here.")

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        grants: list[StreamGrant] = []
        held: list[Message] = []

        async def hold(message: Message) -> None:
            starts_stream = bool(grants) and scope["method"] != "HEAD" and message.get("status", 500) < 300
            if message["type"] == "http.response.start" and starts_stream:
                held.append(message)
            elif not held:
                await send(message)

        await self._ask_django({**scope, _GRANTS: grants}, receive, hold)
        if held:
            await send(_stream_start(held.pop()))
            await self._streamer(grants[0], receive, send)

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        grants: list[StreamGrant] = []
        answer: list[Message] = []

        async def hold(message: Message) -> None:
            answer.append(message)

        asked = {
            **scope,
            "type": "http",
            "http_version": "1.1",
            "method": "GET",
            "scheme": "https" if scope.get("scheme") == "wss" else "http",
            _GRANTS: grants,
            _SOCKET: True,
        }
        await self._ask_django(asked, _no_body(), hold)
        if answer[0]["status"] < 300 and [grant.style for grant in grants] == ["socket"]:
            await self._socket({**scope, GRANT: grants[0]}, receive, send)
        else:
            await _refuse_socket(scope, answer, send)

    async def _ask_django(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._limit is None:
            self._limit = asyncio.Semaphore(MOST_AT_ONCE)
        async with self._limit:
            # A request that has begun comes to its end: Django leaves tasks behind when it is cancelled.
            await asyncio.shield(self._django(scope, receive, send))


def _no_body() -> Receive:
    messages = [{"type": "http.request", "body": b""}]

    async def receive() -> Message:
        # Django also listens for a client that hangs up; one that does so here is noticed when its socket opens.
        return messages.pop() if messages else await asyncio.get_running_loop().create_future()

    return receive


async def _refuse_socket(scope: Scope, answer: list[Message], send: Send) -> None:
    """With Django's answer where the server can send one (ASGI's Websocket Denial Response), else with a 403."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    if answer[0]["status"] < 400:
        sentence = json.dumps(body("There is no WebSocket at this address.")).encode()
        headers = [(b"Content-Type", b"application/json"), (b"Content-Length", b"%d" % len(sentence))]
        answer = [
            {"type": "http.response.start", "status": 404, "headers": headers},
            {"type": "http.response.body", "body": sentence},
        ]
    for message in answer:
        await send({**message, "type": f"websocket.{message['type']}"})


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
