"""How all that runs at once shares a limit of bandwidth: shards of a job, and jobs of a stored connection."""

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from django.db import OperationalError, transaction
from django.db.models.functions import Now
from django.utils import timezone

from migration_app.bandwidth import Limit, limit_of
from migration_app.endpoints import BANDWIDTH
from migration_app.engine.pace import Pace
from migration_app.models import BandwidthUse, Endpoint
from sessions_app.models import Job
from sessions_app.runners import ShardContext

logger = logging.getLogger(__name__)
Json = dict[str, Any]
Shares = dict[str, tuple[float, bool, float]]
"""By who takes part: the bytes a second that count as his, whether he would take more, and when he said so."""

STALE_S = 2.0
"""Who has not said anything for so long does not take part any more: his worker died, or he waits for a server."""
IS_ALL = 0.95
"""Who used so much of what he was given would take more."""
IS_HELD = 0.5
"""Who had to wait for so much of the time would, too, however little he used."""
LOOK_S = 0.25
"""What was used in a shorter time says nothing."""
GROWTH = 1.25
START = 0.05
"""Of an even share: what one who uses less is given at least, so that he can begin to use more."""
LEAST = 1.0
"""Bytes a second of one for whom nothing is left just now."""


@dataclass(frozen=True, slots=True)
class Use:
    """What one used of what he was given, in bytes a second, and the part of the time for which he had to wait."""

    used: float
    given: float
    held: float = 0.0

    @property
    def wants_more(self) -> bool:
        """Whether he would have taken more."""
        return self.used >= IS_ALL * self.given or self.held >= IS_HELD


def share(shares: Shares, who: str, *, limit: float, use: Use | None, now: float) -> float:
    """Put down what one used (None: he has just come), and give him what he may use from now on, in bytes a second.
    Those who use less than an even share leave the rest to the others; nobody is
    given what another one still counts as his, so that the sum never gets above the limit.
    """
    for other in [other for other, (_, _, at) in shares.items() if not 0 <= now - at < STALE_S]:
        del shares[other]
    shares.pop(who, None)
    even = limit / (len(shares) + 1)
    level = _level(limit, [rate for rate, more, _ in shares.values() if not more], len(shares) + 1)
    left = limit - sum(rate for rate, _, _ in shares.values())
    if use is not None and not use.wants_more:
        # What nobody else counts as his is free, too: another limit may hold him back just now.
        found = min(level, max(GROWTH * use.used + START * even, left))
        shares[who] = (min(use.used, found), False, now)
        return max(found, LEAST)
    found = max(LEAST, min(level, left))
    shares[who] = (found, True, now)
    return found


def _level(limit: float, modest: list[float], count: int) -> float:
    """What each of those gets who would take more, where `modest` are the rates of the others of `count`."""
    left, others = limit, count
    for rate in sorted(modest):
        if rate * others > left:
            break
        left -= rate
        others -= 1
    return left / max(1, others)


@dataclass(slots=True)
class Bandwidth:
    """What one shard may use; `refresh` is for each of its checkpoints."""

    context: ShardContext
    pace: Pace = field(default_factory=Pace)
    _given: dict[str, float] = field(default_factory=dict)
    _taken: int = 0
    _looked_at: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.context.on_end(self._leave)
        self.refresh()

    def refresh(self) -> None:
        """Set the pace to what is left for this shard by limits, times of day and others as they are now."""
        now = time.monotonic()
        passed_s = max(1e-3, now - self._looked_at)
        if self._given and passed_s < LOOK_S:
            return
        taken = self.pace.taken
        used, held = (taken - self._taken) / passed_s, self.pace.take_held_s() / passed_s
        self._taken, self._looked_at = taken, now
        instant = timezone.now()
        limits = {key: limit.at(instant) for key, limit in self._limits()}
        given: dict[str, float] = {}
        for key in sorted(key for key, limit in limits.items() if limit):
            given[key] = self._share(key, limits[key], self._use(key, used, held))
        for key in self._given.keys() - given.keys():
            self._give_back(key)
        self._given = given
        self.pace.rate = min(given.values(), default=0.0)

    def _limits(self) -> Iterator[tuple[str, Limit]]:
        """Those of the job and of the stored connections on its way, in one query each."""
        params = Job.objects.values_list(*(f"params__{name}" for name in BANDWIDTH)).get(
            pk=self.context.job_id
        )
        yield f"job {self.context.job_id}", limit_of(dict(zip(BANDWIDTH, params, strict=True)))
        sides = (self.context.params["source"], self.context.params["destination"])
        stored = Endpoint.objects.filter(uses__in=sides).distinct().values_list("pk", "options")
        for number, options in stored:
            yield f"connection {number}", limit_of(options)

    def _use(self, key: str, used: float, held: float) -> Use | None:
        if key not in self._given:
            return None
        # Who waits does so for the smallest of his limits, and would not take more of the others.
        is_smallest = self._given[key] <= min(self._given.values())
        return Use(used, self._given[key], held if is_smallest else 0.0)

    def _share(self, key: str, limit: float, use: Use | None) -> float:
        with transaction.atomic():
            row, now = _locked(key)
            found = share(row.shares, self._who, limit=limit, use=use, now=now)
            row.save()
        return found

    def _leave(self) -> None:
        """The shard has ended: what it had is the others'."""
        try:
            for key in self._given:
                self._give_back(key)
        except OperationalError:
            logger.warning(
                "The database did not answer; a share of bandwidth goes back by itself.", exc_info=True
            )
        self._given = {}

    def _give_back(self, key: str) -> None:
        with transaction.atomic():
            row, _ = _locked(key)
            row.shares.pop(self._who, None)
            if row.shares:
                row.save()
            else:
                row.delete()

    @property
    def _who(self) -> str:
        return f"{self.context.job_id} {self.context.number}"


def _locked(key: str) -> tuple[BandwidthUse, float]:
    """The row, and the database's time in seconds since 1970, which is the same for workers of all machines."""
    BandwidthUse.objects.get_or_create(key=key)
    row = BandwidthUse.objects.select_for_update().annotate(now=Now()).get(key=key)
    now: datetime = row.now
    return row, now.replace(tzinfo=now.tzinfo or UTC).timestamp()
