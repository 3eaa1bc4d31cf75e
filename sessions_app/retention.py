"""How long finished jobs stay, and the periodic pass that removes them."""

from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from sessions_app import jobs
from sessions_app.models import Chore, Job
from sessions_app.states import JobStatus

CLEAN_EVERY = timedelta(minutes=10)
SHORTEST_PAUSE = timedelta(seconds=5)
QUEUE_ROWS_STAY = timedelta(hours=1)


def removable(now: datetime, *, older_than: timedelta | None = None) -> "QuerySet[Job]":
    """Finished jobs whose time is over: by the policy, or all that ended longer ago than `older_than`."""
    finished = Job.objects.finished()
    if older_than is not None:
        return finished.filter(completed_at__lt=now - older_than)
    kept: dict[str, timedelta] = settings.RETENTION
    longest = max(kept.values())
    over = Q(status=JobStatus.FAILED, completed_at__lt=now - kept["failed"])
    ended_well = ~Q(status=JobStatus.FAILED)
    for job_type in settings.JOB_RUNNERS:
        limit = now - kept.get(job_type, longest)
        over |= ended_well & Q(type=job_type, completed_at__lt=limit)
    return finished.filter(over)


def clean_up(*, older_than: timedelta | None = None) -> int:
    """Remove what is removable, and prune the queue's own finished rows; says how many jobs went."""
    now = timezone.now()
    ids: list[UUID] = list(removable(now, older_than=older_than).values_list("pk", flat=True))
    deleted = jobs.delete(ids)
    DBTaskResult.objects.finished().filter(finished_at__lt=now - QUEUE_ROWS_STAY).delete()
    return deleted


def clean_up_when_due() -> int:
    """Clean up if nobody has done it for a while; of several workers one wins."""
    now = timezone.now()
    pause = max(SHORTEST_PAUSE, min(CLEAN_EVERY, *settings.RETENTION.values()))
    Chore.objects.get_or_create(name="clean-up", defaults={"next_at": now})
    due = Chore.objects.filter(name="clean-up", next_at__lte=now)
    return clean_up() if due.update(next_at=now + pause) == 1 else 0
