"""Messages: how a shard's row gets to a worker. A message carries ids only and does no harm when lost or doubled."""

from collections.abc import Iterator
from functools import partial
from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django_tasks import TaskResultStatus, task
from django_tasks.base import TaskContext
from django_tasks_db.models import DBTaskResult

from sessions_app import execution, leases, presence, turns
from sessions_app.models import Job, Shard, Worker
from sessions_app.presence import INTERACTIVE_QUEUE, WORK_QUEUE
from sessions_app.states import Desired, JobStatus, ShardKind, ShardState


@task(queue_name=WORK_QUEUE, takes_context=True)
def run_shard(context: TaskContext, shard_id: int, attempt: int) -> None:
    """Deliver one shard, and after it what its job has next while nothing else waits: this worker is connected.

    A stale attempt finds nothing to do.
    """
    worker_id = context.task_result.worker_ids[-1]
    kept: list[Shard] = []
    run = partial(
        execution.run,
        worker_id=worker_id,
        queue_waiting=queue_waiting,
        at_end=partial(queue_waiting, kept=kept) if does_work(worker_id) else queue_waiting,
    )
    ended = run(shard_id, attempt)
    while kept:
        shard = kept.pop()
        ended = run(shard.pk, shard.attempt, state=ShardState.WAITING)
    if ended:
        queue_pending()


def does_work(worker_id: str) -> bool:
    """Whether a worker takes any work, and is not kept for what people wait for."""
    return Worker.objects.filter(pk=worker_id, queues__contains=WORK_QUEUE).exists()


def enqueue(shard: Shard, *, is_first: bool = False) -> bool:
    """Queue a waiting shard with its message, in one transaction; False when it moved meanwhile.

    First comes what people wait for, then what ends a job, then the first work of a job, which `is_first` says.
    """
    # Of a deleted job too: what it left is still to be cleaned up.
    job_type = Job.everything.values_list("type", flat=True).get(pk=shard.job_id)
    is_waited_for = shard.kind == ShardKind.PREPARE or turns.is_waited_for(job_type)
    queue = INTERACTIVE_QUEUE if is_waited_for else WORK_QUEUE
    # From -100 to 100.
    priority = 75 if is_waited_for else 50 if shard.kind == ShardKind.FINISH else 25 if is_first else 0
    with transaction.atomic():
        rows = Shard.objects.filter(pk=shard.pk, attempt=shard.attempt, state=ShardState.WAITING)
        if rows.update(state=ShardState.QUEUED, owner="", lease_until=None) != 1:
            return False
        result = run_shard.using(queue_name=queue, priority=priority).enqueue(shard.pk, shard.attempt)
        Shard.objects.filter(pk=shard.pk).update(message=result.id)
        if shard.kind == ShardKind.WORK:
            Job.objects.filter(pk=shard.job_id).update(served_at=timezone.now())
    return True


def queue_waiting(job_id: UUID, kept: list[Shard] | None = None) -> None:
    """Queue what a running job has waiting: prepare and finish at once, and work as its turn comes.

    A job that one worker does by itself needs no message. With `kept`, the shard whose turn comes before all others is
    put there instead, if it is one of this job and nothing is queued: a worker that is free goes on with it.
    """
    keeps = kept is not None and not Shard.objects.filter(state=ShardState.QUEUED).exists()
    for shard, is_first in _next_shards(job_id):
        if keeps and kept is not None and shard.job_id == job_id:
            kept.append(shard)
            if shard.kind == ShardKind.WORK:
                Job.objects.filter(pk=job_id).update(served_at=timezone.now())
        else:
            enqueue(shard, is_first=is_first)
        keeps = False


def _next_shards(job_id: UUID) -> Iterator[tuple[Shard, bool]]:
    """What is to be given out now, with whether it is the first work of its job. Work comes last, and is chosen when
    what comes before it has been given out."""
    mine = Job.objects.filter(pk=job_id, status=JobStatus.RUNNING, desired=Desired.RUN, executor="")
    if mine.due().exists():
        waiting = Shard.objects.filter(job_id=job_id, state=ShardState.WAITING)
        for shard in waiting.exclude(kind=ShardKind.WORK):
            yield shard, False
    slots, most_of_one = presence.count_slots()
    yield from turns.next_work(max(1, slots), max(1, most_of_one))


def queue_pending() -> None:
    """Queue the first shard of every pending job that may begin: when its tree is free, and its turn and time come."""
    for shard in turns.next_jobs():
        enqueue(shard)


def queue_cleaning() -> None:
    """Queue the shards that clean up after jobs that have ended."""
    for shard in leases.cleanable():
        enqueue(shard)


def lost_messages(shards: list[Shard], dead_workers: set[str]) -> list[Shard]:
    """Of queued shards, those whose message does not exist any more, has ended, or went with a dead worker."""
    known = {
        str(row.id): row
        for row in DBTaskResult.objects.filter(id__in=[shard.message for shard in shards if shard.message])
    }
    lost = []
    for shard in shards:
        row = known.get(shard.message)
        if row is None or row.status in (TaskResultStatus.SUCCESSFUL, TaskResultStatus.FAILED):
            is_lost = True
        else:
            is_lost = row.status == TaskResultStatus.RUNNING and row.worker_ids[-1] in dead_workers
        if is_lost:
            lost.append(shard)
    return lost


def close_orphans(dead_workers: set[str]) -> None:
    """Mark the queue's rows that a dead worker left running as failed; none that runs is touched."""
    for row in DBTaskResult.objects.running():
        if row.worker_ids and row.worker_ids[-1] in dead_workers:
            DBTaskResult.objects.filter(pk=row.pk, status=TaskResultStatus.RUNNING).update(
                status=TaskResultStatus.FAILED, finished_at=timezone.now()
            )
