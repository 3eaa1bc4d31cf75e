"""How long finished jobs stay, and how their rows go."""

import os
import signal
import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from sessions_app import accounts, chores, control, jobs, retention
from sessions_app.models import Chore, Job, JobEvent, RetentionRule, Shard, User
from sessions_app.reconciler import reconcile
from sessions_app.retention import Rule
from sessions_app.runners import Submission


@pytest.fixture(autouse=True)
def usual(settings: Any) -> None:
    settings.RETENTION = {"demo": timedelta(days=1), "quick": timedelta(days=1), "failed": timedelta(days=7)}


def ended(
    owner: User, *, days: float = 0.0, status: str = "completed", job_type: str = "demo", **more: Any
) -> Job:
    job, _ = jobs.submit(Submission(job_type, owner.pk, "A demo", {}, {}))
    at = timezone.now() - timedelta(days=days)
    Job.objects.filter(pk=job.pk).update(status=status, completed_at=at, **more)
    return job


def gone(*among: Job) -> list[Job]:
    return [job for job in among if not Job.objects.filter(pk=job.pk).exists()]


def test_rules_of_an_owner_stand_before_those_of_the_environment(owner):
    assert retention.policy()["demo"] == Rule(timedelta(days=1))
    retention.set_policy({"demo": Rule(timedelta(days=2), 5), "failed": Rule(timedelta(days=7))})
    assert retention.policy()["demo"] == Rule(timedelta(days=2), 5)
    assert [row.name for row in RetentionRule.objects.all()] == ["demo"]
    retention.set_policy({"demo": Rule(timedelta(days=1))})
    assert not RetentionRule.objects.exists()


def test_what_is_over_goes_and_what_is_to_be_kept_stays(owner):
    over = ended(owner, days=1.1)
    kept = ended(owner, days=400, keep=True)
    failed, failed_long_ago = ended(owner, days=6.9, status="failed"), ended(owner, days=7.1, status="failed")
    fresh = ended(owner, days=0.9)
    active, _ = jobs.submit(Submission("demo", owner.pk, "A demo", {}, {}))
    assert retention.clean_up() == 2
    assert gone(over, kept, failed, failed_long_ago, fresh, active) == [over, failed_long_ago]
    assert retention.clean_up(older_than=timedelta(0)) == 2
    assert gone(kept, failed, fresh, active) == [failed, fresh]


def test_of_each_person_the_newest_of_a_type_stay(owner):
    other = User.objects.create_user("other")
    retention.set_policy({"demo": Rule(timedelta(days=90), 2), "failed": Rule(timedelta(days=7), 1)})
    mine = [ended(owner, days=days) for days in (3, 1, 2)]
    theirs = ended(other, days=9)
    quick = [ended(owner, job_type="quick", days=0.1 * days) for days in range(4)]
    failed = [ended(owner, status="failed", days=days) for days in (1, 2)]
    assert retention.removable(timezone.now()).count() == 2
    assert retention.clean_up() == 2
    assert gone(*mine, theirs, *quick, *failed) == [mine[0], failed[1]]


def test_deleted_job_is_out_of_sight_at_once_and_its_rows_go_by_and_by(owner, monkeypatch):
    monkeypatch.setattr(jobs, "PURGE_AT_ONCE_S", -1)
    monkeypatch.setattr(jobs, "_ROWS_AT_ONCE", 2)
    api = Client(headers={"Authorization": f"Bearer {accounts.create_token(owner)}"})
    job = ended(owner)
    JobEvent.objects.bulk_create(
        JobEvent(job=job, seq=seq, type="log", data={}, created_at=timezone.now()) for seq in range(2, 9)
    )
    assert api.delete("/api/sessions").json() == {"deleted": 1}
    assert api.get("/api/sessions").json() == []
    for path in ("", "/log", "/events"):
        assert api.get(f"/api/sessions/{job.pk}{path}").status_code == 404
    assert api.post(f"/api/sessions/{job.pk}/retry").status_code == 404
    assert JobEvent.objects.filter(job=job).exists()
    left = JobEvent.objects.count()
    while not jobs.purge(seconds=-1):
        assert JobEvent.objects.count() <= left
        left = JobEvent.objects.count()
    assert not Job.everything.exists()
    assert not JobEvent.objects.exists()
    assert not Shard.objects.exists()


def test_key_of_a_deleted_job_makes_a_new_one(owner, monkeypatch):
    monkeypatch.setattr(jobs, "PURGE_AT_ONCE_S", -1)

    def submission() -> Submission:
        return Submission("demo", owner.pk, "A demo", {}, {}, idempotency_key="k", request_digest="d")

    first, _ = jobs.submit(submission())
    Job.objects.update(status="completed")
    jobs.delete([first.pk])
    second, is_new = jobs.submit(submission())
    assert (is_new, second.pk == first.pk) == (True, False)


def test_what_cleans_up_keeps_its_rows_until_it_is_done(submit, work_off, presence):
    job = submit(shards=1, steps=1)
    work_off(most=1)
    # Of a worker that was interrupted.
    Shard.objects.filter(job=job, kind="work").update(state="running", attempt=1, owner=presence.id)
    jobs_deleted = control.cancel(job.pk, "somebody"), jobs.delete([job.pk])
    assert jobs_deleted[1] == 1
    assert Shard.objects.filter(job=job, kind="clean").exists()
    reconcile()
    work_off()
    assert JobEvent.objects.filter(job=job, data__message="Cleaned 1.").exists()
    assert jobs.purge(seconds=5)
    assert not Job.everything.exists()


def test_one_worker_at_a_time_removes_rows(owner, monkeypatch):
    monkeypatch.setattr(jobs, "PURGE_AT_ONCE_S", -1)
    jobs.delete([ended(owner).pk])
    Chore.objects.create(name="purge", next_at=timezone.now() + timedelta(seconds=60))
    retention.purge_when_due()
    assert Job.everything.exists()
    Chore.objects.filter(name="purge").update(next_at=timezone.now())
    retention.purge_when_due()
    assert not Job.everything.exists()


_DELETE = """
import django, os, sys, time, types
django.setup()
from sessions_app import jobs
from sessions_app.models import Job
jobs._ROWS_AT_ONCE = 1
left = [int(sys.argv[1])]
def die():
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), 9)
    return time.monotonic()
jobs.time = types.SimpleNamespace(monotonic=die)
jobs.delete([job.pk for job in Job.objects.all()])
"""


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 1, 2, 4, 7])
def test_deletion_that_was_killed_is_finished_by_the_next_one(owner, step):
    for _ in range(2):
        job = ended(owner)
        JobEvent.objects.create(job=job, seq=2, type="log", data={}, created_at=timezone.now())
    environment = os.environ | {"DATABASE_URL": f"sqlite:///{connection.settings_dict['NAME']}"}
    environment["DJANGO_SETTINGS_MODULE"] = "tests.sessions.demo_settings"
    done = subprocess.run([sys.executable, "-c", _DELETE, str(step)], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    # Gone for everybody, in each case.
    assert not Job.objects.exists()
    assert jobs.purge(seconds=30)
    assert not Job.everything.exists()
    assert not JobEvent.objects.exists()
    assert not Shard.objects.exists()


def test_room_of_deleted_jobs_is_used_again(owner):
    def fill() -> None:
        job = ended(owner)
        JobEvent.objects.bulk_create(
            JobEvent(job=job, seq=seq, type="log", data={"x": "y" * 500}, created_at=timezone.now())
            for seq in range(2, 2000)
        )

    def pages() -> int:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA page_count")
            return int(cursor.fetchone()[0])

    fill()
    before = pages()
    for _ in range(3):
        assert jobs.delete([job.pk for job in Job.objects.all()]) == 1
        fill()
    assert pages() < 1.2 * before


def test_sqlite_is_told_how_its_tables_are_filled(submit, work_off):
    for _ in range(3):
        submit()
    chores.refresh_statistics_when_due()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'sessions_app_job'")
        assert cursor.fetchone()[0] > 3
        cursor.execute("DELETE FROM sqlite_stat1")
        # Not due again so soon.
        chores.refresh_statistics_when_due()
        cursor.execute("SELECT count(*) FROM sqlite_stat1")
        assert cursor.fetchone()[0] == 0
