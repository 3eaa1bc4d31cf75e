"""The manifest of a job: its tree as rows, written and read in batches.

Rows are numbered in the order of the walk, so a folder has a lower number than what it holds; number 0 is the
root of a transfer.
"""

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connection
from django.db.models import Count, F, Max, Q, QuerySet, Sum

from migration_app.engine.contents import Compared, Pair
from migration_app.engine.items import TEMP_PREFIX, Item
from migration_app.models import EntryAction, EntryKind, EntryState, Evidence, ManifestEntry
from migration_app.paths import PathSet, ancestors, hashes_in, path_bytes, path_hash, path_text
from migration_app.storages.base import OWNER_WRITES, Entry, Kind
from sessions_app.models import Job
from sessions_app.runners import ShardContext

BATCH = 2000
HOLDS_KEPT = "It is kept, as something in it is."
RANGE = 10_000
"""How many rows one transaction changes at the most: others write, and leases are renewed, in between."""

_TABLE = ManifestEntry._meta.db_table
_COLUMNS = (
    *(
        "job_id",
        "number",
        "path",
        "path_hash",
        "kind",
        "size",
        "mtime",
        "mode",
        "target",
        "real_path",
        "action",
        "state",
        "error",
    ),
    *("is_settled", "attempts", "evidence"),
)


@dataclass(frozen=True, slots=True)
class Row:
    """A new row: an entry, what is to be done with it, and how far that is."""

    number: int
    entry: Entry
    action: EntryAction
    state: EntryState
    error: str = ""
    place: bytes = b""
    """Of a file: its path at the destination where that is another one."""
    is_settled: bool = False
    """As in `ManifestEntry`."""


def all_rows(job_id: UUID, numbers: range | None = None) -> "QuerySet[ManifestEntry]":
    """A job's rows, or those with such numbers; also of what is at the destination alone."""
    rows = ManifestEntry.objects.filter(job_id=job_id)
    return rows if numbers is None else rows.filter(number__gte=numbers.start, number__lt=numbers.stop)


def rows_of(job_id: UUID, numbers: range | None = None) -> "QuerySet[ManifestEntry]":
    """The rows of what the source has, or those with such numbers."""
    return all_rows(job_id, numbers).exclude(action=EntryAction.DELETE)


def deletions(job_id: UUID, numbers: range | None = None) -> "QuerySet[ManifestEntry]":
    """The rows of what is at the destination alone, or those with such numbers: pending, deleted (done), kept (skipped)
    or failed."""
    return all_rows(job_id, numbers).filter(action=EntryAction.DELETE)


def pending_deletions(job_id: UUID, *, below: int | None = None) -> "list[ManifestEntry]":
    """`BATCH` of what is still to be deleted, the last first, of those with a number below one: what a folder holds
    comes before it."""
    rows = deletions(job_id).filter(state=EntryState.PENDING)
    if below is not None:
        rows = rows.filter(number__lt=below)
    return list(rows.order_by("-number")[:BATCH])


def keep(job_id: UUID, folders: Iterable[bytes]) -> None:
    """Note that folders at the destination alone stay, with those above them, as something in them does."""
    held = {one for folder in folders for one in (folder, *ancestors(folder))}
    for folder in sorted(held):
        rows = deletions(job_id).filter(path_hash=path_hash(folder), path=path_text(folder))
        rows.filter(state=EntryState.PENDING).update(state=EntryState.SKIPPED, error=HOLDS_KEPT)


def deletions_by_folder(job_id: UUID, numbers: range) -> dict[bytes, list[bytes]]:
    """What of rows with such numbers is to be deleted, or is a folder that stays without some of what it holds: paths
    by the folder that they are in."""
    is_kept = Q(state=EntryState.SKIPPED, error=HOLDS_KEPT)
    rows = deletions(job_id, numbers).filter(Q(state=EntryState.PENDING) | is_kept)
    inside: dict[bytes, list[bytes]] = {}
    for text in rows.order_by("number").values_list("path", flat=True):
        path = path_bytes(text)
        inside.setdefault(path.rpartition(b"/")[0], []).append(path)
    return inside


def keep_trees(reasons: Mapping[bytes, str], job_id: UUID, numbers: range) -> None:
    """Note that things at the destination alone stay, with all that they hold, and why, of rows with such numbers."""
    job_key = _job_key(job_id)
    values = []
    rows = deletions(job_id, numbers).filter(state=EntryState.PENDING)
    for number, text in rows.values_list("number", "path"):
        path = path_bytes(text)
        kept = next((one for one in (path, *ancestors(path)) if one in reasons), None)
        if kept is not None:
            values.append((EntryState.SKIPPED.value, reasons[kept], job_key, number))
    _execute_for_each(
        f"UPDATE {_TABLE} SET state = %s, error = %s WHERE job_id = %s AND number = %s",  # noqa: S608
        values,
    )


def reopen_deletions(job_id: UUID, numbers: range) -> None:
    """What of rows with such numbers could not be deleted is tried again."""
    failed = deletions(job_id, numbers).filter(state=EntryState.FAILED)
    failed.update(state=EntryState.PENDING, error="")


def ranges(job_id: UUID, *, first: int = 0, below: int | None = None) -> Iterator[range]:
    """The numbers of a job's rows from `first` on, `RANGE` at a time: there may be a million rows, which no one
    transaction may change. Rows that are added meanwhile are left out."""
    if below is None:
        last = all_rows(job_id).aggregate(last=Max("number"))["last"]
        below = 0 if last is None else last + 1
    for start in range(first, below, RANGE):
        yield range(start, min(start + RANGE, below))


def in_ranges(context: ShardContext, write: Callable[[UUID, range], None]) -> None:
    """Write something to all rows of a shard's job, in ranges; after a crash it is begun again."""
    for numbers in ranges(context.job_id):
        context.checkpoint(write=partial(write, context.job_id, numbers))


def add(job_id: UUID, rows: Sequence[Row]) -> None:
    """Write new rows, inside the caller's transaction."""
    if not rows:
        return
    job_key = _job_key(job_id)
    marks = ", ".join(["%s"] * len(_COLUMNS))
    # One prepared statement for all rows: three times as fast as bulk_create.
    _execute_for_each(
        f"INSERT INTO {_TABLE} ({', '.join(_COLUMNS)}) VALUES ({marks})",  # noqa: S608 - no value in it
        [(job_key, *_values(row), 0, "") for row in rows],
    )


def _execute_for_each(statement: str, values: Sequence[tuple[Any, ...]]) -> None:
    if values:
        with connection.cursor() as cursor:
            cursor.executemany(statement, values)


def _job_key(job_id: UUID) -> Any:
    """A job's id as the database's driver takes it."""
    return Job._meta.pk.get_db_prep_value(job_id, connection)


def _values(row: Row) -> tuple[Any, ...]:
    entry = row.entry
    return (
        row.number,
        path_text(entry.path),
        path_hash(entry.path),
        entry.kind.value,
        entry.size,
        entry.mtime,
        entry.mode,
        path_text(entry.target if entry.target is not None else row.place),
        path_text(entry.real),
        row.action.value,
        row.state.value,
        row.error,
        row.is_settled,
    )


def mark(job_id: UUID, outcomes: Iterable[tuple[int, str, int]]) -> None:
    """Note how entries ended, by number: done, or failed where there is an error text, and after how many tries."""
    job_key = _job_key(job_id)
    _execute_for_each(
        f"UPDATE {_TABLE} SET state = %s, error = %s, attempts = attempts + %s "  # noqa: S608
        "WHERE job_id = %s AND number = %s",
        [
            (EntryState.FAILED.value if error else EntryState.DONE.value, error, tries, job_key, number)
            for number, error, tries in outcomes
        ],
    )


def to_compare(job_id: UUID, first: int, last: int) -> list[Pair]:
    """What of a shard is still to be compared by content, in the order of the walk."""
    rows = rows_of(job_id).filter(
        number__gte=first, number__lte=last, state=EntryState.PENDING, action=EntryAction.COMPARE
    )
    # As in `pending`, not as model instances.
    columns = rows.values_list(
        *("number", "path", "size", "mtime", "mode", "real_path", "is_settled", "error", "target")
    )
    return [
        Pair(
            number,
            Entry(path_bytes(path), Kind.FILE, size, mtime, mode, real=path_bytes(real_path)),
            is_settled,
            reason,
            path_bytes(place),
        )
        for number, path, size, mtime, mode, real_path, is_settled, reason, place in columns.order_by(
            "number"
        )
    ]


def decide(job_id: UUID, compared: Iterable[Compared]) -> None:
    """Note what becomes of files that were compared by content: equal ones stay, and different ones that are kept;
    the others are to be copied."""
    skipped = (EntryAction.SKIP.value, EntryState.SKIPPED.value)
    job_key = _job_key(job_id)
    values = []
    for one in compared:
        pair = one.pair
        if one.is_equal or pair.reason:
            found = (*skipped, "" if one.is_equal else pair.reason, "")
        else:
            action = EntryAction.CREATE if pair.place else EntryAction.UPDATE
            found = (action.value, EntryState.PENDING.value, "", path_text(pair.place))
        values.append((*found, job_key, pair.number))
    _execute_for_each(
        f"UPDATE {_TABLE} SET action = %s, state = %s, error = %s, target = %s "  # noqa: S608
        "WHERE job_id = %s AND number = %s",
        values,
    )


def unsettle(job_id: UUID, folders: Iterable[bytes]) -> None:
    """Note that something is put into folders: they need their mode and mtime at the end."""
    job_key = _job_key(job_id)
    _execute_for_each(
        f"UPDATE {_TABLE} SET is_settled = %s "  # noqa: S608 - no value in it
        "WHERE job_id = %s AND path_hash = %s AND path = %s AND is_settled = %s",
        # In one order, as several shards may have found something for the same ones.
        [(False, job_key, path_hash(folder), path_text(folder), True) for folder in sorted(folders)],
    )


def fail_paths(
    job_id: UUID, problems: Sequence[tuple[bytes, str]], *, first: int = 0
) -> list[tuple[bytes, str]]:
    """Mark rows that are there already, from number `first` on, as failed, by path; gives the problems that no row was
    found for."""
    numbers = find_numbers(job_id, [path for path, _ in problems], first=first)
    mark(job_id, [(numbers[path], error, 1) for path, error in problems if path in numbers])
    return [(path, error) for path, error in problems if path not in numbers]


def find_numbers(job_id: UUID, paths: Sequence[bytes], *, first: int = 0) -> dict[bytes, int]:
    """Numbers of the rows of paths, as far as there are any from number `first` on."""
    return {path: row.number for path, row in find(job_id, paths, first=first).items()}


def find(job_id: UUID, paths: Sequence[bytes], *, first: int = 0) -> dict[bytes, ManifestEntry]:
    """Rows by path, from number `first` on."""
    found: dict[bytes, ManifestEntry] = {}
    for start in range(0, len(paths), 500):
        wanted = {path_text(path): path for path in paths[start : start + 500]}
        rows = rows_of(job_id).filter(path_hash__in=[path_hash(path) for path in wanted.values()])
        if first:
            rows = rows.filter(number__gte=first)
        found |= {wanted[row.path]: row for row in rows if row.path in wanted}
    return found


@dataclass(frozen=True, slots=True)
class Earlier:
    """The rows of a job's earlier runs; some of them another run has to look at again."""

    job_id: UUID
    below: int
    """Those with a number from here on are of later runs."""
    is_proved: bool
    """Whether one of those runs has looked for all of them at the destination."""

    def failed(self, numbers: range) -> "QuerySet[ManifestEntry]":
        """Those among rows with such numbers: what failed, differs at the destination, or was not found there."""
        rows = rows_of(self.job_id, range(max(1, numbers.start), min(self.below, numbers.stop)))
        return rows.filter(_is_failed(is_proved=self.is_proved)).order_by("number")

    def failed_paths(self) -> Iterator[bytes]:
        """The paths of all of them. Rows may be written meanwhile."""
        for numbers in ranges(self.job_id, below=self.below):
            yield from map(path_bytes, self.failed(numbers).values_list("path", flat=True))

    def drop_failed(self, numbers: range) -> None:
        """Delete those, inside the caller's transaction."""
        self.failed(numbers).delete()

    def has_failed(self, row: ManifestEntry) -> bool:
        """Whether a row is one of them."""
        if not 0 < row.number < self.below or row.state == EntryState.PENDING:
            return False
        is_missing = self.is_proved and not row.evidence and not row.error and row.kind != EntryKind.OTHER
        return row.state == EntryState.FAILED or row.evidence == Evidence.MISMATCH or is_missing


def is_proved(job_id: UUID) -> bool:
    """Whether the rows of a job were looked for at the destination."""
    return rows_of(job_id).filter(number__gt=0).exclude(evidence="").exists()


def _is_failed(*, is_proved: bool) -> Q:
    """Of a row: its entry failed, differs at the destination, or was not found there when all were looked for."""
    differs = Q(evidence=Evidence.MISMATCH)
    if is_proved:
        differs |= Q(evidence="", error="") & ~Q(kind=EntryKind.OTHER)
    return Q(state=EntryState.FAILED) | (differs & ~Q(state=EntryState.PENDING))


def below_failed(job_id: UUID, paths: Iterable[bytes], *, first: int) -> set[bytes]:
    """Of paths, those in a folder whose row, one from number `first` on, has failed."""
    above = {path: list(ancestors(path)) for path in paths}
    rows = find(job_id, sorted({folder for folders in above.values() for folder in folders}), first=first)
    failed = {path for path, row in rows.items() if row.state == EntryState.FAILED}
    return {path for path, folders in above.items() if not failed.isdisjoint(folders)}


def drop(job_id: UUID, numbers: range) -> None:
    """Delete rows, inside the caller's transaction."""
    all_rows(job_id, numbers).delete()


def sums_without_failed(job_id: UUID) -> dict[str, int]:
    """Counters of a transfer as its rows have it: files and bytes that are to be copied and that are, files skipped,
    and what is still to be compared by content."""
    rows = rows_of(job_id).filter(number__gt=0)
    files = rows.filter(kind=EntryKind.FILE).exclude(_is_failed(is_proved=is_proved(job_id)))
    done = Q(state=EntryState.DONE)
    is_undecided = Q(state=EntryState.PENDING, action=EntryAction.COMPARE)
    to_copy = done | (Q(state=EntryState.PENDING) & ~is_undecided)
    sums: dict[str, int] = files.aggregate(
        files=Count("pk", filter=done),
        bytes=Sum("size", filter=done, default=0),
        total_files=Count("pk", filter=to_copy),
        total_bytes=Sum("size", filter=to_copy, default=0),
        skipped=Count("pk", filter=Q(state=EntryState.SKIPPED)),
        to_compare=Count("pk", filter=is_undecided),
        to_compare_bytes=Sum("size", filter=is_undecided, default=0),
    )
    return sums


def entry_of(row: ManifestEntry) -> Entry:
    """The entry of a row, as it was listed."""
    return Entry(
        path_bytes(row.path),
        Kind(row.kind),
        row.size,
        row.mtime,
        row.mode,
        path_bytes(row.target) if row.kind == EntryKind.LINK else None,
        path_bytes(row.real_path),
    )


def place_of(row: ManifestEntry) -> bytes:
    """The path of a row's file at the destination where that is another one, else nothing."""
    return path_bytes(row.target) if row.kind == EntryKind.FILE else b""


def has_renamed(job_id: UUID) -> bool:
    """Whether a file of a job has another path at the destination."""
    return rows_of(job_id).filter(kind=EntryKind.FILE).exclude(target="").exists()


def renamed(job_id: UUID, folders: Iterable[bytes]) -> dict[bytes, ManifestEntry]:
    """Rows of files directly in `folders` that have another path at the destination, by that path."""
    found: dict[bytes, ManifestEntry] = {}
    for folder in folders:
        rows = (
            rows_of(job_id).filter(path_hash__range=hashes_in(folder), kind=EntryKind.FILE).exclude(target="")
        )
        found |= {path_bytes(row.target): row for row in rows}
    return found


def folders(job_id: UUID) -> PathSet:
    """The paths of all folders."""
    rows = rows_of(job_id).filter(kind=EntryKind.FOLDER).values_list("path", flat=True)
    return PathSet(path_bytes(path) for path in rows.iterator(chunk_size=BATCH))


def pending(job_id: UUID, first: int, last: int) -> list[Item]:
    """What of a shard is still to be copied, in the order of the walk."""
    rows = rows_of(job_id).filter(number__gte=first, number__lte=last, state=EntryState.PENDING)
    # Not as model instances, which cost more than all else that is done with them.
    columns = rows.values_list("number", "path", "kind", "size", "mtime", "mode", "target", "real_path")
    items = []
    for number, path, kind_name, size, mtime, mode, target, real_path in columns.order_by("number"):
        kind, other = Kind(kind_name), path_bytes(target)
        link_target = other if kind is Kind.LINK else None
        entry = Entry(path_bytes(path), kind, size, mtime, mode, link_target, path_bytes(real_path))
        place = other if kind is Kind.FILE else b""
        items.append(Item(number, entry, temp_name(job_id, entry), place))
    return items


def existing_folders(job_id: UUID, paths: Iterable[bytes]) -> set[bytes]:
    """Of the folders above `paths`, those that are at the destination already."""
    above = {folder for path in paths for folder in ancestors(path)}
    there = (EntryState.SKIPPED, EntryState.DONE)
    return {path for path, row in find(job_id, sorted(above)).items() if row.state in there}


def folders_backwards(job_id: UUID, *, only_new: bool = False) -> Iterator[list[ManifestEntry]]:
    """Folders that are in place and not settled, in batches, each after all folders that it holds.

    `only_new`: those that the job has made, or has to have opened for their owner before it could fill them.
    """
    rows = rows_of(job_id).filter(kind=EntryKind.FOLDER, state__in=(EntryState.SKIPPED, EntryState.DONE))
    rows = rows.filter(is_settled=False)
    if only_new:
        rows = rows.annotate(own=F("mode").bitand(OWNER_WRITES))
        rows = rows.filter(Q(state=EntryState.DONE) | Q(own__lt=OWNER_WRITES))
    below: int | None = None
    while batch := list(
        (rows.filter(number__lt=below) if below is not None else rows).order_by("-number")[:BATCH]
    ):
        yield batch
        below = batch[-1].number


def set_evidence(job_id: UUID, found: Iterable[tuple[int, Evidence, str]]) -> None:
    """Note what a second look at the destination found, by number, and how it differs where it does."""
    job_key = _job_key(job_id)
    _execute_for_each(
        f"UPDATE {_TABLE} SET evidence = %s, error = CASE WHEN %s = '' THEN error ELSE %s END "  # noqa: S608
        "WHERE job_id = %s AND number = %s",
        [(evidence.value, error, error, job_key, number) for number, evidence, error in found],
    )


def forget_evidence(job_id: UUID, numbers: range) -> None:
    """As if nobody had looked at the destination again."""
    rows = rows_of(job_id, numbers).exclude(evidence="")
    rows.filter(evidence=Evidence.MISMATCH).exclude(state=EntryState.FAILED).update(error="")
    rows.update(evidence="")


def copy(job_id: UUID, to_job_id: UUID, numbers: range) -> None:
    """Give another job what of a range should be at the destination of this one, still to be looked at."""
    new = ("job_id", "state", "action", "error", "attempts", "evidence")
    columns = ", ".join(name for name in _COLUMNS if name not in new)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {_TABLE} ({', '.join(new)}, {columns}) "  # noqa: S608 - no value in it
            f"SELECT %s, %s, %s, '', 0, '', {columns} FROM {_TABLE} WHERE job_id = %s "
            "AND number >= %s AND number < %s AND action NOT IN (%s, %s) AND NOT (state = %s AND error <> '')",
            [
                _job_key(to_job_id),
                EntryState.PENDING.value,
                EntryAction.LIST.value,
                _job_key(job_id),
                numbers.start,
                numbers.stop,
                EntryAction.CONFLICT.value,
                EntryAction.DELETE.value,
                # Left where it was on purpose.
                EntryState.SKIPPED.value,
            ],
        )


def temp_name(job_id: UUID, entry: Entry) -> bytes:
    """The name that a file has until it is whole: nobody can guess it, and it can be worked out again.

    A source that has changed gets another one.
    """
    text = b"\0".join((job_id.bytes, entry.path, b"%d" % entry.size, b"%d" % entry.mtime))
    return TEMP_PREFIX + hmac.digest(_temp_key(str(settings.SECRET_KEY)), text, "sha256").hex()[:24].encode()


@cache
def _temp_key(secret: str) -> bytes:
    return hashlib.sha256(b"temporary names\0" + secret.encode()).digest()
