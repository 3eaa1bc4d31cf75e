"""Which workers are alive. A worker holds a lock on a file of its own for as long as its process lives."""

import fcntl
import os
import socket
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import IO

from django.conf import settings
from django.db.models import Count, Max, Q
from django.utils import timezone

from sessions_app.models import Shard, Worker
from sessions_app.states import ShardState

INTERACTIVE_QUEUE = "prepare"
"""What a person waits for; a worker is kept for it alone."""
WORK_QUEUE = "work"
SEEN_EVERY_S = 5
FORGOTTEN_AFTER = timedelta(minutes=5)
"""A worker of another host that was silent for so long counts as gone."""

MISSED_AFTER = timedelta(seconds=30)
"""Silence after which people are told that no worker is there."""


def _folder() -> Path:
    path = Path(settings.DATA_DIR) / "workers"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


class Presence:
    """This process's row among the workers, and its lock."""

    def __init__(self, queues: list[str]) -> None:
        self.id = uuid.uuid4().hex
        self._path = _folder() / f"{self.id}.lock"
        self._file: IO[str] = self._path.open("w")
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._queues = ",".join(queues)
        self.announce()

    def announce(self) -> None:
        """Say that this worker is alive."""
        Worker.objects.update_or_create(
            pk=self.id,
            defaults={"seen_at": timezone.now()},
            create_defaults={
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "queues": self._queues,
                "processors": len(os.sched_getaffinity(0)),
                "seen_at": timezone.now(),
            },
        )

    def leave(self) -> None:
        """Take this worker off the list."""
        Worker.objects.filter(pk=self.id).delete()
        self._path.unlink(missing_ok=True)
        self._file.close()


def is_pass_due(every_s: float) -> bool:
    """Whether no worker of this machine has made a pass of housekeeping for so long; True counts as one."""
    path = _folder() / "last-pass"
    try:
        is_recent = 0 <= time.time() - path.stat().st_mtime < every_s
    except FileNotFoundError:
        is_recent = False
    if not is_recent:
        path.touch()
    return not is_recent


def is_alive(worker: Worker) -> bool:
    """Whether a worker lives: on this host by its lock, elsewhere by when it was heard of."""
    if worker.host != socket.gethostname():
        return worker.seen_at > timezone.now() - FORGOTTEN_AFTER
    try:
        with (_folder() / f"{worker.pk}.lock").open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def count_slots() -> tuple[int, int]:
    """How many workers do work of any kind, and how many workers one job may have at once, with the one that lists.

    Copying small files keeps a processor busy for each worker: more of them than a host has processors hinder each
    other. A second one is worth while in any case, as servers are waited for.
    """
    works = Q(queues__contains=WORK_QUEUE)
    workers = Worker.objects.filter(works | Q(queues__contains=INTERACTIVE_QUEUE))
    hosts = workers.values_list("host").annotate(
        work=Count("pk", filter=works), every=Count("pk"), most=Max("processors")
    )
    found = [(count, min(every, max(2, processors))) for _, count, every, processors in hosts if count]
    return sum(count for count, _ in found), sum(most for _, most in found)


def count_seen() -> int:
    """How many workers were heard of lately, on any host."""
    return Worker.objects.filter(seen_at__gt=timezone.now() - MISSED_AFTER).count()


def bury_dead() -> set[str]:
    """Expire at once what dead workers of this host held, and forget them; gives their ids.

    A process that is gone cannot send anything, so no lease has to be waited for.
    """
    dead = {worker.pk for worker in Worker.objects.all() if not is_alive(worker)}
    if dead:
        long_ago = timezone.now() - timedelta(days=1)
        for shard_id in Shard.objects.filter(owner__in=dead, state=ShardState.RUNNING).values_list(
            "pk", flat=True
        ):
            Shard.objects.filter(pk=shard_id, owner__in=dead, state=ShardState.RUNNING).update(
                lease_until=long_ago
            )
    return dead


def forget(dead: set[str]) -> None:
    """Delete the rows and lock files of dead workers, once nothing refers to them."""
    Worker.objects.filter(pk__in=dead).delete()
    for worker_id in dead:
        (_folder() / f"{worker_id}.lock").unlink(missing_ok=True)
