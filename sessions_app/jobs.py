"""What people do with jobs: submit, cancel, delete."""

import time
from collections.abc import Callable
from uuid import UUID

from django.db import IntegrityError, models, transaction
from django.db.models import Exists, OuterRef
from django.utils import timezone

from sessions_app import claims, delivery, events, execution, transitions, turns
from sessions_app.models import Job, JobClaim, Shard
from sessions_app.runners import NewEvent, Snapshot, Submission, log_info, runner_class
from sessions_app.states import ACTIVE, FINISHED, OPEN_SHARDS, Desired, JobStatus, ShardKind

CANCEL_WAIT_S = 2.0
PURGE_AT_ONCE_S = 0.5
_JOBS_AT_ONCE = 500
_ROWS_AT_ONCE = 5000
"""Databases bound the parameters of a statement; 32,766 is the least of them."""


class IdempotencyConflict(Exception):
    """The same Idempotency-Key came with another body."""


def submit(submission: Submission, *, with_rows: Callable[[Job], None] | None = None) -> tuple[Job, bool]:
    """Write the job, its first shard, its first event and its message in one transaction.

    `with_rows` writes rows of other rooms that belong to the job, in the same transaction; it may
    fill `job.params`. Gives the job and whether it is new: an Idempotency-Key that was used before
    with the same body gives the earlier job. Raises IdempotencyConflict.
    """
    earlier = _earlier(submission)
    if earlier is not None:
        return earlier, False
    try:
        with transaction.atomic():
            return _write(submission, with_rows), True
    except IntegrityError:
        # Two requests with one key at the same instant: the other one was first.
        earlier = _earlier(submission)
        if earlier is None:
            raise
        return earlier, False


def _earlier(submission: Submission) -> Job | None:
    if submission.idempotency_key is None:
        return None
    job = Job.objects.filter(owner_id=submission.owner_id, idempotency_key=submission.idempotency_key).first()
    if job is not None and job.request_digest != submission.request_digest:
        raise IdempotencyConflict("This Idempotency-Key was used before with another request.")
    return job


def is_made(owner_id: int, idempotency_key: str | None) -> bool:
    """Whether a person's Idempotency-Key has made a job already."""
    made = Job.objects.filter(owner_id=owner_id, idempotency_key=idempotency_key)
    return idempotency_key is not None and made.exists()


def _write(submission: Submission, with_rows: Callable[[Job], None] | None) -> Job:
    runner = runner_class(submission.type)
    job = Job(
        type=submission.type,
        owner_id=submission.owner_id,
        title=submission.title[:500],
        params=submission.params,
        public=submission.public,
        idempotency_key=submission.idempotency_key,
        request_digest=submission.request_digest,
        user_agent=submission.user_agent[:500],
        client_ip=submission.client_ip[:64],
        parent_id=submission.parent_id,
        executor=submission.executor,
        run_at=submission.run_at,
        due_at=submission.run_at,
        schedule_id=submission.schedule_id,
        open_shards=1,
    )
    if submission.id is not None:
        job.id = submission.id
    job.search_text = job.searched
    job.save(force_insert=True)
    if with_rows is not None:
        with_rows(job)
    now = timezone.now()
    job.progress = runner.progress(
        Snapshot(
            status=job.status,
            params=job.params,
            counters={},
            current={},
            previous=None,
            now=now,
            started_at=None,
            waiting_for=transitions.time_to_wait_for(job, now),
        )
    )
    job.progress_at = now
    job.save(update_fields=["params", "progress", "progress_at"])
    wanted = [*runner.claims(job.params), *claims.of_schedule(submission.schedule_id)]
    JobClaim.objects.bulk_create(JobClaim(job=job, key=claim.key, path=claim.path) for claim in wanted)
    shard = Shard.objects.create(job=job, number=1, kind=ShardKind.PREPARE)
    # One of the first clients draws this event as the job's first progress.
    created = {**job.progress, "type": job.type, "title": job.title}
    if not submission.origin:
        asked_from = f" from {job.client_ip}" if job.client_ip else ""
        created["by"] = f"{job.owner.username}{asked_from}"
    log = [NewEvent("job_created", created)]
    if submission.origin:
        log.append(log_info(submission.origin))
    events.append(job.pk, log)
    if job.executor or job.due_at is not None:
        return job
    if turns.is_waited_for(job.type) or turns.room_of(job.owner):
        delivery.enqueue(shard)
    else:
        turns.tell_place(job.pk, job.owner, turns.positions([job])[job.pk] - 1)
    return job


def cancel(job_id: UUID, by: str = "") -> bool:
    """Cancel an active job and wait until its row says so; False when it had ended already.

    A worker that does not let go within CANCEL_WAIT_S is fenced off. `by` says in the log who wants it.
    """
    active = Job.objects.filter(pk=job_id, status__in=ACTIVE)
    with transaction.atomic():
        if active.exclude(desired=Desired.CANCEL).update(desired=Desired.CANCEL):
            events.tell_who(job_id, "Cancellation", by)
        elif not active.exists():
            return False
    execution.settle_within(execution.settle_cancel, job_id, CANCEL_WAIT_S)
    delivery.queue_pending()
    delivery.queue_cleaning()
    return Job.objects.filter(pk=job_id, status=JobStatus.CANCELLED).exists()


def delete(job_ids: list[UUID], *, but_kept: bool = False) -> int:
    """Delete those of the jobs that have ended, `but_kept` without those to be kept; says how many went.

    Nobody sees them from then on. Their rows are removed at once where they are few, else by and by in the workers.
    """
    deleted = 0
    for at in range(0, len(job_ids), _JOBS_AT_ONCE):
        finished = Job.objects.filter(pk__in=job_ids[at : at + _JOBS_AT_ONCE], status__in=FINISHED)
        if but_kept:
            finished = finished.filter(keep=False)
        # Its key may be used for another job now.
        deleted += finished.update(deleted_at=timezone.now(), idempotency_key=None)
    if deleted:
        purge(seconds=PURGE_AT_ONCE_S)
    return deleted


def purge(*, seconds: float) -> bool:
    """Remove the rows of deleted jobs, whoever owns their tables, for so long; True when none is left.

    In short transactions that block nobody; to be interrupted anywhere, and harmless when run twice.
    """
    until = time.monotonic() + seconds
    # What cleans up at a job's destination still needs its rows.
    cleaning = Shard.objects.filter(kind=ShardKind.CLEAN, state__in=OPEN_SHARDS, job=OuterRef("pk"))
    while True:
        deleted = Job.everything.filter(deleted_at__isnull=False).exclude(Exists(cleaning))
        ids = list(deleted.order_by("deleted_at").values_list("pk", flat=True)[:_JOBS_AT_ONCE])
        if not ids:
            return True
        if not _purge_dependents(ids, until):
            return False
        Job.everything.filter(pk__in=ids).delete()
        if time.monotonic() > until:
            return False


def _purge_dependents(job_ids: list[UUID], until: float) -> bool:
    """Remove the rows of all tables that belong to jobs; False when there was no time for all."""
    for relation in Job._meta.related_objects:
        if relation.on_delete is not models.CASCADE:
            continue
        manager = relation.related_model._base_manager
        rows = manager.filter(**{f"{relation.field.attname}__in": job_ids})
        while batch := list(rows.values_list("pk", flat=True)[:_ROWS_AT_ONCE]):
            manager.filter(pk__in=batch)._raw_delete(using=rows.db)
            if time.monotonic() > until:
                return False
    return True
