"""Messages: how a shard's row gets to a worker. A message carries ids only and does no harm when lost or doubled."""

from uuid import UUID

from django.db import transaction
from django.utils import timezone
from django_tasks import TaskResultStatus, task
from django_tasks.base import TaskContext
from django_tasks_db.models import DBTaskResult

from sessions_app import execution
from sessions_app.models import Job, Shard, Worker
from sessions_app.states import Desired, JobStatus, ShardKind, ShardState

INTERACTIVE_QUEUE = "prepare"
"""What a person waits for; a worker is kept for it alone."""
WORK_QUEUE = "work"


@task(queue_name=WORK_QUEUE, takes_context=True)
def run_shard(context: TaskContext, shard_id: int, attempt: int) -> None:
    """Deliver one shard; a stale attempt finds nothing to do."""
    worker_id = context.task_result.worker_ids[-1]
    ended = execution.run(shard_id, attempt, worker_id=worker_id, queue_waiting=queue_waiting)
    if ended:
        queue_blocked()


def enqueue(shard: Shard) -> bool:
    """Queue a waiting shard with its message, in one transaction; False when it moved meanwhile."""
    queue = INTERACTIVE_QUEUE if shard.kind == ShardKind.PREPARE else WORK_QUEUE
    with transaction.atomic():
        rows = Shard.objects.filter(pk=shard.pk, attempt=shard.attempt, state=ShardState.WAITING)
        if rows.update(state=ShardState.QUEUED, owner="", lease_until=None) != 1:
            return False
        result = run_shard.using(queue_name=queue).enqueue(shard.pk, shard.attempt)
        Shard.objects.filter(pk=shard.pk).update(message=result.id)
    return True


def queue_waiting(job_id: UUID) -> None:
    """Queue what a running job has waiting: prepare and finish at once, work up to about two messages a worker.

    A job that one worker does by itself needs no message.
    """
    mine = Job.objects.filter(pk=job_id, status=JobStatus.RUNNING, desired=Desired.RUN, executor="")
    if not mine.due().exists():
        return
    shards = Shard.objects.filter(job_id=job_id)
    waiting = shards.filter(state=ShardState.WAITING)
    for shard in waiting.exclude(kind=ShardKind.WORK):
        enqueue(shard)
    limit = 2 * max(1, Worker.objects.filter(queues__contains=WORK_QUEUE).count())
    under_way = shards.filter(kind=ShardKind.WORK, state__in=(ShardState.QUEUED, ShardState.RUNNING)).count()
    for shard in waiting.filter(kind=ShardKind.WORK).order_by("number")[: max(0, limit - under_way)]:
        enqueue(shard)


def queue_blocked() -> None:
    """Queue the first shard of every pending job: the tree that it waited for may be free now, or its time has come."""
    pending = Job.objects.due().filter(status=JobStatus.PENDING, desired=Desired.RUN, executor="")
    blocked = Shard.objects.filter(
        job__in=pending,
        kind=ShardKind.PREPARE,
        state=ShardState.WAITING,
    )
    for shard in blocked.order_by("job__created_at"):
        enqueue(shard)


def queue_cleaning() -> None:
    """Queue the shards that clean up after jobs that have ended."""
    for shard in Shard.objects.filter(kind=ShardKind.CLEAN, state=ShardState.WAITING):
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
