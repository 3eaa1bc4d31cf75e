import socket
import threading
from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from sessions_app import delivery, execution, jobs, leases, retries, transitions
from sessions_app.models import Job, Shard, Worker
from sessions_app.reconciler import reconcile
from sessions_app.runners import LeaseLost, Submission
from sessions_app.states import JobStatus
from sessions_app.watch import watcher
from tests.sessions.demo_runner import DemoRunner


def test_job_runs_from_submit_to_completed(submit, work_off):
    job = submit(shards=3, steps=4)
    work_off()
    job.refresh_from_db()
    assert (job.status, job.progress["done"], job.open_shards) == ("completed", 12, 0)
    assert set(job.shards.values_list("state", flat=True)) == {"done"}
    assert list(job.events.values_list("seq", "type")) == [
        (1, "job_created"),
        (2, "state"),
        (3, "phase"),
        (4, "state"),
        (5, "complete"),
    ]


@pytest.mark.parametrize("where", ["prepare", "work"])
def test_failing_shard_fails_the_job_and_tells_no_internals(submit, work_off, where):
    job = submit(fail=where, shards=3)
    work_off()
    job.refresh_from_db()
    assert job.status == "failed"
    assert "hunter2" not in job.error_message
    assert job.events.last().data["error"] == job.error_message
    still_open = job.shards.filter(state__in=["waiting", "queued", "running"])
    assert not still_open.exclude(kind="clean").exists()


def test_outcome_with_an_error_fails_the_job_and_keeps_the_result(submit, work_off):
    job = submit(error="3 of 4 failed")
    work_off()
    job.refresh_from_db()
    assert (job.status, job.error_message) == ("failed", "3 of 4 failed")
    assert "finished_by" in job.result


def test_doubled_message_does_no_harm(submit, work_off):
    job = submit(steps=5)
    shard = job.shards.get()
    delivery.run_shard.using(queue_name="prepare").enqueue(shard.pk, shard.attempt)
    work_off()
    job.refresh_from_db()
    assert (job.status, job.progress["done"], job.shards.count()) == ("completed", 5, 3)


def test_lost_message_is_delivered_again(submit, work_off):
    job = submit()
    DBTaskResult.objects.all().delete()
    work_off()
    job.refresh_from_db()
    assert job.status == "pending"
    reconcile()
    work_off()
    job.refresh_from_db()
    assert job.status == "completed"


def test_message_that_still_waits_is_not_doubled(submit, presence):
    submit()
    reconcile()
    assert DBTaskResult.objects.count() == 1


def claimed(job: Job, worker_id: str) -> leases.Lease:
    shard = job.shards.get(number=1)
    with transaction.atomic():
        lease = leases.claim(shard.pk, shard.attempt, worker_id)
    assert lease is not None
    return lease


def test_expired_lease_is_reclaimed_and_the_zombie_can_write_nothing(submit, work_off, presence):
    job = submit(steps=2)
    zombie = claimed(job, presence.id)
    Shard.objects.filter(pk=zombie.shard_id).update(lease_until=timezone.now() - timedelta(minutes=5))
    reconcile()
    assert Shard.objects.get(pk=zombie.shard_id).deaths == 1
    assert job.events.get(type="log").data["message"].startswith("Part 1 was taken back from a worker that ")
    work_off()
    job.refresh_from_db()
    assert job.status == "completed"
    with pytest.raises(LeaseLost), transaction.atomic():
        zombie.flush(counters={"done": 99})
    assert 99 not in [shard.counters.get("done") for shard in job.shards.all()]


def test_lease_is_not_reclaimed_before_its_margin_is_over(submit, presence):
    job = submit()
    lease = claimed(job, presence.id)
    Shard.objects.filter(pk=lease.shard_id).update(lease_until=timezone.now())
    reconcile()
    assert Shard.objects.get(pk=lease.shard_id).state == "running"


def test_worker_past_its_own_deadline_writes_nothing(submit, presence):
    job = submit()
    lease = claimed(job, presence.id)
    lease.deadline = leases.awake_clock() - 0.001
    with pytest.raises(LeaseLost), transaction.atomic():
        lease.flush(counters={"done": 1})
    assert Shard.objects.get(pk=lease.shard_id).counters == {}


def test_what_a_dead_worker_held_is_taken_back_at_once(submit, work_off):
    job = submit()
    lease = claimed(job, "a-worker-that-is-gone")
    Shard.objects.filter(pk=lease.shard_id).update(owner="gone")
    Worker.objects.create(id="gone", host=socket.gethostname(), pid=1, queues="work", seen_at=timezone.now())
    reconcile()
    assert not Worker.objects.filter(pk="gone").exists()
    work_off()
    job.refresh_from_db()
    assert job.status == "completed"


def test_shard_that_kills_its_workers_fails_after_five_deaths(submit, presence):
    job = submit()
    for _ in range(leases.MOST_DEATHS):
        shard = job.shards.get(number=1)
        Shard.objects.filter(pk=shard.pk).update(state="queued")
        lease = claimed(job, presence.id)
        Shard.objects.filter(pk=lease.shard_id).update(lease_until=timezone.now() - timedelta(minutes=5))
        reconcile()
    job.refresh_from_db()
    assert job.status == "failed"
    assert "ended its worker 5 times" in job.error_message


def test_drained_shard_goes_on_where_it_stopped(submit, work_off):
    job = submit(steps=40, pause_s=0.02)
    work_off(most=1)
    watcher.is_draining = True
    try:
        work_off(most=1)
    finally:
        watcher.is_draining = False
    shard = job.shards.get(kind="work")
    assert shard.state == "waiting"
    assert shard.cursor is None or shard.cursor < 40
    reconcile()
    work_off()
    job.refresh_from_db()
    assert (job.status, job.progress["done"]) == ("completed", 40)


def test_cancel_of_a_pending_job_needs_no_worker(submit):
    job = submit()
    assert jobs.cancel(job.pk)
    job.refresh_from_db()
    assert job.status == "cancelled"
    assert job.shards.get().state == "cancelled"
    assert not jobs.cancel(job.pk)


def test_worker_that_does_not_let_go_is_fenced_off(submit, presence, monkeypatch):
    monkeypatch.setattr(jobs, "CANCEL_WAIT_S", 0.1)
    job = submit()
    lease = claimed(job, presence.id)
    assert jobs.cancel(job.pk)
    with pytest.raises(LeaseLost), transaction.atomic():
        lease.flush()
    job.refresh_from_db()
    assert job.status == "cancelled"


def test_same_key_and_body_give_the_same_job(owner):
    def submission(digest: str) -> Submission:
        return Submission("demo", owner.pk, "t", {}, {}, idempotency_key="k", request_digest=digest)

    first, is_new = jobs.submit(submission("a"))
    again, is_new_again = jobs.submit(submission("a"))
    assert (first.pk, is_new, is_new_again) == (again.pk, True, False)
    with pytest.raises(jobs.IdempotencyConflict):
        jobs.submit(submission("b"))
    assert Job.objects.count() == 1


def test_overlapping_destination_waits_and_says_for_what(submit, work_off):
    first, second, apart = submit(claim="/srv/a"), submit(claim="/srv/a/b"), submit(claim="/srv/ab")
    work_off(most=3)
    statuses = {job.pk: Job.objects.get(pk=job.pk).status for job in (first, second, apart)}
    assert statuses == {first.pk: "running", second.pk: "pending", apart.pk: "running"}
    assert str(first.pk) in Job.objects.get(pk=second.pk).progress["message"]
    work_off()
    assert set(Job.objects.values_list("status", flat=True)) == {"completed"}
    started = Job.objects.get(pk=second.pk).started_at
    assert started >= Job.objects.get(pk=first.pk).completed_at


def test_another_persons_job_is_not_named(submit, work_off, django_user_model):
    first = submit(claim="/srv/a")
    other = django_user_model.objects.create(username="other")
    second, _ = jobs.submit(Submission("demo", other.pk, "t", {"claim": "/srv"}, {}))
    work_off(most=2)
    message = Job.objects.get(pk=second.pk).progress["message"]
    assert "another job" in message
    assert str(first.pk) not in message


def test_job_without_open_shards_is_finished_by_the_reconciler(submit, work_off):
    job = submit()
    work_off(most=1)
    Shard.objects.filter(job=job, kind="work").update(state="done")
    reconcile()
    work_off()
    job.refresh_from_db()
    assert job.status == "completed"


def test_settling_twice_changes_nothing(submit, work_off):
    job = submit()
    work_off()
    before = list(job.events.values_list("id", flat=True))
    for _ in range(3):
        assert execution.settle(job.pk, delivery.queue_waiting)
        reconcile()
    assert list(job.events.values_list("id", flat=True)) == before


def test_database_that_does_not_answer_costs_no_job(submit, work_off, tmp_path):
    job = submit(steps=3, locked=str(tmp_path / "once"))
    work_off()
    reconcile()
    work_off()
    job.refresh_from_db()
    assert (job.status, job.progress["done"]) == ("completed", 3)


def with_work_under_way(submit, work_off, presence, **params):
    """A job of three work shards, and that one of them which a worker has."""
    job = submit(shards=3, **params)
    work_off(most=1)
    reconcile()
    shard = job.shards.filter(kind="work", state="queued").first()
    with transaction.atomic():
        assert leases.claim(shard.pk, shard.attempt, presence.id)
    return job, shard


def interrupted(submit, work_off, presence, **params):
    """A job that was cancelled while a worker had one of its three shards and did not let go of it."""
    job, _ = with_work_under_way(submit, work_off, presence, **params)
    assert jobs.cancel(job.pk)
    return job


def test_interrupted_work_is_cleaned_up_after_once(submit, work_off, presence, monkeypatch):
    monkeypatch.setattr(jobs, "CANCEL_WAIT_S", 0.1)
    job = interrupted(submit, work_off, presence)
    before = Job.objects.get(pk=job.pk)
    assert job.shards.get(kind="clean").state == "queued"
    for _ in range(2):
        reconcile()
        work_off()
    assert [event.data["message"] for event in job.events.filter(type="log")] == ["Cleaned 1."]
    assert job.shards.get(kind="clean").state == "done"
    after = Job.objects.get(pk=job.pk)
    assert (after.status, after.progress, after.completed_at) == (
        "cancelled",
        before.progress,
        before.completed_at,
    )


def test_work_that_is_taken_back_from_the_dead_while_its_job_is_cancelled_is_cleaned_up_after(
    submit, work_off, presence, monkeypatch
):
    job, shard = with_work_under_way(submit, work_off, presence)
    fence_off = leases.fence_off

    def fence_off_just_before_another_takes_back(job_id, **states):
        fence_off(job_id, **states)
        shard.refresh_from_db()
        if shard.state == "running":
            assert leases.take_back(shard)

    monkeypatch.setattr(leases, "fence_off", fence_off_just_before_another_takes_back)
    assert jobs.cancel(job.pk)
    work_off()
    assert [event.data["message"] for event in job.events.filter(type="log")] == ["Cleaned 1."]


def test_job_whose_worker_dies_as_it_has_just_failed_is_cleaned_up_after(submit, work_off, presence):
    job, _ = with_work_under_way(submit, work_off, presence)
    transitions.move(job.pk, JobStatus.FAILED, reason="The other side is full.")
    assert job.shards.get(kind="clean").state == "waiting"
    reconcile()
    work_off()
    assert [event.data["message"] for event in job.events.filter(type="log")] == ["Cleaned 1."]


def test_whoever_still_thinks_that_a_job_has_failed_takes_nothing_from_its_next_run(
    submit, work_off, presence
):
    job = submit(shards=3)
    work_off(most=1)
    transitions.move(job.pk, JobStatus.FAILED, reason="The other side is full.")
    retries.begin(job.pk)
    before = list(job.shards.order_by("number").values_list("state", "attempt"))
    leases.fence_off(job.pk)
    assert execution.settle_cancel(job.pk)
    assert list(job.shards.order_by("number").values_list("state", "attempt")) == before
    job.refresh_from_db()
    assert job.status == "pending"
    reconcile()
    work_off()
    job.refresh_from_db()
    assert (job.status, job.progress["done"]) == ("completed", 9)


def test_retry_in_the_middle_of_fencing_off_keeps_its_shards(submit, work_off, monkeypatch):
    monkeypatch.setattr(DemoRunner, "keeps_work", True)
    job = submit(shards=3)
    work_off(most=1)
    transitions.move(job.pk, JobStatus.FAILED, reason="The other side is full.")
    update = QuerySet.update
    fenced = []

    def update_after_a_retry(rows, **changes):
        if changes.get("state") == "cancelled":
            fenced.append(1)
            if len(fenced) == 2:
                monkeypatch.setattr(QuerySet, "update", update)
                retries.begin(job.pk)
        return update(rows, **changes)

    monkeypatch.setattr(QuerySet, "update", update_after_a_retry)
    leases.fence_off(job.pk)
    assert len(fenced) == 2
    assert list(job.shards.filter(kind="work").values_list("state", flat=True)) == ["waiting"] * 3


def test_cleaning_leaves_the_progress_of_its_job_as_it_was_and_heeds_no_pause(
    submit, work_off, presence, monkeypatch
):
    monkeypatch.setattr(jobs, "CANCEL_WAIT_S", 0.1)
    job = interrupted(submit, work_off, presence, fail="slow clean")
    Job.objects.filter(pk=job.pk).update(desired="pause")
    before = Job.objects.values("progress", "due_at").get(pk=job.pk)
    job.shards.filter(kind="work").update(cursor=[1])
    work_off()
    assert job.shards.get(kind="clean").state == "done"
    assert Job.objects.values("progress", "due_at").get(pk=job.pk) == before
    # What was kept to go on with is gone.
    assert not job.shards.filter(kind="work", attempt__gte=2, cursor__isnull=False).exists()


def test_cleaning_that_fails_changes_nothing_of_its_job(submit, work_off, presence, monkeypatch):
    monkeypatch.setattr(jobs, "CANCEL_WAIT_S", 0.1)
    job = interrupted(submit, work_off, presence, fail="clean")
    work_off()
    reconcile()
    assert job.shards.get(kind="clean").state == "failed"
    job.refresh_from_db()
    assert (job.status, job.error_message) == ("cancelled", "")


def test_cleaning_that_ends_its_workers_is_given_up(submit, work_off, presence, monkeypatch):
    monkeypatch.setattr(jobs, "CANCEL_WAIT_S", 0.1)
    job = interrupted(submit, work_off, presence)
    for _ in range(leases.MOST_DEATHS):
        shard = job.shards.get(kind="clean")
        assert shard.state == "queued"
        with transaction.atomic():
            assert leases.claim(shard.pk, shard.attempt, presence.id)
        Shard.objects.filter(pk=shard.pk).update(lease_until=timezone.now() - timedelta(days=1))
        reconcile()
    assert job.shards.get(kind="clean").state == "failed"


def test_job_that_is_deleted_while_it_is_cleaned_up_after_does_no_harm(
    submit, work_off, presence, monkeypatch
):
    monkeypatch.setattr(jobs, "CANCEL_WAIT_S", 0.1)
    job = interrupted(submit, work_off, presence)
    assert jobs.delete([job.pk]) == 1
    # As after a restart: its message is gone.
    Shard.objects.filter(job=job.pk, kind="clean").update(state="waiting")
    jobs.purge(seconds=5)
    assert Shard.objects.filter(kind="clean").exists()
    reconcile()
    work_off()
    assert jobs.purge(seconds=5)
    assert not Shard.objects.exists()


@pytest.mark.slow
def test_work_that_was_stopped_in_the_middle_is_cleaned_up_after_too(submit, work_off):
    """Its worker may have lost a connection before, with what it had under way there."""
    job = submit(shards=1, steps=200, pause_s=0.02)
    asking = threading.Timer(1.0, jobs.cancel, args=[job.pk])
    asking.start()
    work_off()
    asking.join()
    work_off()
    assert job.shards.get(kind="work").attempt == 1
    assert job.shards.get(kind="clean").state == "done"


def test_cancelled_job_whose_work_had_not_begun_leaves_nothing_to_clean(submit, work_off):
    job = submit(shards=3)
    work_off(most=1)
    assert jobs.cancel(job.pk)
    reconcile()
    assert not job.shards.filter(kind="clean").exists()


def test_job_for_later_waits_for_its_time_and_is_found_then(owner, work_off):
    soon = timezone.now() + timedelta(hours=1)
    job, _ = jobs.submit(Submission("demo", owner.pk, "Later", {}, {}, run_at=soon))
    reconcile()
    work_off()
    job.refresh_from_db()
    assert (job.status, job.run_at, DBTaskResult.objects.count()) == ("pending", soon, 0)
    Job.objects.update(due_at=timezone.now())
    reconcile()
    work_off()
    job.refresh_from_db()
    assert job.status == "completed"
