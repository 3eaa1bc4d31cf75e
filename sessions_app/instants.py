"""Instants as text."""

from datetime import UTC, datetime

from django.utils.dateparse import parse_datetime


def parse_instant(text: str) -> datetime:
    """The instant, in UTC, of an RFC 3339 text. Raises ValueError with a sentence for people."""
    try:
        return in_utc(parse_datetime(text))
    except ValueError:
        raise ValueError("Must be an RFC 3339 instant with a zone, such as 2026-11-01T12:00:00Z.") from None


def in_utc(instant: datetime | None) -> datetime:
    """The instant; raises ValueError for none, for one without a zone, and for one that no calendar holds in UTC."""
    if instant is None or instant.tzinfo is None:
        raise ValueError
    try:
        return instant.astimezone(UTC)
    except OverflowError as error:
        raise ValueError from error
