"""A transfer: compares both trees into the manifest, copies what differs in shards, then sees to folders and proof."""

from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import ClassVar
from uuid import UUID

from migration_app import endpoints, manifest
from migration_app.endpoints import Side
from migration_app.engine.choices import MEGABYTE, Choices, Conflict, Selection
from migration_app.engine.filters import parse_filter
from migration_app.engine.folders import set_folder_attributes
from migration_app.engine.links import Way
from migration_app.engine.plan import Action, OpenFolder, PlanBatch, Step, compare_trees
from migration_app.engine.transfer import (
    SMALL_AT_ONCE,
    Beginning,
    Done,
    Item,
    Pace,
    TransferBatch,
    transfer_items,
)
from migration_app.manifest import Row
from migration_app.models import Endpoint, EntryAction, EntryState, Evidence
from migration_app.paths import path_bytes, path_shown, path_text
from migration_app.runners.connections import Route, side_of
from migration_app.runners.leftovers import remove_temp_files
from migration_app.runners.outcome import MOST_LISTED, dry_run_outcome, transfer_outcome
from migration_app.runners.progress import rate_of, transfer_progress
from migration_app.runners.shards import Cutter
from migration_app.runners.verification import verify
from migration_app.storages.base import Entry, Kind, Storage
from migration_app.storages.errors import NotFound
from sessions_app.fields import MOST, Amount
from sessions_app.models import Job, Shard
from sessions_app.runners import (
    Claim,
    JobFailed,
    Json,
    NewEvent,
    Outcome,
    Runner,
    ShardContext,
    Snapshot,
    sum_counters,
)
from sessions_app.states import ShardKind, ShardState

RESUME = ".venv/bin/python manage.py move --resume"
"""The command that goes on with a job, before its id."""
BY_SIZE = "The destination keeps no times: files of the same size are taken for the same."
HIDDEN = "A folder above it cannot be listed."
NOT_FOUND = "It is not at the source, or a pattern leaves it out."


@dataclass(slots=True)
class Cut:
    """Where the preparation stands: the cursor of its shard."""

    open: list[OpenFolder] | None = None
    """Folders that are still to be compared; None before the root was."""
    next: int = 1
    """Number of the next row."""
    has_root: bool = False
    is_done: bool = False
    run: int = 1
    """Which run of the job compares."""
    first: int = 0
    """Rows with a lower number are of earlier runs; those that failed then are compared again."""
    cutter: Cutter = field(default_factory=Cutter)

    @classmethod
    def read(cls, cursor: Json | None) -> "Cut":
        """From what a checkpoint saved."""
        if cursor is None:
            return cls()
        folders = cursor["open"] and [
            OpenFolder(path_bytes(path), exists, conflict, Way.read(way))
            for path, exists, conflict, *way in cursor["open"]
        ]
        return cls(**{**cursor, "open": folders, "cutter": Cutter(**cursor["cutter"])})

    def as_json(self) -> Json:
        """For the next checkpoint."""
        return {
            "open": self.open
            and [
                [
                    path_text(folder.path),
                    folder.exists_at_destination,
                    folder.conflict,
                    *folder.way.as_json(),
                ]
                for folder in self.open
            ],
            "next": self.next,
            "has_root": self.has_root,
            "is_done": self.is_done,
            "run": self.run,
            "first": self.first,
            "cutter": self.cutter.as_json(),
        }


class TransferRunner(Runner):
    """params: source, source_root, destination, destination_root, claim, method, and the options of the request."""

    type = "transfer"
    links = ("files", "report")
    leaves_traces = True
    keeps_work = True
    changeable: ClassVar = {"bandwidth_limit": partial(Amount, min_value=0, max_value=MOST)}

    def prepare(self, context: ShardContext) -> None:
        """Compare source and destination; work shards are written as the comparison goes on.

        One that was interrupted for good is finished by the next run, which then compares again what failed.
        """
        cut = Cut.read(context.cursor)
        if not cut.is_done:
            self._compare(context, cut)
        run = context.payload.get("run", 1)
        if cut.run < run:
            self._compare(context, Cut(next=cut.next, has_root=True, run=run, first=cut.next))

    def _compare(self, context: ShardContext, cut: Cut) -> None:
        tree_filter = parse_filter(context.params["exclusions"], include_hidden=True)
        is_dry = context.params["dry_run"]
        choices = _choices(context.params)
        failed: list[bytes] = []
        if cut.first:
            failed = manifest.failed_paths(context.job_id, cut.first)
            choices = replace(choices, selection=Selection(failed, within=choices.selection))
            if not failed:
                cut.open = []
        sides = _sides(context)
        by_size = endpoints.keeps_no_times(sides[1].endpoint, context.params["destination_root"])
        choices = replace(choices, by_size=by_size)

        async def compared(source: Storage, destination: Storage) -> AsyncGenerator[Step | PlanBatch, None]:
            root = await source.root_entry()
            there = await _root_of(destination)
            if there is None and not is_dry:
                await destination.make_root()
            if not cut.has_root:
                if there is None:
                    yield Step(root, Action.CREATE)
                else:
                    yield Step(choices.as_it_stays(root, there), Action.SKIP)
            async for batch in compare_trees(
                source,
                destination,
                tree_filter,
                choices=choices,
                followed=context.counters.get("followed", 0),
                frontier=cut.open,
            ):
                yield batch

        events = [] if context.cursor else [NewEvent("phase", {"phase": "connecting"})]
        if by_size and not context.cursor:
            events.append(_warning(BY_SIZE))
        route = Route(context, sides, compared, events=events)
        for items in route.lists(weight=lambda item: len(item.steps) if isinstance(item, PlanBatch) else 1):
            _Comparison(context, cut, failed).save(items)
        if failed:
            _forget_failed(context, cut, failed)
        _tell_missing(context, cut)
        cut.cutter.close()
        cut.is_done = True
        context.counters |= {"connected": 1, "prepared": 1}
        events = [] if is_dry else [NewEvent("phase", {"phase": "transferring"})]
        context.checkpoint(cursor=cut.as_json(), shards=cut.cutter.shards, events=events)

    def work(self, context: ShardContext) -> None:
        """Copy the rows from payload `first` to `last` that are still to be done."""
        items = manifest.pending(context.job_id, context.payload["first"], context.payload["last"])
        left = {item.number: item for item in items}
        if not left:
            return
        partial = {int(number): size for number, size in (context.cursor or {}).items()}
        resumes: bool = context.params["enable_resume"]
        known = manifest.existing_folders(context.job_id, [item.entry.path for item in left.values()])

        def copied(source: Storage, destination: Storage) -> AsyncGenerator[TransferBatch, None]:
            return transfer_items(
                source,
                destination,
                list(left.values()),
                folders_known=known,
                pace=pace,
                at_once=context.params["transfers"] or SMALL_AT_ONCE,
                partial=partial,
                keeps=lambda: resumes and not context.is_cancelled(),
                on_stop=at_stop.append,
            )

        at_stop: list[TransferBatch] = []
        pace = Pace(_rate(context))
        context.counters["in_flight"] = sum(partial.values())
        route = Route(context, _sides(context), copied)
        try:
            for listed in route.lists(weight=lambda batch: len(batch.done)):
                pace.rate = _rate(context)
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
        """Give folders their mode and mtime, look at the destination again if asked to, and sum up."""
        if context.params["dry_run"]:
            return dry_run_outcome(context)
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
        kept = {name: counters.get(name, 0) for name in ("followed", "refusals", "resumed")}
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


def _sides(context: ShardContext) -> list[Side]:
    return [
        side_of(context, "source", "source_root"),
        side_of(context, "destination", "destination_root"),
    ]


def _choices(params: Json) -> Choices:
    return Choices(
        conflict=Conflict(params["conflict"]),
        largest=params["skip_large_files"] * MEGABYTE,
        selection=Selection(path_bytes(path) for path in params["files"]),
        follow_links=params.get("follow_symlinks", False),
    )


def _rate(context: ShardContext) -> float:
    """This shard's part of the job's bandwidth, in bytes a second: as many as run now share it evenly.

    The limit may have been changed since the shard began.
    """
    limit: float = Job.objects.values_list("params__bandwidth_limit", flat=True).get(pk=context.job_id)
    if not limit:
        return 0.0
    running = Shard.objects.filter(job_id=context.job_id, kind=ShardKind.WORK, state=ShardState.RUNNING)
    return limit * MEGABYTE / max(1, running.count())


async def _root_of(destination: Storage) -> Entry | None:
    try:
        return await destination.root_entry()
    except NotFound:
        return None


def _forget_failed(context: ShardContext, cut: Cut, failed: list[bytes]) -> None:
    """Drop the rows of what failed in earlier runs: each has a new one, unless its source is gone."""
    found = manifest.find_numbers(context.job_id, failed, first=cut.first)
    gone = [path for path in failed if path not in found]
    hidden = manifest.below_failed(context.job_id, gone, first=cut.first)
    _tell_unreadable(context, cut, hidden, HIDDEN)
    wanted = {path_bytes(path) for path in context.params["files"]}
    texts = [f"No longer at the source: {path_shown(path)}" for path in gone if path not in wanted | hidden]
    if len(texts) > MOST_LISTED:
        texts[MOST_LISTED:] = [f"Nor are {len(texts) - MOST_LISTED:,} others."]
    context.checkpoint(
        events=[_warning(text) for text in texts],
        write=partial(manifest.drop_failed, context.job_id, cut.first),
    )


def _tell_missing(context: ShardContext, cut: Cut) -> None:
    """Fail those of the wanted paths that the comparison has not found."""
    wanted = [path_bytes(path) for path in context.params["files"]]
    found = manifest.find_numbers(context.job_id, wanted)
    _tell_unreadable(context, cut, [path for path in wanted if path not in found], NOT_FOUND)


def _tell_unreadable(context: ShardContext, cut: Cut, paths: Iterable[bytes], reason: str) -> None:
    batch = PlanBatch(frontier=cut.open or [])
    batch.unreadable = [(path, NotFound(reason)) for path in paths]
    if batch.unreadable:
        _Comparison(context, cut).save([batch])


class _Comparison:
    """One list of what a comparison found, on its way into the manifest."""

    def __init__(self, context: ShardContext, cut: Cut, failed: Iterable[bytes] = ()) -> None:
        self._context = context
        self._cut = cut
        self._failed = frozenset(failed)
        self._choices = _choices(context.params)
        self._rows: list[Row] = []
        self._events: list[NewEvent] = []
        self._last_error = ""

    def save(self, items: list[Step | PlanBatch]) -> None:
        """Write everything and the cursor in one checkpoint."""
        context, cut = self._context, self._cut
        if not items:
            context.checkpoint()
            return
        if not context.counters.get("connected"):
            context.counters["connected"] = 1
            self._events.append(NewEvent("phase", {"phase": "scanning"}))
        unreadable: list[tuple[bytes, str]] = []
        for item in items:
            if isinstance(item, Step):
                state = EntryState.SKIPPED if item.action is Action.SKIP else EntryState.DONE
                self._rows.append(Row(0, item.entry, EntryAction(item.action.value), state))
                cut.has_root = True
                continue
            for step in self._new(item.steps):
                self._take(step)
            for path, error in item.unreadable:
                if not path:
                    raise JobFailed(str(error))
                unreadable.append((path, str(error)))
            for path, reason in item.kept_links:
                self._warn(f"Not followed: {path_shown(path)}. {reason}")
            cut.open = item.frontier
            context.counters["followed"] = max(item.followed, context.counters.get("followed", 0))
        for path, reason in unreadable:
            self._tell(path, reason)

        def write() -> None:
            manifest.add(context.job_id, self._rows)
            unknown = manifest.fail_paths(context.job_id, unreadable, first=cut.first)
            manifest.add(
                context.job_id,
                [
                    Row(
                        cut.next + index,
                        Entry(path, Kind.OTHER),
                        EntryAction.CONFLICT,
                        EntryState.FAILED,
                        error,
                    )
                    for index, (path, error) in enumerate(unknown)
                ],
            )

        # Room for the rows that `write` may add: numbers may have holes, they only have to grow.
        cursor = cut.as_json() | {"next": cut.next + len(unreadable)}
        current = {"path": path_shown(self._rows[-1].entry.path)} if self._rows else {}
        if self._last_error:
            current["last_error"] = self._last_error
        shards, cut.cutter.shards = cut.cutter.shards, []
        context.checkpoint(cursor=cursor, current=current, events=self._events, write=write, shards=shards)
        cut.next = cursor["next"]

    def _new(self, steps: list[Step]) -> Iterator[Step]:
        """The steps that have no row yet, or that of a failure. In a first run that is all of them."""
        rows = (
            manifest.find(self._context.job_id, [step.entry.path for step in steps]) if self._failed else {}
        )
        for step in steps:
            row = rows.get(step.entry.path)
            if row is None:
                yield step
            elif step.entry.path in self._failed:
                # Size and time may be equal where the contents were found to differ.
                is_wrong = row.evidence == Evidence.MISMATCH and step.entry.kind is Kind.FILE
                is_same = step.action is Action.SKIP and not step.reason
                yield replace(step, action=Action.UPDATE) if is_wrong and is_same else step

    def _take(self, step: Step) -> None:
        cut, entry = self._cut, step.entry
        state = EntryState.PENDING
        if step.action is Action.SKIP:
            state = EntryState.SKIPPED
            if entry.kind is Kind.FILE:
                self._add("skipped", 1)
            if step.reason and self._choices.reason_to_leave(entry):
                self._warn(f"Left out: {path_shown(entry.path)}. {step.reason}")
        elif entry.kind is Kind.OTHER:
            # A socket or a device is no content: it is named and left out.
            state = EntryState.SKIPPED
            self._warn(f"Left out: {path_shown(entry.path)}. {step.reason}")
        elif step.action is Action.CONFLICT:
            state = EntryState.FAILED
            self._tell(entry.path, step.reason)
        action = EntryAction(step.action.value)
        self._rows.append(Row(cut.next, entry, action, state, step.reason, step.place))
        if state is EntryState.PENDING:
            size = entry.size if entry.kind is Kind.FILE else 0
            if entry.kind is Kind.FILE:
                self._add("total_files", 1)
                self._add("total_bytes", size)
            if not self._context.params["dry_run"]:
                cut.cutter.add(cut.next, size)
        cut.next += 1

    def _warn(self, text: str) -> None:
        self._events.append(_warning(text))

    def _tell(self, path: bytes, error: str) -> None:
        self._add("failed", 1)
        self._last_error = error
        self._events.append(NewEvent("file_failed", {"path": path_shown(path), "error": error}))

    def _add(self, name: str, amount: int) -> None:
        self._context.counters[name] = self._context.counters.get(name, 0) + amount


def _save_copies(context: ShardContext, left: dict[int, Item], batches: list[TransferBatch]) -> None:
    if not batches:
        context.checkpoint()
        return
    counters = context.counters
    done = [one for batch in batches for one in batch.done]
    for one in done:
        is_file = left.pop(one.number).entry.kind is Kind.FILE
        if one.error is not None:
            counters["failed"] = counters.get("failed", 0) + 1
            counters["failed_files"] = counters.get("failed_files", 0) + is_file
            continue
        if one.refusal is not None:
            counters["refusals"] = counters.get("refusals", 0) + 1
        if is_file:
            counters["files"] = counters.get("files", 0) + 1
            counters["bytes"] = counters.get("bytes", 0) + one.bytes
            counters["resumed"] = counters.get("resumed", 0) + one.resumed
    counters["in_flight"] = batches[-1].bytes_in_flight
    beginnings = [beginning for batch in batches for beginning in batch.beginnings]
    failures = _failures(done)
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
    outcomes = [(one.number, str(one.error) if one.error is not None else "", one.tries) for one in done]
    context.checkpoint(
        cursor={str(number): size for number, size in batches[-1].partial.items()},
        current=current,
        events=[*map(_resumption, beginnings), *failures],
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


def _failures(done: list[Done]) -> list[NewEvent]:
    return [
        NewEvent("file_failed", {"path": path_shown(one.path), "error": str(one.error)})
        for one in done
        if one.error is not None
    ]


def _finish_folders(context: ShardContext) -> str:
    """Set modes and mtimes of folders; gives why that of the root was refused, if it was."""
    of_root = ""
    # What exists is left alone then, a folder's mode and time too: it gets its own back where it was opened up.
    only_new = context.params["conflict"] == Conflict.SKIP
    context.counters["folder_refusals"] = 0
    for rows in manifest.folders_backwards(context.job_id, only_new=only_new):
        folders = [manifest.entry_of(row) for row in rows]
        numbers = [row.number for row in rows]

        def given(destination: Storage, folders: list[Entry] = folders) -> AsyncGenerator[list[Done], None]:
            return set_folder_attributes(destination, folders)

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
    context.checkpoint(events=_failures(failed), write=lambda: manifest.mark(context.job_id, outcomes))


def _tell_refusals(context: ShardContext, of_root: str) -> None:
    """Say once for how many files and folders mode and mtime could not be set; remember where it never works."""
    shards = Shard.objects.filter(job_id=context.job_id).exclude(number=context.number)
    counters = sum_counters([*shards.values_list("counters", flat=True), context.counters])
    copied, refused = counters.get("files", 0), counters.get("refusals", 0)
    folders = counters.get("folder_refusals", 0)
    side = side_of(context, "destination", "destination_root")
    root = context.params["destination_root"]

    def write() -> None:
        if copied:
            endpoints.note_times(side.endpoint, root, are_kept=refused < copied)

    events = []
    if refused or folders:
        text = f"The destination refused to set mode and time of {refused:,} files and {folders:,} folders."
        events.append(_warning(text))
    elif of_root:
        # Often the root belongs to the hoster; what was copied into it is none the worse.
        events.append(_warning(f"Mode and time of the root could not be set: {of_root}"))
    context.checkpoint(events=events, write=write)


def _warning(text: str) -> NewEvent:
    return NewEvent("log", {"level": "warning", "message": text})
