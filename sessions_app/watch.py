"""What may stop a running shard: its owner's wish, a lost lease, a drain. Looked at every 100 ms."""

import logging
import threading
from collections.abc import Callable

from django.db import OperationalError, connection

from sessions_app.leases import Lease
from sessions_app.models import Job, Shard
from sessions_app.states import Desired, ShardState

logger = logging.getLogger(__name__)

LOOK_S = 0.1


class StopSign:
    """Why a shard of this process must stop: `drain`, `pause`, `cancel` or `lost`; empty while it may go on."""

    def __init__(self, lease: Lease, on_stop: Callable[[str], None], *, outlives_job: bool = False) -> None:
        self.lease = lease
        self.outlives_job = outlives_job
        """Whether a cancel is no reason: it is why the shard is there."""
        self.reason = ""
        self._on_stop = on_stop
        self._lock = threading.Lock()

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
            elif desired == Desired.PAUSE:
                sign.raise_for("pause")
            elif not held.exists() and sign in self._current():
                sign.raise_for("lost")


watcher = Watcher()
"""This process's watcher."""
