import contextlib
import json
import sqlite3
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from sessions_app import accounts, events, jobs, listing
from sessions_app.models import Job, JobEvent, Shard


@pytest.fixture
def api(owner) -> Client:
    return Client(headers={"Authorization": f"Bearer {accounts.create_token(owner)}"})


def finish(job: Job, status: str = "completed", *, age: timedelta = timedelta(0)) -> None:
    Job.objects.filter(pk=job.pk).update(status=status, completed_at=timezone.now() - age)


@contextlib.contextmanager
def locked_database(settings) -> Iterator[None]:
    """Somebody else writes, and nobody waits."""
    writer = sqlite3.connect(settings.DATABASES["default"]["NAME"], isolation_level=None)
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout = 0")
    try:
        writer.execute("BEGIN IMMEDIATE")
        yield
    finally:
        writer.close()
        connection.close()


def test_health_needs_no_login(client):
    assert client.get("/health").json()["status"] == "ok"


@pytest.mark.parametrize(
    "path", ["/api/sessions", "/api/sessions/active", f"/api/sessions/{uuid.UUID(int=1)}", "/api/events"]
)
def test_stranger_is_401(client, transactional_db, path):
    answer = client.get(path)
    assert answer.status_code == 401
    assert answer.json()["error"]


@pytest.mark.parametrize("has_login", [True, False])
def test_reading_does_not_wait_for_the_writer(client, settings, submit, api, has_login):
    submit()
    settings.NO_LOGIN = not has_login
    reader = api if has_login else client
    assert reader.get("/api/sessions").status_code == 200
    with locked_database(settings):
        for path in ("/api/sessions", "/api/sessions/active"):
            assert [job["type"] for job in reader.get(path).json()] == ["demo"]


def test_database_that_does_not_answer_is_503(api, settings, submit):
    finish(submit())
    assert api.get("/api/sessions").status_code == 200
    with locked_database(settings):
        answer = api.delete("/api/sessions")
    assert (answer.status_code, answer["Retry-After"]) == (503, "5")
    assert answer.json() == {"error": "The database does not answer now; try again in a moment."}
    assert api.delete("/api/sessions").json() == {"deleted": 1}


def test_wrong_token_is_401(client, transactional_db):
    answer = client.get("/api/sessions", headers={"Authorization": "Bearer nope"})
    assert answer.status_code == 401
    assert answer.json()["error"] == "The API token is not valid."


def test_empty_list_is_an_array(api):
    for path in ("/api/sessions", "/api/sessions/active", "/api/sessions/"):
        answer = api.get(path)
        assert (answer.status_code, answer.json()) == (200, [])


def test_list_pages_newest_first(api, submit):
    ids = [str(submit().pk) for _ in range(5)][::-1]
    first = api.get("/api/sessions?limit=2")
    assert [job["id"] for job in first.json()] == ids[:2]
    assert first["X-Total-Count"] == "5"
    found, link = [], first["Link"]
    while link:
        answer = api.get(link.partition(">")[0][1:])
        found += [job["id"] for job in answer.json()]
        link = answer.get("Link")
    assert found == ids[2:]


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=-1",
        "cursor=x",
        "cursor=%00",
        "status=odd",
        "created_after=yesterday",
        "created_after=2026-99-99T00:00:00Z",
        "created_after=0001-01-01T00:00:00%2B14:00",
        "created_before=9999-12-31T23:59:59-14:00",
        # 0001-01-01T00:00:00+14:00 and an instant without a zone, with an id.
        "cursor=MDAwMS0wMS0wMVQwMDowMDowMCsxNDowMCBhMzdjNWJjZC0xZDQ4LTRlYTEtODY3OC1mZTU0MjgxNzE3MGY",
        "cursor=MjAyNi0wMS0wMVQwMDowMDowMCBhMzdjNWJjZC0xZDQ4LTRlYTEtODY3OC1mZTU0MjgxNzE3MGY",
        "limit=00000010099999",
        "limit=" + "9" * 5000,
        "type=bogus",
        "type=demo,bogus",
        "bogus=1",
        "q=%00",
    ],
)
def test_bad_query_names_the_field(api, query):
    answer = api.get(f"/api/sessions?{query}")
    assert answer.status_code == 400
    assert list(answer.json()["fields"]) == [query.partition("=")[0]]
    assert api.get(f"/api/sessions/active?{query}").status_code == 400


def test_every_filter_may_be_given_at_once(api, submit):
    job = submit()
    query = "type=demo&status=pending,running&q=demo&limit=5&created_before=9999-12-31T23:59:59Z"
    query += "&created_after=0001-01-01T00:00:00%2B00:00"
    assert [found["id"] for found in api.get(f"/api/sessions?{query}").json()] == [str(job.pk)]


def test_search_finds_jobs_by_their_error_until_they_run_again(api, submit, work_off):
    failed, other = submit(error="The disk is FULL."), submit()
    work_off()

    def found(text: str) -> list[str]:
        return [job["id"] for job in api.get("/api/sessions", {"q": text}).json()]

    assert found("disk is full") == found(str(failed.pk)) == [str(failed.pk)]
    assert set(found("demo")) == {str(failed.pk), str(other.pk)}
    assert found("%") == found(str(uuid.uuid4())) == []
    assert api.post(f"/api/sessions/{failed.pk}/retry").status_code == 200
    assert found("disk is full") == []


def test_search_that_finds_very_many_counts_and_pages_as_any_other(api, submit, monkeypatch):
    monkeypatch.setattr(listing, "_FEW", 2)
    jobs = [str(submit().pk) for _ in range(5)]
    answer = api.get("/api/sessions?q=demo&limit=3")
    assert ([job["id"] for job in answer.json()], answer["X-Total-Count"]) == (jobs[:1:-1], "5")


def test_foreign_job_is_404_for_everything(api, submit, django_user_model):
    job = submit()
    stranger = django_user_model.objects.create(username="other")
    other = Client(headers={"Authorization": f"Bearer {accounts.create_token(stranger)}"})
    for path in (f"/api/sessions/{job.pk}", f"/api/sessions/{job.pk}/events"):
        assert other.get(path).status_code == 404
    assert other.delete(f"/api/sessions/{job.pk}").status_code == 404
    assert other.get("/api/sessions").json() == []
    assert other.delete("/api/sessions").json() == {"deleted": 0}
    assert api.get(f"/api/sessions/{job.pk}").status_code == 200


def test_unknown_ids_and_methods(api):
    assert api.get(f"/api/sessions/{uuid.uuid4()}").status_code == 404
    assert api.get("/api/sessions/not-an-id").status_code == 404
    assert api.get("/api/sessions/not-an-id").json()["error"]
    assert api.put("/api/sessions").status_code == 405


def test_delete_cancels_then_deletes(api, submit):
    job = submit()
    assert api.delete(f"/api/sessions/{job.pk}").json() == {"message": "Session cancelled"}
    assert api.get(f"/api/sessions/{job.pk}").json()["status"] == "cancelled"
    assert api.delete(f"/api/sessions/{job.pk}").json() == {"message": "Session deleted"}
    assert api.get(f"/api/sessions/{job.pk}").status_code == 404
    assert not JobEvent.objects.exists()
    assert not Shard.objects.exists()


@pytest.mark.parametrize("move", ["pause", "resume"])
def test_moves_of_a_job_take_no_fields(api, submit, move):
    job = submit()
    address = f"/api/sessions/{job.pk}/{move}"
    answer = api.post(address, {"reason": "lunch"}, content_type="application/json")
    assert (answer.status_code, list(answer.json()["fields"])) == (400, ["reason"])
    assert api.get(f"/api/sessions/{job.pk}").json()["status"] == "pending"


def test_clearing_keeps_the_active(api, submit):
    kept = submit()
    for _ in range(3):
        finish(submit())
    assert api.delete("/api/sessions").json() == {"deleted": 3}
    assert [job["id"] for job in api.get("/api/sessions").json()] == [str(kept.pk)]


def test_clearing_keeps_what_the_filters_leave_out(api, submit):
    kept, failed = submit(), submit()
    finish(kept)
    finish(failed, "failed")
    for query, name in (("statuses=failed", "statuses"), ("status=odd", "status"), ("limit=1", "limit")):
        answer = api.delete(f"/api/sessions?{query}")
        assert (answer.status_code, list(answer.json()["fields"])) == (400, [name])
    assert api.delete("/api/sessions?status=failed").json() == {"deleted": 1}
    assert [job["id"] for job in api.get("/api/sessions").json()] == [str(kept.pk)]


def test_many_jobs_are_deleted_with_few_statements(submit, django_assert_max_num_queries):
    finished = [submit() for _ in range(30)]
    kept = submit()
    for job in finished:
        finish(job)
    with django_assert_max_num_queries(30):
        assert jobs.delete([job.pk for job in finished]) == 30
    assert Job.objects.get() == kept
    assert set(JobEvent.objects.values_list("job", flat=True)) == {kept.pk}
    assert set(Shard.objects.values_list("job", flat=True)) == {kept.pk}


def test_more_jobs_than_a_statement_takes_are_deleted(submit, monkeypatch):
    monkeypatch.setattr(jobs, "_JOBS_AT_ONCE", 2)
    monkeypatch.setattr(jobs, "_ROWS_AT_ONCE", 2)
    finished = [submit() for _ in range(5)]
    for job in finished:
        finish(job)
    assert jobs.delete([job.pk for job in finished]) == 5
    assert not JobEvent.objects.exists()


def test_number_of_jobs_to_delete_is_not_bounded_by_the_database(transactional_db):
    connection.ensure_connection()
    most = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 6000)
    try:
        assert jobs.delete([uuid.uuid4() for _ in range(7000)]) == 0
    finally:
        connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, most)


def test_active_job_among_many_stays(submit):
    finished = [submit() for _ in range(3)]
    for job in finished:
        finish(job)
    active = submit()
    assert jobs.delete([*(job.pk for job in finished), *(uuid.uuid4() for _ in range(1000)), active.pk]) == 3
    assert Job.objects.get() == active


def test_jobs_that_begin_again_or_are_kept_meanwhile_stay(api, submit, monkeypatch):
    """Between the look at what has ended and its deletion."""
    job, kept, gone = submit(), submit(), submit()
    for one in (job, kept, gone):
        finish(one, "failed")
    delete = jobs.delete

    def late(*arguments, **options):
        Job.objects.filter(pk=job.pk).update(status="running")
        Job.objects.filter(pk=kept.pk).update(keep=True)
        return delete(*arguments, **options)

    monkeypatch.setattr(jobs, "delete", late)
    assert api.delete("/api/sessions").json() == {"deleted": 1}
    Job.objects.filter(pk=job.pk).update(status="failed")
    answer = api.delete(f"/api/sessions/{job.pk}")
    assert (answer.status_code, answer.json()["status"]) == (409, "running")


def test_health_takes_no_other_method():
    stranger = Client(enforce_csrf_checks=True)
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = stranger.generic(method, "/health")
        assert (answer.status_code, answer["Allow"]) == (405, "GET, HEAD")
        assert answer.json()["error"] == f"This address does not take {method}."
    assert stranger.head("/health").status_code == 200


def test_cookie_needs_a_csrf_token(owner, submit):
    job = submit()
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(owner)
    assert browser.get(f"/api/sessions/{job.pk}").status_code == 200
    answer = browser.delete(f"/api/sessions/{job.pk}")
    assert answer.status_code == 403
    assert answer.json()["error"]
    assert Job.objects.get(pk=job.pk).status == "pending"


def test_foreign_host_is_400(client):
    answer = client.get("/api/sessions", headers={"Host": "evil.example"})
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize(
    "headers", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_without_login_other_sites_are_refused(client, settings, submit, headers):
    settings.NO_LOGIN = True
    job = submit()
    assert client.delete(f"/api/sessions/{job.pk}", headers=headers).status_code == 403
    assert Job.objects.get(pk=job.pk).status == "pending"
    assert client.delete(f"/api/sessions/{job.pk}").json() == {"message": "Session cancelled"}


def test_listed_front_end_may_call_the_api(client, settings, submit):
    settings.NO_LOGIN = True
    settings.CORS_ALLOWED_ORIGINS = ["http://front.example"]
    job = submit()
    headers = {"Origin": "http://front.example", "Sec-Fetch-Site": "cross-site"}
    answer = client.delete(f"/api/sessions/{job.pk}", headers=headers)
    assert answer.json() == {"message": "Session cancelled"}
    assert answer["Access-Control-Allow-Origin"] == "http://front.example"
    assert "Access-Control-Allow-Origin" not in client.get(
        "/api/sessions", headers={"Origin": "http://x.example"}
    )


def test_malformed_event_id_is_400(api, submit):
    job = submit()
    for answer in (
        api.get("/api/events", headers={"Last-Event-ID": "x"}),
        api.get(f"/api/sessions/{job.pk}/events?after=-1"),
        api.get(f"/api/sessions/{job.pk}/events?lastEventId=1e3"),
    ):
        assert answer.status_code == 400


def test_instants_carry_microseconds_in_utc(api, submit):
    job = api.get(f"/api/sessions/{submit().pk}").json()
    assert len(job["created_at"]) == len("2026-11-01T12:00:00.000000Z")
    assert job["created_at"].endswith("Z")


def test_event_on_the_full_second_carries_microseconds_too():
    at = datetime(2026, 11, 1, 12, tzinfo=UTC)
    event = JobEvent(job_id=uuid.uuid4(), seq=1, type="log", created_at=at)
    assert events.payload(event)["at"] == "2026-11-01T12:00:00.000000Z"


def run(*command: str) -> str:
    out = StringIO()
    call_command(*command, stdout=out)
    return out.getvalue()


def test_cleanup_follows_the_policy_and_keeps_the_active(submit, settings):
    settings.RETENTION = {"demo": timedelta(hours=24), "failed": timedelta(days=7)}
    settings.JOB_RUNNERS = {"demo": settings.JOB_RUNNERS["demo"]}
    old, young, failed, active = submit(), submit(), submit(), submit()
    finish(old, age=timedelta(days=2))
    finish(young, age=timedelta(hours=2))
    finish(failed, "failed", age=timedelta(days=2))
    assert run("cleanup_jobs", "--dry-run").startswith("1 ")
    assert Job.objects.count() == 4
    assert run("cleanup_jobs").startswith("1 ")
    assert set(Job.objects.values_list("pk", flat=True)) == {young.pk, failed.pk, active.pk}
    assert run("cleanup_jobs", "--older-than", "1h").startswith("2 ")
    assert Job.objects.get() == active


def test_token_command_prints_the_token_alone(owner, client):
    token = run("create_token", "--label", "laptop").strip()
    assert client.get("/api/sessions", headers={"Authorization": f"Token {token}"}).status_code == 200
    assert token not in json.dumps(list(owner.api_tokens.values("digest", "label")))


def test_sign_in_link_works_once_and_replaces_earlier_ones(owner):
    first = run("sign_in_link").strip().rpartition("/")[2]
    second = run("sign_in_link").strip().rpartition("/")[2]
    assert accounts.use_sign_in_link(first) is None
    assert accounts.use_sign_in_link(second) == owner
    assert accounts.use_sign_in_link(second) is None


def test_search_finds_name_host_error_and_id_and_no_field_names(api, owner, submit):
    jobs = [submit() for _ in range(4)]
    for job in jobs:
        job.public = {"source_config": {"host": "", "password": ""}}
    jobs[0].title = "The shop"
    jobs[1].public = {
        "source_config": {"host": "Old.example.org"},
        "dest_config": {"host": "new.example.org"},
    }
    jobs[2].status, jobs[2].error_message = "failed", "No route to 10.0.0.7."
    for job in jobs:
        job.search_text = job.searched
    Job.objects.bulk_update(jobs, ["title", "public", "search_text", "status", "error_message"])
    for text, index in (("shop", 0), ("old.EXAMPLE", 1), ("new.", 1), ("10.0.0.7", 2), (str(jobs[3].pk), 3)):
        answer = api.get("/api/sessions", {"q": text})
        assert ([job["id"] for job in answer.json()], answer["X-Total-Count"]) == ([str(jobs[index].pk)], "1")
    for text in ("password", "dest_config", "100%"):
        assert api.get("/api/sessions", {"q": text}).json() == []


def test_total_counts_all_pages_of_what_was_asked_for(api, submit):
    jobs = [submit() for _ in range(5)]
    for job in jobs[:3]:
        finish(job, "failed")
    finish(jobs[3])
    for query, total in (("status=failed", "3"), ("status=failed,completed", "4"), ("status=pending", "1")):
        seen, address = [], f"/api/sessions?limit=2&{query}"
        while address:
            answer = api.get(address)
            assert answer["X-Total-Count"] == total
            seen += [job["id"] for job in answer.json()]
            address = answer.get("Link", "").partition(">")[0][1:]
        assert len(seen) == len(set(seen)) == int(total)
