"""What a part of a job writes down of entries that are done, and what all parts have counted."""

from collections.abc import Iterable

from migration_app.engine.items import Done
from migration_app.paths import path_shown
from sessions_app.models import Shard
from sessions_app.runners import NewEvent, ShardContext, sum_counters


def outcomes_of(done: Iterable[Done]) -> list[tuple[int, str, int]]:
    """As `manifest.mark` takes them: number, error text or nothing, tries."""
    return [(one.number, "" if one.error is None else str(one.error), one.tries) for one in done]


def failures_of(done: Iterable[Done]) -> list[NewEvent]:
    """An event for each that failed."""
    return [
        NewEvent("file_failed", {"path": path_shown(one.path), "error": str(one.error)})
        for one in done
        if one.error is not None
    ]


def counters_of_job(context: ShardContext) -> dict[str, int]:
    """What all parts have counted, this one also what is not saved yet."""
    others = Shard.objects.filter(job_id=context.job_id).exclude(number=context.number)
    return sum_counters([*others.values_list("counters", flat=True), context.counters])
