"""What an interrupted transfer leaves at its destination, unfinished files under their temp names: removed."""

import time
from collections.abc import AsyncGenerator, Iterator
from uuid import UUID

from migration_app import manifest
from migration_app.engine.leftovers import Removal, remove_leftovers
from migration_app.runners.connections import Route, side_of
from migration_app.storages.base import Kind, Storage
from sessions_app.runners import JobFailed, Json, ShardContext, log_info, log_warning

LONGEST_S = 60.0
"""How long a destination that is slow is tried."""
AWAY_S = 15.0
"""How long one is waited for that is away."""
_LEFT = "Unfinished files may be left at the destination; their names begin with .haulier-."


def remove_temp_files(context: ShardContext, shards: list[Json]) -> None:
    """Remove what work shards, given by their payloads, had under way; says what came of it in the job's log."""
    paths = [path for shard in shards for path in _temp_paths(context.job_id, shard)]
    if not paths:
        return
    removed = Removal()

    async def cleaned(destination: Storage) -> AsyncGenerator[Removal, None]:
        async for part in remove_leftovers(destination, paths):
            yield part

    problem = ""
    until = time.monotonic() + LONGEST_S
    try:
        sides = [side_of(context, "destination", "destination_root")]
        route = Route(context, sides, cleaned, patience_s=AWAY_S)
        for parts in route.lists():
            removed = parts[-1] if parts else removed
            context.checkpoint()
            if time.monotonic() > until:
                problem = f"Gave up after {LONGEST_S:.0f} s."
                break
    except JobFailed as error:
        problem = str(error)
    problem = problem or removed.problem
    events = []
    if removed.count:
        text = f"Removed unfinished files at the destination: {removed.count:,}."
        events.append(log_info(text))
    if problem:
        events.append(log_warning(f"{_LEFT} {problem}"))
    context.checkpoint(events=events)


def _temp_paths(job_id: UUID, shard: Json) -> Iterator[bytes]:
    for item in manifest.pending(job_id, shard["first"], shard["last"]):
        if item.entry.kind in (Kind.FILE, Kind.LINK):
            above, slash, _ = item.entry.path.rpartition(b"/")
            yield above + slash + item.temp_name
