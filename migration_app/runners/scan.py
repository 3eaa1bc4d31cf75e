"""A scan: lists a tree into the manifest, then says what there is and what kind of site it is."""

from collections.abc import AsyncGenerator, Iterable
from functools import partial
from typing import Any

from django.utils import timezone

from migration_app import manifest
from migration_app.cms.systems import find_system
from migration_app.engine.filters import parse_filter
from migration_app.engine.links import Way
from migration_app.engine.scan import Listing, ScanBatch, Unlisted, scan_tree
from migration_app.manifest import Row
from migration_app.models import EntryAction, EntryState
from migration_app.paths import path_bytes, path_shown, path_text
from migration_app.runners.cms import detect_cms
from migration_app.runners.connections import Route, side_of
from migration_app.runners.progress import scan_progress
from migration_app.runners.statistics import Statistics, read_statistics, read_suggestions, unreadable
from migration_app.storages.base import Entry, Kind, Storage
from sessions_app.models import Job
from sessions_app.runners import (
    JobFailed,
    Json,
    NewEvent,
    Outcome,
    Runner,
    ShardContext,
    Snapshot,
    log_warning,
)
from sessions_app.serializers import instant


class ScanRunner(Runner):
    """params: endpoint, root, exclusions, include_hidden, detect_cms, max_depth, max_files,
    follow_symlinks."""

    type = "scan"
    links = ("files", "report")
    is_waited_for = True

    def prepare(self, context: ShardContext) -> None:
        """List the tree. The cursor holds the open folders and the next number, so a scan goes on where it was."""
        tree_filter = parse_filter(
            context.params["exclusions"], include_hidden=context.params["include_hidden"]
        )
        most_files = context.params["max_files"]
        state = {"open": None, "next": 1} | (context.cursor or {})

        async def listed(storage: Storage) -> AsyncGenerator[ScanBatch, None]:
            await storage.root_entry()
            frontier = None if state["open"] is None else [_unlisted(one) for one in state["open"]]
            async for batch in scan_tree(
                storage,
                tree_filter,
                max_depth=context.params["max_depth"],
                max_files=most_files and most_files - context.counters.get("files", 0),
                follow_links=context.params.get("follow_symlinks", False),
                followed=context.counters.get("followed", 0),
                frontier=frontier,
            ):
                yield batch

        if state["open"] == []:
            return
        if context.cursor is None:
            # What a run before this one has found.
            manifest.in_ranges(context, manifest.drop)
        events = [] if context.cursor else [NewEvent("phase", {"phase": "connecting"})]
        route = Route(context, [side_of(context, "endpoint", "root")], listed, events=events)
        for batches in route.lists(
            weight=lambda batch: sum(1 + len(folder.entries) for folder in batch.folders)
        ):
            self._save(context, state, batches)
        if most_files and context.counters.get("files", 0) >= most_files:
            text = f"Ended at {most_files:,} files, as max_files says; there may be more."
            context.checkpoint(events=[log_warning(text)])

    def _save(self, context: ShardContext, state: Json, batches: list[ScanBatch]) -> None:
        if not batches:
            context.checkpoint()
            return
        folders = [folder for batch in batches for folder in batch.folders]
        events = []
        if not context.counters.get("connected"):
            context.counters["connected"] = 1
            events.append(NewEvent("phase", {"phase": "scanning"}))
        rows: list[Row] = []
        problems: list[tuple[bytes, str]] = []
        for folder in folders:
            if folder.error is not None and not folder.path:
                raise JobFailed(str(folder.error))
            rows += self._rows(context, state, folder)
            if folder.error is not None:
                problems.append((folder.path, str(folder.error)))
            problems += [(path, str(error)) for path, error in folder.problems]
        _count(context.counters, "failed", len(problems))
        events += [
            NewEvent("file_failed", {"path": path_shown(path), "error": error}) for path, error in problems
        ]
        for path, reason in (kept for folder in folders for kept in folder.kept_links):
            text = f"Not followed: {path_shown(path)}. {reason}"
            events.append(log_warning(text))
        state["open"] = [_as_json(one) for one in batches[-1].frontier]
        context.counters["followed"] = batches[-1].followed

        def write() -> None:
            manifest.add(context.job_id, rows)
            unknown = manifest.fail_paths(context.job_id, problems)
            lost = [
                Row(
                    state["next"] + index, Entry(path, Kind.OTHER), EntryAction.LIST, EntryState.FAILED, error
                )
                for index, (path, error) in enumerate(unknown)
            ]
            manifest.add(context.job_id, lost)

        last = folders[-1] if folders else None
        current = {"path": path_shown(last.path)} if last is not None else None
        # Room for the rows that `write` may add: numbers may have holes, they only have to grow.
        cursor = {"open": state["open"], "next": state["next"] + len(problems)}
        context.checkpoint(cursor=cursor, current=current, events=events, write=write)
        state["next"] = cursor["next"]

    def _rows(self, context: ShardContext, state: Json, folder: Listing) -> Iterable[Row]:
        count = partial(_count, context.counters)
        for entry in folder.entries:
            yield Row(state["next"], entry, EntryAction.LIST, EntryState.DONE)
            state["next"] += 1
            if entry.kind is Kind.FILE:
                count("files", 1)
                count("bytes", entry.size)
            elif entry.kind is Kind.FOLDER:
                count("folders", 1)
            elif entry.kind is Kind.LINK:
                count("links", 1)
        count("excluded", len(folder.excluded))
        count("excluded_bytes", sum(entry.size for entry in folder.excluded))

    def finish(self, context: ShardContext) -> Outcome:
        """Sum the manifest up."""
        found = read_statistics(context)
        job = Job.objects.get(pk=context.job_id)
        site = find_system(found.marks, found.by_type)
        cms = detect_cms(context, site, found.marks) if context.params["detect_cms"] else None
        return Outcome(_result(job, found, read_suggestions(context, site), cms))

    @classmethod
    def progress(cls, snapshot: Snapshot) -> Json:
        """ScanProgress."""
        return scan_progress(snapshot)


def _as_json(folder: Unlisted) -> Any:
    """For a cursor: a path, and the way where it is another one."""
    path = path_text(folder.path)
    return [path, *way] if (way := folder.way.as_json()) else path


def _unlisted(json: Any) -> Unlisted:
    path, *way = [json] if isinstance(json, str) else json
    return Unlisted(path_bytes(path), Way.read(way))


def _count(counters: dict[str, int], name: str, amount: int) -> None:
    counters[name] = counters.get(name, 0) + amount


def _result(job: Job, found: Statistics, suggestions: list[Json], cms: Json | None) -> Json:
    now = timezone.now()
    started = job.started_at or job.created_at
    result: dict[str, Any] = {
        "success": True,
        "start_time": instant(started),
        "end_time": instant(now),
        "duration": int((now - started).total_seconds() * 1e9),
        "statistics": found.as_json(),
        "exclusions": [*job.params["exclusions"], *suggestions],
        "server_config": job.public["source_config"],
        "unreadable": unreadable(job.pk),
    }
    if cms is not None:
        result["cms_detection"] = cms
    return result
