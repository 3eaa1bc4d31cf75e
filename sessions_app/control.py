"""What a person asks of a job: to pause, to go on, to end, to be tried again."""

from uuid import UUID

from django.db import transaction

from sessions_app import delivery, events, execution, jobs, retries, transitions, turns
from sessions_app.models import Job
from sessions_app.runners import runner_class
from sessions_app.states import Desired, JobStatus
from sessions_app.transitions import IllegalMove

PAUSE_WAIT_S = 2.0
_UNDER_WAY = (JobStatus.PENDING, JobStatus.RUNNING)


def pause(job_id: UUID, by: str = "") -> None:
    """Pause a job and wait until its row says so; `by` says in its log who wants it, as in all of these.

    Raises IllegalMove for a job that is not under way.

    A worker that does not let go within PAUSE_WAIT_S is fenced off: what it did since its last checkpoint is done
    again. Two that ask at once have both asked for the same.
    """
    under_way = Job.objects.filter(pk=job_id, status__in=_UNDER_WAY)
    with transaction.atomic():
        if under_way.filter(desired=Desired.RUN).update(desired=Desired.PAUSE):
            events.tell_who(job_id, "Pause", by)
    _raise_unless(under_way.filter(desired=Desired.PAUSE).exists(), job_id, JobStatus.PAUSED)
    execution.settle_within(execution.settle_pause, job_id, PAUSE_WAIT_S)
    # It may have ended in the same moment, which is better.
    _raise_unless(Job.objects.filter(pk=job_id, status=JobStatus.PAUSED).exists(), job_id, JobStatus.PAUSED)
    delivery.queue_pending()


def resume(job_id: UUID, by: str = "") -> None:
    """Let a paused job go on in the workers. Raises IllegalMove for one that is not paused."""
    with transaction.atomic():
        paused = Job.objects.filter(pk=job_id, status=JobStatus.PAUSED)
        _raise_unless(paused.update(desired=Desired.RUN, executor="") == 1, job_id, JobStatus.RUNNING)
        job = Job.objects.get(pk=job_id)
        if reason := runner_class(job.type).tie(job.pk, job.params):
            raise IllegalMove(job.status, JobStatus.RUNNING, reason=reason)
        events.tell_who(job_id, "Resumption", by)
        has_room = turns.is_waited_for(job.type) or turns.room_of(job.owner)
        transitions.move(job_id, JobStatus.RUNNING if job.started_at and has_room else JobStatus.PENDING)
    delivery.queue_waiting(job_id)
    delivery.queue_pending()


def retry(job_id: UUID, by: str = "") -> None:
    """Try a failed job again: what it has copied stays, what failed is done anew. Raises IllegalMove for any other."""
    with transaction.atomic():
        shard = retries.begin(job_id)
        job = Job.objects.get(pk=job_id)
        if reason := runner_class(job.type).tie(job.pk, job.params):
            raise IllegalMove(JobStatus.FAILED, JobStatus.PENDING, reason=reason)
        events.tell_who(job_id, "Retry", by)
        delivery.enqueue(shard)


def cancel(job_id: UUID, by: str = "") -> None:
    """Cancel an active job. Raises IllegalMove for one that has ended."""
    was_active = Job.objects.active().filter(pk=job_id).exists()
    is_cancelled = jobs.cancel(job_id, by)
    if not is_cancelled and was_active:
        # Of two who ask at once both have what they want.
        is_cancelled = Job.objects.filter(pk=job_id, status=JobStatus.CANCELLED).exists()
    _raise_unless(is_cancelled, job_id, JobStatus.CANCELLED)


def _raise_unless(is_so: bool, job_id: UUID, target: JobStatus) -> None:
    if not is_so:
        status = Job.objects.filter(pk=job_id).values_list("status", flat=True).first()
        raise IllegalMove(status or "deleted", target)
