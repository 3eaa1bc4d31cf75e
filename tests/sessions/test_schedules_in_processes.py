"""Schedules in real processes: several at once, and killed in the act."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.product import ROOT, Product, until

pytestmark = pytest.mark.slow

_SETUP = "import django; django.setup()\n"
_MAKE = """
import json, sys
from datetime import timedelta
from django.utils import timezone
from sessions_app import accounts, schedules
from sessions_app.models import Schedule
count, job = int(sys.argv[1]), json.loads(sys.argv[2])
for number in range(count):
    schedules.create(accounts.owner(), {"cron": "0 3 1 1 *", "name": str(number), "job": {"type": "demo", **job}})
Schedule.objects.update(next_run_at=timezone.now() - timedelta(seconds=1))
"""
# Each starts when the other is up, so that they do get into each other's way.
_SCHEDULER = """
import sys, time
from pathlib import Path
from django.utils import timezone
from sessions_app import schedules
from sessions_app.models import Schedule
Path(sys.argv[1]).touch()
while not Path(sys.argv[2]).exists():
    time.sleep(0.001)
while Schedule.objects.filter(next_run_at__lte=timezone.now()).exists():
    schedules.submit_due()
"""


class Engine(Product):
    """The product with the runner that counts in place of the real ones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, settings="tests.sessions.demo_settings")

    def make_due(self, count: int, **job: Any) -> None:
        """Store schedules that are due at once, and then not for a long time."""
        self.migrate()
        self.python("-c", _SETUP + _MAKE, str(count), json.dumps(job))

    def schedules(self) -> list[dict[str, Any]]:
        """All of them."""
        return list(self.get("/api/schedules?limit=1000").body)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    with Engine(tmp_path) as found:
        yield found


def test_two_schedulers_submit_each_once(engine, tmp_path):
    engine.make_due(40)
    ready = [tmp_path / "one", tmp_path / "two"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _SETUP + _SCHEDULER, str(mine), str(other)],
            cwd=ROOT,
            env=engine.environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for mine, other in (ready, ready[::-1])
    ]
    for process in processes:
        _, said = process.communicate(timeout=120)
        assert (process.returncode, said) == (0, "")
    engine.start()
    found = engine.schedules()
    assert [len(schedule["last_runs"]) for schedule in found] == [1] * 40
    ids = {schedule["last_runs"][0]["id"] for schedule in found}
    assert {job["id"] for job in engine.get("/api/sessions?limit=1000").body} == ids
    until(lambda: not engine.get("/api/sessions/active").body, seconds=120)


def test_worker_that_is_killed_while_it_submits_loses_and_doubles_nothing(engine, tmp_path):
    once = tmp_path / "killed"
    engine.make_due(3, kill=str(once), steps=2)
    engine.start()
    until(once.exists)
    until(lambda: all(schedule["last_runs"] for schedule in engine.schedules()))
    until(lambda: not engine.get("/api/sessions/active").body)
    # Long enough for another pass of every worker.
    time.sleep(3)
    runs = [schedule["last_runs"] for schedule in engine.schedules()]
    assert [[run["status"] for run in one] for one in runs] == [["completed"]] * 3
    assert len(engine.get("/api/sessions").body) == 3
    log = engine.get(f"/api/sessions/{runs[0][0]['id']}/log").body
    assert [event["seq"] for event in log] == list(range(1, len(log) + 1))


def test_time_that_passes_while_the_server_is_off_is_made_up_for(engine):
    engine.start()
    at = time.gmtime(time.time() + 10)
    body = {"type": "demo", "run_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", at)}
    waiting = engine.post("/api/sessions", body).body
    engine.stop()
    engine.make_due(1, steps=1)
    until(lambda: time.gmtime() > at)
    engine.start()
    engine.wait_for(waiting["id"])
    (schedule,) = until(lambda: [one for one in engine.schedules() if one["last_runs"]])
    engine.wait_for(schedule["last_runs"][0]["id"])
