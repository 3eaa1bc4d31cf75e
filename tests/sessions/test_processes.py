"""The job engine in its real processes: daphne, workers and supervisor, killed at will."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent.parent

_SUBMIT = """
import sys, json
from sessions_app import accounts, jobs
from sessions_app.runners import Submission
job, _ = jobs.submit(Submission("demo", accounts.owner().pk, "t", json.loads(sys.argv[1]), {}))
print(job.pk)
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], *, seconds: float = 30) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


class Engine:
    """A data directory, and the processes that serve it."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.environment = os.environ | {
            "HAULIER_DATA_DIR": str(folder),
            "DJANGO_SETTINGS_MODULE": "tests.sessions.demo_settings",
            "HAULIER_LEASE_S": "2",
            "HAULIER_BIND": f"127.0.0.1:{self.port}",
        }
        self.process: subprocess.Popen[str] | None = None
        self.python("manage.py", "migrate", "-v0")

    def python(self, *arguments: str) -> str:
        command = [sys.executable, *arguments]
        done = subprocess.run(
            command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def submit(self, **params: Any) -> str:
        code = f"import django; django.setup()\n{_SUBMIT}"
        return self.python("-c", code, json.dumps(params))

    def start(self) -> None:
        command = [sys.executable, "manage.py", "serve", "--workers", "2", "--no-login"]
        self.process = subprocess.Popen(
            command, cwd=ROOT, env=self.environment, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip() == "Ready.":
                return
        raise AssertionError("serve ended before it was ready")

    def children(self, word: str) -> list[psutil.Process]:
        assert self.process is not None
        found = psutil.Process(self.process.pid).children()
        return [child for child in found if word in child.cmdline()]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def status(self, job_id: str) -> str:
        return str(self.get(f"/api/sessions/{job_id}")["status"])

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    found = Engine(tmp_path / "data")
    found.start()
    yield found
    found.stop()


def read_stream(
    engine: Engine, path: str, headers: dict[str, str], *, until_type: str
) -> list[dict[str, Any]]:
    """Frames of one connection until an event of a type has come or the connection breaks."""
    frames: list[dict[str, Any]] = []
    request = urllib.request.Request(f"http://127.0.0.1:{engine.port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as stream:
            frame: dict[str, Any] = {}
            for raw in stream:
                line = raw.decode().rstrip("\n")
                name, separator, value = line.partition(": ")
                if line == "" and frame:
                    frames.append(frame)
                    if frame.get("event") == until_type:
                        return frames
                    frame = {}
                elif name and separator:
                    assert name != "data" or "data" not in frame
                    frame[name] = value
    except (OSError, ValueError):
        pass  # The connection broke, which is what some of these tests are about.
    return frames


def test_no_event_is_lost_or_doubled_over_kills_of_the_web_process(engine):
    job = engine.submit(shards=6, steps=60, pause_s=0.05)
    seen: list[dict[str, Any]] = []
    last = "0"
    kills = 0
    while not seen or seen[-1]["event"] != "complete":
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
        seen += [frame for frame in frames if "id" in frame]
        last = seen[-1]["id"] if seen else last
        time.sleep(0.1)
    assert kills == 3
    assert [json.loads(frame["data"])["seq"] for frame in seen] == list(range(1, len(seen) + 1))
    ids = [int(frame["id"]) for frame in seen]
    assert ids == sorted(set(ids))


def test_killed_worker_costs_a_moment_and_the_job_goes_on(engine):
    job = engine.submit(shards=2, steps=60, pause_s=0.05)
    until(lambda: (engine.get(f"/api/sessions/{job}")["progress"] or {}).get("done", 0) > 10)
    for worker in engine.children("worker"):
        worker.kill()
    until(lambda: engine.status(job) == "completed", seconds=15)
    assert engine.get(f"/api/sessions/{job}")["progress"]["done"] == 120
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
    assert engine.get(f"/api/sessions/{job}")["progress"]["done"] == 200


def test_sigterm_ends_all_within_15_s_with_a_job_running_which_then_goes_on(engine):
    job = engine.submit(shards=2, steps=100, pause_s=0.05)
    until(lambda: engine.status(job) == "running")
    family = [child.pid for child in psutil.Process(engine.process.pid).children()]
    engine.process.terminate()
    assert engine.process.wait(15) == 0
    assert not any(psutil.pid_exists(pid) for pid in family)
    engine.start()
    until(lambda: engine.status(job) == "completed")


def test_zombie_writes_nothing_more(engine):
    job = engine.submit(shards=1, steps=150, pause_s=0.05)
    until(lambda: (engine.get(f"/api/sessions/{job}")["progress"] or {}).get("done", 0) > 5)
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
        before = engine.get(f"/api/sessions/{job}")["progress"]["done"]
        until(lambda: engine.get(f"/api/sessions/{job}")["progress"]["done"] > before + 10)
        for worker in workers:
            worker.resume()
        until(lambda: engine.status(job) == "completed")
        assert engine.get(f"/api/sessions/{job}")["progress"]["done"] == 150
    finally:
        for worker in workers:
            if worker.is_running():
                worker.send_signal(signal.SIGCONT)
        fourth.stdin.close()
        fourth.wait(10)


def test_listener_to_everything_hears_two_jobs_and_no_foreign_event(engine):
    with subprocess.Popen(
        ["curl", "-sN", "-m", "15", f"http://127.0.0.1:{engine.port}/api/events"],
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
