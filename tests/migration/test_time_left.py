"""How true the time left is, on made courses of a job with known costs, some uneven."""

import math
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from migration_app.runners.progress import transfer_progress
from migration_app.runners.time_left import Amount, Pace
from sessions_app.runners import Snapshot

Json = dict[str, Any]
Tree = list[int]
"""Sizes of files, in the order of the walk."""

STARTED = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 2**20


def wordpress(seed: int = 1) -> Tree:
    """Many small files, few larger ones."""
    chance = random.Random(seed)
    return [int(min(4 * MIB, chance.lognormvariate(8.3, 1.6))) for _ in range(10_000)]


def mixed() -> Tree:
    """Folders of small files, and here and there one of pictures."""
    chance = random.Random(2)
    small, found = wordpress(), []
    for start in range(0, len(small), 500):
        found += small[start : start + 500]
        found += [chance.randrange(MIB, 3 * MIB) for _ in range(20)]
    return found


class Course:
    """A job that copies a tree: its counters, its clock, and its progress after each checkpoint."""

    def __init__(self, tree: Tree, *, file_s: float, byte_s: float) -> None:
        self._tree = tree
        self.file_s = file_s
        self.byte_s = byte_s
        self.now_s = 0.0
        self.counters = {"connected": 1, "prepared": 1, "total_files": len(tree), "total_bytes": sum(tree)}
        self.progress: Json | None = None
        self._chance = random.Random(4)

    def tell(self, status: str = "running", waiting_for: str = "") -> Json:
        """The progress now."""
        now = STARTED + timedelta(seconds=self.now_s)
        snapshot = Snapshot(
            status, {}, self.counters, {}, self.progress, now, STARTED, waiting_for=waiting_for
        )
        self.progress = transfer_progress(snapshot)
        return self.progress

    def run(self) -> Iterator[tuple[float, float, float]]:
        """Copy file by file; gives share of the time that was worked, the time, and the time left that was told."""
        whole_s = len(self._tree) * self.file_s + sum(self._tree) * self.byte_s
        worked_s = due_s = 0.0
        for size in self._tree:
            took_s = (self.file_s + size * self.byte_s) * self._chance.uniform(0.5, 1.5)
            worked_s, self.now_s = worked_s + took_s, self.now_s + took_s
            self.counters["files"] = self.counters.get("files", 0) + 1
            self.counters["bytes"] = self.counters.get("bytes", 0) + size
            if worked_s >= due_s:
                due_s = worked_s + self._chance.uniform(0.25, 0.75)
                yield worked_s / whole_s, self.now_s, self.tell()["eta"]


def worst_error(course: Course) -> float:
    """By how much of the whole time what was told after a fifth of it was wrong."""
    told = list(course.run())
    end_s = course.now_s
    return max(abs(at_s + eta_s - end_s) for share, at_s, eta_s in told if share > 0.2) / end_s


@pytest.mark.parametrize("tree", [wordpress(), mixed()], ids=["small", "mixed"])
@pytest.mark.parametrize(
    ("file_s", "byte_s"),
    [(0.005, 1e-8), (0.0003, 1e-7), (0.002, 1e-9), (0.00001, 5e-7)],
    ids=["far", "slow", "dear files", "very slow"],
)
def test_time_left_is_true_to_15_percent_after_a_fifth(tree: Tree, file_s: float, byte_s: float):
    assert worst_error(Course(tree, file_s=file_s, byte_s=byte_s)) < 0.15


def test_scan_before_it_does_not_count():
    course = Course(wordpress(), file_s=0.005, byte_s=1e-8)
    course.counters["prepared"] = 0
    while course.now_s < 300:
        course.now_s += 0.5
        assert course.tell()["eta"] == 0
    course.counters["prepared"] = 1
    course.tell()
    first = next(eta_s for _, _, eta_s in course.run() if eta_s)
    assert first == pytest.approx(50, rel=0.3)


@pytest.mark.parametrize("how", ["paused", "waits", "hosts sleeps"])
def test_time_without_work_does_not_count(how: str):
    course = Course(wordpress(), file_s=0.005, byte_s=1e-8)
    running = course.run()
    left_s = next(eta_s for share, _, eta_s in running if share > 0.3)
    if how == "paused":
        assert course.tell("paused")["eta"] == 0
        course.now_s += 3600
        course.tell()
    elif how == "waits":
        for _ in range(100):
            course.now_s += 8
            assert course.tell(waiting_for="Waits for the server: it is away.")["eta"] > 0
    else:
        course.tell("paused")
        course.now_s += 7 * 86400
        course.tell("pending")
        course.tell()
    *_, told_s = next(running)
    assert told_s == pytest.approx(left_s, rel=0.05)


def test_what_an_earlier_run_did_says_nothing_of_the_pace():
    tree = wordpress()
    course = Course(tree[5000:], file_s=0.005, byte_s=1e-8)
    earlier = {"files": 5000, "bytes": sum(tree[:5000])}
    course.counters |= earlier | {"earlier_files": 5000, "earlier_bytes": earlier["bytes"]}
    course.counters |= {"total_files": len(tree), "total_bytes": sum(tree)}
    assert worst_error(course) < 0.15


def test_changed_limit_is_known_within_minutes():
    course = Course([MIB] * 20_000, file_s=0.0, byte_s=1e-7)
    for share, _, _ in course.run():
        if share > 0.1:
            break
    slower = Course([MIB] * 18_000, file_s=0.0, byte_s=4e-7)
    slower.counters, slower.progress, slower.now_s = course.counters, course.progress, course.now_s
    began_s = course.now_s
    told = [(at_s, eta_s) for _, at_s, eta_s in slower.run() if at_s > began_s + 240]
    assert max(abs(at_s + eta_s - slower.now_s) for at_s, eta_s in told) < 0.15 * slower.now_s


def test_files_that_failed_are_not_left():
    course = Course([MIB] * 100, file_s=0.0, byte_s=1e-6)
    told = list(course.run())
    course.counters |= {"failed": 50, "failed_files": 50, "failed_bytes": 500 * MIB}
    course.counters |= {"total_files": 150, "total_bytes": 600 * MIB}
    assert course.tell()["eta"] == 0
    assert course.tell()["percent_complete"] == 99.9
    assert told[len(told) // 2][2] > 0


def test_verification_has_a_time_left_of_its_own():
    course = Course(wordpress(), file_s=0.005, byte_s=1e-8)
    for _ in course.run():
        pass
    course.counters |= {"verifying": 1, "to_verify": 10_000}
    assert course.tell()["eta"] == 0
    for verified in range(500, 5001, 500):
        course.now_s += 1
        course.counters["verified"] = verified
        course.tell()
    assert course.tell()["eta"] == pytest.approx(10, rel=0.1)


def test_nothing_is_said_where_nothing_is_known():
    assert Pace(0.0, 0, 0).seconds_for(Amount(1, 1)) is None
    assert Pace(0.0, 0, 0).seen(5.0, Amount(0, 0)).seconds_for(Amount(1, 1)) is None


def test_estimate_is_a_number_whatever_comes():
    chance = random.Random(5)
    for _ in range(300):
        pace = Pace(0.0, 0, 0)
        at_s, files, size = 0.0, 0, 0
        for _ in range(20):
            at_s += chance.choice([-5.0, 0.0, 0.4, 1.0, 1e7])
            files = max(0, files + chance.choice([-3, 0, 0, 1, 10**6]))
            size = max(0, size + chance.choice([-(10**6), 0, 0, 1, 10**15]))
            pace = Pace.read(pace.seen(at_s, Amount(files, size)).as_json())
            left_s = pace.seconds_for(Amount(chance.choice([0, 10**7]), chance.choice([0, 10**16])))
            assert left_s is None or (math.isfinite(left_s) and left_s >= 0)


def test_what_is_remembered_is_not_told():
    from sessions_app.models import Job

    course = Course([MIB] * 1000, file_s=0.0, byte_s=1e-7)
    *_, _ = course.run()
    assert course.progress is not None
    assert "_pace" in course.progress
    assert set(Job(progress=course.progress).told_progress or {}) == set(course.progress) - {"_pace"}
