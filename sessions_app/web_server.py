"""daphne, with what it leaves out: it waits for clients that take little, says why it refuses a socket, and closes
sockets with the codes of the protocol itself."""

import asyncio
from http import HTTPStatus
from typing import Any

from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol

from sessions_app.gate import Message, Scope

PING_S = 10
MOST_MESSAGE_BYTES = 4096
CLOSE_S = 1.0
STALL_S = 30.0
"""For so long a client may take nothing of what is there for it."""
HANDSHAKE_S = 60
"""For so long a thousand clients that come back at once may wait for their turn."""


class Flow:
    """Whether a client takes what is sent to it; Twisted's transport says so (`IPushProducer`)."""

    def __init__(self) -> None:
        self._room: asyncio.Future[None] | None = None

    def pauseProducing(self) -> None:  # noqa: N802 - Twisted's name
        """More than 64 KiB wait to be taken."""
        if self._room is None:
            self._room = asyncio.get_event_loop().create_future()

    def resumeProducing(self) -> None:  # noqa: N802
        """All is taken."""
        room, self._room = self._room, None
        if room is not None:
            room.set_result(None)

    def stopProducing(self) -> None:  # noqa: N802
        """The client is gone."""
        self.resumeProducing()

    async def has_room(self) -> bool:
        """Wait until all is taken; False when that takes longer than STALL_S."""
        if self._room is None:
            return True
        taken, _ = await asyncio.wait({self._room}, timeout=STALL_S)
        return bool(taken)


class WebServer(Server):  # type: ignore[misc] # untyped library
    """daphne's server, which also does ASGI's extension Websocket Denial Response."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            ping_interval=PING_S,
            # No answer within a time proves nothing: a client that is busy would be dropped.
            ping_timeout=0,
            websocket_connect_timeout=HANDSHAKE_S,
            websocket_handshake_timeout=HANDSHAKE_S,
            websocket_max_message_size=MOST_MESSAGE_BYTES,
            websocket_max_frame_size=MOST_MESSAGE_BYTES,
            **options,
        )

    def create_application(self, protocol: Any, scope: Scope) -> Any:
        """Start the application for a connection; see daphne."""
        if scope["type"] == "websocket":
            scope["extensions"] = {"websocket.http.response": {}}
        return super().create_application(protocol, scope)

    def protocol_disconnected(self, protocol: Any) -> None:
        """A client is gone, so its application ends, even if it still waits for its turn."""
        super().protocol_disconnected(protocol)
        application = self.connections[protocol].get("application_instance")
        if application is not None and not application.done():
            asyncio.get_event_loop().call_later(CLOSE_S, application.cancel)

    def kill_all_applications(self) -> Any:
        """Cancel all that is under way, and wait for it."""
        ended: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        ended.set_result(None)
        for details in self.connections.values():
            # daphne stumbles over a connection whose application has ended, and would cancel none.
            details.setdefault("application_instance", ended)
        return super().kill_all_applications()

    async def handle_reply(self, protocol: Any, message: Message) -> None:
        """Send what the application says, and have it wait while the client does not take it."""
        details = self.connections.get(protocol)
        if details is None or "disconnected" in details:
            return
        is_socket = isinstance(protocol, WebSocketProtocol)
        if is_socket and message["type"] == "websocket.accept":
            details["flow"] = flow = Flow()
            # Until now the transport has told the HTTP side of daphne.
            protocol.transport.unregisterProducer()
            protocol.transport.registerProducer(flow, True)
        elif (
            message["type"] == "http.response.body" and not protocol.finished and protocol.channel is not None
        ):
            if not message.get("more_body", False):
                protocol.unregisterProducer()
            elif "flow" not in details:
                details["flow"] = flow = Flow()
                protocol.registerProducer(flow, True)
        if not is_socket or not _answer_socket(protocol, message):
            await super().handle_reply(protocol, message)
        if "flow" in details and not await details["flow"].has_room():
            transport = protocol.transport if is_socket else protocol.channel and protocol.channel.transport
            if transport:
                transport.abortConnection()


def _answer_socket(protocol: Any, message: Message) -> bool:
    """Do what daphne cannot; False when there is no need to."""
    if message["type"] == "websocket.http.response.start":
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
        status = HTTPStatus(message["status"])
        protocol.wasNotCleanReason = status.phrase
        protocol.sendHttpErrorResponse(status, status.phrase, [*headers, ("Connection", "close")])
    elif message["type"] == "websocket.http.response.body":
        protocol.sendData(message.get("body", b""))
        if not message.get("more_body", False):
            protocol.dropConnection(abort=False)
    elif message["type"] == "websocket.close" and protocol.state != protocol.STATE_CONNECTING:
        # daphne's own way takes no code below 3000, which are the ones that clients know.
        protocol.sendCloseFrame(code=message.get("code", 1000))
    else:
        return False
    return True
