"""What one listener gets: the events that it has missed, then what is new, without gaps and repeats."""

import asyncio
import time
from collections.abc import AsyncGenerator
from uuid import UUID

from sessions_app.events import ENDINGS
from sessions_app.gate import StreamGrant
from sessions_app.hub import Hub, Item

HEARTBEAT_S = 10.0
LONGEST_S = 3600.0
"""A feed ends after so long; its client comes back with its last id."""

_DELETED = Item(UUID(int=0), 0, "failed", {"error": "The session was deleted."})
"""Ends the feed of a run whose last events went with its job."""


async def follow(hub: Hub, grant: StreamGrant) -> AsyncGenerator[list[Item], None]:
    """Lists of items; an empty one at first, when nothing can be missed any more, and when none came for HEARTBEAT_S.

    It ends when its listener has fallen too far behind, or its job was deleted; in the style `progress` with
    the job's run, in the others when it has grown old.
    """
    is_run = grant.style == "progress"
    started = time.monotonic()
    # Joined before it reads, so that nothing between the two is lost.
    listener = await hub.join(grant.channel)
    try:
        items, after, is_all = await hub.replay(grant.channel, grant.after)
        yield []
        while True:
            if items:
                yield items
            if is_run and _ends_run(items):
                return
            if is_all:
                break
            items, after, is_all = await hub.replay(grant.channel, after)
        while not listener.is_overrun and (is_run or time.monotonic() - started < LONGEST_S):
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await listener.has_news.wait()
            except TimeoutError:
                yield []
                continue
            fresh = [item for item in listener.take() if item.id is None or item.id > after]
            after = max([after, *(item.id for item in fresh if item.id is not None)])
            if fresh:
                yield fresh
            if is_run and _ends_run(fresh):
                return
            if listener.is_deleted:
                if is_run:
                    yield [_DELETED]
                return
    finally:
        hub.leave(listener)


def _ends_run(items: list[Item]) -> bool:
    return any(item.type in ENDINGS for item in items)
