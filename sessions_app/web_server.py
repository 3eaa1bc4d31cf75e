"""daphne, with what it leaves out for sockets: refusals that say why, and close codes of the protocol itself."""

import asyncio
from http import HTTPStatus
from typing import Any

from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol

from sessions_app.gate import Message, Scope

PING_S = 10
MOST_MESSAGE_BYTES = 4096
HANDSHAKE_S = 60
"""For so long a thousand clients that come back at once may wait for their turn."""


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

    def kill_all_applications(self) -> Any:
        """Cancel all that is under way, and wait for it."""
        ended: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        ended.set_result(None)
        for details in self.connections.values():
            # daphne stumbles over a connection whose application has ended, and would cancel none.
            details.setdefault("application_instance", ended)
        return super().kill_all_applications()

    async def handle_reply(self, protocol: Any, message: Message) -> None:
        """Send what the application says."""
        was_accepted = isinstance(protocol, WebSocketProtocol) and protocol.state != protocol.STATE_CONNECTING
        if message["type"] == "websocket.http.response.start":
            _start_refusal(protocol, message)
        elif message["type"] == "websocket.http.response.body":
            protocol.sendData(message.get("body", b""))
            if not message.get("more_body", False):
                protocol.dropConnection(abort=False)
        elif message["type"] == "websocket.close" and was_accepted:
            # daphne's own way takes no code below 3000, which are the ones that clients know.
            protocol.sendCloseFrame(code=message.get("code", 1000))
        else:
            await super().handle_reply(protocol, message)


def _start_refusal(protocol: Any, message: Message) -> None:
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in message["headers"]]
    status = HTTPStatus(message["status"])
    protocol.wasNotCleanReason = status.phrase
    protocol.sendHttpErrorResponse(status, status.phrase, [*headers, ("Connection", "close")])
