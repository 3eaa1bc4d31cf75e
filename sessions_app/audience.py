"""Who may listen to what, in django-eventstream's terms: a channel for each job, one for each person."""

from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery
from django_eventstream.channelmanager import DefaultChannelManager
from django_eventstream.event import Event
from django_eventstream.storage import StorageBase

from sessions_app import events
from sessions_app.models import Job, JobEvent, User

FEW_JOBS = 100
"""Of so many jobs the events are found job by job."""


def job_channel(job_id: UUID) -> str:
    """The channel of one job."""
    return f"job-{job_id}"


def person_channel(user_id: int) -> str:
    """The channel of all jobs of a person."""
    return f"person-{user_id}"


def job_of(channel: str) -> str:
    """The id of the job whose channel this is, empty for a person's."""
    kind, _, name = channel.partition("-")
    return name if kind == "job" else ""


class JobChannelManager(DefaultChannelManager):  # type: ignore[misc] # untyped library
    """A person hears their own jobs and nobody else's."""

    def can_read_channel(self, user: User | None, channel: str) -> bool:
        """Whether `user` (None: not signed in) may listen to `channel`."""
        kind, _, name = channel.partition("-")
        if user is None:
            return False
        if kind == "person":
            return name == str(user.pk)
        return kind == "job" and Job.objects.filter(pk=name, owner=user).exists()


class JobEventStorage(StorageBase):  # type: ignore[misc] # untyped library
    """The event log as django-eventstream's storage: it is read here, and written only by `events.append`."""

    def get_events(self, channel: str, last_id: int, limit: int = 100) -> list[Event]:
        """At most `limit` events of a channel after `last_id`, oldest first."""
        rows = rows_after(channel, last_id).order_by("pk")[:limit]
        return [Event(channel, row.type, events.payload(row), id=row.pk) for row in rows]

    def get_current_id(self, channel: str) -> int:
        """The id of the channel's last event, 0 when there is none."""
        return rows_after(channel, 0).order_by("-pk").values_list("pk", flat=True).first() or 0

    def append_event(self, channel: str, event_type: str, data: Any) -> Event:
        """Refused: an event belongs into the transaction of what it tells."""
        raise TypeError("Events are written with the rows that they tell of.")


def rows_after(channel: str, after: int) -> Any:
    """The log's rows of a channel after an id, but for those of deleted jobs."""
    kind, _, name = channel.partition("-")
    rows = JobEvent.objects.filter(pk__gt=after)
    if kind != "person":
        return rows.filter(job_id=name)
    jobs = list(
        Job.objects.filter(owner_id=int(name)).order_by().values_list("pk", flat=True)[: FEW_JOBS + 1]
    )
    if len(jobs) <= FEW_JOBS:
        return rows.filter(job_id__in=jobs)
    # A join would begin with all jobs of the person, a hundred thousand perhaps; this goes from event to event.
    owner = Job.objects.filter(pk=OuterRef("job_id")).order_by().values("owner_id")[:1]
    return rows.alias(owner=Subquery(owner)).filter(owner=int(name))
