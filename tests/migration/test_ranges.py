"""What is done to all rows of a job goes in ranges: killed after any checkpoint, it ends as if nothing had been."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from migration_app import manifest
from migration_app.models import EntryKind, Evidence
from migration_app.runners import comparison, shards
from migration_app.submission import submit_scan, submit_transfer, submit_verify
from sessions_app import leases, retries
from sessions_app.execution import LeasedShard
from sessions_app.inline import InlineWorker
from sessions_app.models import Job, Shard, User
from sessions_app.runners import sum_counters
from sessions_app.states import JobStatus, ShardState
from sessions_app.submitters import RequestMeta
from tests.trees import small_tree

Json = dict[str, Any]

pytestmark = pytest.mark.slow

META = RequestMeta(None, "", "", executor="nobody")
OTHERS = ("start_time", "end_time", "duration", "average_speed", "server_config")
"""What of a result is another thing each time."""


class Killed(BaseException):
    """The worker is gone, and nobody could do anything about it."""


@pytest.fixture(autouse=True)
def short_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "RANGE", 15)
    monkeypatch.setattr(shards, "SHARD_ITEMS", 10)
    monkeypatch.setattr(comparison, "MOST_LISTED", 2)


@pytest.fixture
def worker(owner: User) -> Iterator[InlineWorker]:
    with InlineWorker() as found:
        yield found


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Kill the worker once, after so many checkpoints."""
    save = LeasedShard.checkpoint
    left = 0

    def checkpoint(context: LeasedShard, **what: Any) -> None:
        nonlocal left
        save(context, **what)
        left -= 1
        if left == 0:
            raise Killed

    def kill_after(checkpoints: int) -> None:
        nonlocal left
        left = checkpoints

    monkeypatch.setattr(LeasedShard, "checkpoint", checkpoint)
    return kill_after


def work_off(worker: InlineWorker, job: Job) -> bool:
    """Do a job to its end; whether the worker was killed meanwhile, and another one has gone on."""
    Job.objects.filter(pk=job.pk).update(executor=worker.id)
    try:
        worker.work_off(job.pk)
    except Killed:
        [held] = Shard.objects.filter(job=job, state=ShardState.RUNNING)
        assert leases.take_back(held)
        worker.work_off(job.pk)
        return True
    return False


def found_by(job: Job) -> list[Any]:
    """All that may be seen of a job."""
    job.refresh_from_db()
    assert job.result is not None
    rows = manifest.rows_of(job.pk).values_list("path", "action", "state", "error", "evidence", "attempts")
    told = job.events.filter(type__in=("file_failed", "log")).values_list("type", "data")
    counters = sum_counters(list(job.shards.values_list("counters", flat=True)))
    return [
        (job.status, job.attempt, job.error_message),
        {name: value for name, value in job.result.items() if name not in OTHERS},
        {name: value for name, value in counters.items() if name not in ("connected", "verifying")},
        sorted(rows),
        sorted(map(str, told)),
    ]


def side(root: Path) -> Json:
    return {"protocol": "local", "root_path": str(root)}


def killed_everywhere(
    tmp_path: Path, worker: InlineWorker, kill_after: Callable[[int], None], make: Callable[[Path], Job]
) -> int:
    """Make a job again and again, its worker killed after one checkpoint, after two, and so on; says how often."""
    kills = -1
    was_killed = True
    while was_killed:
        kills += 1
        folder = tmp_path / str(kills)
        folder.mkdir()
        job = make(folder)
        kill_after(kills)
        was_killed = work_off(worker, job)
        found = found_by(job)
        if not kills:
            expected, was_killed = found, True
        assert found == expected, f"killed after checkpoint {kills}"
    return kills


def test_verification_that_is_done_again(
    tmp_path: Path, owner: User, worker: InlineWorker, kill_after: Callable[[int], None]
) -> None:
    def make(folder: Path) -> Job:
        site, copy = small_tree(folder / "site", folders=4, files=9), folder / "copy"
        (site / "link").symlink_to("folder 0")
        body = {"source_config": side(site), "dest_config": side(copy)}
        transfer, _ = submit_transfer(owner, body, META)
        work_off(worker, transfer)
        (copy / "folder 1/file 3.txt").write_bytes(b"!" * 1000)
        (copy / "folder 2/file 5.txt").unlink()
        (copy / "folder 2/file 6.txt").write_bytes(b"short")
        (copy / "folder 3/file 7.txt").unlink()
        (copy / "link").unlink()
        transfer.refresh_from_db()
        job, _ = submit_verify(owner, transfer, META)
        work_off(worker, job)
        assert found_by(job)[0][0] == "failed"
        (site / "folder 2/file 5.txt").rename(copy / "folder 2/file 5.txt")
        retries.begin(job.pk)
        return job

    assert killed_everywhere(tmp_path, worker, kill_after, make) > 20
    [status, result, counters, rows, told] = found_by(Job.objects.filter(type="verify").latest("created_at"))
    assert status[:2] == ("failed", 2)
    assert (result["missing_files"], result["mismatched_files"]) == (2, 2)
    assert (counters["failed"], counters["total_files"], counters["files"]) == (4, 34, 34)
    assert len(rows) == len({path for path, *_ in rows}) == 42
    assert {path for path, _, state, *_ in rows if state == "failed"} == {
        *("folder 1/file 3.txt", "folder 2/file 6.txt", "folder 3/file 7.txt", "link")
    }
    assert not [row for row in rows if row[2] == "pending"]
    assert len(told) == 5 + 4


def test_retry_of_a_transfer(
    tmp_path: Path, owner: User, worker: InlineWorker, kill_after: Callable[[int], None]
) -> None:
    def make(folder: Path) -> Job:
        site, copy = small_tree(folder / "site", folders=3, files=9), folder / "copy"
        # In the way of files.
        for number in range(4):
            (copy / f"folder 0/file {number}.txt").mkdir(parents=True)
            (copy / f"folder 2/file {number}.txt").mkdir(parents=True)
        # Equal by size, mode and time.
        (copy / "folder 1").mkdir()
        other = copy / "folder 1/file 5.txt"
        other.write_bytes(b"!" * 1000)
        shutil.copystat(site / "folder 1/file 5.txt", other)
        body = {"source_config": side(site), "dest_config": side(copy), "verify_after_transfer": True}
        job, _ = submit_transfer(owner, body, META)
        work_off(worker, job)
        assert found_by(job)[0] == ("failed", 1, "8 of 27 files failed.")
        for number in range(4):
            (copy / f"folder 0/file {number}.txt").rmdir()
        for number in range(3):
            (site / f"folder 2/file {number}.txt").unlink()
        retries.begin(job.pk)
        return job

    assert killed_everywhere(tmp_path, worker, kill_after, make) > 20
    [status, result, counters, rows, told] = found_by(
        Job.objects.filter(type="transfer").latest("created_at")
    )
    assert status == ("failed", 2, "1 of 24 files failed.")
    assert result["failed_files"] == ["folder 2/file 3.txt"]
    assert result["verification_result"]["evidence"]["two_sided_hash"] == 23
    assert (counters["failed"], counters["files"], counters["total_files"]) == (1, 23, 23)
    assert len(rows) == len({path for path, *_ in rows}) == 24 + 4
    gone = [text for text in told if "No longer at the source: folder 2/file " in text]
    assert len(gone) == comparison.MOST_LISTED
    assert sum("Nor is 1 other." in text for text in told) == 1


def test_retry_of_a_transfer_of_which_nothing_was_right(
    tmp_path: Path, owner: User, worker: InlineWorker, kill_after: Callable[[int], None]
) -> None:
    def make(folder: Path) -> Job:
        site, copy = small_tree(folder / "site", folders=2, files=9), folder / "copy"
        body = {"source_config": side(site), "dest_config": side(copy)}
        job, _ = submit_transfer(owner, body, META)
        work_off(worker, job)
        # As if a verification had found some files to differ, and no others.
        rows = manifest.rows_of(job.pk).filter(kind=EntryKind.FILE)
        assert rows.filter(number__lt=manifest.RANGE).update(evidence=Evidence.MISMATCH) < rows.count()
        Job.objects.filter(pk=job.pk).update(status=JobStatus.FAILED)
        retries.begin(job.pk)
        return job

    assert killed_everywhere(tmp_path, worker, kill_after, make) > 5
    [status, result, _, rows, _] = found_by(Job.objects.filter(type="transfer").latest("created_at"))
    assert (status[:2], result["errors_count"]) == (("completed", 2), 0)
    assert len(rows) == len({path for path, *_ in rows}) == 1 + 2 + 18
    assert {evidence for *_, evidence, _ in rows} == {""}


def test_scan_that_is_done_again(
    tmp_path: Path, owner: User, worker: InlineWorker, kill_after: Callable[[int], None]
) -> None:
    def make(folder: Path) -> Job:
        site = small_tree(folder / "site", folders=3, files=9)
        job, _ = submit_scan(owner, {"server_config": side(site)}, META)
        work_off(worker, job)
        # As if its server had gone away after the last file.
        Job.objects.filter(pk=job.pk).update(status=JobStatus.FAILED)
        (site / "folder 1/file 1.txt").unlink()
        retries.begin(job.pk)
        return job

    assert killed_everywhere(tmp_path, worker, kill_after, make) > 5
    [_, result, _, rows, _] = found_by(Job.objects.filter(type="scan").latest("created_at"))
    assert result["statistics"]["total_files"] == 26
    assert len(rows) == 26 + 3
