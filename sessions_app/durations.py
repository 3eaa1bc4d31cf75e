"""Lengths of time as people write them."""

import re
from datetime import timedelta

_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
LONGEST = timedelta(days=36_500)


def parse_duration(text: str) -> timedelta:
    """`90d`, `24h`, `30m` or `45s` as a timedelta; raises ValueError with a sentence for anything else."""
    match = re.fullmatch(r"([0-9]{1,11})([dhms])", text)
    if match is None or int(match[1]) > LONGEST / timedelta(**{_UNITS[match[2]]: 1}):
        raise ValueError(
            f"A duration looks like 24h or 90d and is at most {LONGEST.days}d, not {text[:40]!r}."
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def duration_text(length: timedelta) -> str:
    """As `parse_duration` reads it, in the largest unit that fits.

    >>> duration_text(timedelta(days=90)), duration_text(timedelta(hours=36)), duration_text(timedelta(0))
    ('90d', '36h', '0s')
    """
    seconds = int(length.total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
