"""What a job of very many files keeps in memory: none of it grows with their number, or by a few bytes of each."""

import tracemalloc
from collections.abc import Callable, Iterable
from importlib import import_module

import pytest
from django.apps import apps
from django.db import connection

from migration_app import manifest
from migration_app.engine.choices import Selection
from migration_app.manifest import Earlier, Row
from migration_app.models import EntryAction, EntryState, Evidence, ManifestEntry
from migration_app.paths import PathSet, path_hash
from migration_app.runners.proof import BATCH_BYTES, BATCH_FILES, _batches
from migration_app.runners.statistics import MOST_KNOWN_TYPES, Statistics
from migration_app.storages.base import Entry, Kind
from sessions_app.models import Job

ROWS = 40_000
BYTES_A_ROW = 100
"""A path alone takes as much."""
LEAST_BYTES = 4 * 2**20
"""What a batch takes, and the database's own."""


@pytest.fixture
def job(owner) -> Job:
    return Job.objects.create(type="transfer", owner=owner, params={}, public={})


@pytest.fixture
def many(job) -> Job:
    """A job whose files all failed, in as many folders as a site has."""
    for start in range(0, ROWS, 5000):
        rows = []
        for number in range(start, start + 5000):
            entry = Entry(
                b"wp-content/uploads/2026/%d/picture-%d.webp" % (number // 10, number), Kind.FILE, 20
            )
            rows.append(Row(number + 1, entry, EntryAction.CREATE, EntryState.FAILED, "It cannot be read."))
        manifest.add(job.pk, rows)
    return job


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that were in use at once meanwhile."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def consume(batches: Iterable[object]) -> None:
    """One after the other, none of them kept."""
    for _ in batches:
        pass


def test_files_to_be_hashed_are_read_as_they_are_needed(many):
    rows = manifest.rows_of(many.pk)
    assert peak_of(lambda: consume(_batches(rows))) < LEAST_BYTES
    assert sum(len(batch) for batch in _batches(rows)) == ROWS


def test_what_failed_is_selected_with_few_bytes_of_each(many):
    found: list[Selection] = []

    def select() -> None:
        found.append(Selection(Earlier(many.pk, ROWS + 2, is_proved=False).failed_paths()))

    assert peak_of(select) < LEAST_BYTES + ROWS * BYTES_A_ROW
    assert found[0].takes(b"wp-content/uploads/2026/7/picture-70.webp", False)
    assert found[0].takes(b"wp-content/uploads/2026", True)
    assert not found[0].takes(b"wp-content/uploads/2026/7/picture-80.webp", False)


def test_batches_to_be_hashed_end_with_so_many_files_or_bytes(job):
    sizes = [1] * (BATCH_FILES + 1) + [BATCH_BYTES, 5, BATCH_BYTES - 5, 7]
    entries = [Entry(b"%d" % number, Kind.FILE, size) for number, size in enumerate(sizes, 1)]
    rows = [Row(n, entry, EntryAction.CREATE, EntryState.DONE) for n, entry in enumerate(entries, 1)]
    manifest.add(job.pk, rows)
    batches = [[file.number for file in batch] for batch in _batches(manifest.rows_of(job.pk))]
    first = BATCH_FILES + 1
    assert batches == [list(range(1, first)), [first, first + 1], [first + 2, first + 3], [first + 4]]


def test_row_is_failed_where_the_rows_that_failed_have_it(job):
    kinds = [
        (Kind.FILE, EntryState.DONE, "", Evidence.READBACK),
        (Kind.FILE, EntryState.DONE, "", ""),
        (Kind.FILE, EntryState.FAILED, "No.", ""),
        (Kind.FILE, EntryState.FAILED, "No.", Evidence.MISMATCH),
        (Kind.FILE, EntryState.PENDING, "", ""),
        (Kind.FILE, EntryState.DONE, "It differs.", Evidence.MISMATCH),
        (Kind.FILE, EntryState.SKIPPED, "Too large.", ""),
        (Kind.OTHER, EntryState.SKIPPED, "", ""),
        (Kind.FOLDER, EntryState.DONE, "", ""),
    ]
    for is_proved in (False, True):
        ManifestEntry.objects.all().delete()
        rows = [
            Row(number, Entry(b"%d" % number, kind), EntryAction.CREATE, state, error)
            for number, (kind, state, error, _) in enumerate(kinds)
        ]
        manifest.add(job.pk, rows)
        if is_proved:
            for number, (_, _, _, evidence) in enumerate(kinds):
                manifest.rows_of(job.pk).filter(number=number).update(evidence=evidence)
        for below in (5, 100):
            earlier = Earlier(job.pk, below, manifest.is_proved(job.pk))
            rows = manifest.rows_of(job.pk).order_by("number")
            mine = [row.number for row in rows if earlier.has_failed(row)]
            assert mine == [int(path) for path in earlier.failed_paths()]
            assert 2 in mine
            assert (5 in mine) == (is_proved and below > 5)
            assert (8 in mine) == (is_proved and below > 5)


def test_ranges_hold_every_number_once(many, monkeypatch):
    monkeypatch.setattr(manifest, "RANGE", 17_000)
    assert [*manifest.ranges(many.pk)] == [
        range(17_000),
        range(17_000, 34_000),
        range(34_000, ROWS + 1),
    ]
    assert [*manifest.ranges(many.pk, first=ROWS)] == [range(ROWS, ROWS + 1)]
    assert [*manifest.ranges(many.pk, first=5, below=7)] == [range(5, 7)]
    found = [manifest.rows_of(many.pk, numbers).count() for numbers in manifest.ranges(many.pk)]
    assert found == [16_999, 17_000, 6_001]
    manifest.drop(many.pk, range(ROWS + 1))
    assert not [*manifest.ranges(many.pk)]


def test_renamed_files_are_found_by_the_folder_that_they_are_in(job):
    paths = [b"a.txt", b"x/a.txt", b"x/y/a.txt"]
    for number, path in enumerate(paths, 1):
        entry, place = Entry(path, Kind.FILE), path.replace(b"a.txt", b"a (2).txt")
        row = Row(number, entry, EntryAction.CREATE, EntryState.DONE, place=place)
        manifest.add(job.pk, [row, Row(number + 10, Entry(path + b".same", Kind.FILE), *row_end(row))])
    assert manifest.has_renamed(job.pk)
    assert {path: row.number for path, row in manifest.renamed(job.pk, [b"x"]).items()} == {b"x/a (2).txt": 2}
    assert set(manifest.renamed(job.pk, [b"", b"x/y"])) == {b"a (2).txt", b"x/y/a (2).txt"}


def row_end(row: Row) -> tuple[EntryAction, EntryState]:
    """What is to be done, and how far that is."""
    return row.action, row.state


def test_set_of_paths_knows_its_own_alone():
    paths = [b"%d/%d" % (number % 7, number) for number in range(1000)]
    found = PathSet(paths)
    assert len(found) == 1000
    assert all(path in found for path in paths)
    assert not any(b"%d/%d" % (number % 7, number) in found for number in range(1000, 2000))
    assert b"" not in PathSet()


def test_paths_of_jobs_of_before_are_found(job):
    entry = Entry("wp-content/\xfcber\\uns.txt".encode(), Kind.FILE)
    manifest.add(job.pk, [Row(1, entry, EntryAction.CREATE, EntryState.DONE)])
    manifest.rows_of(job.pk).update(path_hash=7)
    assert not manifest.find_numbers(job.pk, [entry.path])
    with connection.schema_editor() as editor:
        import_module("migration_app.migrations.0006_path_hashes").fill(apps, editor)
    assert manifest.rows_of(job.pk).get().path_hash == path_hash(entry.path)
    assert manifest.find_numbers(job.pk, [entry.path]) == {entry.path: 1}


def test_types_that_only_few_files_have_are_counted_together_when_there_are_very_many():
    found = Statistics()
    for number in range(MOST_KNOWN_TYPES + 500):
        found.add(f"cache/page.{number:x}", "file", 10)
    found.add("cache/page.0", "file", 10)
    assert len(found.by_type) == MOST_KNOWN_TYPES + 1
    assert found.by_type["0"] == 2
    assert found.by_type["other"] == 500
    assert found.by_type_size["other"] == 5000
    assert sum(found.by_type.values()) == found.files
