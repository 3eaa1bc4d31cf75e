"""What may stop a running shard: its owner's wish, a lost lease, a drain. Looked at every 100 ms."""

import logging
import threading
import time
from collections.abc import Callable

from django.db import OperationalError, connection

from sessions_app import turns
from sessions_app.leases import Lease
from sessions_app.models import Job, Shard
from sessions_app.states import Desired, ShardState

logger = logging.getLogger(__name__)

LOOK_S = 0.1
TURN_LOOK_S = 1.0
"""How often a shard that has got on for a while looks whether others wait for its worker."""
SETUP_SHARE = 4
"""A shard gets on for at least so many times as long as it took to begin: else slices would be nothing but that."""


class StopSign:
    """Why a shard must stop: `drain`, `pause`, `cancel`, `turn` (another's) or `lost`; empty while it may go on."""

    def __init__(self, lease: Lease, on_stop: Callable[[str], None], *, outlives_job: bool = False) -> None:
        self.lease = lease
        self.outlives_job = outlives_job
        """Whether what the owner wants of the job is no reason: it has ended, and this is cleaned up after it."""
        self.reason = ""
        self._begun_at = time.monotonic()
        self._getting_on_since: float | None = None
        self._on_stop = on_stop
        self._lock = threading.Lock()

    def note_progress(self) -> None:
        """The shard has got on."""
        if self._getting_on_since is None:
            self._getting_on_since = time.monotonic()

    def seconds_getting_on(self) -> float:
        """For how long it has got on; 0 before that has been worth the time that it took to begin."""
        since = self._getting_on_since
        if since is None:
            return 0.0
        seconds = time.monotonic() - since
        return seconds if seconds >= SETUP_SHARE * (since - self._begun_at) else 0.0

    def raise_for(self, reason: str) -> None:
        """Set the reason, once, and tell the shard; a lost lease overrides the others."""
        with self._lock:
            if self.reason == reason or self.reason == "lost" or (self.reason and reason != "lost"):
                return
            self.reason = reason
        self._on_stop(reason)


class DataVersion:
    """Whether another connection has changed the SQLite database since the last look: one PRAGMA, some µs."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def has_changed(self) -> bool:
        """True on the first look and after each foreign commit; always True on other databases."""
        if connection.vendor != "sqlite":
            return True
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA data_version")
            version = cursor.fetchone()[0]
        changed = version != self._seen
        self._seen = version
        return bool(changed)

    def forget(self) -> None:
        """What was seen last did not count."""
        self._seen = None


class Watcher:
    """A thread of a worker process that raises the stop sign of the shard that it runs."""

    def __init__(self) -> None:
        self.is_draining = False
        self._signs: dict[int, StopSign] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def watch(self, sign: StopSign) -> None:
        """Look after a shard from now on."""
        with self._lock:
            self._signs[sign.lease.shard_id] = sign
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
                self._thread.start()
        if self.is_draining:
            sign.raise_for("drain")
        self._wake.set()

    def forget(self, sign: StopSign) -> None:
        """The shard has ended."""
        with self._lock:
            self._signs.pop(sign.lease.shard_id, None)

    def drain(self) -> None:
        """Stop what runs at its next safe point, and everything that starts from now on."""
        self.is_draining = True
        for sign in self._current():
            sign.raise_for("drain")

    def _current(self) -> list[StopSign]:
        with self._lock:
            return list(self._signs.values())

    def _run(self) -> None:
        version = DataVersion()
        turn_look_at = 0.0
        while True:
            signs = self._current()
            if not signs:
                self._wake.clear()
                # Re-checked after clear(): a shard that came in between has set the event again.
                if not self._current():
                    connection.close()
                    version = DataVersion()
                    self._wake.wait()
                continue
            for sign in signs:
                if not sign.lease.is_valid():
                    sign.raise_for("lost")
            try:
                if version.has_changed():
                    self._look(signs)
                if time.monotonic() >= turn_look_at:
                    turn_look_at = time.monotonic() + TURN_LOOK_S
                    for sign in signs:
                        _look_for_others(sign)
            except OperationalError:
                logger.warning("The database did not answer; looking again.", exc_info=True)
            threading.Event().wait(LOOK_S)

    def _look(self, signs: list[StopSign]) -> None:
        for sign in signs:
            lease = sign.lease
            held = Shard.objects.filter(pk=lease.shard_id, attempt=lease.attempt, state=ShardState.RUNNING)
            desired = Job.objects.filter(pk=lease.job_id).values_list("desired", flat=True).first()
            if desired == Desired.CANCEL and not sign.outlives_job:
                sign.raise_for("cancel")
            elif desired == Desired.PAUSE and not sign.outlives_job:
                sign.raise_for("pause")
            elif not held.exists() and sign in self._current():
                sign.raise_for("lost")


def _look_for_others(sign: StopSign) -> None:
    seconds = sign.seconds_getting_on()
    if seconds and not sign.reason:
        shard = Shard.objects.select_related("job").filter(pk=sign.lease.shard_id).first()
        if shard is not None and turns.gives_way(shard, seconds):
            sign.raise_for("turn")


watcher = Watcher()
"""This process's watcher."""
