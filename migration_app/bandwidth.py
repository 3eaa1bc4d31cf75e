"""Limits of bandwidth that depend on the time of day.

A timetable is a list of entries as requests have them: `{"from": "08:00", "to": "18:00", "limit": 2, "days": ["mon"]}`,
`limit` in MB/s, 0 for none. Times are those of a zone's clock; an entry that ends before it begins goes over midnight
and belongs to the day on which it begins, one that ends when it begins lasts a day. Where several fit the first one
holds, where none does the limit beside the timetable.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rest_framework import serializers

from migration_app.engine.choices import MEGABYTE
from sessions_app.fields import MOST, Amount, Text
from sessions_app.timetable import BadZone, zone_of

Json = dict[str, Any]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MOST_ENTRIES = 50
OFF = "off"
"""In texts: no limit."""
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")
_FIELDS = ("from", "to", "limit", "days")


@dataclass(frozen=True, slots=True)
class Limit:
    """What is allowed when: `usual` in MB/s (0: no limit), and a timetable in a zone."""

    usual: float = 0
    entries: Sequence[Json] = ()
    zone: str = "UTC"

    def at(self, instant: datetime) -> float:
        """Bytes a second at an instant; 0 without a limit."""
        return self._megabytes_at(instant) * MEGABYTE

    @property
    def words(self) -> str:
        """For people: `2 MB/s`, `08:00-18:00 2 MB/s, else no limit (Europe/Berlin)`; empty without a limit."""
        usual = _limit_text(self.usual)
        if not self.entries:
            return usual if self.usual else ""
        lines = [f"{_when_text(entry)} {_limit_text(entry['limit'])}" for entry in self.entries]
        return f"{', '.join(lines)}, else {usual} ({self.zone})"

    def _megabytes_at(self, instant: datetime) -> float:
        if not self.entries:
            return self.usual
        clock = instant.astimezone(zone_of(self.zone))
        now, today = f"{clock:%H:%M}", clock.weekday()
        for entry in self.entries:
            begin, end = entry["from"], entry["to"]
            is_late, is_early = begin <= now, now < end
            if begin < end:
                begun = today if is_late and is_early else None
            else:
                begun = today if is_late else (today - 1) % len(DAYS) if is_early else None
            if begun is not None and DAYS[begun] in entry.get("days", DAYS):
                return float(entry["limit"])
        return self.usual


def limit_of(held: Json) -> Limit:
    """The limit in the parameters of a job or the options of a stored connection."""
    usual, entries = held.get("bandwidth_limit"), held.get("bandwidth_timetable")
    return Limit(usual or 0, entries or (), held.get("bandwidth_timezone") or "UTC")


class TimetableField(serializers.Field[Any, Any, Any, Any]):
    """A list of entries; the validated form has `days` only where they are not all."""

    def to_internal_value(self, data: Any) -> list[Json]:
        """The entries."""
        if not isinstance(data, list):
            raise serializers.ValidationError("Must be a list of entries with from, to and limit.")
        if len(data) > MOST_ENTRIES:
            raise serializers.ValidationError(f"Must not hold more than {MOST_ENTRIES} entries.")
        return [self._entry(number, entry) for number, entry in enumerate(data, 1)]

    def to_representation(self, value: Any) -> Any:
        """The entries."""
        return value

    def _entry(self, number: int, entry: Any) -> Json:
        if not isinstance(entry, dict):
            raise serializers.ValidationError(f"Entry {number} must be an object.")
        if unknown := [name for name in entry if name not in _FIELDS]:
            raise serializers.ValidationError(f"Entry {number} has no field “{unknown[0]}”.")
        for name in ("from", "to"):
            if not isinstance(entry.get(name), str) or not _TIME.fullmatch(entry[name]):
                raise serializers.ValidationError(f"“{name}” of entry {number} must be a time such as 08:00.")
        try:
            limit = Amount(min_value=0, max_value=MOST).run_validation(entry.get("limit"))
        except serializers.ValidationError as error:
            sentence = str(error.detail[0]) if isinstance(error.detail, list) else str(error.detail)
            raise serializers.ValidationError(f"“limit” of entry {number}: {sentence}") from None
        days = entry.get("days")
        if days is not None and (
            not isinstance(days, list) or not days or any(day not in DAYS for day in days)
        ):
            raise serializers.ValidationError(
                f"“days” of entry {number} must be a list of some of {', '.join(DAYS)}."
            )
        found: Json = {"from": entry["from"], "to": entry["to"], "limit": limit}
        chosen = [day for day in DAYS if day in (days or DAYS)]
        return found | ({"days": chosen} if len(chosen) < len(DAYS) else {})


class ZoneField(Text):
    """The name of a time zone that is known here."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=100, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        """The name."""
        try:
            return zone_of(super().to_internal_value(data)).key
        except BadZone as error:
            raise serializers.ValidationError(str(error)) from None


def timetable_text(entries: Sequence[Json]) -> str:
    """Entries as they are typed, one a line: `mon-fri 08:00-18:00 2`."""
    return "\n".join(f"{_when_text(entry)} {_number_text(entry['limit'])}" for entry in entries)


def _when_text(entry: Json) -> str:
    times = f"{entry['from']}-{entry['to']}"
    return f"{_days_text(entry['days'])} {times}" if "days" in entry else times


def _number_text(limit: float) -> str:
    return f"{limit:.15g}" if limit else OFF


def _limit_text(limit: float) -> str:
    return f"{_number_text(limit)} MB/s" if limit else "no limit"


def _days_text(days: Sequence[str]) -> str:
    numbers = [DAYS.index(day) for day in days]
    is_row = len(days) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1))
    return f"{days[0]}-{days[-1]}" if is_row else ",".join(days)


def timetable_of_text(text: str) -> list[Json]:
    """The entries of a text, one a line. Raises ValueError with a sentence."""
    return [_entry_of_line(line) for line in text.splitlines() if line.strip()]


def _entry_of_line(line: str) -> Json:
    *days, times, limit = ["", "", *line.lower().split()]
    begin, dash, end = times.partition("-")
    words = [word for word in days if word]
    if not dash or len(words) > 1 or not (_TIME.fullmatch(begin) and _TIME.fullmatch(end)):
        raise ValueError(f"“{line.strip()}” must be like 08:00-18:00 2, or mon-fri 08:00-18:00 2.")
    found: Json = {"from": begin, "to": end, "limit": _number_of(limit)}
    return found | ({"days": _days_of(words[0])} if words else {})


def _days_of(text: str) -> list[str]:
    found: list[str] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first not in DAYS or (last or first) not in DAYS:
            raise ValueError(f"“{text}” must be days such as mon-fri or sat,sun.")
        begin, length = DAYS.index(first), (DAYS.index(last or first) - DAYS.index(first)) % len(DAYS)
        found += [DAYS[(begin + step) % len(DAYS)] for step in range(length + 1)]
    return [day for day in DAYS if day in found]


def _number_of(text: str) -> float:
    if text == OFF:
        return 0
    try:
        found = float(text)
    except ValueError:
        found = -1
    if not 0 <= found <= MOST:
        raise ValueError(f"“{text}” must be a number of MB/s, or {OFF}.")
    return found


def timetable_of_steps(text: str) -> list[Json]:
    """The entries of rclone's form, `08:00,2 18:00,off`: each holds until the next one. Raises ValueError."""
    steps: list[tuple[str, float]] = []
    for part in text.split():
        begin, comma, limit = part.partition(",")
        if not comma or not _TIME.fullmatch(begin):
            raise ValueError(f"“{part}” must be like 08:00,2 or 18:00,{OFF}, or the whole a number of MB/s.")
        steps.append((begin, _number_of(limit.lower())))
    steps.sort(key=lambda step: step[0])
    ends = [begin for begin, _ in steps[1:] + steps[:1]]
    return [
        {"from": begin, "to": end, "limit": limit} for (begin, limit), end in zip(steps, ends, strict=True)
    ]
