"""When a schedule runs: a cron expression in a time zone.

Clocks are put forward and back as Debian's cron has it, which cronsim follows. A time of day that does not exist on one
day runs at the next instant that does; one that exists twice runs the first time. Expressions that start with a star in
the minute or the hour run by what has passed: every hour has its turn, however often the clock shows it.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

from cronsim import CronSim, CronSimError

LONGEST = 200
"""Of an expression, in characters."""
FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")


class BadCron(ValueError):
    """The expression means nothing, or no instant; the message says why."""


class BadZone(ValueError):
    """There is no such time zone; the message says so."""


_known_zones = cache(available_timezones)


@cache
def zone_names() -> tuple[str, ...]:
    """The time zones that are named after a place, and UTC, sorted."""
    return tuple(sorted(name for name in _known_zones() if "/" in name or name == "UTC"))


def zone_of(name: str) -> ZoneInfo:
    """The time zone of a name. Raises BadZone."""
    if name not in _known_zones():
        raise BadZone(f"“{name}” is no time zone; write one such as Europe/Berlin, America/New_York or UTC.")
    return ZoneInfo(name)


class Timetable:
    """The instants of an expression. Raises BadCron, BadZone."""

    def __init__(self, cron: str, zone: str) -> None:
        self._zone = zone_of(zone)
        self._cron = cron
        given = len(cron.split())
        if given != len(FIELDS) or len(cron) > LONGEST:
            raise BadCron(
                f"Must have five fields, {', '.join(FIELDS)}, as in “0 3 * * *” for every day at 3:00; "
                f"this has {given}."
            )
        try:
            found = next(self._from(datetime.now(UTC)), None)
        except CronSimError as error:
            field = str(error).removeprefix("Bad ").replace("-", " ")
            raise BadCron(f"Its {field} means nothing, or never comes.") from None
        if found is None:
            raise BadCron("There is no such day; it would never run.")

    @property
    def words(self) -> str:
        """The expression in English, as in “At 03:00 every day”."""
        return CronSim(self._cron, datetime.now(UTC)).explain()

    def after(self, instant: datetime) -> datetime | None:
        """The first instant after one, in UTC; None when there is none for fifty years."""
        return next(self._from(instant), None)

    def runs(self, after: datetime, count: int) -> list[datetime]:
        """So many instants after one, in UTC."""
        return list(islice(self._from(after), count))

    def last(self, until: datetime) -> datetime | None:
        """The last instant at or before one, in UTC, but for the hour in which a clock was put back."""
        # Backwards the library takes an instant with a fraction for one that may be found itself.
        start = until.astimezone(self._zone).replace(microsecond=1)
        found = (moment.astimezone(UTC) for moment in CronSim(self._cron, start, reverse=True))
        return next((moment for moment in found if moment <= until), None)

    def _from(self, instant: datetime) -> Iterator[datetime]:
        last = instant
        for moment in CronSim(self._cron, instant.astimezone(self._zone)):
            # Where a clock is put back, the library would go back with it; where it is put forward, several times of
            # day are the same instant.
            if moment > last:
                last = moment.astimezone(UTC)
                yield last
