"""WebSockets (RFC 6455): each event is one text message, `{"id": …, "event": …, "data": {…}}`; progress has no id.

The gate has checked the handshake. The server sends the pings.
"""

import asyncio
import json
import logging
from contextlib import aclosing
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from sessions_app.feed import follow
from sessions_app.gate import GRANT, Receive, Scope, Send, StreamGrant
from sessions_app.hub import Hub, Item

logger = logging.getLogger(__name__)

COME_BACK = 1001
"""Going away: the client opens another socket, after the last id that it has."""
POLICY = 1008
FAILED = 1011
MOST_MESSAGES = 100
"""Messages of a client, which has nothing to say, until its socket is closed."""


class EventsConsumer(AsyncWebsocketConsumer):  # type: ignore[misc] # untyped library
    """One socket: what its grant allows, until the client goes or the feed ends."""

    def __init__(self, hub: Hub) -> None:
        super().__init__()
        self._hub = hub
        self._writer: asyncio.Task[None] | None = None
        self._is_open = False
        self._heard = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve it."""
        try:
            await super().__call__(scope, receive, send)
        except asyncio.CancelledError:
            # Closed before it is open it would be refused.
            if self._is_open:
                await self.close(COME_BACK)
            raise
        finally:
            if self._writer is not None:
                self._writer.cancel()
                await asyncio.gather(self._writer, return_exceptions=True)

    async def connect(self) -> None:
        """Begin to read for it; it opens once it can miss nothing more."""
        self._writer = asyncio.create_task(self._write(self.scope[GRANT]))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Some clients send signs of life of their own; nobody reads them."""
        self._heard += 1
        if self._heard > MOST_MESSAGES:
            await self.close(POLICY)

    async def accept(self, *args: Any, **kwargs: Any) -> None:
        """Accept the handshake, once."""
        if not self._is_open:
            self._is_open = True
            await super().accept(*args, **kwargs)

    async def _write(self, grant: StreamGrant) -> None:
        code = COME_BACK
        try:
            async with aclosing(follow(self._hub, grant)) as feed:
                async for items in feed:
                    await self.accept()
                    for item in items:
                        await self.send(_message(item))
        except Exception:
            logger.exception("A socket ended unexpectedly.")
            code = FAILED
            await self.accept()
        await self.close(code)


def _message(item: Item) -> str:
    number = "" if item.id is None else f'"id":{item.id},'
    return f'{{{number}"event":{json.dumps(item.type)},"data":{item.text}}}'
