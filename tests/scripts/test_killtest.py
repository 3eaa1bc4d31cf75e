"""script/killtest: a short run of it, and whether it notices what it is there to notice."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.killtest import invariants
from tests.killtest.invariants import Blow
from tests.killtest.plan import KILLS, Kind, Mode, plan_round
from tests.killtest.rows import Event, ShardRow
from tests.killtest.watcher import Arrival, TreeWatcher, bytes_written, written_under_final_names
from tests.product import ROOT

TEMPORARY = ".haulier-0123"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source/folder").mkdir(parents=True)
    (tmp_path / "source/folder/file").write_bytes(b"all of it")
    (tmp_path / "source/link").symlink_to("folder")
    return tmp_path / "source"


@pytest.fixture
def watcher(source: Path, tmp_path: Path) -> Iterator[TreeWatcher]:
    (tmp_path / "copy/folder").mkdir(parents=True)
    with TreeWatcher(tmp_path / "copy", source) as found:
        yield found


def event(seq: int, kind: str, run: int = 1, **data: Any) -> Event:
    return Event(seq * 10, seq, kind, {"run": run, **data})


def state(seq: int, before: str, after: str, run: int = 1) -> Event:
    return event(seq, "state", run, **{"from": before, "to": after})


WHOLE_LOG = [
    event(1, "job_created"),
    state(2, "pending", "running"),
    state(3, "running", "failed"),
    event(4, "failed"),
    state(5, "failed", "pending", 2),
    state(6, "pending", "running", 2),
    state(7, "running", "completed", 2),
    event(8, "complete", 2),
]


def test_plan_is_the_same_for_the_same_seed_and_kills_often_enough():
    plans = [plan_round(7, number) for number in range(1, 60)]
    assert plans == [plan_round(7, number) for number in range(1, 60)]
    assert plans[0] != plan_round(8, 1)
    assert min(plan.kills for plan in plans) >= 5
    assert {plan.mode for plan in plans} == set(Mode)
    assert {step.kind for plan in plans for step in plan.steps} == set(Kind) - {Kind.LEASE}
    assert set(KILLS) < set(Kind)


def test_watcher_is_content_with_what_is_renamed_when_it_is_whole(watcher, tmp_path):
    copy = tmp_path / "copy"
    (copy / "folder" / TEMPORARY).write_bytes(b"all of it")
    (copy / "folder" / TEMPORARY).rename(copy / "folder/file")
    (copy / TEMPORARY).symlink_to("folder")
    os.rename(copy / TEMPORARY, copy / "link")
    (copy / "folder" / TEMPORARY).write_bytes(b"al")
    watcher.close()
    assert watcher.violations == []
    assert [arrival.path for arrival in watcher.arrivals] == [b"folder/file", b"link"]


def test_watcher_sees_into_folders_that_are_made_meanwhile(tmp_path, source):
    (source / "new/inner").mkdir(parents=True)
    (source / "new/inner/file").write_bytes(b"whole")
    with TreeWatcher(tmp_path / "copy", source) as watcher:
        (tmp_path / "copy/new/inner").mkdir(parents=True)
        (tmp_path / "copy/new/inner" / TEMPORARY).write_bytes(b"whole")
        (tmp_path / "copy/new/inner" / TEMPORARY).rename(tmp_path / "copy/new/inner/file")
    assert watcher.violations == []
    assert [arrival.path for arrival in watcher.arrivals] == [b"new/inner/file"]


def test_watcher_notices_a_part_under_a_final_name_and_what_is_changed_there(watcher, tmp_path):
    folder = tmp_path / "copy/folder"
    (folder / TEMPORARY).write_bytes(b"all of")
    (folder / TEMPORARY).rename(folder / "file")
    with (folder / "file").open("ab") as file:
        file.write(b" it")
    (folder / "file").unlink()
    (tmp_path / "copy/other").touch()
    watcher.close()
    assert watcher.violations[0].startswith("folder/file appeared")
    assert set(watcher.violations[1:]) == {
        "folder/file was written to under its own name",
        "folder/file was removed under its own name",
        "other was made under its own name",
    }


def test_log_of_the_server_tells_what_was_opened_under_its_own_name():
    log = (
        f'open "/a/{TEMPORARY}" flags WRITE,CREATE,TRUNCATE mode 0600\n'
        f'close "/a/{TEMPORARY}" bytes read 0 written 30\n'
        f'open "/a/{TEMPORARY}" flags WRITE mode 0600\n'
        f'forced close "/a/{TEMPORARY}" bytes read 0 written 12\n'
        f'posix-rename old "/a/{TEMPORARY}" new "/a/file"\n'
        'open "/a/read" flags READ mode 0666\n'
    )
    assert written_under_final_names(log) == []
    assert bytes_written(log) == {"/a/file": 42}
    assert written_under_final_names(log + 'open "/a/b" flags WRITE,CREATE mode 0600\n') == ["/a/b"]
    assert written_under_final_names(log + 'symlink old "x" new "/a/l"\n') == ["/a/l"]


def test_whole_log_holds_and_each_fault_in_it_is_told():
    assert invariants.check_log(WHOLE_LOG, runs=2) == []
    assert invariants.check_log(WHOLE_LOG[:-1], runs=2) == ["run 2 ended 0 times: never"]
    twice = [*WHOLE_LOG, event(9, "complete", 2)]
    assert invariants.check_log(twice, runs=2) == ["run 2 ended 2 times: complete, complete"]
    (hole,) = invariants.check_log([*WHOLE_LOG, event(10, "log", 2)], runs=2)
    assert hole.startswith("seq is not 1 to 9")
    (leap,) = invariants.check_log([*WHOLE_LOG, state(9, "running", "paused", 2)], runs=2)
    assert leap == "event 9 moves from running, but it was completed"
    assert invariants.check_log([*WHOLE_LOG, event(9, "log", 3)], runs=2) == [
        "the log knows more than 2 runs"
    ]


def test_listener_that_missed_something_or_heard_it_twice_is_told_of():
    heard = [(one.id, one.seq) for one in WHOLE_LOG]
    assert invariants.check_heard(WHOLE_LOG, heard) == []
    assert "lost: 3; twice: none" in invariants.check_heard(WHOLE_LOG, heard[:2] + heard[3:])[0]
    assert "lost: none; twice: 8" in invariants.check_heard(WHOLE_LOG, [*heard, heard[-1]])[0]
    assert invariants.check_heard(WHOLE_LOG, heard[::-1]) != []


def test_what_is_held_or_left_after_the_end_is_told(tmp_path):
    done = ShardRow(1, "work", "done", "", None, {})
    assert invariants.check_rest([done], open_messages=0) == []
    held = ShardRow(2, "work", "running", "somebody", "2026-01-01", {})
    waiting = ShardRow(3, "clean", "waiting", "", None, {})
    assert invariants.check_rest([done, held, waiting], open_messages=2) == [
        "shard 2 (work) is running, held by somebody",
        "shard 3 (clean) is waiting, held by nobody",
        "2 rows of the queue are open",
    ]
    assert invariants.check_no_temporary(tmp_path) == []
    (tmp_path / TEMPORARY).touch()
    assert invariants.check_no_temporary(tmp_path) == [f"1 unfinished files are left: {TEMPORARY}"]


def test_work_done_twice_needs_a_blow_and_is_at_most_a_checkpoint():
    blow = Blow(Kind.WORKER, since=10.0, until=11.0)
    most = invariants.CHECKPOINT_FILES + invariants.FILES_IN_FLIGHT
    first = [Arrival(9.5, b"file %d" % number) for number in range(most + 1)]
    again = [Arrival(12.0, arrival.path) for arrival in first]
    found, told = invariants.count_again([*first, *again[:-1]], [blow], lambda _: 2)
    assert (found.files, found.worst, found.oldest_s, told) == (most, most, 0.5, [])
    _, told = invariants.count_again([*first, *again], [blow], lambda _: 2)
    assert told == [f"{most + 1} files of shard 2 were copied again after blow 1 (worker)"]
    _, told = invariants.count_again([first[0], again[0]], [], lambda _: 2)
    assert told == ["file 0 copied twice, and nothing had been killed"]


def killtest(*arguments: str) -> dict[str, Any]:
    """What a run says that must find nothing."""
    done = subprocess.run(
        [ROOT / "script/killtest", *arguments, "--json"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
def test_short_run_kills_at_least_five_times_and_nothing_is_lost():
    found = killtest("--seed", "1", "--rounds", "1")
    assert (found["rounds"], found["violations"]) == (1, 0)
    assert found["kills"] == sum(found["kills_by_kind"].values()) >= 5


@pytest.mark.slow
def test_full_load_on_two_ports_never_finds_the_database_locked():
    found = killtest("--load", "20")
    assert found["violations"] == []
    # Somebody may have deleted a job since another one saw it in the list.
    assert set(found["answers_by_status"]) <= {"200", "202", "404"}
    assert found["jobs_by_end"]["completed"] > 1
    assert found["events_heard"] > 10
