"""The threads that requests run in."""

import asyncio
import threading
import time
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections

from sessions_app import handler
from sessions_app.handler import Handler


class Noted(Handler):
    """Takes a scope for how long a request takes, and notes its threads."""

    def __init__(self) -> None:
        super().__init__()
        self.threads: list[int] = []

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        def work() -> None:
            self.threads.append(threading.get_ident())
            time.sleep(scope["seconds"])

        await sync_to_async(work)()

    async def request(self, seconds: float = 0) -> None:
        await self({"seconds": seconds}, None, None)


def test_requests_that_follow_each_other_share_a_thread_and_those_at_once_do_not():
    async def go() -> tuple[int, int]:
        one = Noted()
        for _ in range(5):
            await one.request()
        alone = len(set(one.threads))
        await asyncio.gather(*(one.request(0.2) for _ in range(4)))
        return alone, len(set(one.threads))

    assert asyncio.run(go()) == (1, 4)


def test_thread_of_a_request_that_was_cut_off_is_given_to_no_other():
    async def go() -> list[int]:
        one = Noted()
        task = asyncio.ensure_future(one.request(1))
        while not one.threads:  # noqa: ASYNC110 - a thread fills it
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with asyncio.timeout(0.5):
            await one.request()
        return one.threads

    first, second = asyncio.run(go())
    assert first != second


def test_few_threads_stay(monkeypatch):
    monkeypatch.setattr(handler, "MOST_IDLE", 2)

    async def go() -> int:
        one = Noted()
        await asyncio.gather(*(one.request(0.2) for _ in range(6)))
        await asyncio.sleep(0.2)
        return sum(thread.ident in one.threads for thread in threading.enumerate())

    assert asyncio.run(go()) == 2


def test_thread_that_goes_closes_its_connection(monkeypatch, transactional_db):
    monkeypatch.setattr(handler, "MOST_IDLE", 2)
    opened: list[tuple[int, Any]] = []

    class Asking(Noted):
        async def handle(self, scope: Any, receive: Any, send: Any) -> None:
            def ask() -> None:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
                opened.append((threading.get_ident(), connections["default"]))
                time.sleep(scope["seconds"])

            await sync_to_async(ask)()

    async def go() -> int:
        one = Asking()
        cut_off = asyncio.ensure_future(one.request(0.4))
        requests = asyncio.gather(*(one.request(0.2) for _ in range(5)))
        while len(opened) < 6:  # noqa: ASYNC110 - threads fill it
            await asyncio.sleep(0.01)
        cut_off.cancel()
        await requests
        deadline = time.monotonic() + 10
        while (left := sum(found.connection is not None for _, found in opened)) > 2:
            if time.monotonic() > deadline:
                break
            await asyncio.sleep(0.01)
        for thread in one._idle:
            thread.submit(connections.close_all).result()
            thread.shutdown()
        return left

    assert asyncio.run(go()) == 2
