"""How many connections are open to each server, by all workers: no more than its setting allows, or it has taken."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

from django.db import OperationalError, connection, transaction

from migration_app import endpoints
from migration_app.models import Endpoint, ServerLoad
from migration_app.storages.base import Address
from sessions_app.models import Worker

logger = logging.getLogger(__name__)
Turns = dict[str, tuple[float, float]]

RETRY_S = 1.0
STALE_S = 10.0
"""A job that has not asked again for so long does not wait any more."""
REMEMBERED_S = 600.0
"""How long no more connections are opened than a server took: it may have been busy with others then."""
TURN_S = 15.0
"""A job that was given a connection goes before those that wait for so long: its next shard follows closely."""


class TooFewAllowed(Exception):
    """A shard can never have its connections: more than the setting allows."""


class Slots:
    """The connections of this process, whose worker does one shard at a time.

    Counted are those that a shard asked for, from before they are opened, and those that are kept for the next one.
    """

    def __init__(self) -> None:
        self._worker_id = ""
        self._needed: Counter[str] = Counter()
        self._open: Counter[str] = Counter()
        # The event loop only ever takes the first one, which is never held during a query.
        self._counting = threading.Lock()
        self._writing = threading.Lock()
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="slots")

    def note(self, address: Address, change: int) -> None:
        """A connection is about to be opened (1) or was closed (-1); from the event-loop thread."""
        key = endpoints.address_key(address)
        with self._counting:
            self._open[key] += change
            is_idle = not self._open[key] and not self._needed[key]
        if is_idle and address.protocol != "local":
            self._threads.submit(self._sync, key)

    def take(self, worker_id: str, job_id: UUID, sides: Sequence[Endpoint]) -> str:
        """Count a connection for each side, of all or of none; a sentence that says what has no room, else empty.

        Jobs that wait for a server are served in turns, the first one first. Raises TooFewAllowed.
        """
        wanted: Counter[str] = Counter()
        limits: dict[str, int] = {}
        names: dict[str, str] = {}
        for side in sides:
            if side.protocol != "local":
                key = endpoints.server_key(side)
                wanted[key] += 1
                limits[key] = min(endpoints.most_connections(side), limits.get(key, 10**6))
                names[key] = side.server
        for key, count in wanted.items():
            if count > limits[key]:
                raise TooFewAllowed(
                    f"This needs {count} connections to {names[key]} at once, and only {limits[key]} are allowed."
                )
        # What the shard has already it keeps.
        keys = sorted(key for key, count in wanted.items() if count > self._needed[key])
        if not keys:
            return ""
        with self._writing:
            self._worker_id = worker_id
            with transaction.atomic():
                rows = [_locked(key) for key in keys]
                for row in rows:
                    # A shard that needs more than the server took tries all the same: alone it may get them.
                    limits[row.key] = min(limits[row.key], max(row.most or 10**6, wanted[row.key]))
                full = [
                    row
                    for row in rows
                    if not _has_room(row, worker_id, job_id, wanted[row.key], limits[row.key])
                ]
                for row in rows:
                    if full:
                        row.waiting[str(job_id)] = (_since(row, job_id), time.time())
                    else:
                        row.served[str(job_id)] = (_since(row, job_id), _turn_of(row, job_id))
                        row.waiting.pop(str(job_id), None)
                        row.holders[worker_id] = wanted[row.key]
                    row.save()
            if not full:
                with self._counting:
                    self._needed |= wanted
                return ""
        key = full[0].key
        return f"Waits for a free connection to {names[key]}: {limits[key]} may be open at once."

    def refused(self, worker_id: str, side: Endpoint) -> int:
        """A server hung up on a new connection: no more than others have open now are opened for `REMEMBERED_S`.

        Gives that number; 0 where nobody else has one, so that the refusal says nothing of a number.
        """
        with self._writing, transaction.atomic():
            row = _locked(endpoints.server_key(side))
            others = _others(row, worker_id)
            if not others:
                return 0
            row.most, row.most_at = min(others, row.most or others), time.time()
            row.save()
            return row.most

    def give_back(self) -> None:
        """The shard needs its connections no more; those that are kept open go on counting until they are closed."""
        with self._counting:
            needed, self._needed = self._needed, Counter()
            closed = [key for key in needed if not self._open[key]]
        for key in closed:
            self._threads.submit(self._sync, key)

    def is_wanted(self, by_others_than: UUID | None = None) -> bool:
        """Whether a job waits for a server that this shard has connections to."""
        with self._counting:
            keys = list(self._needed)
        rows = ServerLoad.objects.filter(key__in=keys)
        return any(other != str(by_others_than) for row in rows for other in _fresh(row.waiting, STALE_S))

    def _sync(self, key: str) -> None:
        """Write down what this process has open to a server now; in a thread of its own."""
        try:
            while not self._write(key):
                time.sleep(RETRY_S)
        finally:
            connection.close()

    def _write(self, key: str) -> bool:
        try:
            with self._writing, transaction.atomic():
                row = _locked(key)
                with self._counting:
                    count = max(self._needed[key], self._open[key])
                row.holders.pop(self._worker_id, None)
                if count:
                    row.holders[self._worker_id] = count
                row.save()
        except OperationalError:
            logger.warning("The database did not answer; connections are counted again.", exc_info=True)
            return False
        return True


def _locked(key: str) -> ServerLoad:
    ServerLoad.objects.get_or_create(key=key)
    row = ServerLoad.objects.select_for_update().get(key=key)
    row.waiting, row.served = _fresh(row.waiting, STALE_S), _fresh(row.served, TURN_S)
    if time.time() - row.most_at > REMEMBERED_S:
        row.most = None
    return row


def _fresh(entries: Turns, seconds: float) -> Turns:
    """Those whose second time is no longer ago."""
    now = time.time()
    return {job_id: (since, at) for job_id, (since, at) in entries.items() if now - at < seconds}


def _since(row: ServerLoad, job_id: UUID) -> float:
    """Since when a job waits: for its whole turn, since it did before it."""
    now = time.time()
    since, _ = row.served.get(str(job_id)) or row.waiting.get(str(job_id)) or (now, now)
    return float(since)


def _turn_of(row: ServerLoad, job_id: UUID) -> float:
    """When the turn of a job has begun."""
    now = time.time()
    return float(row.served.get(str(job_id), (now, now))[1])


def _others(row: ServerLoad, worker_id: str) -> int:
    """How many connections workers other than this one have; forgets those that are gone."""
    alive = set(Worker.objects.filter(pk__in=row.holders).values_list("pk", flat=True))
    row.holders = {holder: number for holder, number in row.holders.items() if holder in alive}
    return sum(number for holder, number in row.holders.items() if holder != worker_id)


def _has_room(row: ServerLoad, worker_id: str, job_id: UUID, count: int, limit: int) -> bool:
    used = _others(row, worker_id)
    mine = _since(row, job_id)
    ahead = sum(since < mine for other, (since, _) in row.waiting.items() if other != str(job_id))
    return bool(used + ahead + count <= limit)
