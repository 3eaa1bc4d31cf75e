"""What is to be done now and then, by one of all workers."""

from datetime import timedelta

from django.db import connection
from django.utils import timezone

from sessions_app.models import Chore

STATISTICS_EVERY = timedelta(hours=1)
_ROWS_LOOKED_AT = 20_000


def is_due(name: str, pause: timedelta) -> bool:
    """Whether a chore is to be done now, by whoever asks first."""
    now = timezone.now()
    # Looked at without the write lock: every worker asks in every pass.
    if Chore.objects.filter(name=name, next_at__gt=now).exists():
        return False
    Chore.objects.get_or_create(name=name, defaults={"next_at": now})
    return Chore.objects.filter(name=name, next_at__lte=now).update(next_at=now + pause) == 1


def refresh_statistics_when_due() -> None:
    """Tell SQLite how its tables are filled, which Postgres finds out by itself.

    Without that it looks for a few jobs by their ids among all of their owner's (sqlite.org/lang_analyze.html).
    """
    if connection.vendor == "sqlite" and is_due("statistics", STATISTICS_EVERY):
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA analysis_limit={_ROWS_LOOKED_AT}")
            cursor.execute("ANALYZE")
