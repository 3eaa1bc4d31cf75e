"""The append-only event log of jobs."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.db.models import F
from django.utils import timezone

from sessions_app.models import Job, JobEvent
from sessions_app.runners import NewEvent, log_info
from sessions_app.serializers import instant

ENDINGS = ("complete", "failed", "cancelled")
"""Events that end a run of a job."""


def append(job_id: UUID, events: Sequence[NewEvent]) -> None:
    """Append events inside the caller's transaction; `seq` comes from the Job row, which stays locked."""
    if not events:
        return
    # What cleans up after a job that was deleted has something to tell too.
    Job.everything.filter(pk=job_id).update(event_seq=F("event_seq") + len(events))
    last, run = Job.everything.values_list("event_seq", "attempt").get(pk=job_id)
    now = timezone.now()
    JobEvent.objects.bulk_create(
        JobEvent(
            job_id=job_id,
            seq=last - len(events) + 1 + index,
            type=event.type,
            data={"run": run, **event.data},
            created_at=now,
        )
        for index, event in enumerate(events)
    )


def tell_who(job_id: UUID, what: str, by: str) -> None:
    """Log who asked for something, inside the caller's transaction; nothing where nobody is named."""
    if by:
        append(job_id, [log_info(f"{what} asked for by {by}.")])


def payload(event: JobEvent) -> dict[str, Any]:
    """What a listener gets as `data`: job_id, seq, run, at and the event's own fields."""
    return {
        "job_id": str(event.job_id),
        "seq": event.seq,
        "at": instant(event.created_at),
        **event.data,
    }


def record(event: JobEvent) -> dict[str, Any]:
    """An event as a line of a job's log: what a listener gets, with its name and its number."""
    data = payload(event)
    return {
        "id": event.pk,
        "type": event.type,
        **{name: data[name] for name in ("job_id", "seq", "run", "at")},
        "data": data,
    }
