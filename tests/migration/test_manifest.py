import doctest
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from migration_app import manifest, paths
from migration_app.manifest import Row
from migration_app.models import EntryAction, EntryState, Evidence
from migration_app.paths import ancestors, path_bytes, path_meant, path_shown, path_text, text_shown
from migration_app.storages.base import Entry, Kind
from sessions_app.models import Job

NAMES = [b"plain", b"a b", b"caf\xc3\xa9", b"\xff\xfe", b"back\\slash", b"\\xff", b"new\nline", b"x" * 255]


@given(st.binary(max_size=60))
def test_any_path_comes_back_from_its_text(path):
    text = path_text(path)
    text.encode()
    assert path_bytes(text) == path


@given(st.lists(st.sampled_from([*NAMES, b"\\\\", b"\\x41"]), min_size=1).map(b"/".join))
def test_a_path_is_shown_as_it_is_where_it_is_text(path):
    assert text_shown(path_text(path)) == path_shown(path)
    has_spelled_bytes = b"\\xff" in path
    if b"\xff" not in path:
        assert path_shown(path) == path.decode()
    if b"\xff" in path or not has_spelled_bytes:
        assert path_meant(path_shown(path)) == path


def test_paths_do_what_their_examples_say():
    assert doctest.testmod(paths).failed == 0


def test_folders_above_a_path():
    assert ancestors(b"a/b/c.txt") == [b"a/b", b"a"]
    assert ancestors(b"top") == []


@pytest.fixture
def job(owner) -> Job:
    return Job.objects.create(type="transfer", owner=owner, params={}, public={})


def test_rows_come_back_as_the_entries_that_they_were(job):
    entries = [Entry(b"d/" + name, Kind.FILE, 7, -5, 0o640) for name in NAMES]
    entries += [Entry(b"led/to", Kind.FILE, 1, 2, 0o644, real=b"d/\xff\xfe")]
    entries += [Entry(b"link", Kind.LINK, 3, 9, 0o777, b"\xff\\"), Entry(b"d", Kind.FOLDER, 0, 2**33, 0o755)]
    rows = [Row(n, entry, EntryAction.CREATE, EntryState.PENDING) for n, entry in enumerate(entries, 1)]
    manifest.add(job.pk, rows)
    assert [item.entry for item in manifest.pending(job.pk, 1, 100)] == entries
    found = manifest.find_numbers(job.pk, [entry.path for entry in entries] + [b"nowhere"])
    assert found == {entry.path: n for n, entry in enumerate(entries, 1)}


def test_marked_rows_are_not_pending_any_more(job):
    rows = [Row(n, Entry(b"%d" % n, Kind.FILE), EntryAction.CREATE, EntryState.PENDING) for n in range(1, 6)]
    manifest.add(job.pk, rows)
    manifest.mark(job.pk, [(1, "", 1), (3, "No such file.", 4)])
    assert [row.number for row in manifest.pending(job.pk, 1, 4)] == [2, 4]
    failed = manifest.rows_of(job.pk).get(number=3)
    assert (failed.state, failed.error, failed.attempts) == ("failed", "No such file.", 4)
    assert manifest.fail_paths(job.pk, [(b"5", "gone"), (b"9", "unknown")]) == [(b"9", "unknown")]


def test_evidence_keeps_an_earlier_error(job):
    manifest.add(job.pk, [Row(1, Entry(b"a", Kind.FILE), EntryAction.CREATE, EntryState.FAILED, "full")])
    manifest.set_evidence(job.pk, [(1, Evidence.SIZE_ONLY, "")])
    row = manifest.rows_of(job.pk).get()
    assert (row.evidence, row.error) == ("size_only", "full")
    manifest.forget_evidence(job.pk, range(2))
    assert manifest.rows_of(job.pk).get().evidence == ""


def test_folders_come_after_what_they_hold(job, monkeypatch):
    monkeypatch.setattr(manifest, "BATCH", 2)
    paths = [b"", b"a", b"b", b"a/c", b"a/c/d"]
    rows = [Row(n, Entry(p, Kind.FOLDER), EntryAction.SKIP, EntryState.SKIPPED) for n, p in enumerate(paths)]
    manifest.add(job.pk, rows)
    batches = list(manifest.folders_backwards(job.pk))
    assert [row.path for batch in batches for row in batch] == ["a/c/d", "a/c", "b", "a", ""]
    assert manifest.existing_folders(job.pk, [b"a/c/file", b"new/file"]) == {b"a", b"a/c"}


def test_folders_that_were_there_count_as_new_where_their_owner_may_not_write(job):
    there = [
        Row(n, Entry(b"%o" % mode, Kind.FOLDER, mode=mode), EntryAction.SKIP, EntryState.SKIPPED)
        for n, mode in enumerate((0o755, 0o555, 0o2755, 0o655, 0o700))
    ]
    made = Row(9, Entry(b"made", Kind.FOLDER, mode=0o755), EntryAction.CREATE, EntryState.DONE)
    manifest.add(job.pk, [*there, made])
    (batch,) = manifest.folders_backwards(job.pk, only_new=True)
    assert [row.path for row in batch] == ["made", "655", "555"]


@pytest.mark.parametrize("only_new", [False, True])
def test_settled_folders_are_left_alone_until_something_is_put_into_them(job, only_new):
    paths = [b"", b"a", b"a/\xff", b"b"]
    manifest.add(
        job.pk,
        [
            Row(
                n,
                Entry(path, Kind.FOLDER, mode=0o555),
                EntryAction.SKIP,
                EntryState.SKIPPED,
                is_settled=path != b"b",
            )
            for n, path in enumerate(paths)
        ],
    )
    manifest.unsettle(job.pk, [])

    def unsettled():
        batches = manifest.folders_backwards(job.pk, only_new=only_new)
        return [row.path for batch in batches for row in batch]

    assert unsettled() == ["b"]
    manifest.unsettle(job.pk, [b"a/\xff", b"", b"nowhere"])
    assert unsettled() == ["b", "a/\\xff", ""]
    counts = manifest.rows_of(job.pk).filter(action=EntryAction.SKIP, state=EntryState.SKIPPED).count()
    assert counts == len(paths)


def test_temporary_name_depends_on_job_path_and_version_of_the_source():
    job, entry = uuid.uuid4(), Entry(b"a/wp-config.php", Kind.FILE, 10, 20)
    names = {
        manifest.temp_name(job, entry),
        manifest.temp_name(job, entry),
        manifest.temp_name(uuid.uuid4(), entry),
        manifest.temp_name(job, Entry(b"b", Kind.FILE, 10, 20)),
        manifest.temp_name(job, Entry(b"a/wp-config.php", Kind.FILE, 11, 20)),
        manifest.temp_name(job, Entry(b"a/wp-config.php", Kind.FILE, 10, 21)),
    }
    assert len(names) == 5
    for name in names:
        assert name.startswith(b".haulier-")
        assert len(name) == len(b".haulier-") + 24


def test_what_stays_takes_along_what_it_holds_and_nothing_of_a_like_name(job):
    paths = [b"d", b"d/x", b"D", b"D/x", b"d_", b"d_/x", b"top", b"holds", b"holds/kept", b"holds/x"]
    rows = [
        Row(n, Entry(path, Kind.FILE), EntryAction.DELETE, EntryState.PENDING)
        for n, path in enumerate(paths, 1)
    ]
    manifest.add(job.pk, rows)
    manifest.keep(job.pk, [b"holds/kept"])
    numbers = range(1, 11)
    assert manifest.deletions_by_folder(job.pk, numbers) == {
        b"": [b"d", b"D", b"d_", b"top", b"holds"],
        b"d": [b"d/x"],
        b"D": [b"D/x"],
        b"d_": [b"d_/x"],
        b"holds": [b"holds/kept", b"holds/x"],
    }
    manifest.keep_trees({b"d": "It is at the source.", b"top": "Unknown."}, job.pk, numbers)
    left = [path_bytes(row.path) for row in manifest.pending_deletions(job.pk)]
    assert left == [b"holds/x", b"d_/x", b"d_", b"D/x", b"D"]
    reasons = dict(manifest.deletions(job.pk).filter(state=EntryState.SKIPPED).values_list("path", "error"))
    assert reasons == {
        "d": "It is at the source.",
        "d/x": "It is at the source.",
        "top": "Unknown.",
        "holds": manifest.HOLDS_KEPT,
        "holds/kept": manifest.HOLDS_KEPT,
    }
