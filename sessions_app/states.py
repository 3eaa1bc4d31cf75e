"""The states of jobs and shards, and which moves between them are legal."""

from django.db import models


class JobStatus(models.TextChoices):
    """Where a job stands; the words are part of the HTTP contract."""

    PENDING = "pending"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ACTIVE = (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.PAUSED)
FINISHED = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)

MOVES: dict[JobStatus, tuple[JobStatus, ...]] = {
    JobStatus.PENDING: (
        JobStatus.RUNNING,
        JobStatus.PAUSED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    ),
    JobStatus.RUNNING: (
        JobStatus.PAUSED,
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.CANCELLED,
    ),
    # One that was paused before it began waits for its turn again.
    JobStatus.PAUSED: (JobStatus.PENDING, JobStatus.RUNNING, JobStatus.FAILED, JobStatus.CANCELLED),
    JobStatus.COMPLETED: (),
    # Tried again, in another run.
    JobStatus.FAILED: (JobStatus.PENDING,),
    JobStatus.CANCELLED: (),
}


def sources_of(target: JobStatus) -> list[JobStatus]:
    """The states from which a job may move to `target`."""
    return [status for status, targets in MOVES.items() if target in targets]


class Desired(models.TextChoices):
    """What the owner wants of an active job; workers look at it ten times a second."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


class ShardKind(models.TextChoices):
    """prepare finds the work, work does it, finish runs once when both have ended.

    clean removes what work left behind that was interrupted for good, after the job has ended.
    """

    PREPARE = "prepare"
    WORK = "work"
    FINISH = "finish"
    CLEAN = "clean"


class ShardState(models.TextChoices):
    """waiting: not yet queued. queued: a message is under way. running: a worker holds the lease."""

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


OPEN_SHARDS = (ShardState.WAITING, ShardState.QUEUED, ShardState.RUNNING)
