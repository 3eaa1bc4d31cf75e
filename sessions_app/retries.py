"""Another run of a job that has failed: in the same job, with what it has done before."""

from uuid import UUID

from django.db import transaction
from django.db.models import F

from sessions_app import transitions
from sessions_app.models import Job, Shard
from sessions_app.runners import runner_class, sum_counters
from sessions_app.states import JobStatus, ShardKind, ShardState
from sessions_app.transitions import IllegalMove


def begin(job_id: UUID) -> Shard:
    """Make a failed job pending again, with its shards; gives the one to begin with, waiting.

    Raises IllegalMove for a job that has not failed, having changed nothing.
    """
    with transaction.atomic():
        # First, as in every transaction that changes shards: whoever still holds one can write nothing more.
        shards = Shard.objects.filter(job_id=job_id)
        shards.update(attempt=F("attempt") + 1)
        job = Job.objects.filter(pk=job_id).first()
        if job is None or job.status != JobStatus.FAILED:
            raise IllegalMove(job.status if job else "deleted", JobStatus.PENDING)
        runner = runner_class(job.type)
        counters = runner.begin_again(job_id, sum_counters(list(shards.values_list("counters", flat=True))))
        if not runner.keeps_work:
            shards.delete()
            Shard.objects.create(job_id=job_id, number=1, kind=ShardKind.PREPARE)
        # What cleans up would take away what is gone on with; the finish shard comes again at the end.
        shards.filter(kind__in=(ShardKind.CLEAN, ShardKind.FINISH)).delete()
        shards.update(counters={}, owner="", lease_until=None, message="", deaths=0, note=None)
        first = shards.filter(kind=ShardKind.PREPARE)
        first.update(state=ShardState.WAITING, counters=counters, payload={"run": job.attempt + 1})
        shards.exclude(state=ShardState.DONE).update(state=ShardState.WAITING)
        Job.objects.filter(pk=job_id).update(open_shards=shards.filter(state=ShardState.WAITING).count())
        transitions.move(job_id, JobStatus.PENDING)
        return first.get()
