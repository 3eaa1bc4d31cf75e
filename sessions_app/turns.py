"""Whose turn it is: which pending job may begin, which running job's work comes next, and who has to give way.

The owner with the least at work comes first, of his jobs those of the highest priority, then the one with the least at
work, then the one that has waited longest. So a job of a million files does not hold up one of ten, nor one person
another.
"""

import random
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from sessions_app import claims, transitions
from sessions_app.models import Job, Shard, User, Worker
from sessions_app.presence import WORK_QUEUE
from sessions_app.runners import runner_class
from sessions_app.states import OPEN_SHARDS, Desired, JobStatus, ShardKind, ShardState

SLICE_S = 15.0
"""A shard that has got on for so long gives way to a job that has less at work."""
SHORT_SLICE_S = 2.0
"""The same where a person waits, or a job for its first or its last piece of work."""
MOST_TOLD = 20
"""Of an owner's waiting jobs, so many are told how many go first."""

_NEVER = datetime.min.replace(tzinfo=UTC)
_AT_WORK = (ShardState.QUEUED, ShardState.RUNNING)


def is_waited_for(job_type: str) -> bool:
    """Whether people sit and wait for such jobs: no limit holds them up."""
    return job_type in settings.JOB_RUNNERS and runner_class(job_type).is_waited_for


def _limited_types() -> list[str]:
    return [job_type for job_type in settings.JOB_RUNNERS if not is_waited_for(job_type)]


def room_of(owner: User) -> int:
    """How many more of a person's jobs may begin now."""
    mine = Job.objects.filter(owner=owner, executor="", type__in=_limited_types())
    running = mine.filter(status=JobStatus.RUNNING).count()
    return max(0, owner.most_running - running)


def begin(job_id: UUID) -> bool:
    """Move a pending job to running, inside the caller's transaction; False when it has to wait.

    It waits for the tree that another job holds, and while as many jobs of its owner run as may at once.
    """
    with transaction.atomic():
        job = Job.objects.select_related("owner").get(pk=job_id)
        has_room = bool(job.executor) or is_waited_for(job.type)
        if not has_room:
            # Of two that begin at this moment one sees the other.
            claims.lock()
            if not room_of(job.owner):
                tell_place(job_id, job.owner, max(0, positions([job]).get(job_id, 1) - 1))
                return False
        return claims.start(job_id)


def pending(owner_id: int | None = None) -> "QuerySet[Job]":
    """Jobs that wait to begin, in the order of the queue."""
    found = Job.objects.due().filter(status=JobStatus.PENDING, desired=Desired.RUN, executor="")
    if owner_id is not None:
        found = found.filter(owner_id=owner_id)
    return found.order_by("-priority", "created_at", "id")


def positions(jobs: Iterable[Job]) -> dict[UUID, int]:
    """The place of waiting jobs among those of their owners, from 1 on; nothing of jobs that do not wait."""
    owners = {job.owner_id for job in jobs if job.status == JobStatus.PENDING}
    found: dict[UUID, int] = {}
    for owner_id in owners:
        ids = pending(owner_id).filter(type__in=_limited_types()).values_list("pk", flat=True)
        found |= {job_id: place for place, job_id in enumerate(ids, 1)}
    return found


def next_jobs() -> list[Shard]:
    """A shard of each pending job that may begin now; tells the others of the same owners what they wait for."""
    waiting = Shard.objects.filter(state=ShardState.WAITING)
    limited = _limited_types()
    first = waiting.filter(job=OuterRef("pk"))
    at_work = Shard.objects.filter(state__in=_AT_WORK, job=OuterRef("pk"))
    ready = pending().filter(Exists(first)).exclude(Exists(at_work))
    chosen = list(ready.exclude(type__in=limited).values_list("pk", flat=True))
    owners = User.objects.filter(Exists(pending().filter(owner=OuterRef("pk"), type__in=limited)))
    for owner in owners:
        mine = pending(owner.pk).filter(type__in=limited)
        room = room_of(owner) - mine.filter(Exists(at_work)).count()
        ahead = 0
        for job_id in ready.filter(pk__in=mine.values("pk")).values_list("pk", flat=True)[
            : max(0, room) + MOST_TOLD
        ]:
            # The one in front may wait for a folder that others write to; whoever comes behind passes it.
            if claims.must_wait(job_id):
                continue
            if room > 0:
                room -= 1
                chosen.append(job_id)
            else:
                tell_place(job_id, owner, ahead)
            ahead += 1
    found = (waiting.filter(job=job_id).order_by("number").first() for job_id in chosen)
    return [shard for shard in found if shard is not None]


def tell_place(job_id: UUID, owner: User, ahead: int) -> None:
    """Say in a job's progress that it waits for its turn, and how many go first."""
    others = ""
    if ahead:
        others = f" {ahead} {'other waits' if ahead == 1 else 'others wait'} before it."
    most = f"{owner.most_running} {'session' if owner.most_running == 1 else 'sessions'}"
    sentence = f"Waits for its turn: {most} may run at once.{others}"
    transitions.say_waiting(job_id, sentence)


def next_work(slots: int, most_of_one: int) -> list[tuple[Shard, bool]]:
    """Work shards to be given out now, with whether it is the first of its job; `slots` workers wait for work.

    As many wait in the queue as there are workers, and of one job no more than `most_of_one` shards of any kind are
    under way, nor more work than there are workers; the first work of a job always finds room.
    """
    at_work = Shard.objects.filter(state__in=_AT_WORK, job__executor="").order_by()
    by_job: Counter[UUID] = Counter()
    by_owner: Counter[int] = Counter()
    busy: Counter[UUID] = Counter()
    room = slots
    for job_id, owner_id, kind, state in at_work.values_list("job_id", "job__owner_id", "kind", "state"):
        busy[job_id] += 1
        if kind == ShardKind.WORK:
            by_job[job_id] += 1
            by_owner[owner_id] += 1
            room -= state == ShardState.QUEUED
    waiting = Shard.objects.filter(kind=ShardKind.WORK, state=ShardState.WAITING)
    running = Job.objects.due().filter(status=JobStatus.RUNNING, desired=Desired.RUN, executor="")
    # Another run first finds what failed before it: what failed meanwhile would be taken for that.
    again = Shard.objects.filter(kind=ShardKind.PREPARE, state__in=OPEN_SHARDS, payload__has_key="run")
    running = running.exclude(Exists(again.filter(job=OuterRef("pk"))))
    with_work = running.filter(Exists(waiting.filter(job=OuterRef("pk"))))
    if room <= 0:
        with_work = with_work.filter(served_at=None)
    jobs = {job.pk: job for job in with_work.only("pk", "owner_id", "priority", "served_at", "created_at")}
    new = {job.pk for job in jobs.values() if job.served_at is None}
    left = {job_id: list(waiting.filter(job=job_id).order_by("number")[: max(1, room)]) for job_id in jobs}

    # When owners and jobs were served last; what is given out below counts at once.
    served: dict[object, datetime] = {}
    for job in jobs.values():
        served[job.pk] = job.served_at or _NEVER
        served[job.owner_id] = max(served.get(job.owner_id, _NEVER), served[job.pk])

    def rank(job: Job) -> tuple[object, ...]:
        owner = by_owner[job.owner_id], served[job.owner_id]
        return *owner, -job.priority, by_job[job.pk], served[job.pk], job.created_at

    def may_come(job: Job) -> bool:
        has_room = room > 0 and busy[job.pk] < most_of_one and by_job[job.pk] < slots
        return bool(left[job.pk]) and (job.pk in new or has_room)

    found: list[tuple[Shard, bool]] = []
    while candidates := list(filter(may_come, jobs.values())):
        best = min(candidates, key=rank)
        found.append((left[best.pk].pop(0), best.pk in new))
        new.discard(best.pk)
        busy[best.pk] += 1
        by_job[best.pk] += 1
        by_owner[best.owner_id] += 1
        served[best.pk] = served[best.owner_id] = timezone.now()
        room -= 1
    return found


def gives_way(shard: Shard, seconds: float) -> bool:
    """Whether a running shard that has got on for so long is to let another one have its worker."""
    if seconds < SHORT_SLICE_S or shard.job.executor:
        return False
    others = Shard.objects.filter(state=ShardState.QUEUED).exclude(job=shard.job_id)
    if not others.exists() or _has_free_worker():
        return False
    if shard.kind != ShardKind.WORK:
        return seconds >= SLICE_S and others.exclude(kind=ShardKind.WORK).exists()
    work = Shard.objects.filter(kind=ShardKind.WORK)
    running = work.filter(state=ShardState.RUNNING, job__executor="")
    was_begun = Exists(work.filter(job=OuterRef("job"), attempt__gt=0))
    wanted = others.filter(~Q(kind=ShardKind.WORK) | ~was_begun).count()
    if seconds >= SLICE_S:
        by_job = Counter(running.order_by().values_list("job_id", flat=True))
        is_not_below = ~Q(job__owner=shard.job.owner_id) | Q(job__priority__gte=shard.job.priority)
        rest = others.filter(is_not_below, was_begun, kind=ShardKind.WORK)
        wanted += sum(
            by_job[job_id] < by_job[shard.job_id] for job_id in rest.values_list("job_id", flat=True)
        )
    # By chance, as nobody knows who else looks at this moment: one goes where one is wanted.
    return random.random() * max(1, running.count()) < wanted  # noqa: S311


def _has_free_worker() -> bool:
    """Whether a worker that does any work holds no shard."""
    busy = Shard.objects.filter(state=ShardState.RUNNING).values("owner")
    return Worker.objects.filter(queues__contains=WORK_QUEUE).exclude(pk__in=busy).exists()
