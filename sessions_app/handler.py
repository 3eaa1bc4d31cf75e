"""Django's side of the web process: each request runs in one thread, which stays, as does its database connection."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler

MOST_IDLE = 8
"""Threads that stay when fewer requests come."""


class Handler(ASGIHandler):
    """Django's own, for views and middleware that are all synchronous.

    Django would give each request a new thread, which opens a connection, and go back to the event loop between the
    middleware and the view: half of what a request for a job costs.
    """

    def __init__(self) -> None:
        self.load_middleware(is_async=False)
        self._idle: list[ThreadPoolExecutor] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request."""
        thread = self._idle.pop() if self._idle else ThreadPoolExecutor(1, "request")
        is_free = False
        try:
            async with ThreadSensitiveContext(executor=thread):
                await self.handle(scope, receive, send)
            is_free = True
        finally:
            # A request that was cut off may go on in its thread.
            if is_free and len(self._idle) < MOST_IDLE:
                self._idle.append(thread)
            else:
                thread.shutdown(wait=False)

    async def run_get_response(self, request: Any) -> Any:
        """The answer of middleware and view."""
        response: Any = await sync_to_async(self.get_response)(request)
        response._handler_class = self.__class__
        return response
