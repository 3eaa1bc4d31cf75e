"""Whose turn it is: priority, fairness, limits, time slices, and shards that are put off."""

import os
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone
from django_tasks_db.models import DBTaskResult

from sessions_app import accounts, control, execution, jobs, leases, turns
from sessions_app.models import Job, Shard, User, Worker
from sessions_app.presence import Presence, count_slots, is_pass_due
from sessions_app.reconciler import reconcile
from sessions_app.runners import ComeLater, Submission
from tests.sessions.messages import run_messages


@pytest.fixture
def other(transactional_db: None) -> User:
    return User.objects.create_user("other")


def started(owner: User, job_type: str = "demo", **params: Any) -> Job:
    return jobs.submit(Submission(job_type, owner.pk, "A demo", params, {}))[0]


def status(job: Job) -> str:
    job.refresh_from_db()
    return job.status


def ended(*among: Job) -> list[Job]:
    """Jobs in the order in which they ended."""
    return sorted((job for job in among if status(job) == "completed"), key=lambda job: job.completed_at)


@pytest.mark.parametrize("is_other", [True, False], ids=["of another person", "of the same person"])
def test_job_of_many_shards_does_not_hold_up_one_of_few(owner, other, work_off, is_other):
    large = started(owner, shards=30, steps=1)
    work_off(most=3)
    assert large.shards.filter(state="done").count() == 3
    small = started(other if is_other else owner, shards=1, steps=1)
    # What it needs itself: prepare, work and finish. No more than what had been given out goes before.
    work_off(most=4)
    assert (status(small), status(large)) == ("completed", "running")
    work_off()
    assert status(large) == "completed"


def test_people_share_alike_however_many_jobs_they_have(owner, other, work_off):
    many = [started(owner, shards=8, steps=1) for _ in range(3)]
    work_off(most=9)
    one = started(other, shards=8, steps=1)
    work_off()
    assert ended(one, *many)[0] == one


def test_jobs_of_a_higher_priority_go_first(owner, work_off):
    low, high = started(owner, shards=10, steps=1), started(owner, shards=10, steps=1)
    Client(headers=token_of(owner)).patch(
        f"/api/sessions/{high.pk}", {"priority": 50}, content_type="application/json"
    )
    work_off()
    assert ended(low, high) == [high, low]
    seq = dict(high.events.filter(type="log").values_list("seq", "data__message"))
    assert next(iter(seq.values())).endswith(": priority 50.")


def test_priority_of_one_person_does_not_hold_up_another(owner, other, work_off):
    high = started(other, shards=20, steps=1)
    Job.objects.filter(pk=high.pk).update(priority=100)
    work_off(most=5)
    usual = started(owner, shards=5, steps=1)
    work_off()
    assert ended(usual, high) == [usual, high]


def test_work_of_an_earlier_run_waits_until_the_next_one_is_prepared(owner, work_off):
    job = started(owner, shards=3, steps=1)
    work_off(most=1)
    job.shards.filter(kind="work").update(state="waiting")
    for state in ("waiting", "queued", "running"):
        job.shards.filter(kind="prepare").update(state=state, payload={"run": 2})
        assert turns.next_work(4, 4) == []
    job.shards.filter(kind="prepare").update(state="done")
    assert len(turns.next_work(4, 4)) == 3
    # In a first run it begins while more is still being found.
    job.shards.filter(kind="prepare").update(state="running", payload={})
    assert len(turns.next_work(4, 4)) == 3


def test_one_job_gets_no_more_workers_than_pay_and_another_the_rest(owner, other, work_off):
    job = started(owner, shards=6, steps=1)
    work_off(most=1)
    assert job.shards.get(kind="prepare").state == "done"
    job.shards.filter(kind="work").update(state="waiting")
    assert len(turns.next_work(4, 2)) == 2
    first, second, third = job.shards.filter(kind="work").order_by("number")[:3]
    job.shards.filter(pk__in=(first.pk, second.pk)).update(state="running")
    assert turns.next_work(4, 2) == []
    job.shards.filter(pk=first.pk).update(state="done")
    assert [shard for shard, _ in turns.next_work(4, 2)] == [third]
    # What lists meanwhile has a worker of its own; each of the others gets one part, and none waits for it.
    job.shards.filter(kind="prepare").update(state="running")
    assert len(turns.next_work(2, 3)) == 1
    assert turns.next_work(1, 3) == []
    job.shards.filter(kind="prepare").update(state="done")
    another = started(other, shards=6, steps=1)
    work_off(most=1)
    another.shards.filter(kind="work").update(state="waiting")
    assert sorted(shard.job_id == job.pk for shard, _ in turns.next_work(4, 2)) == [False, False, True]


def test_worker_goes_on_with_a_job_while_nothing_else_waits(owner, other, presence):
    job = started(owner, shards=4, steps=1)
    # The listing has queued the first work while it ran.
    run_messages(presence, 2)
    assert (status(job), DBTaskResult.objects.count()) == ("completed", 2)
    first, second = started(owner, shards=4, steps=1), started(other, shards=4, steps=1)
    run_messages(presence, 1)
    # The other one's listing waits in the queue: it comes next.
    assert [status(job) for job in (first, second)] == ["running", "pending"]
    assert not first.shards.filter(kind="work", state="done").exists()


def test_worker_that_is_kept_for_listings_leaves_the_work_to_others(owner, transactional_db):
    job = started(owner, shards=4, steps=1)
    listing = Presence(["prepare"])
    run_messages(listing, 1)
    assert status(job) == "running"
    assert set(job.shards.values_list("kind", "state")) == {
        ("prepare", "done"),
        ("work", "queued"),
        ("work", "waiting"),
    }
    listing.leave()


@pytest.mark.parametrize(
    ("workers", "slots"),
    [
        ([("a", 4)] * 3, (3, 3)),
        ([("a", 2)] * 3, (3, 2)),
        ([("a", 1)] * 3, (3, 2)),
        ([("a", 1)], (1, 1)),
        ([("a", 2)] * 3 + [("b", 8)] * 4, (7, 6)),
    ],
)
def test_workers_that_pay_for_one_job_are_as_many_as_processors(transactional_db, workers, slots):
    for number, (host, processors) in enumerate([*workers, ("c", 8)]):
        queues = "prepare" if host == "c" else "prepare,work"
        Worker.objects.create(
            pk=f"{number}", host=host, processors=processors, pid=1, queues=queues, seen_at=timezone.now()
        )
    assert count_slots() == slots


def test_one_worker_of_a_machine_keeps_house_for_all(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    assert [is_pass_due(60) for _ in range(3)] == [True, False, False]
    last = tmp_path / "workers/last-pass"
    for at in (time.time() - 61, time.time() + 3600):
        # Also where somebody has set the clock back.
        os.utime(last, (at, at))
        assert [is_pass_due(60) for _ in range(2)] == [True, False]


@pytest.mark.parametrize(
    ("workers", "processors", "slots"), [(1, 8, (1, 2)), (3, 8, (3, 4)), (3, 2, (3, 2)), (1, 1, (1, 2))]
)
def test_worker_that_lists_leaves_a_job_those_that_copy(transactional_db, workers, processors, slots):
    """As far as there are processors: the listing may take as long as the copying."""
    for number, queues in enumerate([*["prepare,work"] * workers, "prepare", "inline"]):
        Worker.objects.create(
            pk=f"{number}", host="a", processors=processors, pid=1, queues=queues, seen_at=timezone.now()
        )
    assert count_slots() == slots


def token_of(user: User) -> dict[str, str]:
    return {"Authorization": f"Bearer {accounts.create_token(user)}"}


def test_only_so_many_jobs_of_a_person_run_at_once(owner, other, work_off):
    User.objects.filter(pk=owner.pk).update(most_running=2)
    running = [started(owner, shards=2, steps=1) for _ in range(2)]
    work_off(most=2)
    assert [status(job) for job in running] == ["running", "running"]
    third, fourth = started(owner), started(owner)
    assert DBTaskResult.objects.ready().filter(queue_name="prepare").count() == 0
    stranger = started(other)
    api = Client(headers=token_of(owner))
    found = {job["id"]: job for job in api.get("/api/sessions").json()}
    assert found[str(third.pk)]["queue_position"] == 1
    assert found[str(fourth.pk)]["queue_position"] == 2
    assert "queue_position" not in found[str(running[0].pk)]
    assert found[str(fourth.pk)]["progress"]["message"] == (
        "Waits for its turn: 2 sessions may run at once. 1 other waits before it."
    )
    work_off()
    assert {status(job) for job in (*running, third, fourth, stranger)} == {"completed"}
    assert ended(third, fourth) == [third, fourth]


def test_limit_holds_for_jobs_that_go_on_too(owner, work_off):
    User.objects.filter(pk=owner.pk).update(most_running=1)
    first = started(owner, shards=4, steps=1, claim="/srv/a")
    work_off(most=2)
    control.pause(first.pk)
    second = started(owner, shards=2, steps=1)
    work_off(most=1)
    assert (status(first), status(second)) == ("paused", "running")
    control.resume(first.pk)
    assert (status(first), first.started_at is not None) == ("pending", True)
    assert first.progress["message"] == "Waits for its turn: 1 session may run at once."
    # It holds its folder meanwhile.
    third = started(owner, claim="/srv/a/b", steps=1)
    reconcile()
    assert third.pk != first.pk
    work_off()
    assert {status(job) for job in (first, second, third)} == {"completed"}
    assert first.progress["done"] == 4
    assert ended(first, third) == [first, third]


def test_job_that_waits_says_so_again_after_a_pause(owner, work_off):
    holder = started(owner, claim="/srv/a", shards=3, steps=1)
    work_off(most=1)
    blocked = started(owner, claim="/srv/a")
    work_off(most=1)
    control.pause(blocked.pk)
    control.resume(blocked.pk)
    assert status(blocked) == "pending"
    assert blocked.progress["message"] == f"Waits for session {holder.pk}, which writes to the same folder."


def test_limit_holds_when_many_begin_at_once(owner, presence):
    User.objects.filter(pk=owner.pk).update(most_running=1)
    jobs_ = [started(owner, shards=1) for _ in range(4)]
    shards = [job.shards.get() for job in jobs_]
    assert {shard.state for shard in shards} == {"queued"}

    def begin(shard: Shard) -> None:
        execution.run(shard.pk, shard.attempt, worker_id=presence.id, queue_waiting=lambda _: None)
        connection.close()

    threads = [threading.Thread(target=begin, args=[shard]) for shard in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status(job) for job in jobs_) == ["pending", "pending", "pending", "running"]


def test_job_that_waits_for_a_folder_lets_others_pass(owner, work_off):
    User.objects.filter(pk=owner.pk).update(most_running=2)
    holder = started(owner, claim="/srv/a", shards=3, steps=1)
    work_off(most=1)
    blocked = started(owner, claim="/srv/a")
    work_off(most=1)
    passing = started(owner, claim="/srv/b")
    reconcile()
    assert (status(holder), status(blocked)) == ("running", "pending")
    assert blocked.progress["message"] == f"Waits for session {holder.pk}, which writes to the same folder."
    work_off()
    assert {status(job) for job in (holder, blocked, passing)} == {"completed"}
    assert ended(blocked, passing) == [passing, blocked]


def test_what_people_wait_for_is_held_up_by_no_limit(owner, work_off):
    User.objects.filter(pk=owner.pk).update(most_running=1)
    slow = started(owner, shards=5, steps=1)
    work_off(most=1)
    scan = started(owner, "quick", steps=1)
    assert set(DBTaskResult.objects.ready().values_list("queue_name", flat=True)) == {"prepare", "work"}
    work_off(most=3)
    assert (status(scan), status(slow)) == ("completed", "running")


def running_shard(owner: User, presence: Any, work_off: Any, **params: Any) -> Shard:
    job = started(owner, **({"shards": 3, "steps": 1} | params))
    work_off(most=1)
    shard = job.shards.filter(kind="work").first()
    Shard.objects.filter(pk=shard.pk).update(state="running", attempt=1, owner=presence.id)
    return Shard.objects.select_related("job").get(pk=shard.pk)


def test_shard_gives_way_to_a_job_that_has_less_at_work(owner, other, presence, work_off):
    shard = running_shard(owner, presence, work_off)
    assert not turns.gives_way(shard, 1000)  # to nobody, nor to its own job
    later = started(other, shards=2, steps=1)
    assert not turns.gives_way(shard, 1.9)
    assert turns.gives_way(shard, 2)  # what a person waits for comes soon
    work_off(most=1)
    assert later.shards.filter(kind="work", state="queued").exists()
    assert turns.gives_way(shard, 2)  # so does the first work of a job
    Shard.objects.filter(job=later, kind="work").update(attempt=1)
    assert not turns.gives_way(shard, 14.9)
    assert turns.gives_way(shard, 15)
    # A lower priority counts among the jobs of one person only.
    Job.objects.filter(pk=later.pk).update(priority=-1)
    assert turns.gives_way(shard, 15)
    Job.objects.filter(pk=later.pk).update(owner=owner)
    assert not turns.gives_way(shard, 15)
    Job.objects.filter(pk=later.pk).update(priority=0)
    assert turns.gives_way(shard, 15)
    Shard.objects.filter(job=later, kind="work", state="queued").update(state="running")
    assert not turns.gives_way(shard, 15)  # that one has as much at work


def test_shard_of_a_terminal_keeps_its_worker(owner, other, presence, work_off):
    shard = running_shard(owner, presence, work_off)
    started(other)
    shard.job.executor = "a terminal"
    assert not turns.gives_way(shard, 1000)


@pytest.mark.slow
def test_time_slices_take_turns_and_repeat_nothing(owner, other, presence, work_off, monkeypatch):
    monkeypatch.setattr(turns, "SHORT_SLICE_S", 0.1)
    monkeypatch.setattr("sessions_app.watch.TURN_LOOK_S", 0.1)
    long = started(owner, shards=1, steps=300, pause_s=0.02)
    arriving = threading.Timer(1.5, lambda: (started(other, steps=3), connection.close()))
    arriving.start()
    work_off()
    arriving.join()
    work_off()
    short = Job.objects.exclude(pk=long.pk).get()
    assert ended(short, long) == [short, long]
    assert (long.progress["done"], short.progress["done"]) == (300, 3)
    assert long.shards.get(kind="work").attempt >= 2


def test_shard_that_is_put_off_frees_its_worker_and_comes_again(owner, submit, work_off):
    job = submit(later=60, steps=2)
    work_off()
    shard = job.shards.get(kind="work")
    assert (status(job), shard.state, shard.note, shard.deaths) == ("running", "waiting", {"tries": 1}, 0)
    assert job.progress["message"] == "Waits for the demo."
    assert 55 < (job.due_at - timezone.now()).total_seconds() <= 60
    reconcile()
    assert not DBTaskResult.objects.ready().exists()
    Job.objects.update(due_at=timezone.now() - timedelta(seconds=1))
    reconcile()
    work_off()
    shard.refresh_from_db()
    assert (status(job), job.progress["done"], shard.note) == ("completed", 2, None)
    assert shard.counters == {"done": 2, "tries": 1}
    assert "message" not in job.progress


def test_job_that_is_put_off_is_paused_at_once(owner, submit, work_off):
    job = submit(later=60)
    work_off()
    control.pause(job.pk)
    assert status(job) == "paused"
    control.resume(job.pk)
    Job.objects.update(due_at=None)
    reconcile()
    work_off()
    assert status(job) == "completed"


def test_worker_of_a_lost_shard_cannot_put_it_off(owner, submit, presence, work_off):
    job = submit(later=60)
    work_off(most=1)
    shard = job.shards.get(kind="work")
    lease = claimed_work(shard, presence.id)
    context = execution.LeasedShard(lease, lambda _: None)
    Shard.objects.filter(pk=shard.pk).update(attempt=50)
    execution._put_off(context, ComeLater(60, "Waits."))
    assert (Shard.objects.get(pk=shard.pk).state, status(job), job.due_at) == ("running", "running", None)


def claimed_work(shard: Shard, worker_id: str) -> Any:
    with transaction.atomic():
        lease = leases.claim(shard.pk, shard.attempt, worker_id)
    assert lease is not None
    return lease


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"priority": 101}, "priority"),
        ({"priority": -101}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": True}, "priority"),
        ({"keep": 1}, "keep"),
        ({"title": ""}, "title"),
        ({"title": "a\nb"}, "title"),
        ({"title": "x" * 501}, "title"),
        ({"status": "completed"}, "status"),
        ({"speed": "fast"}, "speed"),
        ([], ""),
    ],
)
def test_what_cannot_be_changed_is_refused_by_name_and_changes_nothing(owner, submit, body, field):
    job = submit()
    before = Job.objects.filter(pk=job.pk).values().get()
    answer = Client(headers=token_of(owner)).patch(
        f"/api/sessions/{job.pk}", body, content_type="application/json"
    )
    assert answer.status_code == 400
    assert field in answer.json()["error"]
    assert Job.objects.filter(pk=job.pk).values().get() == before


def test_changes_are_kept_and_told(owner, other, submit, work_off):
    job = submit(speed=1)
    api = Client(headers=token_of(owner))
    body = {"title": "Shop", "keep": True, "priority": 7, "speed": 2.5}
    answer = api.patch(f"/api/sessions/{job.pk}", body, content_type="application/json").json()
    assert (answer["title"], answer["keep"], answer["priority"]) == ("Shop", True, 7)
    job.refresh_from_db()
    assert job.params["speed"] == 2.5
    message = job.events.get(type="log").data["message"]
    assert message.startswith("Set by ")
    assert message.endswith(": title “Shop”, keep on, priority 7, speed 2.5.")
    again = api.patch(f"/api/sessions/{job.pk}", body, content_type="application/json")
    assert (again.status_code, job.events.filter(type="log").count()) == (200, 1)
    foreign = Client(headers=token_of(other)).patch(
        f"/api/sessions/{job.pk}", body, content_type="application/json"
    )
    assert foreign.status_code == 404


def test_of_a_job_that_has_ended_only_name_and_keep_can_be_changed(owner, submit, work_off):
    job = submit()
    work_off()
    api = Client(headers=token_of(owner))
    answer = api.patch(f"/api/sessions/{job.pk}", {"priority": 1}, content_type="application/json")
    assert (answer.status_code, answer.json()["status"]) == (409, "completed")
    answer = api.patch(f"/api/sessions/{job.pk}", {"keep": True}, content_type="application/json")
    assert (answer.status_code, answer.json()["keep"]) == (200, True)


def test_new_name_is_what_a_search_finds(owner, submit):
    job = submit()
    api = Client(headers=token_of(owner))
    api.patch(f"/api/sessions/{job.pk}", {"title": "Größe"}, content_type="application/json")
    assert [found["id"] for found in api.get("/api/sessions", {"q": "größ"}).json()] == [str(job.pk)]
    assert api.get("/api/sessions", {"q": "demo"}).json() == []
