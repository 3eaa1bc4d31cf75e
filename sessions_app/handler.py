"""Django's side of the web process: each request runs in one thread, which stays, as does its database connection."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from asgiref.sync import AsyncToSync, ThreadSensitiveContext, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.db import connections

MOST_IDLE = 8
"""Threads that stay when fewer requests come."""


class Handler(ASGIHandler):
    """Django's own, for views that are all synchronous.

    Django would give each request a new thread, which opens a connection, and go back to the event loop between the
    middleware and the view: half of what a request for a job costs.
    """

    def __init__(self) -> None:
        # Begun with the view: all is synchronous up to the middleware that gives out static files.
        self.load_middleware(is_async=False)
        chain: Any = vars(self)["_middleware_chain"]
        self._middleware_chain = chain.awaitable if isinstance(chain, AsyncToSync) else sync_to_async(chain)
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
                # Else it would be closed when the thread's objects are collected, some time.
                thread.submit(connections.close_all)
                thread.shutdown(wait=False)
