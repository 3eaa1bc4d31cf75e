import threading

import pytest
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from sessions_app import jobs
from sessions_app.inline import InlineWorker, NotToBeAdopted
from sessions_app.models import Job, Worker
from sessions_app.presence import Presence
from sessions_app.reconciler import reconcile
from sessions_app.runners import Submission
from sessions_app.watch import watcher


@pytest.fixture
def submit_inline(owner):
    def submit(worker: InlineWorker, **params) -> Job:
        return jobs.submit(Submission("demo", owner.pk, "t", params, {}, executor=worker.id))[0]

    return submit


@pytest.fixture(autouse=True)
def end_of_draining():
    yield
    watcher.is_draining = False


def test_job_is_done_without_a_message_and_left_alone_by_the_workers(submit_inline, work_off):
    with InlineWorker() as worker:
        job = submit_inline(worker, shards=3, steps=4)
        reconcile()
        work_off()
        assert Job.objects.get(pk=job.pk).status == "pending"
        assert not DBTaskResult.objects.exists()
        worker.work_off(job.pk)
    job.refresh_from_db()
    assert (job.status, job.progress["done"]) == ("completed", 12)


@pytest.mark.slow
def test_stopped_job_is_paused_and_goes_on_in_another_process(submit_inline, work_off):
    with InlineWorker() as worker:
        job = submit_inline(worker, shards=2, steps=100, pause_s=0.02)
        threading.Timer(1.0, worker.stop).start()
        worker.work_off(job.pk)
    job.refresh_from_db()
    assert (job.status, job.executor) == ("paused", "")
    assert not job.shards.filter(state="running").exists()
    reconcile()
    work_off()
    job.refresh_from_db()
    assert job.status == "paused"
    watcher.is_draining = False
    with InlineWorker() as worker:
        worker.adopt(job.pk)
        worker.work_off(job.pk)
    job.refresh_from_db()
    assert (job.status, job.progress["done"]) == ("completed", 200)


def test_job_of_a_dead_process_is_done_by_the_workers(submit_inline, work_off):
    worker = InlineWorker()
    job = submit_inline(worker, shards=1, steps=2)
    worker._presence.leave()
    reconcile()
    work_off()
    job.refresh_from_db()
    assert (job.status, job.executor) == ("completed", "")
    assert "process that did this session ended" in job.events.filter(type="log").get().data["message"]


def test_job_that_needs_its_process_is_paused_when_that_is_gone(submit_inline, work_off):
    worker = InlineWorker()
    job = submit_inline(worker, tie="Its key is with you. Go on yourself.", claim="/srv")
    worker._presence.leave()
    reconcile()
    work_off()
    job.refresh_from_db()
    assert (job.status, job.executor) == ("paused", "")
    assert "ended. Its key is with you." in job.events.filter(type="state").get().data["reason"]
    with InlineWorker() as other:
        other.adopt(job.pk)
        other.work_off(job.pk)
    job.refresh_from_db()
    assert job.status == "completed"


def test_job_paused_while_it_waits_goes_on_in_its_turn_only(submit, submit_inline, work_off):
    with InlineWorker() as worker, InlineWorker() as other:
        first = submit(claim="/srv", shards=1)
        work_off(1)
        second = submit_inline(worker, claim="/srv/site", shards=1)
        worker.stop()
        worker.work_off(second.pk)
        second.refresh_from_db()
        assert (second.status, second.started_at) == ("paused", None)
        watcher.is_draining = False
        with pytest.raises(NotToBeAdopted, match="same folder"):
            other.adopt(second.pk)
        work_off()
        first.refresh_from_db()
        assert first.status == "completed"
        other.adopt(second.pk)
        other.work_off(second.pk)
    second.refresh_from_db()
    assert second.status == "completed"
    assert second.started_at > first.completed_at


def test_job_of_a_dead_process_can_be_adopted_where_no_worker_is(submit_inline):
    worker = InlineWorker()
    job = submit_inline(worker, shards=1, steps=2)
    worker._presence.leave()
    with InlineWorker() as other:
        other.adopt(job.pk)
        other.work_off(job.pk)
    job.refresh_from_db()
    assert job.status == "completed"


def test_live_or_ended_jobs_are_not_adopted(submit, submit_inline, work_off, presence: Presence):
    with InlineWorker() as worker, InlineWorker() as other:
        held = submit_inline(worker)
        with pytest.raises(NotToBeAdopted, match="another process"):
            other.adopt(held.pk)
        queued = submit()
        with pytest.raises(NotToBeAdopted, match="server's workers"):
            other.adopt(queued.pk)
        work_off()
        with pytest.raises(NotToBeAdopted, match="completed"):
            other.adopt(queued.pk)


def test_cancel_ends_an_inline_job(submit_inline):
    with InlineWorker() as worker:
        job = submit_inline(worker, shards=1, steps=1000, pause_s=0.02)
        thread = threading.Timer(0.5, jobs.cancel, args=[job.pk])
        thread.start()
        worker.work_off(job.pk)
        thread.join()
    job.refresh_from_db()
    assert job.status == "cancelled"


def test_inline_worker_counts_as_no_slot(owner):
    with InlineWorker() as worker:
        row = Worker.objects.get(pk=worker.id)
        assert "work" not in row.queues
        assert row.seen_at <= timezone.now()


def test_failed_job_is_cleaned_up_after_without_any_other_worker(submit_inline):
    with InlineWorker() as worker:
        job = submit_inline(worker, shards=2, fail="work")
        worker.work_off(job.pk)
    job.refresh_from_db()
    assert job.status == "failed"
    assert job.shards.get(kind="clean").state == "done"
