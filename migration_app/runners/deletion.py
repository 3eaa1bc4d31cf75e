"""Deletes what is at the destination alone, last of all, and no more than was agreed to."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial

from migration_app import manifest
from migration_app.engine.extraneous import delete_entries, names_in
from migration_app.engine.items import Done
from migration_app.models import EntryState
from migration_app.paths import path_bytes, path_shown
from migration_app.runners.connections import Route, side_of
from migration_app.runners.tally import counters_of_job, failures_of, outcomes_of
from migration_app.storages.base import Entry, Storage
from sessions_app.runners import ShardContext, log_info, log_warning

UNASKED = 100
"""So much is deleted without a second question, where it is no more than half of what is there."""
APPEARED = "It is kept, as it is at the source by now."
UNKNOWN = "It is kept, as the source's folder cannot be listed any more."


@dataclass(frozen=True, slots=True)
class Guard:
    """How much is to be deleted, of how much, and whether that has to be agreed to first."""

    count: int
    there: int
    agreed: int

    @property
    def asks(self) -> bool:
        """Whether it is more than was agreed to, and more than goes without saying."""
        return self.count > self.agreed and (self.count > UNASKED or 2 * self.count > self.there)

    @property
    def sentence(self) -> str:
        """What it asks."""
        what = "entry" if self.count == 1 else "entries"
        return (
            f"{self.count:,} {what} of {self.there:,} at the destination would be deleted. Nothing was changed. "
            f"If that is right, start it anew and confirm {self.count} deletions "
            "(confirm_deletions, --confirm-deletions)."
        )


def guard_of(context: ShardContext) -> Guard:
    """What stands between a job and its deletions, as the comparison has found it."""
    # Of a job that is tried again what it has deleted already counts too.
    count = manifest.deletions(context.job_id).exclude(state=EntryState.SKIPPED).count()
    there = counters_of_job(context).get("there", 0)
    return Guard(count, there, context.params.get("confirm_deletions", 0))


def delete_extraneous(context: ShardContext) -> None:
    """Delete it, unless something failed before. What has appeared at the source meanwhile stays."""
    count = manifest.deletions(context.job_id).filter(state=EntryState.PENDING).count()
    if not count:
        return
    if failed := manifest.rows_of(context.job_id).filter(state=EntryState.FAILED).count():
        what = "entry" if failed == 1 else "entries"
        text = f"Nothing was deleted at the destination, as {failed:,} {what} failed."
        context.checkpoint(events=[log_warning(text)])
        return
    text = f"Deletes at the destination what the source does not have: {count:,}."
    context.checkpoint(events=[log_info(text)])
    _keep_what_appeared(context)
    below: int | None = None
    while rows := manifest.pending_deletions(context.job_id, below=below):
        below = rows[-1].number
        left = {row.number: manifest.entry_of(row) for row in rows}

        def deleted(destination: Storage, left: dict[int, Entry] = left) -> AsyncGenerator[list[Done], None]:
            return _deleted(destination, left)

        route = Route(context, [side_of(context, "destination", "destination_root")], deleted)
        for lists in route.lists(weight=len):
            _save(context, left, [one for part in lists for one in part])
    deleted_count = manifest.deletions(context.job_id).filter(state=EntryState.DONE).count()
    context.checkpoint(events=[log_info(f"Deleted at the destination: {deleted_count:,}.")])


async def _deleted(destination: Storage, left: dict[int, Entry]) -> AsyncGenerator[list[Done], None]:
    """What is done of `left`, by its numbers: that holds what was not saved before the connection broke."""
    numbers = list(left)
    async with aclosing(delete_entries(destination, list(left.values()))) as batches:
        async for batch in batches:
            yield [replace(one, number=numbers[one.number]) for one in batch]


def _save(context: ShardContext, left: dict[int, Entry], done: list[Done]) -> None:
    for one in done:
        left.pop(one.number, None)
    failures = failures_of(done)
    context.counters["failed"] = context.counters.get("failed", 0) + len(failures)
    context.checkpoint(
        events=failures,
        current={"path": path_shown(done[-1].path)} if done else None,
        write=partial(manifest.mark, context.job_id, outcomes_of(done)),
    )


def _keep_what_appeared(context: ShardContext) -> None:
    """Look at the source again, at each folder that something is to be deleted from."""
    reasons: dict[bytes, str] = {}
    for numbers in manifest.ranges(context.job_id):
        inside = manifest.deletions_by_folder(context.job_id, numbers)
        # What lies in a folder that the source does not have goes, or stays, with that one.
        folders = manifest.find(context.job_id, list(inside))
        here: dict[bytes, list[bytes]] = {}
        for folder, row in folders.items():
            # Several may be one at the source, where links lead to it.
            here.setdefault(path_bytes(row.real_path) or folder, []).extend(inside[folder])
        if here:
            reasons |= _reasons_to_keep(context, here)
    if reasons:
        manifest.in_ranges(context, partial(manifest.keep_trees, reasons))


def _reasons_to_keep(context: ShardContext, inside: dict[bytes, list[bytes]]) -> dict[bytes, str]:
    """Of paths at the destination, by their folder at the source, those that stay, and why."""
    left = list(inside)
    reasons: dict[bytes, str] = {}

    def listed(source: Storage) -> AsyncGenerator[list[set[bytes] | None], None]:
        return names_in(source, list(left))

    route = Route(context, [side_of(context, "source", "source_root")], listed)
    for lists in route.lists(weight=len):
        kept: dict[bytes, str] = {}
        for names in [one for part in lists for one in part]:
            for path in inside[left.pop(0)]:
                if names is None:
                    kept[path] = UNKNOWN
                elif path.rpartition(b"/")[2] in names:
                    kept[path] = APPEARED
        events = [log_warning(f"Not deleted: {path_shown(path)}. {reason}") for path, reason in kept.items()]
        context.checkpoint(events=events)
        reasons |= kept
    return reasons
