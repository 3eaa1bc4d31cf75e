"""A pass over the rows that mends what a crash left behind. Any worker may run it at any time, also twice."""

import logging
from uuid import UUID

from django.db import transaction

from sessions_app import delivery, events, execution, leases, presence, transitions
from sessions_app.models import Job, Shard, Worker
from sessions_app.runners import log_warning, runner_class
from sessions_app.states import (
    FINISHED,
    OPEN_SHARDS,
    Desired,
    JobStatus,
    ShardKind,
    ShardState,
)
from sessions_app.transitions import IllegalMove

logger = logging.getLogger(__name__)


def reconcile() -> None:
    """Take back what dead workers held, deliver lost messages again, and end what has nothing left to do."""
    dead = presence.bury_dead()
    for shard in leases.expired():
        _take_back(shard)
    delivery.close_orphans(dead)
    _redeliver(dead)
    presence.forget(dead)
    _free_from_dead_executors()
    for job_id in Job.objects.filter(status=JobStatus.RUNNING).values_list("pk", flat=True):
        _close_if_idle(job_id)
        execution.settle(job_id, delivery.queue_waiting)
    wanted_gone = Job.objects.active().filter(desired=Desired.CANCEL)
    for job_id in wanted_gone.values_list("pk", flat=True):
        execution.settle_cancel(job_id)
    wanted_still = Job.objects.filter(
        status__in=(JobStatus.PENDING, JobStatus.RUNNING), desired=Desired.PAUSE
    )
    for job_id in wanted_still.values_list("pk", flat=True):
        execution.settle_pause(job_id)
    leftover = Shard.objects.filter(job__status__in=FINISHED, state__in=OPEN_SHARDS)
    leftover = leftover.exclude(kind=ShardKind.CLEAN)
    for job_id in set(leftover.values_list("job_id", flat=True)):
        leases.fence_off(job_id)
    delivery.queue_pending()
    delivery.queue_cleaning()


def _take_back(shard: Shard) -> None:
    with transaction.atomic():
        if not leases.take_back(shard):
            return
        text = f"Part {shard.number} was taken back from a worker that ended or fell silent; another goes on with it."
        events.append(shard.job_id, [log_warning(text)])
    logger.warning("Took shard %s of job %s back from a dead worker.", shard.number, shard.job_id)
    if shard.deaths + 1 < leases.MOST_DEATHS or _is_job_moving(shard):
        return
    # A shard that kills each worker it meets must not do so for ever.
    if shard.kind == ShardKind.CLEAN:
        Shard.objects.filter(pk=shard.pk, state=ShardState.WAITING).update(state=ShardState.FAILED)
        return
    reason = f"Part {shard.number} ended its worker {leases.MOST_DEATHS} times without getting on."
    try:
        with transaction.atomic():
            Shard.objects.filter(pk=shard.pk, state=ShardState.WAITING).update(state=ShardState.FAILED)
            transitions.move(shard.job_id, JobStatus.FAILED, reason=reason)
    except IllegalMove as error:
        logger.info("Job %s is %s already.", shard.job_id, error.status)


def _free_from_dead_executors() -> None:
    """Give jobs whose one worker is gone to all workers; pause those that need that one."""
    gone = Job.objects.active().exclude(executor="").exclude(executor__in=Worker.objects.values("pk"))
    for job in gone.only("pk", "type", "params", "status"):
        reason = runner_class(job.type).tie(job.pk, job.params)
        with transaction.atomic():
            if gone.filter(pk=job.pk, status=job.status).update(executor="") != 1:
                continue
            if job.status == JobStatus.PAUSED:
                continue
            if reason:
                text = f"The process that did this session ended. {reason}"
                transitions.move(job.pk, JobStatus.PAUSED, reason=text)
            else:
                text = "The process that did this session ended; the server's workers go on with it."
                events.append(job.pk, [log_warning(text)])


def _is_job_moving(shard: Shard) -> bool:
    others = Shard.objects.filter(job_id=shard.job_id, state=ShardState.RUNNING, deaths=0)
    return others.exclude(pk=shard.pk).exists()


def _redeliver(dead: set[str]) -> None:
    queued = list(Shard.objects.filter(state=ShardState.QUEUED))
    for shard in delivery.lost_messages(queued, dead):
        rows = Shard.objects.filter(
            pk=shard.pk, state=ShardState.QUEUED, attempt=shard.attempt, message=shard.message
        )
        if rows.update(state=ShardState.WAITING) == 1:
            delivery.enqueue(shard)


def _close_if_idle(job_id: UUID) -> None:
    """Write the finish shard of a running job that has no other open shard and lost count of it."""
    shards = Shard.objects.filter(job_id=job_id)
    if shards.filter(state__in=OPEN_SHARDS).exists() or shards.filter(kind=ShardKind.FINISH).exists():
        return
    job = Job.objects.filter(pk=job_id, status=JobStatus.RUNNING).first()
    if job is not None:
        leases.add_finish(job.pk)
