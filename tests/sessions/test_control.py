"""Pause and resume, in the test's own process."""

import threading

import pytest
from django.db import transaction
from django.test import Client

from sessions_app import accounts, control, jobs
from sessions_app.inline import InlineWorker
from sessions_app.models import Job
from sessions_app.reconciler import reconcile
from sessions_app.runners import LeaseLost, Submission
from sessions_app.transitions import IllegalMove
from tests.sessions.test_execution import claimed


@pytest.fixture
def api(owner):
    return Client(headers={"Authorization": f"Bearer {accounts.create_token(owner)}"})


def states(job):
    return [(event.data["from"], event.data["to"]) for event in job.events.filter(type="state")]


def test_pending_job_is_paused_without_a_worker_and_waits_for_its_turn_again(submit, work_off):
    job = submit(steps=4)
    control.pause(job.pk)
    job.refresh_from_db()
    assert (job.status, job.progress["status"]) == ("paused", "paused")
    reconcile()
    work_off()
    job.refresh_from_db()
    assert job.status == "paused"
    control.resume(job.pk)
    job.refresh_from_db()
    assert job.status == "pending"
    work_off()
    job.refresh_from_db()
    assert (job.status, job.progress["done"]) == ("completed", 4)
    assert states(job) == [
        ("pending", "paused"),
        ("paused", "pending"),
        ("pending", "running"),
        ("running", "completed"),
    ]


@pytest.mark.slow
def test_running_job_stops_at_its_next_safe_point_and_goes_on_there(submit, work_off):
    job = submit(shards=1, steps=100, pause_s=0.02)
    asking = threading.Timer(1.0, control.pause, args=[job.pk])
    asking.start()
    work_off()
    asking.join()
    job.refresh_from_db()
    done = job.progress["done"]
    assert job.status == "paused"
    assert 0 < done < 100
    assert not job.shards.filter(state__in=("running", "queued")).exists()
    assert set(job.shards.values_list("deaths", flat=True)) == {0}
    control.resume(job.pk)
    work_off()
    job.refresh_from_db()
    assert (job.status, job.progress["done"]) == ("completed", 100)


def test_worker_that_does_not_let_go_is_fenced_off_and_the_job_paused(submit, presence, monkeypatch):
    monkeypatch.setattr(control, "PAUSE_WAIT_S", 0.1)
    job = submit()
    lease = claimed(job, presence.id)
    control.pause(job.pk)
    with pytest.raises(LeaseLost), transaction.atomic():
        lease.flush()
    job.refresh_from_db()
    assert (job.status, job.shards.get().state) == ("paused", "waiting")


def test_wish_of_a_web_process_that_died_is_carried_out(submit, work_off):
    job = submit()
    Job.objects.filter(pk=job.pk).update(desired="pause")
    reconcile()
    job.refresh_from_db()
    assert job.status == "paused"


def test_paused_job_can_be_cancelled_and_one_that_never_began_holds_no_folder(submit, work_off):
    first, second = submit(claim="/srv/a"), submit(claim="/srv/a/b")
    control.pause(first.pk)
    work_off()
    second.refresh_from_db()
    assert second.status == "completed"
    assert jobs.cancel(first.pk)
    first.refresh_from_db()
    assert first.status == "cancelled"


def test_what_is_not_under_way_is_not_paused_nor_resumed(submit, work_off):
    job = submit()
    with pytest.raises(IllegalMove, match="pending session cannot become running"):
        control.resume(job.pk)
    work_off()
    for move in (control.pause, control.resume):
        with pytest.raises(IllegalMove, match="completed"):
            move(job.pk)
    job.refresh_from_db()
    assert (job.status, job.desired) == ("completed", "run")


@pytest.mark.slow
def test_job_of_a_terminal_is_paused_from_outside_and_resumed_by_the_workers(owner, work_off):
    with InlineWorker() as worker:
        params = {"steps": 200, "pause_s": 0.02}
        job, _ = jobs.submit(Submission("demo", owner.pk, "t", params, {}, executor=worker.id))
        asking = threading.Timer(0.5, control.pause, args=[job.pk])
        asking.start()
        worker.work_off(job.pk)
        asking.join()
    job.refresh_from_db()
    assert (job.status, job.executor) == ("paused", "")
    Job.objects.filter(pk=job.pk).update(params=params | {"pause_s": 0})
    control.resume(job.pk)
    work_off()
    job.refresh_from_db()
    assert (job.status, job.progress["done"]) == ("completed", 200)


def test_moves_over_the_api(api, submit, work_off):
    job = submit()
    assert api.post(f"/api/sessions/{job.pk}/pause").json()["status"] == "paused"
    again = api.post(f"/api/sessions/{job.pk}/pause")
    assert (again.status_code, again.json()["status"]) == (409, "paused")
    assert api.post(f"/api/sessions/{job.pk}/resume").json()["status"] == "pending"
    assert api.post(f"/api/sessions/{job.pk}/resume").status_code == 409
    work_off()
    ended = api.post(f"/api/sessions/{job.pk}/pause")
    assert (ended.status_code, ended.json()["status"]) == (409, "completed")
    assert api.get(f"/api/sessions/{job.pk}/pause").status_code == 405


def test_job_that_only_its_terminal_can_sign_in_for_is_not_resumed(api, submit):
    job = submit(tie="Go on in the terminal.")
    control.pause(job.pk)
    answer = api.post(f"/api/sessions/{job.pk}/resume")
    assert (answer.status_code, answer.json()["error"]) == (409, "Go on in the terminal.")
    assert answer.json()["status"] == "paused"


def test_jobs_of_others_are_not_there(submit, django_user_model):
    job = submit()
    eve = django_user_model.objects.create_user("eve")
    other = Client(headers={"Authorization": f"Bearer {accounts.create_token(eve)}"})
    for move in ("pause", "resume", "cancel", "retry"):
        assert other.post(f"/api/sessions/{job.pk}/{move}").status_code == 404
    assert other.get(f"/api/sessions/{job.pk}/log").status_code == 404
    job.refresh_from_db()
    assert job.status == "pending"
