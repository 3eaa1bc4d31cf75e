"""Leases on shards. Every write of a worker is fenced by the attempt number that it claimed with."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone

from sessions_app.models import Job, Shard
from sessions_app.runners import Json, LeaseLost
from sessions_app.states import FINISHED, OPEN_SHARDS, Desired, ShardKind, ShardState

MOST_DEATHS = 5
_UNCHANGED: Any = object()
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def lease_s() -> float:
    """How long a lease lasts without a renewal, in seconds."""
    return float(settings.LEASE_S)


def margin_s() -> float:
    """How long before the end of its lease a worker stops sending, and how long after it a takeover waits."""
    return lease_s() / 6


def awake_clock() -> float:
    """Seconds on a clock that goes on while the machine sleeps, where there is one."""
    return time.clock_gettime(_CLOCK)


@dataclass(slots=True)
class Lease:
    """A claimed shard: whose it is, under which fencing token, and until when this process may send."""

    shard_id: int
    job_id: UUID
    attempt: int
    deadline: float
    """On `awake_clock`; earlier than the database's lease_until by the margin."""

    def is_valid(self) -> bool:
        """Whether this process may still send anything."""
        return awake_clock() < self.deadline

    def flush(
        self,
        *,
        state: str = ShardState.RUNNING,
        counters: Json | None = None,
        cursor: Any = _UNCHANGED,
        note: Any = _UNCHANGED,
        keeps_deaths: bool = False,
    ) -> None:
        """The fenced UPDATE that must be the first statement of a worker's transaction; raises LeaseLost.

        A checkpoint proves that the shard gets on, so it forgets earlier deaths unless `keeps_deaths`.
        """
        renewed = awake_clock()
        changes: dict[str, Any] = {"state": state}
        if state == ShardState.RUNNING:
            changes["lease_until"] = timezone.now() + timedelta(seconds=lease_s())
        else:
            changes |= {"lease_until": None, "owner": ""}
        if counters is not None:
            changes["counters"] = counters
        if cursor is not _UNCHANGED:
            changes["cursor"] = cursor
        if note is not _UNCHANGED:
            changes["note"] = note
        if not keeps_deaths:
            changes["deaths"] = 0
        mine = Shard.objects.filter(pk=self.shard_id, attempt=self.attempt, state=ShardState.RUNNING)
        if not self.is_valid() or mine.update(**changes) != 1:
            raise LeaseLost(f"shard {self.shard_id}, attempt {self.attempt}")
        self.deadline = renewed + lease_s() - margin_s()


def claim(
    shard_id: int, attempt: int, worker_id: str, *, state: ShardState = ShardState.QUEUED
) -> Lease | None:
    """Take a shard that is in `state`, inside the caller's transaction; None when somebody else has it."""
    now = awake_clock()
    rows = Shard.objects.filter(pk=shard_id, attempt=attempt, state=state)
    claimed = rows.update(
        state=ShardState.RUNNING,
        attempt=F("attempt") + 1,
        owner=worker_id,
        lease_until=timezone.now() + timedelta(seconds=lease_s()),
    )
    if claimed != 1:
        return None
    job_id = Shard.objects.values_list("job_id", flat=True).get(pk=shard_id)
    return Lease(shard_id, job_id, attempt + 1, now + lease_s() - margin_s())


def add_work(job_id: UUID, payloads: Sequence[Json]) -> None:
    """Write new work shards, waiting, inside the transaction of the prepare shard that found them."""
    if not payloads:
        return
    last = Shard.objects.filter(job_id=job_id).order_by("-number").values_list("number", flat=True)[0]
    Shard.objects.bulk_create(
        Shard(job_id=job_id, number=last + 1 + index, kind=ShardKind.WORK, payload=payload)
        for index, payload in enumerate(payloads)
    )
    Job.objects.filter(pk=job_id).update(open_shards=F("open_shards") + len(payloads))


def close_work(job_id: UUID) -> None:
    """Count a prepare or work shard as ended, after its fenced UPDATE; the last one writes the finish shard."""
    Job.objects.filter(pk=job_id).update(open_shards=F("open_shards") - 1)
    if Job.objects.filter(pk=job_id, open_shards=0).exists():
        add_finish(job_id)


def add_finish(job_id: UUID) -> None:
    """Write the finish shard, waiting, once."""
    shards = Shard.objects.filter(job_id=job_id)
    if not shards.filter(kind=ShardKind.FINISH).exists():
        last = shards.order_by("-number").values_list("number", flat=True)[0]
        Shard.objects.create(job_id=job_id, number=last + 1, kind=ShardKind.FINISH)


# One that nobody had begun is fenced off once, and has counted nothing.
_WAS_INTERRUPTED = Q(state=ShardState.FAILED, attempt__gte=1) | (
    Q(state=ShardState.CANCELLED) & (Q(attempt__gte=2) | ~Q(counters={}))
)


def add_cleaning(job_id: UUID) -> None:
    """Write the shard that removes what interrupted work left, where any has begun; in the transaction that ends a job.

    It waits until no other shard of the job is open.
    """
    is_under_way = Q(state__in=OPEN_SHARDS, attempt__gte=1)
    if Shard.objects.filter(is_under_way | _WAS_INTERRUPTED, job_id=job_id, kind=ShardKind.WORK).exists():
        # A number that no other shard takes, whoever adds one at the same time.
        Shard.objects.create(job_id=job_id, number=0, kind=ShardKind.CLEAN)


def cleanable() -> "QuerySet[Shard]":
    """Waiting shards that clean up after jobs, all other shards of which have ended."""
    others = Shard.objects.filter(job=OuterRef("job"), state__in=OPEN_SHARDS).exclude(kind=ShardKind.CLEAN)
    return Shard.objects.filter(kind=ShardKind.CLEAN, state=ShardState.WAITING).exclude(Exists(others))


def interrupted(job_id: UUID) -> list[Json]:
    """The payloads of work shards that were begun, and then failed or were cancelled.

    Also one that its worker ended by itself may have left something: when its connection had broken before.
    """
    return list(_interrupted(job_id).order_by("number").values_list("payload", flat=True))


def forget_interrupted(job_id: UUID) -> None:
    """Nothing is there any more that interrupted work could go on with."""
    _interrupted(job_id).update(cursor=None)


def _interrupted(job_id: UUID) -> "QuerySet[Shard]":
    return Shard.objects.filter(_WAS_INTERRUPTED, job_id=job_id, kind=ShardKind.WORK)


def expired() -> list[Shard]:
    """Running shards whose lease ended more than the margin ago."""
    limit = timezone.now() - timedelta(seconds=margin_s())
    return list(Shard.objects.filter(state=ShardState.RUNNING, lease_until__lt=limit))


def take_back(shard: Shard) -> bool:
    """Put a shard whose worker is gone back to waiting and count the death; False when it moved meanwhile.

    The attempt goes up, so that whatever its old worker still tries to write is refused.
    """
    rows = Shard.objects.filter(
        pk=shard.pk,
        attempt=shard.attempt,
        state=ShardState.RUNNING,
        owner=shard.owner,
        lease_until=shard.lease_until,
    )
    return (
        rows.update(
            state=ShardState.WAITING,
            attempt=F("attempt") + 1,
            deaths=F("deaths") + 1,
            owner="",
            lease_until=None,
        )
        == 1
    )


def put_back(job_id: UUID, *, states: Sequence[str]) -> None:
    """Let a job's shards in `states` wait, whatever is under way for them; each in a transaction of its own."""
    shards = Shard.objects.filter(job_id=job_id, state__in=states)
    for shard_id in shards.values_list("pk", flat=True):
        shards.filter(pk=shard_id).update(state=ShardState.WAITING, **_TAKEN_AWAY)


def fence_off(job_id: UUID, *, states: Sequence[str] = OPEN_SHARDS) -> None:
    """Cancel open shards of a job that has ended or is to be cancelled, each in a transaction of its own.

    All but the one that cleans up, which begins when the job has ended. Each UPDATE looks at the job again: it may
    have been retried since somebody saw that it had failed.
    """
    is_over = Q(status__in=FINISHED) | Q(desired=Desired.CANCEL)
    over = Exists(Job.everything.filter(is_over, pk=OuterRef("job")))
    shards = Shard.objects.filter(over, job_id=job_id, state__in=states).exclude(kind=ShardKind.CLEAN)
    while held := list(shards.values_list("pk", "attempt")):
        for shard_id, attempt in held:
            shards.filter(pk=shard_id, attempt=attempt).update(state=ShardState.CANCELLED, **_TAKEN_AWAY)


_TAKEN_AWAY: dict[str, Any] = {"attempt": F("attempt") + 1, "owner": "", "lease_until": None}
"""Whoever holds the shard can write nothing more."""
