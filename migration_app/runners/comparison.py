"""Compares source and destination into the manifest, and cuts the work into shards."""

from collections.abc import AsyncGenerator, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial

from migration_app import endpoints, manifest
from migration_app.engine.bundling import find_way
from migration_app.engine.choices import MEGABYTE, Choices, Conflict, Selection
from migration_app.engine.filters import parse_filter
from migration_app.engine.links import Way
from migration_app.engine.plan import Action, OpenFolder, PlanBatch, Step, compare_trees, step_of_same
from migration_app.manifest import Earlier, Row
from migration_app.models import EntryAction, EntryState, Evidence
from migration_app.paths import path_bytes, path_shown, path_text
from migration_app.runners.connections import Route, both_sides
from migration_app.runners.contents import tell_read_back
from migration_app.runners.deletion import guard_of
from migration_app.runners.outcome import MOST_LISTED, ways_of
from migration_app.runners.shards import Cutter
from migration_app.storages.base import Entry, Kind, Storage
from migration_app.storages.errors import NotFound
from sessions_app.runners import JobFailed, Json, NewEvent, ShardContext, log_warning

BY_SIZE = "The destination keeps no times: files of the same size are taken for the same."
HIDDEN = "A folder above it cannot be listed."
NOT_FOUND = "It is not at the source, or a pattern leaves it out."
_ONLY_THERE = "only"
"""In a cursor, in place of whether a folder is at the destination too."""


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
    is_proved: bool = False
    """Whether an earlier run has looked for its rows at the destination."""
    gone: int = 0
    """How many of those that failed are no longer at the source."""
    cutter: Cutter = field(default_factory=Cutter)
    held: list[Json] = field(default_factory=list)
    """Full shards, where none begins before all is compared."""

    @classmethod
    def read(cls, cursor: Json | None) -> "Cut":
        """From what a checkpoint saved."""
        if cursor is None:
            return cls()
        folders = cursor["open"] and [
            OpenFolder(path_bytes(path), bool(exists), conflict, Way.read(way), exists == _ONLY_THERE)
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
                    _ONLY_THERE if folder.is_extraneous else folder.exists_at_destination,
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
            "is_proved": self.is_proved,
            "gone": self.gone,
            "cutter": self.cutter.as_json(),
            "held": self.held,
        }


def compare(context: ShardContext, cut: Cut) -> None:
    """Write what differs into the manifest, and the work shards, from where `cut` stands."""
    tree_filter = parse_filter(context.params["exclusions"], include_hidden=True)
    is_dry = context.params["dry_run"]
    choices = _choices(context.params)
    # Nothing is copied before it is known how much would go.
    waits = choices.deletes and not is_dry
    earlier = Earlier(context.job_id, cut.first, cut.is_proved) if cut.first else None
    if earlier is not None:
        selection = Selection(earlier.failed_paths(), within=choices.selection)
        if selection.takes_all:
            cut.open = []
        # What the first run has found to be there alone is looked for no more.
        choices = replace(choices, selection=selection, deletes=False)
        if waits:
            manifest.in_ranges(context, manifest.reopen_deletions)
    sides = both_sides(context)
    by_size = endpoints.keeps_no_times(sides[1].endpoint, context.params["destination_root"])
    choices = replace(choices, by_size=by_size)

    notes: list[NewEvent] = []

    async def compared(source: Storage, destination: Storage) -> AsyncGenerator[Step | PlanBatch, None]:
        if is_dry:
            context.counters[await find_way(source, destination, ways_of(context.params))] = 1
        root = await source.root_entry()
        there = await _root_of(destination)
        if there is None and not is_dry:
            await destination.make_root()
        if not cut.has_root:
            if there is None:
                yield Step(root, Action.CREATE)
            else:
                if choices.by_content:
                    notes[:] = await tell_read_back(source, destination)
                yield step_of_same(root, there, choices, destination.capabilities)
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
        events.append(log_warning(BY_SIZE))
    route = Route(context, sides, compared, events=events)
    for items in route.lists(weight=lambda item: len(item.steps) if isinstance(item, PlanBatch) else 1):
        _Comparison(context, cut, earlier, notes, waits=waits).save(items)
        if items:
            notes = []
    if earlier is not None:
        _forget_failed(context, cut, earlier)
    _tell_missing(context, cut)
    cut.cutter.close()
    shards, cut.held = [*cut.held, *cut.cutter.shards], []
    if waits and guard_of(context).asks:
        # The job ends with that, and nothing was changed.
        shards = []
    cut.is_done = True
    context.counters |= {"connected": 1, "prepared": 1}
    events = [] if is_dry else [NewEvent("phase", {"phase": "transferring"})]
    if (others := cut.gone - MOST_LISTED) > 0:
        events.insert(0, log_warning(f"Nor {'is 1 other' if others == 1 else f'are {others:,} others'}."))
    context.checkpoint(cursor=cut.as_json(), shards=shards, events=events)


def _choices(params: Json) -> Choices:
    return Choices(
        conflict=Conflict(params["conflict"]),
        largest=params["skip_large_files"] * MEGABYTE,
        selection=Selection(path_bytes(path) for path in params["files"]),
        follow_links=params.get("follow_symlinks", False),
        by_content=params.get("checksum", False),
        deletes=params.get("delete_extraneous", False),
    )


async def _root_of(destination: Storage) -> Entry | None:
    try:
        return await destination.root_entry()
    except NotFound:
        return None


def _forget_failed(context: ShardContext, cut: Cut, earlier: Earlier) -> None:
    """Drop the rows of what failed in earlier runs: each has a new one, unless its source is gone."""
    wanted = {path_bytes(path) for path in context.params["files"]}
    for numbers in manifest.ranges(context.job_id, below=cut.first):
        failed = [path_bytes(path) for path in earlier.failed(numbers).values_list("path", flat=True)]
        found = manifest.find_numbers(context.job_id, failed, first=cut.first)
        gone = [path for path in failed if path not in found]
        hidden = manifest.below_failed(context.job_id, gone, first=cut.first)
        _tell_unreadable(context, cut, hidden, HIDDEN)
        told = [path for path in gone if path not in wanted | hidden]
        room = max(0, MOST_LISTED - cut.gone)
        cut.gone += len(told)
        context.checkpoint(
            cursor=cut.as_json(),
            events=[log_warning(f"No longer at the source: {path_shown(path)}") for path in told[:room]],
            write=partial(earlier.drop_failed, numbers),
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

    def __init__(
        self,
        context: ShardContext,
        cut: Cut,
        earlier: Earlier | None = None,
        notes: Iterable[NewEvent] = (),
        *,
        waits: bool = False,
    ) -> None:
        self._waits = waits
        """Whether shards are held back until all is compared."""
        self._context = context
        self._cut = cut
        self._earlier = earlier
        """Of a later run: the rows among which are those of failures."""
        self._choices = _choices(context.params)
        self._rows: list[Row] = []
        self._kept: set[bytes] = set()
        self._changed: set[bytes] = set()
        """Folders into which something is put."""
        self._events = [*notes]
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
                action = EntryAction(item.action.value)
                self._rows.append(Row(0, item.entry, action, state, is_settled=item.is_settled))
                cut.has_root = True
                continue
            for step in self._new(item.steps):
                self._take(step, item.existing)
            for path, error in item.unreadable:
                if not path:
                    raise JobFailed(str(error))
                unreadable.append((path, str(error)))
            for path, reason in item.kept_links:
                self._warn(f"Not followed: {path_shown(path)}. {reason}")
            self._kept |= item.kept
            for path, reason in item.spared:
                self._warn(f"Not deleted: {path_shown(path)}. {reason}")
            if self._earlier is None:
                self._add("there", item.there)
            cut.open = item.frontier
            context.counters["followed"] = max(item.followed, context.counters.get("followed", 0))
        for path, reason in unreadable:
            self._tell(path, reason)

        def write() -> None:
            manifest.add(context.job_id, self._rows)
            # With the rows of what is put into them: from then on any worker may do that.
            manifest.unsettle(context.job_id, self._changed)
            manifest.keep(context.job_id, self._kept)
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

        shards, cut.cutter.shards = cut.cutter.shards, []
        if self._waits:
            cut.held += shards
            shards = []
        # Room for the rows that `write` may add: numbers may have holes, they only have to grow.
        cursor = cut.as_json() | {"next": cut.next + len(unreadable)}
        current = {"path": path_shown(self._rows[-1].entry.path)} if self._rows else {}
        if self._last_error:
            current["last_error"] = self._last_error
        context.checkpoint(cursor=cursor, current=current, events=self._events, write=write, shards=shards)
        cut.next = cursor["next"]

    def _new(self, steps: list[Step]) -> Iterator[Step]:
        """The steps that have no row yet, or that of a failure. In a first run that is all of them."""
        if self._earlier is None:
            yield from steps
            return
        rows = manifest.find(self._context.job_id, [step.entry.path for step in steps])
        for step in steps:
            row = rows.get(step.entry.path)
            if row is None:
                yield step
            elif self._earlier.has_failed(row):
                # Size and time may be equal where the contents were found to differ.
                is_wrong = row.evidence == Evidence.MISMATCH and step.entry.kind is Kind.FILE
                is_same = step.action is Action.SKIP and not step.reason
                yield replace(step, action=Action.UPDATE) if is_wrong and is_same else step

    def _take(self, step: Step, existing: Collection[bytes]) -> None:
        cut, entry = self._cut, step.entry
        state = EntryState.PENDING
        if step.action is Action.DELETE:
            self._changed.add(entry.path.rpartition(b"/")[0])
        elif step.action is Action.SKIP:
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
        # What an earlier run left in a folder may yet be removed from it.
        is_settled = step.is_settled and not (cut.first and entry.kind is Kind.FOLDER)
        self._rows.append(Row(cut.next, entry, action, state, step.reason, step.place, is_settled))
        if step.action is Action.COMPARE:
            self._add("to_compare", 1)
            self._add("to_compare_bytes", entry.size)
            cut.cutter.add(cut.next, entry.size)
        elif state is EntryState.PENDING and step.action is not Action.DELETE:
            folder = entry.path.rpartition(b"/")[0]
            if folder in existing:
                self._changed.add(folder)
            size = entry.size if entry.kind is Kind.FILE else 0
            if entry.kind is Kind.FILE:
                self._add("total_files", 1)
                self._add("total_bytes", size)
            if not self._context.params["dry_run"]:
                cut.cutter.add(cut.next, size)
        cut.next += 1

    def _warn(self, text: str) -> None:
        self._events.append(log_warning(text))

    def _tell(self, path: bytes, error: str) -> None:
        self._add("failed", 1)
        self._last_error = error
        self._events.append(NewEvent("file_failed", {"path": path_shown(path), "error": error}))

    def _add(self, name: str, amount: int) -> None:
        self._context.counters[name] = self._context.counters.get(name, 0) + amount
