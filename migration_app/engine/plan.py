"""Compares two trees and says for each entry of the source what to do."""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial

from migration_app.engine.choices import DEFAULTS, Choices, Conflict, numbered_paths
from migration_app.engine.extraneous import find_extraneous
from migration_app.engine.filters import Filter
from migration_app.engine.links import DIRECT, Lister, Way
from migration_app.engine.walk import Walk, is_folder, take_once
from migration_app.storages.base import Capabilities, Entry, FolderListing, Kind, Storage
from migration_app.storages.errors import ConnectionLost, NotFound, StorageError


class Action(StrEnum):
    """What is to be done with an entry."""

    CREATE = "create"
    UPDATE = "update"
    SKIP = "skip"
    CONFLICT = "conflict"
    COMPARE = "compare"
    """A file of this name and size is there: what both hold decides."""
    DELETE = "delete"
    """It is at the destination alone."""


@dataclass(frozen=True, slots=True)
class Step:
    """An entry of the source, or one of the destination alone, and what to do with it.

    `reason` says of a conflict why nothing can be done, and of a skip why what is not the same is not copied; of a
    comparison why it would not be.
    """

    entry: Entry
    action: Action
    reason: str = ""
    place: bytes = b""
    """Its path at the destination where that is another one; of a comparison, where it goes if it differs."""
    is_settled: bool = False
    """Of a folder that is there: it has the mode and mtime that it is to have, as long as nothing is put into it. Of a
    comparison: what is there keeps its own if it is equal."""


@dataclass(frozen=True, slots=True)
class OpenFolder:
    """A folder that is still to be compared."""

    path: bytes
    exists_at_destination: bool
    conflict: str = ""
    """Why nothing that it holds can be copied, if so."""
    way: Way = DIRECT
    """How it is reached at the source."""
    is_extraneous: bool = False
    """It is at the destination alone, and is to be deleted."""


@dataclass(slots=True)
class PlanBatch:
    """What was compared since the last batch, and what is still to be: a comparison can go on from there."""

    steps: list[Step] = field(default_factory=list)
    unreadable: list[tuple[bytes, StorageError]] = field(default_factory=list)
    kept_links: list[tuple[bytes, str]] = field(default_factory=list)
    """Links that were not followed, and why."""
    followed: int = 0
    """Links to folders that were followed so far."""
    excluded_count: int = 0
    excluded_size: int = 0
    frontier: list[OpenFolder] = field(default_factory=list)
    spared: list[tuple[bytes, str]] = field(default_factory=list)
    """What is at the destination alone and cannot be deleted, and why."""
    kept: set[bytes] = field(default_factory=set)
    """Folders at the destination alone in which something stays."""
    there: int = 0
    """How many entries the destination's folders held."""
    existing: set[bytes] = field(default_factory=set)
    """Folders whose entries are in `steps` and that are at the destination: what is put into them changes them."""


async def compare_trees(
    source: Storage,
    destination: Storage,
    filter: Filter,  # noqa: A002
    *,
    choices: Choices = DEFAULTS,
    followed: int = 0,
    frontier: Sequence[OpenFolder] | None = None,
) -> AsyncGenerator[PlanBatch, None]:
    """Compare from the root, or from `frontier`. Raises ConnectionLost after giving what was compared.

    `followed` counts links on from an earlier part of the comparison.
    """
    batch = PlanBatch()

    def is_wanted(link: Entry) -> bool:
        return choices.selection.takes(link.path, True) and not filter.excludes(link.path, False)

    lister = Lister(source, follows=choices.follow_links, followed=followed, wants=is_wanted)

    def visit(folder: OpenFolder) -> None:
        pair = _Pair(partial(listed, folder))
        if folder.is_extraneous:
            pair.take_source(FolderListing([]))
        else:
            lister.list_folder(folder.path, folder.way, pair.take_source)
        if folder.exists_at_destination and not folder.conflict:
            destination.list_folder(folder.path, pair.take_destination)
        else:
            pair.take_destination(FolderListing([]))

    def listed(
        folder: OpenFolder, here: FolderListing | StorageError, there: FolderListing | StorageError
    ) -> None:
        for lost in (here, there):
            if isinstance(lost, ConnectionLost):
                walk.lose(lost)
                return
        if walk.tries_again(folder, here, there):
            return
        if isinstance(here, StorageError):
            batch.unreadable.append((folder.path, here))
            walk.visited(folder, (), 0)
            return
        if isinstance(there, FolderListing):
            batch.there += len(there.entries)
            grain.see(there.entries)
        extraneous: list[Step] = []
        if choices.deletes and (folder.is_extraneous or (folder.exists_at_destination and not here.problems)):
            found = find_extraneous(folder.path, here, there, filter)
            extraneous = [Step(entry, Action.DELETE) for entry in found.entries]
            batch.spared += found.spared
            if folder.is_extraneous and found.stays:
                batch.kept.add(folder.path)
        entries = _taken(here, filter, choices, batch)
        names = {entry.path for entry in here.entries}
        comparison = _Comparison(folder, there, destination.capabilities, choices, names, grain)
        steps = [comparison.step(entry) for entry in entries]
        batch.steps += steps
        if folder.exists_at_destination and not folder.is_extraneous:
            batch.existing.add(folder.path)
        inside = [_open_folder(folder, step) for step in steps if is_folder(step.entry)]
        batch.steps += extraneous
        inside += [_extraneous_folder(step) for step in extraneous if is_folder(step.entry)]
        walk.visited(folder, inside, len(steps) + len(extraneous))

    grain = Grain()
    first = [OpenFolder(b"", True)] if frontier is None else frontier
    walk = Walk[OpenFolder](first, visit, source.capabilities, destination.capabilities)
    try:
        with source.listing_ahead(), destination.listing_ahead():
            while await walk.advance():
                ready, batch = batch, PlanBatch()
                ready.frontier, ready.followed = walk.frontier(), lister.followed
                yield ready
    finally:
        walk.close()
    if walk.lost is not None:
        raise walk.lost


class Grain:
    """Whether the destination rounds the times of files to two seconds, as FAT and what is like it do.

    It is taken to once enough of its files have different times and all of those are even: a storage that keeps each
    second shows that by chance once in 2 ** `ENOUGH` times. Until then a file that was rounded is copied again.
    """

    ENOUGH = 16

    def __init__(self) -> None:
        self._even: set[int] = set()
        self._is_fine = False

    def see(self, entries: Iterable[Entry]) -> None:
        """Learn from what is there."""
        for entry in entries:
            if self._is_fine:
                return
            if entry.kind is not Kind.FILE:
                continue
            self._is_fine = entry.mtime % 2 == 1
            if len(self._even) < self.ENOUGH:
                self._even.add(entry.mtime)

    def rounds(self, mtime: int, there: int) -> bool:
        """Whether it makes the one out of the other, up or down."""
        is_coarse = not self._is_fine and len(self._even) >= self.ENOUGH
        return is_coarse and abs(mtime - there) == 1


class _Pair:
    """Waits for the listings of a folder on both sides."""

    __slots__ = ("_destination", "_listed", "_source")

    def __init__(
        self, listed: Callable[[FolderListing | StorageError, FolderListing | StorageError], None]
    ) -> None:
        self._listed = listed
        self._source: FolderListing | StorageError | None = None
        self._destination: FolderListing | StorageError | None = None

    def take_source(self, found: FolderListing | StorageError) -> None:
        self._source = found
        self._go_on()

    def take_destination(self, found: FolderListing | StorageError) -> None:
        self._destination = found
        self._go_on()

    def _go_on(self) -> None:
        if self._source is not None and self._destination is not None:
            self._listed(self._source, self._destination)


def _taken(found: FolderListing, exclusions: Filter, choices: Choices, batch: PlanBatch) -> list[Entry]:
    """The entries of a source folder that are wanted; those that the filter leaves out are counted in `batch`."""
    taken = []
    for entry in take_once(found):
        if not choices.selection.takes(entry.path, is_folder(entry)):
            continue
        if exclusions.excludes(entry.path, is_folder(entry)):
            batch.excluded_count += 1
            batch.excluded_size += entry.size
        else:
            taken.append(entry)
    batch.unreadable += found.problems
    batch.kept_links += found.kept_links
    return taken


def _open_folder(parent: OpenFolder, step: Step) -> OpenFolder:
    is_conflict = step.action is Action.CONFLICT
    return OpenFolder(
        step.entry.path,
        step.action is Action.SKIP,
        step.reason if is_conflict else "",
        parent.way.into(parent.path, step.entry),
    )


def _extraneous_folder(step: Step) -> OpenFolder:
    return OpenFolder(step.entry.path, True, is_extraneous=True)


class _Comparison:
    """The entries of one folder against what its destination holds."""

    def __init__(
        self,
        folder: OpenFolder,
        found: FolderListing | StorageError,
        limits: Capabilities,
        choices: Choices,
        names: set[bytes],
        grain: Grain,
    ) -> None:
        self._conflict = folder.conflict
        self._limits = limits
        self._choices = choices
        self._grain = grain
        self._names = names
        """Paths that the source has, or that were given away: no other file may get one of them."""
        self._there: dict[bytes, Entry] = {}
        self._problems: dict[bytes, StorageError] = {}
        if isinstance(found, FolderListing):
            self._there = {entry.path: entry for entry in found.entries}
            self._problems = dict(found.problems)
        elif not isinstance(found, NotFound):
            self._conflict = f"The folder cannot be listed at the destination: {found}"

    def step(self, entry: Entry) -> Step:
        """What to do with one entry."""
        reason = self._conflict
        if entry.kind is Kind.OTHER:
            reason = "Not a regular file, folder or link; it is left out."
        elif not reason and (problem := self._problems.get(entry.path)) is not None:
            reason = f"What is at the destination cannot be read: {problem}"
        if reason:
            return Step(entry, Action.CONFLICT, reason)
        there = self._there.get(entry.path)
        if there is not None and (reason := _conflict_of_kinds(entry.kind, there.kind)):
            return Step(entry, Action.CONFLICT, reason)
        if there is not None and self._choices.by_content and _may_be_equal(entry, there):
            return self._comparison(entry, there)
        if there is not None and self._is_same(entry, there):
            return step_of_same(entry, there, self._choices, self._limits)
        if reason := self._choices.reason_to_leave(entry):
            return Step(entry, Action.SKIP, reason)
        if there is None:
            return Step(entry, Action.CREATE)
        if reason := self._choices.reason_to_keep(entry, there):
            return Step(entry, Action.SKIP, reason)
        if self._choices.conflict is Conflict.RENAME:
            return self._beside(entry)
        return Step(entry, Action.UPDATE)

    def _comparison(self, entry: Entry, there: Entry) -> Step:
        """What both hold decides, where anything depends on it."""
        if reason := self._choices.reason_to_leave(entry):
            return Step(entry, Action.SKIP, reason)
        reason = self._choices.reason_to_keep(entry, there)
        is_right = _is_same_mode(entry, there) and self._is_same_time(entry, there)
        is_settled = bool(reason) or self._choices.by_size or is_right
        if self._choices.conflict is not Conflict.RENAME:
            return Step(entry, Action.COMPARE, reason, is_settled=is_settled)
        # One beside it is known by size and time, as in any other run.
        beside = self._beside(entry)
        if beside.action is Action.SKIP:
            return beside
        return Step(entry, Action.COMPARE, place=beside.place, is_settled=True)

    def _beside(self, entry: Entry) -> Step:
        """Give a file a free name beside the one that keeps its own.

        The name comes from what the destination holds when the folder is compared, and is saved with that comparison:
        a transfer that goes on after a crash reads it from there. A folder that was not saved has nothing copied into
        it yet, so it is compared as the first time. And where a numbered file is the very one, an earlier transfer has
        put it there: it is not copied again.
        """
        for place in numbered_paths(entry.path):
            there = self._there.get(place)
            if place in self._names or place in self._problems:
                continue
            if there is None:
                self._names.add(place)
                return Step(entry, Action.CREATE, place=place)
            if self._is_same(entry, there):
                return Step(entry, Action.SKIP, place=place)
        raise AssertionError("Numbers do not end.")

    def _is_same(self, entry: Entry, there: Entry) -> bool:
        if entry.kind is not there.kind:
            return False
        if entry.kind is Kind.LINK:
            return entry.target == there.target
        if entry.kind is Kind.FOLDER:
            return True
        if entry.size != there.size or self._choices.by_size:
            return entry.size == there.size
        # A mode that was tightened at the source must not stay open at the destination; but a second file with another
        # mode would help nobody.
        is_mode_kept = _is_same_mode(entry, there) or self._choices.conflict is Conflict.RENAME
        return is_mode_kept and self._is_same_time(entry, there)

    def _is_same_time(self, entry: Entry, there: Entry) -> bool:
        return _is_same_time(entry, there, self._limits) or self._grain.rounds(entry.mtime, there.mtime)


def _may_be_equal(entry: Entry, there: Entry) -> bool:
    return entry.kind is there.kind is Kind.FILE and entry.size == there.size


def step_of_same(entry: Entry, there: Entry, choices: Choices, limits: Capabilities) -> Step:
    """What to do with what is the same at the destination: nothing, or a folder gets its mode and mtime at the end."""
    entry = choices.as_it_stays(entry, there)
    is_folder = entry.kind is Kind.FOLDER
    is_settled = is_folder and _is_same_mode(entry, there) and _is_same_time(entry, there, limits)
    return Step(entry, Action.SKIP, is_settled=is_settled)


def _is_same_mode(entry: Entry, there: Entry) -> bool:
    return (entry.mode ^ there.mode) & 0o777 == 0


def _is_same_time(entry: Entry, there: Entry, limits: Capabilities) -> bool:
    """Whether an mtime is that of the source, as near as the destination can hold it."""
    return min(max(entry.mtime, limits.earliest_mtime), limits.latest_mtime) == there.mtime


def _conflict_of_kinds(wanted: Kind, there: Kind) -> str:
    """Why something of one kind cannot take the place of another; empty when it can."""
    if there is Kind.OTHER:
        return "Something that is not a regular file, folder or link is at the destination."
    if (wanted is Kind.FOLDER) == (there is Kind.FOLDER):
        return ""
    return f"A {there} is where a {wanted} should be."
