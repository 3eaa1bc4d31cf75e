"""How long finished jobs stay, and the periodic pass that removes them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from sessions_app import jobs
from sessions_app.chores import is_due
from sessions_app.models import Chore, Job, RetentionRule
from sessions_app.states import JobStatus

CLEAN_EVERY = timedelta(minutes=10)
SHORTEST_PAUSE = timedelta(seconds=5)
QUEUE_ROWS_STAY = timedelta(hours=1)
PURGE_S = 1.0
"""How long one worker removes rows before it looks after other things."""
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Rule:
    """How long finished jobs of a type, or failed ones of all types, stay, and how many of one person's at the most."""

    stays: timedelta
    most: int | None = None


def policy() -> dict[str, Rule]:
    """The rules by type of job, and for `failed`: those that an owner has set, else HAULIER_RETENTION's."""
    kept: dict[str, timedelta] = settings.RETENTION
    longest = max(kept.values())
    found = {name: Rule(kept.get(name, longest)) for name in (*settings.JOB_RUNNERS, FAILED)}
    for row in RetentionRule.objects.filter(name__in=found):
        found[row.name] = Rule(row.stays, row.most)
    return found


def set_policy(rules: dict[str, Rule]) -> None:
    """Set rules by name; those that are as HAULIER_RETENTION says are left to it."""
    usual = {name: Rule(stays) for name, stays in settings.RETENTION.items()}
    with transaction.atomic():
        for name, rule in rules.items():
            if rule == usual.get(name):
                RetentionRule.objects.filter(name=name).delete()
            else:
                values = {"stays": rule.stays, "most": rule.most}
                RetentionRule.objects.update_or_create(name=name, defaults=values)


def removable(
    now: datetime, *, older_than: timedelta | None = None, rules: dict[str, Rule] | None = None
) -> "QuerySet[Job]":
    """Finished jobs whose time is over: by the policy, or all that ended longer ago than `older_than`.

    `rules` are tried out instead of the policy. What is to be kept is never among them.
    """
    finished = Job.objects.finished().filter(keep=False)
    if older_than is not None:
        return finished.filter(completed_at__lt=now - older_than)
    rules = policy() if rules is None else rules
    has_failed = Q(status=JobStatus.FAILED)
    over = has_failed & Q(completed_at__lt=now - rules[FAILED].stays)
    for name, rule in rules.items():
        if name != FAILED:
            over |= ~has_failed & Q(type=name, completed_at__lt=now - rule.stays)
    for name, rule in rules.items():
        if rule.most is not None:
            among = finished.filter(has_failed) if name == FAILED else finished.filter(~has_failed, type=name)
            over |= Q(pk__in=_beyond(among, rule.most).values("pk"))
    return finished.filter(over)


def _beyond(among: "QuerySet[Job]", most: int) -> "QuerySet[Job]":
    """All but each owner's newest ones."""
    newest_first = Window(RowNumber(), partition_by=F("owner"), order_by=F("completed_at").desc())
    return among.order_by().annotate(place=newest_first).filter(place__gt=most)


def clean_up(*, older_than: timedelta | None = None) -> int:
    """Delete what is removable, and prune the queue's own finished rows; says how many jobs went."""
    now = timezone.now()
    ids: list[UUID] = list(removable(now, older_than=older_than).values_list("pk", flat=True))
    deleted = jobs.delete(ids, but_kept=True)
    DBTaskResult.objects.finished().filter(finished_at__lt=now - QUEUE_ROWS_STAY).delete()
    return deleted


def clean_up_when_due() -> int:
    """Clean up if nobody has done it for a while; of several workers one wins."""
    pause = max(SHORTEST_PAUSE, min(CLEAN_EVERY, *(rule.stays for rule in policy().values())))
    return clean_up() if is_due("clean-up", pause) else 0


def purge_when_due() -> None:
    """Go on removing the rows of deleted jobs, in one worker at a time."""
    if Job.everything.filter(deleted_at__isnull=False).exists() and is_due("purge", SHORTEST_PAUSE):
        jobs.purge(seconds=PURGE_S)
        Chore.objects.filter(name="purge").update(next_at=timezone.now())
