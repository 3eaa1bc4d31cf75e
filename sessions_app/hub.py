"""One task in each web process that tails the event log and the progress of jobs, and hands both to listeners.

A listener first joins, so that nothing new passes it by, then reads what it has missed from the log, then
goes on with what came in the meantime, leaving out ids that it has sent: gap-free and without repeats.
"""

import asyncio
import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple
from uuid import UUID

from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from sessions_app import events
from sessions_app.audience import job_channel, job_of, person_channel, rows_after
from sessions_app.models import Job, JobEvent
from sessions_app.states import ACTIVE
from sessions_app.watch import DataVersion

logger = logging.getLogger(__name__)

LOOK_S = 0.05
EXISTENCE_S = 2.0
"""How often the hub looks whether the jobs that somebody listens to are still there."""
BATCH = 1000
REPLAY_BATCH = 200
"""Events that one listener is given at once: a thousand listeners may each hold so many."""
MOST_PENDING = 20_000
"""Items that a listener may fall behind before it is sent away, to come back with its last id."""


@dataclass(frozen=True)
class Item:
    """An event of the log, or a progress without an id. All who listen to a channel share it."""

    job_id: UUID
    owner_id: int
    type: str
    data: dict[str, Any]
    id: int | None = None

    @property
    def channels(self) -> tuple[str, str]:
        """The channels that carry it."""
        return job_channel(self.job_id), person_channel(self.owner_id)

    @cached_property
    def text(self) -> str:
        """`data` as one line of JSON, written once for all listeners."""
        return json.dumps(self.data, separators=(",", ":"))


@dataclass(eq=False)
class Listener:
    """Somebody who listens to one channel."""

    channel: str
    pending: list[Item] = field(default_factory=list)
    has_news: asyncio.Event = field(default_factory=asyncio.Event)
    is_overrun: bool = False
    is_deleted: bool = False
    """Whether the channel's job is gone: nothing more will come."""

    def give(self, item: Item) -> None:
        """Add an item; a listener that is too far behind is overrun and gets no more."""
        if len(self.pending) >= MOST_PENDING:
            self.is_overrun = True
            self.pending.clear()
        if not self.is_overrun:
            self.pending.append(item)
        self.has_news.set()

    def dismiss(self) -> None:
        """Tell it that the channel's job was deleted."""
        self.is_deleted = True
        self.has_news.set()

    def take(self) -> list[Item]:
        """What has come since the last time."""
        items, self.pending = self.pending, []
        self.has_news.clear()
        return items


class Missed(NamedTuple):
    """Items of the past, at most REPLAY_BATCH events."""

    items: list[Item]
    last_id: int
    """The id up to which a listener has heard everything, once it has these."""
    is_all: bool
    """Whether nothing is missing any more; the progress of the active jobs comes last then."""


class Tail:
    """Reads what was committed since the last look. For one thread only: it owns that thread's connection."""

    def __init__(self) -> None:
        self._version = DataVersion()
        self._last_id: int | None = None
        self._progress_at: datetime = timezone.now()

    def look(self) -> list[Item]:
        """New events in the order of their ids, and new progress."""
        if self._last_id is None:
            self._last_id = JobEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
        if not self._version.has_changed():
            return []
        try:
            # Progress first: what a job's last event says must not be followed by an older progress.
            return self._progress() + self._events()
        except BaseException:
            self._version.forget()
            raise

    def _events(self) -> list[Item]:
        items: list[Item] = []
        last = self._last_id
        while True:
            rows = list(_lean(JobEvent.objects.filter(pk__gt=last))[:BATCH])
            items += [item_of(row) for row in rows]
            if rows:
                last = rows[-1].pk
            if len(rows) < BATCH:
                # Only now: what was read before a failure is read again.
                self._last_id = last
                return items

    def _progress(self) -> list[Item]:
        rows = Job.objects.filter(progress_at__gt=self._progress_at, status__in=ACTIVE)
        items = []
        for job in rows.order_by("progress_at")[:BATCH]:
            self._progress_at = job.progress_at or self._progress_at
            items.append(progress_of(job))
        return items


def item_of(row: JobEvent) -> Item:
    """An event of the log as listeners get it."""
    return Item(row.job_id, row.job.owner_id, row.type, events.payload(row), row.pk)


def progress_of(job: Job) -> Item:
    """A job's progress as listeners get it."""
    data = {"job_id": str(job.pk), "run": job.attempt, **(job.told_progress or {})}
    return Item(job.pk, job.owner_id, "progress", data)


class Hub:
    """The listeners of this process and the task that serves them."""

    def __init__(self) -> None:
        self._listeners: dict[str, set[Listener]] = {}
        self._task: asyncio.Task[None] | None = None
        self._tail_thread = ThreadPoolExecutor(1, thread_name_prefix="tail")
        # Bounded: a thousand tabs that come back at once must not open a thousand connections.
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="replay")
        self._started = asyncio.Event()

    async def join(self, channel: str) -> Listener:
        """Listen from now on: whatever is committed after this has returned reaches the listener."""
        listener = Listener(channel)
        self._listeners.setdefault(channel, set()).add(listener)
        if self._task is None:
            self._started.clear()
            self._task = asyncio.get_running_loop().create_task(self._run())
        # Until the tail knows where the log ends, what is committed might be taken for old.
        await self._started.wait()
        return listener

    def leave(self, listener: Listener) -> None:
        """Stop listening."""
        members = self._listeners.get(listener.channel, set())
        members.discard(listener)
        if not members:
            self._listeners.pop(listener.channel, None)

    async def replay(self, channel: str, after: int | None) -> Missed:
        """What there is of a channel after an event, in batches. Without an id a job's events begin with the first, a
        person's are those from now on."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, _keeping_connection, _read_missed, channel, after)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        tail = Tail()
        existence_due = 0.0
        while self._listeners:
            try:
                self._hand_out(await loop.run_in_executor(self._tail_thread, tail.look))
                self._started.set()
                if time.monotonic() >= existence_due:
                    existence_due = time.monotonic() + EXISTENCE_S
                    await self._dismiss_deleted()
            except Exception:
                logger.exception("The event log could not be read; trying again.")
                await asyncio.sleep(1)
                continue
            await asyncio.sleep(LOOK_S)
        # Before the last await: whoever joins during it starts a task of their own.
        self._task = None
        # `connection` is another object in each thread, so it must be looked up in that one.
        await loop.run_in_executor(self._tail_thread, lambda: connection.close())  # noqa: PLW0108

    def _hand_out(self, items: list[Item]) -> None:
        for item in items:
            for channel in item.channels:
                for listener in self._listeners.get(channel, ()):
                    listener.give(item)

    async def _dismiss_deleted(self) -> None:
        # One look for all: a thousand listeners must not ask a thousand times.
        loop = asyncio.get_running_loop()
        jobs = [job for channel in self._listeners if (job := job_of(channel))]
        for channel in await loop.run_in_executor(self._tail_thread, _read_deleted, jobs):
            for listener in self._listeners.get(channel, ()):
                listener.dismiss()


def _lean(rows: Any) -> Any:
    """Events in their order, of their jobs no more than the owner: a job's row may be large."""
    wanted = ("job__owner_id", "seq", "type", "data", "created_at")
    return rows.select_related("job").only(*wanted).order_by("pk")


def _keeping_connection(read: Callable[[str, int | None], Missed], channel: str, after: int | None) -> Missed:
    """Read in a thread that keeps its connection: another one for each listener costs more than what it reads."""
    try:
        return read(channel, after)
    except (InterfaceError, OperationalError):
        # The server may have closed it meanwhile.
        connection.close()
        return read(channel, after)


def _read_missed(channel: str, after: int | None) -> Missed:
    newest = JobEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    if after is None:
        after = 0 if job_of(channel) else newest
    # An id of the future, as after a database was put back, would hide everything to come.
    after = min(after, newest)
    # What is newer comes to the listener from the tail: here something with a lower id might be overlooked.
    rows = rows_after(channel, after).filter(pk__lte=newest)
    items = [item_of(row) for row in _lean(rows)[:REPLAY_BATCH]]
    last_id = items[-1].id if items else None
    is_all = len(items) < REPLAY_BATCH
    if is_all:
        items += _read_progress(channel)
    return Missed(items, after if last_id is None else last_id, is_all)


def _read_progress(channel: str) -> list[Item]:
    kind, _, name = channel.partition("-")
    jobs = Job.objects.active().filter(**{"owner_id" if kind == "person" else "pk": name}).order_by()
    return [progress_of(job) for job in jobs.only("owner_id", "attempt", "progress")[:BATCH] if job.progress]


def _read_deleted(jobs: list[str]) -> list[str]:
    found: set[str] = set()
    for start in range(0, len(jobs), BATCH):
        rows = Job.objects.filter(pk__in=jobs[start : start + BATCH]).order_by()
        found |= {job_channel(pk) for pk in rows.values_list("pk", flat=True)}
    return [channel for job in jobs if (channel := f"job-{job}") not in found]
