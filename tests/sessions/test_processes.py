"""The job engine in its real processes: daphne, workers and supervisor, killed at will."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import psutil
import pytest

from tests.product import ROOT, Frame, until
from tests.sessions.engine import Engine

pytestmark = pytest.mark.slow


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path) as found:
        found.start()
        yield found


def read_stream(engine: Engine, path: str, headers: dict[str, str], *, until_type: str) -> list[Frame]:
    """Frames of one connection until an event of a type has come or the connection breaks."""
    frames: list[Frame] = []
    try:
        with engine.read_sse(path, headers=headers, timeout_s=20) as stream:
            for frame in stream:
                frames.append(frame)
                if frame.event == until_type:
                    break
    except (OSError, ValueError, HTTPException):
        pass  # The connection broke, which is what some of these tests are about.
    return frames


def test_no_event_is_lost_or_doubled_over_kills_of_the_web_process(engine):
    job = engine.submit(shards=6, steps=60, pause_s=0.05)
    seen: list[Frame] = []
    last = "0"
    kills = 0
    while not seen or seen[-1].event != "complete":
        if kills < 3:
            victim = until(lambda: engine.children("web"))[0]
            timer = subprocess.Popen(["sh", "-c", f"sleep 1; kill -9 {victim.pid}"])
            kills += 1
        try:
            frames = read_stream(
                engine,
                f"/api/sessions/{job}/events",
                {"Last-Event-ID": last},
                until_type="complete",
            )
        finally:
            timer.wait()
        seen += [frame for frame in frames if frame.id]
        last = seen[-1].id if seen else last
        time.sleep(0.1)
    assert kills == 3
    assert [frame.data["seq"] for frame in seen] == list(range(1, len(seen) + 1))
    ids = [int(frame.id) for frame in seen]
    assert ids == sorted(set(ids))


def test_killed_worker_costs_a_moment_and_the_job_goes_on(engine):
    job = engine.submit(shards=2, steps=60, pause_s=0.05)
    until(lambda: engine.progress(job) > 10)
    for worker in engine.children("worker"):
        worker.kill()
    until(lambda: engine.status(job) == "completed", seconds=15)
    assert engine.progress(job) == 120
    assert len(engine.children("worker")) == 3


def test_everything_ends_with_a_killed_supervisor_and_goes_on_with_the_next(engine):
    job = engine.submit(shards=2, steps=100, pause_s=0.05)
    until(lambda: engine.status(job) == "running")
    family = [engine.process.pid, *(child.pid for child in psutil.Process(engine.process.pid).children())]
    engine.process.kill()
    engine.process.wait()
    until(lambda: not any(psutil.pid_exists(pid) for pid in family), seconds=15)
    engine.start()
    until(lambda: engine.status(job) == "completed")
    assert engine.progress(job) == 200


def test_sigterm_ends_all_within_15_s_with_a_job_running_which_then_goes_on(engine):
    job = engine.submit(shards=2, steps=100, pause_s=0.05)
    until(lambda: engine.status(job) == "running")
    family = [child.pid for child in psutil.Process(engine.process.pid).children()]
    engine.process.terminate()
    assert engine.process.wait(15) == 0
    assert not any(psutil.pid_exists(pid) for pid in family)
    engine.start()
    until(lambda: engine.status(job) == "completed")


def test_worker_stopped_inside_a_transaction_does_not_stop_everybody(engine, tmp_path):
    job = engine.submit(shards=2, steps=3, stop=str(tmp_path / "stopped"))
    other = engine.submit(shards=1, steps=3)
    until(lambda: engine.status(job) == engine.status(other) == "completed")
    assert engine.progress(job) == 6
    assert "stood still inside a transaction" in engine.printed()
    assert engine.delete("/api/sessions").body == {"deleted": 2}


def test_zombie_writes_nothing_more(engine):
    job = engine.submit(shards=1, steps=150, pause_s=0.05)
    until(lambda: engine.progress(job) > 5)
    workers = engine.children("worker")
    for worker in workers:
        worker.suspend()
    # Nobody else is there: take over by a fourth worker, after the lease and its margin.
    fourth = subprocess.Popen(
        [sys.executable, "manage.py", "worker", "--lifeline"],
        cwd=ROOT,
        env=engine.environment,
        stdin=subprocess.PIPE,
    )
    try:
        before = engine.progress(job)
        until(lambda: engine.progress(job) > before + 10)
        for worker in workers:
            worker.resume()
        until(lambda: engine.status(job) == "completed")
        assert engine.progress(job) == 150
    finally:
        for worker in workers:
            if worker.is_running():
                worker.send_signal(signal.SIGCONT)
        fourth.stdin.close()
        fourth.wait(10)


def test_listener_to_everything_hears_two_jobs_and_no_foreign_event(engine):
    with subprocess.Popen(
        ["curl", "-sN", "-m", "60", f"http://127.0.0.1:{engine.port}/api/events"],
        stdout=subprocess.PIPE,
        text=True,
    ) as listener:
        assert listener.stdout.readline().startswith(": ")
        ids = {engine.submit(steps=1), engine.submit(steps=1)}
        ended: set[str] = set()
        kind = ""
        for line in listener.stdout:
            name, _, value = line.strip().partition(": ")
            if name == "event":
                kind = value
            if name == "data" and kind == "complete":
                ended.add(json.loads(value)["job_id"])
            if ended == ids:
                break
        listener.kill()
    assert ended == ids
