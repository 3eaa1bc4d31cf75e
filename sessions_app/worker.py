"""A worker process: takes messages from the queue one by one, and mends what others left behind."""

import logging
import os
import random
import signal
import threading
import time
from types import FrameType

from django.db import OperationalError, close_old_connections, connection
from django_tasks_db.management.commands.db_worker import Worker as QueueWorker
from django_tasks_db.models import DBTaskResult

from sessions_app import chores, lifeline, presence, retention, schedules
from sessions_app.presence import WORK_QUEUE, Presence
from sessions_app.reconciler import reconcile
from sessions_app.watch import DataVersion, watcher

logger = logging.getLogger(__name__)

POLL_S = 0.01
"""How often an idle worker asks SQLite whether anything was committed."""
INTERACTIVE_POLL_S = 0.05
"""The same of one that does nothing but what people wait for: others that are free come first, and go on with it."""
LOOK_S = 0.03
"""After each change to the database it looks for a message, but no sooner: others may write all the time."""
FULL_LOOK_S = 1.0
PASS_S = 1.0
"""How often one of a machine's workers keeps house for all."""
GRACE_S = 11.0
"""Shorter than the supervisor's patience."""


class WorkerProcess:
    """The main loop of a worker and its housekeeping thread."""

    def __init__(self, queues: list[str]) -> None:
        self._queues = queues
        self._poll_s = POLL_S if WORK_QUEUE in queues else INTERACTIVE_POLL_S
        self._draining = threading.Event()
        self._presence = Presence(queues)
        self._queue = QueueWorker(
            queue_names=queues,
            interval=0,
            batch=True,
            backend_name="default",
            startup_delay=False,
            max_tasks=None,
            worker_id=self._presence.id,
            excluded_queue_names=[],
        )

    def drain(self) -> None:
        """Let what runs stop at its next safe point, take nothing new, and end."""
        self._draining.set()
        self._queue.running = False
        watcher.drain()
        # What does not come to a safe point in time is cut off, as a kill would; its lease expires.
        timer = threading.Timer(GRACE_S, os._exit, args=(1,))
        timer.daemon = True
        timer.start()

    def run(self, *, has_lifeline: bool) -> None:
        """Work until told to drain."""
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        if has_lifeline:
            lifeline.watch(self.drain)
        housekeeping = threading.Thread(target=self._keep_house, name="housekeeping", daemon=True)
        housekeeping.start()
        try:
            self._work()
        finally:
            self._presence.leave()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        # A signal handler may interrupt a lock of the thread that it runs in.
        threading.Thread(target=self.drain, daemon=True).start()

    def _work(self) -> None:
        version = DataVersion()
        looked_at = 0.0
        while not self._draining.is_set():
            try:
                since = time.monotonic() - looked_at
                if since > FULL_LOOK_S or (since > LOOK_S and version.has_changed()):
                    looked_at = time.monotonic()
                    if self._has_message():
                        self._queue.run()
            except OperationalError:
                logger.warning("The database did not answer; trying again.", exc_info=True)
                connection.close()
            self._draining.wait(self._poll_s)

    def _has_message(self) -> bool:
        # Looked at without the write lock, which the queue takes to claim a message.
        ready = DBTaskResult.objects.ready().filter(queue_name__in=self._queues)
        return ready.exists()

    def _keep_house(self) -> None:
        seen_at = time.monotonic()
        while not self._draining.is_set():
            try:
                # A little less, as each worker looks as often: somebody is always just too early.
                if presence.is_pass_due(0.8 * PASS_S):
                    self._make_pass()
                if time.monotonic() - seen_at > presence.SEEN_EVERY_S:
                    seen_at = time.monotonic()
                    self._presence.announce()
            except OperationalError:
                logger.warning("The database did not answer; trying again.", exc_info=True)
            except Exception:
                logger.exception("Housekeeping failed; it goes on in the next pass.")
            close_old_connections()
            # Spread, so that several workers do not look all at once.
            self._draining.wait(PASS_S * random.uniform(0.75, 1.25))  # noqa: S311
        connection.close()

    @staticmethod
    def _make_pass() -> None:
        reconcile()
        schedules.submit_due()
        retention.clean_up_when_due()
        retention.purge_when_due()
        chores.refresh_statistics_when_due()
