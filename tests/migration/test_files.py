"""The files of a job, over the API and on their page."""

import base64

import pytest
from django.test import Client

from migration_app import manifest
from migration_app.manifest import Row
from migration_app.models import EntryAction, EntryState, Evidence
from migration_app.storages.base import Entry, Kind
from sessions_app import accounts
from sessions_app.models import Job, User

FAILED = "Permission denied."


@pytest.fixture
def job(owner) -> Job:
    """A transfer of a folder with all that a list may hold."""
    job = Job.objects.create(type="transfer", owner=owner, title="shop")
    done, failed = EntryState.DONE, EntryState.FAILED
    rows = [
        Row(0, Entry(b"", Kind.FOLDER), EntryAction.SKIP, EntryState.SKIPPED),
        Row(1, Entry(b"img", Kind.FOLDER), EntryAction.CREATE, done),
        Row(2, Entry(b"img/Caf\xc3\xa9.jpg", Kind.FILE, 70), EntryAction.CREATE, done),
        Row(3, Entry(b"img/\xff.jpg", Kind.FILE, 7), EntryAction.UPDATE, failed, FAILED),
        Row(4, Entry(b"back\\slash", Kind.FILE, 1), EntryAction.SKIP, EntryState.SKIPPED),
        Row(5, Entry(b"current", Kind.LINK, 0, target=b"img"), EntryAction.CREATE, EntryState.PENDING),
        Row(9, Entry(b"secret", Kind.FOLDER), EntryAction.CONFLICT, failed, FAILED),
    ]
    manifest.add(job.pk, rows)
    manifest.set_evidence(job.pk, [(2, Evidence.SIZE_ONLY, "")])
    return job


def paths(answer) -> list[str]:
    return [file["path"] for file in answer.json()]


def test_files_come_in_the_order_of_the_walk_with_all_that_is_known_of_them(api, job):
    answer = api.get(f"/api/sessions/{job.pk}/files")
    assert paths(answer) == ["img/Café.jpg", r"img/\xff.jpg", r"back\slash", "current", "secret"]
    assert answer["X-Total-Count"] == "5"
    assert answer.json()[0] == {
        "path": "img/Café.jpg",
        "size_bytes": 70,
        "action": "create",
        "state": "done",
        "attempts": 0,
        "error": None,
        "evidence": "size_only",
    }
    broken = answer.json()[1]
    assert base64.b64decode(broken["path_b64"]) == b"img/\xff.jpg"
    assert (broken["state"], broken["error"], broken["evidence"]) == ("failed", FAILED, None)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({"state": "failed"}, [r"img/\xff.jpg", "secret"]),
        ({"state": "skipped,pending"}, [r"back\slash", "current"]),
        ({"q": "IMG/"}, ["img/Café.jpg", r"img/\xff.jpg"]),
        ({"q": r"\xff"}, [r"img/\xff.jpg"]),
        ({"q": "k\\s"}, [r"back\slash"]),
        ({"q": "img", "state": "done"}, ["img/Café.jpg"]),
        ({"q": "100%"}, []),
        (
            {"q": "", "state": "", "cursor": ""},
            ["img/Café.jpg", r"img/\xff.jpg", r"back\slash", "current", "secret"],
        ),
    ],
)
def test_search_and_state_choose_files(api, job, query, found):
    answer = api.get(f"/api/sessions/{job.pk}/files", query)
    assert (paths(answer), answer["X-Total-Count"]) == (found, str(len(found)))


def test_pages_follow_their_links_and_keep_the_filter(api, job):
    found, address = [], f"/api/sessions/{job.pk}/files/?limit=1&state=failed"
    while address:
        answer = api.get(address)
        assert answer["X-Total-Count"] == "2"
        found.append(paths(answer))
        link = answer.get("Link", "")
        address = link.partition(">")[0][1:]
    assert found == [[r"img/\xff.jpg"], ["secret"]]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("state=done,odd", "'odd'"),
        ("limit=0", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=²", "cursor"),
        ("q=%00", "q"),
        ("colour=red", "colour"),
    ],
)
def test_bad_query_is_refused_by_name(api, job, query, named):
    answer = api.get(f"/api/sessions/{job.pk}/files?{query}")
    assert answer.status_code == 400
    assert named in answer.json()["error"]
    assert query.partition("=")[0] in answer.json()["fields"]


def test_files_of_somebody_else_do_not_exist(client, job):
    address = f"/api/sessions/{job.pk}/files"
    assert client.get(address).status_code == 401
    other = User.objects.create(username="other")
    answer = Client(headers={"Authorization": f"Bearer {accounts.create_token(other)}"}).get(address)
    assert (answer.status_code, answer.json()["error"]) == (404, "There is no such session.")


def test_jobs_say_where_their_files_are(api, job):
    base = f"/api/sessions/{job.pk}"
    links = api.get(base).json()["links"]
    assert (links["self"], links["events"], links["files"]) == (base, f"{base}/events", f"{base}/files")


def test_page_shows_searches_and_filters(client, owner, job, monkeypatch):
    monkeypatch.setattr("migration_app.pages.file_page.PAGE_ROWS", 1)
    client.force_login(owner)
    address = f"/jobs/{job.pk}/files"
    first = client.get(address, {"state": "failed", "q": "e"})
    assert [row.path for row in first.context["rows"]] == ["secret"]
    first = client.get(address, {"state": "failed"})
    assert "2 files found" in first.content.decode()
    second = client.get(address + first.context["next"])
    assert [row.path for row in second.context["rows"]] == ["secret"]
    assert (second.context["next"], second.context["first"]) == ("", "?state=failed")
    bad = client.get(address, {"state": "odd"})
    assert bad.status_code == 400
    assert "&#x27;odd&#x27; is not a state" in bad.content.decode()
