"""Schedules: what people do with them, and the pass that submits what is due.

Any worker may run that pass, also several at once: whoever wins the conditional UPDATE of `next_run_at` submits the
job, in the same transaction. A worker that dies in it has done nothing, and the next pass finds the schedule due.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, OperationalError, transaction
from django.utils import timezone
from rest_framework.exceptions import ValidationError

from sessions_app.fields import StrictSerializer, Switch, Text, Word, validated
from sessions_app.models import Job, JobQuerySet, Missed, Overlap, Schedule, User
from sessions_app.problems import flatten, sentence_of
from sessions_app.serializers import instant
from sessions_app.states import JobStatus
from sessions_app.submitters import CannotSubmit, KeptRequest, RequestMeta, Submitter, submitter_of
from sessions_app.timetable import LONGEST, BadCron, BadZone, Timetable, zone_of

logger = logging.getLogger(__name__)

Json = dict[str, Any]

MISSED_AFTER = timedelta(minutes=5)
"""A run that starts later than this after its time was missed; a restart is no reason to leave one out."""
MOST_AT_ONCE = 100
"""Submitted in one pass: a worker has more to do."""
AFTER_FAILURE = timedelta(hours=1)
"""When a schedule is tried again whose next time cannot be told."""
MOST_SCHEDULES = 500
"""Of one person."""
SHOWN_RUNS = 5
_ONLY_SHOWN = (
    *("id", "cron_text", "next_run_at", "next_runs", "last_runs", "last_error", "last_error_at"),
    *("last_skipped_at", "last_skipped_reason", "created_at", "updated_at"),
)
"""Fields of an answer that no request sets."""


class ScheduleSerializer(StrictSerializer):
    """A schedule, but for its job."""

    name = Text(default="", allow_blank=True, max_length=200)
    cron = Text(max_length=LONGEST)
    timezone = Text(default="UTC", max_length=100)
    on_overlap = Word(Overlap.values, default=Overlap.SKIP.value)
    on_missed = Word(Missed.values, default=Missed.RUN_ONCE.value)
    paused = Switch(default=False)

    def validate_name(self, value: str) -> str:
        """Text without control characters."""
        name = value.strip()
        if not name.isprintable():
            raise ValidationError("Must not hold control characters.")
        return name

    def validate_timezone(self, value: str) -> str:
        """One that is known here."""
        try:
            zone_of(value)
        except BadZone as error:
            raise ValidationError(str(error)) from None
        return value

    def validate_cron(self, value: str) -> str:
        """One that means something, with single blanks."""
        try:
            Timetable(value, "UTC")
        except BadCron as error:
            raise ValidationError(str(error)) from None
        return " ".join(value.split())


def of(user: User) -> Any:
    """The person's schedules."""
    return Schedule.objects.filter(owner=user)


def create(user: User, data: Any, *, form_key: str | None = None) -> Schedule:
    """Store a schedule; with the key of a form that has made one already, that one. Raises ValidationError."""
    made = Schedule.objects.filter(owner=user, form_key=form_key).first() if form_key else None
    if made is not None:
        return made
    fields, kept, submitter = _checked(user, data, None)
    if of(user).count() >= MOST_SCHEDULES:
        raise ValidationError(f"You have {MOST_SCHEDULES} schedules, which is the most; delete one first.")
    schedule = Schedule(owner=user, form_key=form_key or None)
    _fill(schedule, fields, kept, submitter)
    try:
        with transaction.atomic():
            schedule.save(force_insert=True)
    except IntegrityError:
        # The same form twice in the same instant.
        schedule = Schedule.objects.get(owner=user, form_key=form_key)
    return schedule


def update(user: User, schedule: Schedule, data: Any) -> Schedule:
    """Change the fields that are given; a `job` is replaced as a whole, but for secrets that it leaves empty and whose
    account is the same. Raises ValidationError."""
    if isinstance(data, dict):
        # An answer that is sent back as it came changes nothing.
        shown = {name: value for name, value in schedule_json(schedule).items() if name in _ONLY_SHOWN}
        data = {name: value for name, value in data.items() if name not in shown or value != shown[name]}
    with transaction.atomic():
        # Held, so that no scheduler submits what is half changed.
        row = Schedule.objects.select_for_update().get(pk=schedule.pk)
        fields, kept, submitter = _checked(user, data, row)
        _fill(row, fields, kept, submitter)
        row.save()
    return row


def _checked(user: User, data: Any, row: Schedule | None) -> tuple[Json, KeptRequest, Submitter]:
    """The validated fields and the request, with all that is wrong told at once. Raises ValidationError."""
    if not isinstance(data, dict):
        raise ValidationError("The body must be a JSON object.")
    given = {name: value for name, value in data.items() if value is not None}
    job = given.pop("job", None)
    problems: Json = {}
    fields: Json = {}
    try:
        fields = validated(ScheduleSerializer, user, (_fields(row) if row is not None else {}) | given)
    except ValidationError as error:
        problems |= error.detail if isinstance(error.detail, dict) else {"non_field_errors": error.detail}
    kept, submitter = None, None
    if job is None and row is None:
        problems["job"] = ["Is needed."]
    try:
        if job is None and row is not None:
            kept, submitter = kept_of(row), submitter_of(row.type)
        elif isinstance(job, dict):
            submitter = submitter_of(job.get("type"))
            request = {name: value for name, value in job.items() if name != "type"}
            kept = submitter.keep(user, request, kept_of(row) if row is not None else None)
        elif job is not None:
            problems["job"] = ["Must be an object."]
    except ValidationError as error:
        problems["job"] = error.detail
    if problems or kept is None or submitter is None:
        raise ValidationError(problems)
    return fields, kept, submitter


def _fields(row: Schedule) -> Json:
    return {
        "name": row.name,
        "cron": row.cron,
        "timezone": row.timezone,
        "on_overlap": row.on_overlap,
        "on_missed": row.on_missed,
        "paused": row.is_paused,
    }


def _fill(row: Schedule, fields: Json, kept: KeptRequest, submitter: Submitter) -> None:
    when = (row.cron, row.timezone, row.is_paused)
    title = "".join(sign for sign in kept.title if sign.isprintable())
    row.name = fields["name"] or title[:200] or row.name
    row.cron, row.timezone, row.is_paused = fields["cron"], fields["timezone"], fields["paused"]
    row.on_overlap, row.on_missed = fields["on_overlap"], fields["on_missed"]
    row.type, row.request, row.sealed = submitter.type, kept.request, kept.sealed
    if row._state.adding or when != (row.cron, row.timezone, row.is_paused):
        # What was due before does not count any more: nobody missed it.
        row.next_run_at = None if row.is_paused else timetable_of(row).after(timezone.now())


def set_paused(schedule: Schedule, *, is_paused: bool) -> None:
    """Pause a schedule, or let it go on with its next time."""
    update(schedule.owner, schedule, {"paused": is_paused})


def timetable_of(schedule: Schedule) -> Timetable:
    """When it runs."""
    return Timetable(schedule.cron, schedule.timezone)


def kept_of(schedule: Schedule) -> KeptRequest:
    """Its request as its submitter kept it."""
    return KeptRequest(schedule.request, schedule.sealed)


def next_runs(schedule: Schedule) -> list[datetime]:
    """Its next instants, the first of which may be due already; none while it is paused."""
    first = schedule.next_run_at
    return [first, *timetable_of(schedule).runs(first, SHOWN_RUNS - 1)] if first is not None else []


def last_runs(schedule: Schedule) -> list[Job]:
    """The jobs that it submitted last, newest first."""
    return list(schedule.jobs.order_by("-created_at", "-id")[:SHOWN_RUNS])


def schedule_json(schedule: Schedule) -> Json:
    """A schedule as the API shows it."""
    return {
        "id": str(schedule.pk),
        **_fields(schedule),
        "cron_text": timetable_of(schedule).words,
        "job": {"type": schedule.type, **submitter_of(schedule.type).shown(kept_of(schedule))},
        "next_run_at": instant(schedule.next_run_at),
        "next_runs": [instant(run) for run in next_runs(schedule)],
        "last_runs": [
            {"id": str(job.pk), "status": job.status, "created_at": instant(job.created_at)}
            for job in last_runs(schedule)
        ],
        "last_error": schedule.last_error or None,
        "last_error_at": instant(schedule.last_error_at),
        "last_skipped_at": instant(schedule.last_skipped_at),
        "last_skipped_reason": schedule.last_skipped_reason or None,
        "created_at": instant(schedule.created_at),
        "updated_at": instant(schedule.updated_at),
    }


@dataclass(frozen=True, slots=True)
class Due:
    """A schedule whose time has come."""

    at: datetime
    """The time that is run for: the last one, where several went by."""
    is_missed: bool


def due_of(schedule: Schedule, now: datetime) -> Due:
    """What is due of a schedule whose `next_run_at` has come."""
    times = (schedule.next_run_at, timetable_of(schedule).last(now))
    at = max((time for time in times if time is not None), default=now)
    return Due(at, is_missed=now - at > MISSED_AFTER)


def reason_to_skip(schedule: Schedule, due: Due, running: "JobQuerySet") -> str:
    """Why nothing is to be submitted now, as a sentence; empty when something is. `running` are its active jobs."""
    if due.is_missed and schedule.on_missed == Missed.SKIP:
        return f"No worker ran at {_time_text(due.at)}."
    if schedule.on_overlap == Overlap.SKIP:
        if (job := running.first()) is not None:
            return f"The run before, session {job.pk}, was {job.status} still."
    elif (job := running.filter(status=JobStatus.PENDING).first()) is not None:
        return f"One run, session {job.pk}, was waiting already."
    return ""


def submit_due() -> None:
    """Submit the schedules whose time has come, each in a transaction of its own."""
    now = timezone.now()
    due = Schedule.objects.filter(next_run_at__lte=now, owner__is_active=True).order_by("next_run_at")
    for number in list(due.values_list("pk", flat=True)[:MOST_AT_ONCE]):
        try:
            with transaction.atomic():
                if (schedule := _win(number, now)) is not None:
                    _submit(*schedule, now)
        except OperationalError:
            # The database does not answer: nothing has happened, and all of them are due still.
            raise
        except Exception:
            logger.exception("Schedule %s could not be submitted.", number)
            _give_up(number, now)


def _win(number: int, now: datetime) -> tuple[Schedule, Due] | None:
    """Move a schedule on to its next time, unless somebody has done so; gives it with what was due.

    In the caller's transaction, which then holds it: no one submits it twice or changes it meanwhile.
    """
    rows = Schedule.objects.filter(pk=number, next_run_at__lte=now)
    schedule = rows.select_for_update().first()
    if schedule is None:
        return None
    due = due_of(schedule, now)
    mine = rows.filter(next_run_at=schedule.next_run_at)
    return (schedule, due) if mine.update(next_run_at=timetable_of(schedule).after(now)) == 1 else None


def _submit(schedule: Schedule, due: Due, now: datetime) -> None:
    if reason := reason_to_skip(schedule, due, Job.objects.active().filter(schedule=schedule)):
        logger.info("Schedule %s leaves a run out. %s", schedule.pk, reason)
        _note(schedule.pk, last_skipped_at=now, last_skipped_reason=reason)
        return
    try:
        with transaction.atomic():
            submitter = submitter_of(schedule.type)
            request = submitter.restore(kept_of(schedule))
            submitter.submit(schedule.owner, request, _meta_of(schedule, due))
    except ValidationError as error:
        _note(schedule.pk, last_error=sentence_of(flatten(error.detail)), last_error_at=now)
    except CannotSubmit as error:
        _note(schedule.pk, last_error=str(error), last_error_at=now)
    else:
        _note(schedule.pk, last_error="", last_error_at=None)


def _note(number: int, **fields: Any) -> None:
    Schedule.objects.filter(pk=number).update(**fields)


def _give_up(number: int, now: datetime) -> None:
    """After an error of ours: it is told, and the schedule tries again at its next time."""
    error = "Haulier itself failed to start it; the server's log has the details."
    schedule = Schedule.objects.filter(pk=number, next_run_at__lte=now).first()
    if schedule is None:
        return
    try:
        next_run_at = timetable_of(schedule).after(now)
    except (BadCron, BadZone):
        # What was known when it was stored is not known here.
        next_run_at = now + AFTER_FAILURE
    mine = Schedule.objects.filter(pk=number, next_run_at=schedule.next_run_at)
    mine.update(next_run_at=next_run_at, last_error=error, last_error_at=now)


def _meta_of(schedule: Schedule, due: Due) -> RequestMeta:
    late = f" It was due at {_time_text(due.at)}, when no worker ran." if due.is_missed else ""
    origin = f"Started by the schedule “{schedule.name}”.{late}"
    return RequestMeta(None, "", "", schedule_id=schedule.pk, origin=origin)


def _time_text(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
