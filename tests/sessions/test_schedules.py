"""Schedules: what the API takes, and what the pass that submits them does."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from sessions_app import accounts, claims, control, delivery, jobs, schedules, transitions
from sessions_app.checks import check_submitters
from sessions_app.models import Job, Schedule, Shard, User
from sessions_app.runners import Outcome
from sessions_app.states import JobStatus

NIGHTLY = {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "job": {"type": "demo", "steps": 1}}


@pytest.fixture
def api(owner):
    return Client(headers={"Authorization": f"Bearer {accounts.create_token(owner)}"})


@pytest.fixture
def post(api):
    return lambda body, path="/api/schedules": api.post(path, body, content_type="application/json")


@pytest.fixture
def patch(api):
    return lambda number, body: api.patch(f"/api/schedules/{number}", body, content_type="application/json")


@pytest.fixture
def made(owner):
    """Stores a schedule that runs every minute and is due since `late`."""

    def made(late: timedelta = timedelta(seconds=1), **fields: Any) -> Schedule:
        job = {"type": "demo"} | fields.pop("job", {})
        schedule = schedules.create(owner, {"cron": "* * * * *", "job": job} | fields)
        make_due(schedule, late)
        return schedule

    return made


def make_due(schedule: Schedule, late: timedelta = timedelta(seconds=1)) -> None:
    Schedule.objects.filter(pk=schedule.pk).update(next_run_at=timezone.now() - late)


def read(schedule: Schedule) -> Schedule:
    return Schedule.objects.get(pk=schedule.pk)


def finish(job: Job) -> None:
    transitions.move(job.pk, JobStatus.RUNNING)
    transitions.move(job.pk, JobStatus.COMPLETED, outcome=Outcome({}))


def test_schedule_is_stored_and_shown(api, post):
    answer = post(NIGHTLY | {"name": "Nightly", "job": {"type": "demo", "steps": 1, "secret": "hunter2"}})
    assert answer.status_code == 201
    found = answer.json()
    assert (found["name"], found["cron_text"], found["paused"]) == ("Nightly", "At 03:00 every day", False)
    assert (found["on_overlap"], found["on_missed"]) == ("skip", "run_once")
    assert found["job"] == {"type": "demo", "steps": 1, "secret": ""}
    assert len(found["next_runs"]) == 5
    assert found["next_runs"][0] == found["next_run_at"]
    assert found["last_runs"] == []
    assert api.get("/api/schedules").json() == [found]
    assert api.get(f"/api/schedules/{found['id']}/").json() == found
    assert "hunter2" not in str(answer.content)


def test_schedule_without_a_name_gets_one_of_its_job(post):
    assert post(NIGHTLY).json()["name"] == "A demo"


def test_list_is_paged_newest_first(api, post):
    ids = [post(NIGHTLY).json()["id"] for _ in range(3)][::-1]
    first = api.get("/api/schedules?limit=2")
    assert [found["id"] for found in first.json()] == ids[:2]
    assert first["X-Total-Count"] == "3"
    second = api.get(first["Link"].partition(">")[0][1:])
    assert [found["id"] for found in second.json()] == ids[2:]
    for query in ("limit=0", "cursor=x", "status=odd"):
        assert api.get(f"/api/schedules?{query}").status_code == 400


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"cron": "61 * * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"cron": "* * * * * *"}, "cron"),
        ({"cron": 5}, "cron"),
        ({"cron": None}, "cron"),
        ({"cron": "0 3 * * *" + " " * 300}, "cron"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"timezone": ["UTC"]}, "timezone"),
        ({"on_overlap": "kill"}, "on_overlap"),
        ({"on_missed": "twice"}, "on_missed"),
        ({"paused": "yes"}, "paused"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"when": "soon"}, "when"),
        ({"next_run_at": "2026-12-01T00:00:00Z"}, "next_run_at"),
        ({"job": None}, "job"),
        ({"job": "demo"}, "job"),
        ({"job": {}}, "job.type"),
        ({"job": {"type": "verify"}}, "job.type"),
        ({"job": {"type": ["demo"]}}, "job.type"),
        ({"job": {"type": "demo", "unknown": 1}}, "job.unknown"),
    ],
)
def test_what_means_nothing_is_refused_by_name(post, patch, change, name):
    answer = post(NIGHTLY | change)
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [name]), answer.json()
    assert answer.json()["error"].startswith(f"{name}: ")
    assert not Schedule.objects.exists()
    if None not in change.values():
        stored = post(NIGHTLY).json()
        answer = patch(stored["id"], change)
        assert (answer.status_code, list(answer.json()["fields"])) == (400, [name])
        assert Schedule.objects.get().updated_at.isoformat()[:26] == stored["updated_at"][:26]


def test_all_that_is_wrong_is_told_at_once(post):
    answer = post({"cron": "x", "timezone": "y", "job": {"type": "z"}, "w": 1})
    assert set(answer.json()["fields"]) >= {"w", "job.type"}
    answer = post({"cron": "x", "timezone": "y", "job": {"type": "z"}})
    assert set(answer.json()["fields"]) == {"cron", "timezone", "job.type"}
    assert post([]).status_code == 400


def test_answer_that_is_sent_back_changes_nothing(post, patch):
    stored = post(NIGHTLY).json()
    answer = patch(stored["id"], stored)
    assert answer.status_code == 200
    assert answer.json() | {"updated_at": ""} == stored | {"updated_at": ""}


def test_change_of_time_counts_from_now_on(made, patch):
    schedule = made(timedelta(hours=3))
    answer = patch(schedule.pk, {"name": "other"})
    assert read(schedule).next_run_at < timezone.now(), answer.json()
    patch(schedule.pk, {"cron": "*/2 * * * *"})
    assert read(schedule).next_run_at > timezone.now()
    assert patch(schedule.pk, {"cron": "*/2   *  * * *"}).json()["cron"] == "*/2 * * * *"


def test_paused_schedule_waits_and_goes_on_with_its_next_time(made, patch):
    schedule = made()
    paused = patch(schedule.pk, {"paused": True}).json()
    assert (paused["paused"], paused["next_run_at"], paused["next_runs"]) == (True, None, [])
    schedules.submit_due()
    assert not Job.objects.exists()
    again = patch(schedule.pk, {"paused": False}).json()
    assert again["next_run_at"] is not None
    schedules.submit_due()
    assert not Job.objects.exists()


def test_somebody_elses_schedule_is_404(made, api):
    schedule = made()
    stranger = User.objects.create_user("stranger")
    other = Client(headers={"Authorization": f"Bearer {accounts.create_token(stranger)}"})
    path = f"/api/schedules/{schedule.pk}"
    assert other.get("/api/schedules").json() == []
    for send in (other.get, other.delete):
        assert send(path).status_code == 404
    assert other.patch(path, {"name": "x"}, content_type="application/json").status_code == 404
    assert api.get("/api/schedules/999999999999999999").status_code == 404
    assert api.get("/api/schedules/x").status_code == 404
    assert api.put(path, {}, content_type="application/json").status_code == 405
    assert read(schedule).name == "A demo"


def test_deleted_schedule_leaves_its_jobs(made, api):
    schedule = made()
    schedules.submit_due()
    job = Job.objects.get()
    assert api.get(f"/api/sessions/{job.pk}").json()["schedule"] == str(schedule.pk)
    assert api.delete(f"/api/schedules/{schedule.pk}").json() == {"message": "Schedule deleted"}
    assert not Schedule.objects.exists()
    assert "schedule" not in api.get(f"/api/sessions/{job.pk}").json()


def test_schedules_go_with_their_owner(owner, made):
    made()
    owner.delete()
    assert not Schedule.objects.exists()


def test_number_of_schedules_has_an_end(post, monkeypatch):
    monkeypatch.setattr(schedules, "MOST_SCHEDULES", 1)
    assert post(NIGHTLY).status_code == 201
    answer = post(NIGHTLY)
    assert answer.status_code == 400
    assert "delete one first" in answer.json()["error"]


def test_form_that_is_sent_twice_makes_one(owner):
    one = schedules.create(owner, NIGHTLY, form_key="abc")
    assert schedules.create(owner, NIGHTLY, form_key="abc") == one
    assert schedules.create(owner, NIGHTLY, form_key="def") != one


def test_due_schedule_submits_one_job_that_runs(made, api, work_off):
    schedule = made(name="Nightly copy", job={"steps": 2, "secret": "hunter2"})
    schedules.submit_due()
    schedules.submit_due()
    job = Job.objects.get()
    assert (job.schedule, job.params) == (schedule, {"steps": 2, "secret": "hunter2"})
    assert read(schedule).next_run_at > timezone.now()
    work_off()
    job.refresh_from_db()
    assert job.status == "completed"
    log = [event.data["message"] for event in job.events.filter(type="log")]
    assert log == ["Started by the schedule “Nightly copy”."]
    assert [event.seq for event in job.events.order_by("seq")] == list(range(1, job.event_seq + 1))
    found = api.get(f"/api/schedules/{schedule.pk}").json()
    assert [(run["id"], run["status"]) for run in found["last_runs"]] == [(str(job.pk), "completed")]


def test_schedule_of_a_closed_account_waits(made, owner):
    made()
    User.objects.filter(pk=owner.pk).update(is_active=False)
    schedules.submit_due()
    assert not Job.objects.exists()


@pytest.mark.parametrize(("on_missed", "count"), [("run_once", 1), ("skip", 0)])
def test_times_that_nobody_was_there_for_count_once_or_not_at_all(made, on_missed, count):
    schedule = made(timedelta(days=3), cron="0 3 1 1 *", on_missed=on_missed)
    schedules.submit_due()
    schedules.submit_due()
    assert Job.objects.count() == count
    found = read(schedule)
    assert found.next_run_at > timezone.now()
    if count:
        (event,) = Job.objects.get().events.filter(type="log")
        assert "when no worker ran" in event.data["message"]
    else:
        assert found.last_skipped_reason.startswith("No worker ran at ")


def test_start_a_little_late_is_not_a_missed_one(made):
    # The last of the many minutes that went by is not missed.
    made(timedelta(days=3), on_missed="skip")
    made(timedelta(minutes=2), cron="0 3 1 1 *", on_missed="skip")
    schedules.submit_due()
    assert Job.objects.count() == 2


def test_run_is_left_out_while_the_one_before_goes(made):
    schedule = made()
    schedules.submit_due()
    first = Job.objects.get()
    for status in ("pending", "running", "paused"):
        if status != "pending":
            transitions.move(first.pk, JobStatus(status))
        make_due(schedule)
        schedules.submit_due()
        assert Job.objects.get() == first
        found = read(schedule)
        assert found.last_skipped_reason == f"The run before, session {first.pk}, was {status} still."
        assert found.next_run_at > timezone.now()
    jobs.cancel(first.pk)
    make_due(schedule)
    schedules.submit_due()
    assert Job.objects.count() == 2


def test_run_waits_for_the_one_before_and_no_more_than_one_does(made, api):
    schedule = made(on_overlap="queue")
    schedules.submit_due()
    first = Job.objects.get()
    transitions.move(first.pk, JobStatus.RUNNING)
    for _ in range(3):
        make_due(schedule)
        schedules.submit_due()
    second = Job.objects.exclude(pk=first.pk).get()
    assert read(schedule).last_skipped_reason == f"One run, session {second.pk}, was waiting already."
    assert not claims.start(second.pk)
    said = api.get(f"/api/sessions/{second.pk}").json()["progress"]["message"]
    assert said == f"Waits for session {first.pk}, the run before of the same schedule."
    transitions.move(first.pk, JobStatus.COMPLETED, outcome=Outcome({}))
    assert claims.start(second.pk)


def test_runs_of_two_schedules_do_not_wait_for_each_other(made):
    for _ in range(12):
        made(on_overlap="queue")
    schedules.submit_due()
    assert all(claims.start(job.pk) for job in Job.objects.all())


@pytest.mark.parametrize(
    ("job", "said"),
    [
        ({"refuse": True}, "refuse: Is refused."),
        ({"lose": True}, "Its secret is lost."),
        ({"break": True}, "Haulier itself failed to start it; the server's log has the details."),
    ],
)
def test_what_cannot_be_submitted_is_told_and_tried_again(made, api, job, said):
    schedule, other = made(job=job), made()
    schedules.submit_due()
    assert Job.objects.get().schedule == other
    found = api.get(f"/api/schedules/{schedule.pk}").json()
    assert found["last_error"] == said
    assert found["last_error_at"] is not None
    assert read(schedule).next_run_at > timezone.now()
    Schedule.objects.filter(pk=schedule.pk).update(request={})
    make_due(schedule)
    schedules.submit_due()
    assert schedule.jobs.count() == 1
    found = api.get(f"/api/schedules/{schedule.pk}").json()
    assert (found["last_error"], found["last_error_at"]) == (None, None)


def test_zone_that_is_not_known_here_stops_no_other_schedule(made):
    lost, other = made(), made()
    Schedule.objects.filter(pk=lost.pk).update(timezone="Mars/Olympus")
    schedules.submit_due()
    assert Job.objects.get().schedule == other
    found = read(lost)
    assert found.next_run_at > timezone.now()
    assert found.last_error.startswith("Haulier itself failed")


@pytest.mark.parametrize(
    ("submitter", "number"),
    [
        ("tests.sessions.nowhere.DemoSubmitter", "sessions_app.E003"),
        ("tests.sessions.demo_runner.DemoSubmitter", "sessions_app.E004"),
    ],
)
def test_submitter_that_does_not_fit_is_noticed_at_the_start(settings, submitter, number):
    settings.JOB_SUBMITTERS = {"other": submitter}
    assert [found.id for found in check_submitters()] == [number]


def test_more_than_one_pass_takes_are_not_lost(made, monkeypatch):
    monkeypatch.setattr(schedules, "MOST_AT_ONCE", 2)
    for _ in range(5):
        made()
    for _ in range(3):
        schedules.submit_due()
    assert Job.objects.count() == 5


def in_an_hour() -> str:
    return (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_session_is_made_of_any_type_that_can_be_asked_for(post, work_off):
    answer = post({"type": "demo", "steps": 2}, "/api/sessions")
    assert (answer.status_code, answer.json()["status"]) == (201, "pending")
    assert answer["X-Job-ID"] == answer.json()["id"]
    assert "run_at" not in answer.json()
    work_off()
    assert Job.objects.get().status == "completed"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({}, "type"),
        ({"type": None}, "type"),
        ({"type": "verify"}, "type"),
        ({"type": 5}, "type"),
        ({"type": "demo", "run_at": "tomorrow"}, "run_at"),
        ({"type": "demo", "run_at": "2036-01-01T12:00:00"}, "run_at"),
        ({"type": "demo", "run_at": "2036-01-01T12:00:00Z"}, "run_at"),
        ({"type": "demo", "run_at": "2020-01-01T12:00:00Z"}, "run_at"),
        ({"type": "demo", "run_at": 1893456000}, "run_at"),
        ({"type": "demo", "run_at": "9999-12-31T23:59:59-14:00"}, "run_at"),
    ],
)
def test_session_that_means_nothing_is_refused_by_name(post, body, name):
    answer = post(body, "/api/sessions")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, [name]), answer.json()
    assert not Job.objects.exists()


def test_session_waits_for_its_time(post, api, work_off):
    at = in_an_hour()
    job = post({"type": "demo", "run_at": at, "steps": 1}, "/api/sessions").json()
    assert job["status"] == "pending"
    assert job["run_at"] == at.replace("Z", ".000000Z")
    said = f"Starts at {at.replace('T', ' ').replace('Z', '')} UTC."
    assert job["progress"]["message"] == said
    delivery.queue_pending()
    work_off()
    assert Job.objects.get().status == "pending"
    assert Shard.objects.get().state == "waiting"
    control.pause(Job.objects.get().pk)
    control.resume(Job.objects.get().pk)
    work_off()
    found = api.get(f"/api/sessions/{job['id']}").json()
    assert (found["status"], found["progress"]["message"]) == ("pending", said)
    Job.objects.update(run_at=timezone.now(), due_at=timezone.now())
    delivery.queue_pending()
    work_off()
    assert Job.objects.get().status == "completed"


def test_session_that_waits_can_be_cancelled(post, api):
    job = post({"type": "demo", "run_at": in_an_hour()}, "/api/sessions").json()
    assert api.post(f"/api/sessions/{job['id']}/cancel").json()["status"] == "cancelled"


def test_key_that_was_used_gives_the_same_session_also_when_its_time_has_passed(api):
    at = in_an_hour()

    def send(**more: Any) -> Any:
        body = {"type": "demo", "run_at": at, **more}
        return api.post(
            "/api/sessions", body, content_type="application/json", headers={"Idempotency-Key": "k"}
        )

    first = send()
    assert (first.status_code, send().status_code) == (201, 200)
    assert send().json()["id"] == first.json()["id"]
    assert send(steps=7).status_code == 409
    at = "2020-01-01T00:00:00Z"
    assert send().status_code == 200
    assert Job.objects.count() == 1
