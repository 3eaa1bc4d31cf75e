"""A transfer: compares both trees, copies what differs in shards, then sees to folders and proof."""

from collections.abc import AsyncGenerator, Mapping
from functools import partial
from typing import ClassVar
from uuid import UUID

from migration_app import endpoints, manifest
from migration_app.bandwidth import TimetableField, ZoneField
from migration_app.engine.choices import Conflict
from migration_app.engine.folders import set_attributes
from migration_app.engine.transfer import (
    Beginning,
    Done,
    Item,
    TransferBatch,
    transfer_items,
)
from migration_app.models import Endpoint
from migration_app.paths import path_shown
from migration_app.runners.comparison import Cut, compare
from migration_app.runners.connections import Route, both_sides, side_of
from migration_app.runners.contents import KEPT_COUNTERS, decide_by_content
from migration_app.runners.deletion import delete_extraneous, guard_of
from migration_app.runners.leftovers import remove_temp_files
from migration_app.runners.outcome import dry_run_outcome, refused_outcome, transfer_outcome, ways_of
from migration_app.runners.progress import rate_of, transfer_progress
from migration_app.runners.shares import Bandwidth
from migration_app.runners.tally import counters_of_job, failures_of, outcomes_of
from migration_app.runners.verification import verify
from migration_app.storages.base import Entry, Kind, Storage
from sessions_app.fields import MOST, Amount
from sessions_app.runners import (
    Claim,
    Json,
    NewEvent,
    Outcome,
    Runner,
    ShardContext,
    Snapshot,
    log_warning,
)

RESUME = ".venv/bin/python manage.py move --resume"
"""The command that goes on with a job, before its id."""


class TransferRunner(Runner):
    """params: source, source_root, destination, destination_root, claim, method, and the options of the request."""

    type = "transfer"
    links = ("files", "report")
    leaves_traces = True
    keeps_work = True
    changeable: ClassVar = {
        "bandwidth_limit": partial(Amount, min_value=0, max_value=MOST),
        "bandwidth_timetable": TimetableField,
        "bandwidth_timezone": ZoneField,
    }

    def prepare(self, context: ShardContext) -> None:
        """Compare source and destination; work shards are written as the comparison goes on.

        One that was interrupted for good is finished by the next run, which then compares again what failed.
        """
        cut = Cut.read(context.cursor)
        if not cut.is_done:
            compare(context, cut)
        run = context.payload.get("run", 1)
        if cut.run < run:
            is_proved = manifest.is_proved(context.job_id)
            compare(context, Cut(next=cut.next, has_root=True, run=run, first=cut.next, is_proved=is_proved))

    def work(self, context: ShardContext) -> None:
        """Copy the rows from payload `first` to `last` that are still to be done, after a look at what both sides hold
        where that decides."""
        first, last = context.payload["first"], context.payload["last"]
        decide_by_content(context, first, last)
        if context.params["dry_run"]:
            return
        items = manifest.pending(context.job_id, first, last)
        left = {item.number: item for item in items}
        if not left:
            return
        partial = {int(number): size for number, size in (context.cursor or {}).items()}
        proved: dict[int, int] = {}
        resumes: bool = context.params["enable_resume"]
        known = manifest.existing_folders(context.job_id, [item.entry.path for item in left.values()])

        def copied(source: Storage, destination: Storage) -> AsyncGenerator[TransferBatch, None]:
            return transfer_items(
                source,
                destination,
                list(left.values()),
                folders_known=known,
                pace=bandwidth.pace,
                at_once=context.params["transfers"] or None,
                ways=ways_of(context.params),
                partial=partial,
                proved=proved,
                keeps=lambda: resumes and not context.is_cancelled(),
                on_stop=at_stop.append,
            )

        at_stop: list[TransferBatch] = []
        bandwidth = Bandwidth(context)
        context.counters["in_flight"] = sum(partial.values())
        route = Route(context, both_sides(context), copied)
        try:
            for listed in route.lists(weight=lambda batch: len(batch.done)):
                bandwidth.refresh()
                # A shard that is stopped gets another list, an empty one, when it has been.
                batches = [*listed, *at_stop]
                at_stop.clear()
                if batches and resumes:
                    partial = batches[-1].partial
                _save_copies(context, left, batches)
        finally:
            # What stays of files that are not finished: all else is copied again.
            context.counters["in_flight"] = sum(partial.values())

    def finish(self, context: ShardContext) -> Outcome:
        """Delete what is there alone, if asked to, give folders their mode and mtime, look at the destination again, if
        asked to, and sum up."""
        if context.params["dry_run"]:
            return dry_run_outcome(context)
        if context.params.get("delete_extraneous"):
            if (guard := guard_of(context)).asks:
                return refused_outcome(context, guard.sentence)
            delete_extraneous(context)
        _tell_refusals(context, _finish_folders(context))
        verification = verify(context) if context.params["verify_after_transfer"] else None
        return transfer_outcome(context, verification)

    def clean(self, context: ShardContext, interrupted: list[Json]) -> None:
        """Remove unfinished files at the destination."""
        remove_temp_files(context, interrupted)

    @classmethod
    def begin_again(cls, job_id: UUID, counters: Mapping[str, int]) -> dict[str, int]:
        """Count what the manifest says is done; what failed is compared again, and then copied."""
        sums = manifest.sums_without_failed(job_id)
        names = ("followed", "refusals", "resumed", "there", *KEPT_COUNTERS)
        kept = {name: counters.get(name, 0) for name in names}
        sums["to_compare"] += kept["compared"]
        sums["to_compare_bytes"] += kept["compared_bytes"]
        return kept | sums | {"earlier_files": sums["files"], "earlier_bytes": sums["bytes"]}

    @classmethod
    def claims(cls, params: Json) -> list[Claim]:
        """The destination tree, unless nothing is written to it."""
        if params["dry_run"]:
            return []
        return [Claim(params["claim"], params["destination_root"].rstrip("/"))]

    @classmethod
    def tie(cls, job_id: UUID, params: Json) -> str:
        """One that signs in with what only the terminal has, such as its SSH agent, goes on in a terminal."""
        sides = Endpoint.objects.filter(pk__in=(params["source"], params["destination"]))
        if all(endpoints.has_secret(side) for side in sides.select_related("connection")):
            return ""
        return f"What it signed in with is not stored. Go on with: {RESUME} {job_id}"

    @classmethod
    def progress(cls, snapshot: Snapshot) -> Json:
        """TransferProgress."""
        return transfer_progress(snapshot)

    @classmethod
    def rate(cls, progress: Json) -> float | None:
        """The speed of its progress."""
        return rate_of(progress)


def _save_copies(context: ShardContext, left: dict[int, Item], batches: list[TransferBatch]) -> None:
    if not batches:
        context.checkpoint()
        return
    counters = context.counters
    done = [one for batch in batches for one in batch.done]
    for one in done:
        entry = left.pop(one.number).entry
        is_file = entry.kind is Kind.FILE
        if one.error is not None:
            counters["failed"] = counters.get("failed", 0) + 1
            counters["failed_files"] = counters.get("failed_files", 0) + is_file
            counters["failed_bytes"] = counters.get("failed_bytes", 0) + entry.size * is_file
            continue
        if one.refusal is not None:
            counters["refusals"] = counters.get("refusals", 0) + 1
        if is_file:
            counters[one.way] = counters.get(one.way, 0) + 1
            counters["files"] = counters.get("files", 0) + 1
            counters["bytes"] = counters.get("bytes", 0) + one.bytes
            counters["resumed"] = counters.get("resumed", 0) + one.resumed
    counters["in_flight"] = batches[-1].bytes_in_flight
    beginnings = [beginning for batch in batches for beginning in batch.beginnings]
    failures = failures_of(done)
    notes = [log_warning(note) for batch in batches for note in batch.notes]
    current: Json = {
        "path": path_shown(batches[-1].current_file),
        "shard": context.number,
        "under_way": [
            {"path": path_shown(one.path), "size_bytes": one.size, "done_bytes": one.done}
            for one in batches[-1].under_way
        ],
    }
    if failures:
        current["last_error"] = failures[-1].data["error"]
    outcomes = outcomes_of(done)
    context.checkpoint(
        cursor={str(number): size for number, size in batches[-1].partial.items()},
        current=current,
        events=[*map(_resumption, beginnings), *notes, *failures],
        write=partial(manifest.mark, context.job_id, outcomes) if outcomes else None,
    )


def _resumption(beginning: Beginning) -> NewEvent:
    """A line of the log; `resumed` in it is for the job's result."""
    path = path_shown(beginning.path)
    proof = "" if not beginning.bytes else "readback" if beginning.is_read_back else "two_sided_hash"
    level, text = (
        "warning",
        f"What was there of {path} is not the source's beginning: it is copied from the start.",
    )
    if proof:
        how = "read back and compared" if beginning.is_read_back else "hashed on both sides"
        level, text = "info", f"Goes on with {path} after {beginning.bytes:,} bytes, which were {how}."
    resumed = {"path": path, "bytes": beginning.bytes, "proof": proof}
    return NewEvent("log", {"level": level, "message": text, "resumed": resumed})


def _finish_folders(context: ShardContext) -> str:
    """Set modes and mtimes of folders; gives why that of the root was refused, if it was.

    Those that are settled are left alone. Where all are, nothing connects.
    """
    of_root = ""
    # What exists is left alone then, a folder's mode and time too: it gets its own back where it was opened up.
    only_new = context.params["conflict"] == Conflict.SKIP
    context.counters["folder_refusals"] = 0
    for rows in manifest.folders_backwards(context.job_id, only_new=only_new):
        folders = [manifest.entry_of(row) for row in rows]
        numbers = [row.number for row in rows]

        def given(destination: Storage, folders: list[Entry] = folders) -> AsyncGenerator[list[Done], None]:
            return set_attributes(destination, folders)

        route = Route(context, [side_of(context, "destination", "destination_root")], given)
        for lists in route.lists(weight=len):
            done = [one for part in lists for one in part]
            of_root = next(
                (str(one.error or one.refusal) for one in done if not one.path and _is_unset(one)), ""
            )
            _save_folders(context, numbers, [one for one in done if one.path])
    return of_root


def _is_unset(done: Done) -> bool:
    return done.error is not None or done.refusal is not None


def _save_folders(context: ShardContext, numbers: list[int], done: list[Done]) -> None:
    failed = [one for one in done if one.error is not None]
    context.counters["failed"] = context.counters.get("failed", 0) + len(failed)
    context.counters["folder_refusals"] += sum(one.refusal is not None for one in done)
    outcomes = [(numbers[one.number], str(one.error), one.tries) for one in failed]
    context.checkpoint(events=failures_of(failed), write=lambda: manifest.mark(context.job_id, outcomes))


def _tell_refusals(context: ShardContext, of_root: str) -> None:
    """Say once for how many files and folders mode and mtime could not be set; remember where it never works."""
    counters = counters_of_job(context)
    copied, refused = counters.get("files", 0), counters.get("refusals", 0)
    folders, equal = counters.get("folder_refusals", 0), counters.get("unmended", 0)
    side = side_of(context, "destination", "destination_root")
    root = context.params["destination_root"]

    def write() -> None:
        if copied:
            endpoints.note_times(side.endpoint, root, are_kept=refused < copied)

    events = []
    if refused or folders or equal:
        text = f"The destination refused to set mode and time of {refused + equal:,} files and {folders:,} folders."
        events.append(log_warning(text))
    elif of_root:
        # Often the root belongs to the hoster; what was copied into it is none the worse.
        events.append(log_warning(f"Mode and time of the root could not be set: {of_root}"))
    context.checkpoint(events=events, write=write)
