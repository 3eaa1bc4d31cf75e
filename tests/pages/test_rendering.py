"""Every page in every condition of a job, drawn by Django alone."""

import doctest
import re
from collections.abc import Iterator
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from migration_app import secrets
from migration_app.models import Endpoint
from migration_app.pages import curve_view, wording
from migration_app.runners.statistics import Statistics
from sessions_app import accounts, transitions
from sessions_app.models import Job, User, Worker
from sessions_app.states import JobStatus
from tests.pages.gallery import RIGHT_TO_LEFT, Gallery

pytestmark = pytest.mark.django_db

_EXCLUSION = {"pattern": "*.log", "type": "glob", "reason": "", "is_automatic": False, "enabled": True}

WORDS = {
    "scan-completed": (
        "Completed",
        "WordPress",
        "What there is",
        "What takes the space",
        "By size",
        "over 100 KiB",
    ),
    "scan-with-failures": ("1 failed", "wp-content/private"),
    "scan-of-nothing": ("Completed", "Nothing to copy", "No content management system was recognised."),
    "scan-failed": ("Failed", "it refused the password"),
    "scan-cancelled": ("Cancelled",),
    "scan-pending": ("Waiting", "Cancel…"),
    "scan-running": ("Running", "1,204", "Cancel…"),
    "transfer-completed": ("Completed", "All copied: 2,514 files", "All 2,514 files are there"),
    "transfer-failed": ("Failed", "3 of 2,825 entries failed.", "wp-content/c.jpg"),
    "transfer-with-failures": ("3 failed", "2,514 files copied"),
    "transfer-cancelled": ("Cancelled", "Delete…"),
    "transfer-waiting": ("Waiting", "It waits for Transfer 1b4f0c11"),
    "transfer-comparing": ("Running", "Compare", "0 of 90 so far"),
    "transfer-paused": ("Paused", "Resume", '<li data-phase="transferring" class="stopped">Copy</li>'),
    "transfer-running": ("Running", "1,201 of 2,514", "about 4 min", "3.8 MiB of 8.6 MiB"),
    "hostile": ("Running", "U+202E"),
}


@pytest.fixture
def owner() -> User:
    return accounts.owner()


@pytest.fixture
def signed_in(client: Client, owner: User) -> Client:
    client.force_login(owner)
    return client


@pytest.fixture
def gallery(owner: User) -> dict[str, Job]:
    return Gallery(owner).fill()


def addresses(job: Job) -> Iterator[str]:
    for page in ("", "/log", "/files", "/cancel", "/delete"):
        yield f"/jobs/{job.pk}{page}"


@pytest.mark.slow
def test_every_condition_of_a_job_is_named_and_every_page_of_it_drawn(
    signed_in: Client, gallery: dict[str, Job]
) -> None:
    assert set(gallery) == set(WORDS)
    for name, job in gallery.items():
        text = signed_in.get(f"/jobs/{job.pk}").content.decode()
        for word in WORDS[name]:
            assert word in text, name
        for address in addresses(job):
            assert signed_in.get(address).status_code == 200, (name, address)


def test_hostile_names_are_escaped_and_their_hidden_characters_marked(
    signed_in: Client, gallery: dict[str, Job]
) -> None:
    job = gallery["hostile"]
    for address in ("/", "/jobs", *addresses(job)):
        text = signed_in.get(address).content.decode()
        assert "<script>alert" not in text, address
        assert "&lt;script&gt;alert(1)" in text, address
        assert RIGHT_TO_LEFT not in text, address
        assert "U+202E" in text, address
        assert "U+000A" in text, address
        assert "x" * 255 in text, address


def test_an_active_job_is_in_the_strip_of_every_page(signed_in: Client, gallery: dict[str, Job]) -> None:
    newest = Job.objects.active().first()
    assert newest is not None
    for address in ("/", "/new/scan", "/new/transfer", "/jobs", "/jobs/delete-finished", "/nowhere"):
        text = signed_in.get(address).content.decode()
        strip = text[text.index('id="strip"') : text.index("<main")]
        assert f"/jobs/{newest.pk}" in strip, address
        assert "+<span data-count>6</span> more" in strip, address


def test_a_cancelled_or_failed_job_shows_where_it_stopped(signed_in: Client, gallery: dict[str, Job]) -> None:
    text = signed_in.get(f"/jobs/{gallery['transfer-failed'].pk}").content.decode()
    assert '<li data-phase="transferring" class="stopped">Copy</li>' in text
    assert '<li data-phase="scanning" class="done">Compare</li>' in text


def test_a_waiting_job_has_no_bar(signed_in: Client, gallery: dict[str, Job]) -> None:
    text = signed_in.get(f"/jobs/{gallery['transfer-waiting'].pk}").content.decode()
    start = text.index("<progress")
    assert " hidden" in text[start : text.index(">", start)]


def test_jobs_of_somebody_else_do_not_exist(client: Client, gallery: dict[str, Job]) -> None:
    client.force_login(User.objects.create(username="other"))
    for address in addresses(gallery["scan-completed"]):
        assert client.get(address).status_code == 404
        assert client.post(address).status_code in (404, 405)
    assert "/srv/www" not in client.get("/").content.decode()
    assert Job.objects.filter(pk=gallery["scan-completed"].pk).exists()


def test_pages_ask_to_sign_in_and_lead_back(client: Client) -> None:
    answer = client.get("/jobs?cursor=x")
    assert answer.status_code == 302
    assert answer.headers["Location"] == "/sign-in?next=/jobs%3Fcursor%3Dx"


def test_a_page_of_jobs_that_does_not_exist_is_the_first_one_with_a_note(signed_in: Client) -> None:
    text = signed_in.get("/jobs?cursor=nonsense").content.decode()
    assert "That page of the list does not exist." in text


def test_the_list_of_jobs_has_pages(signed_in: Client, owner: User) -> None:
    Job.objects.bulk_create(Job(owner=owner, type="scan", title=f"number {n}.") for n in range(51))
    first = signed_in.get("/jobs")
    assert len(first.context["rows"]) == 50
    second = signed_in.get("/jobs", {"cursor": first.context["cursor"]})
    assert len(second.context["rows"]) == 1
    assert second.context["cursor"] is None


def test_deleting_asks_first_and_leaves_what_is_active(signed_in: Client, gallery: dict[str, Job]) -> None:
    text = signed_in.get("/jobs/delete-finished").content.decode()
    assert "9 finished jobs" in text
    answer = signed_in.post("/jobs/delete-finished", follow=True)
    assert "9 finished jobs deleted." in answer.content.decode()
    assert Job.objects.count() == Job.objects.active().count() == 7
    running = gallery["scan-running"]
    answer = signed_in.post(f"/jobs/{running.pk}/delete", follow=True)
    assert "still active; cancel it first" in answer.content.decode()
    assert Job.objects.filter(pk=running.pk).exists()


def test_cancelling_twice_does_not_delete(signed_in: Client, gallery: dict[str, Job]) -> None:
    job = gallery["scan-pending"]
    assert "is cancelled" in signed_in.post(f"/jobs/{job.pk}/cancel", follow=True).content.decode()
    again = signed_in.post(f"/jobs/{job.pk}/cancel", follow=True).content.decode()
    assert "had ended already: it is cancelled" in again


def test_a_job_is_paused_and_resumed_and_a_second_press_does_no_harm(
    signed_in: Client, gallery: dict[str, Job]
) -> None:
    job = gallery["scan-pending"]
    for _ in range(2):
        paused = signed_in.post(f"/jobs/{job.pk}/pause", follow=True).content.decode()
        assert f'action="/jobs/{job.pk}/resume"' in paused
        assert "cannot become" not in paused
    # It has not begun, so it waits for its turn again.
    resumed = signed_in.post(f"/jobs/{job.pk}/resume", follow=True).content.decode()
    assert f'action="/jobs/{job.pk}/pause"' in resumed
    ended = gallery["scan-completed"]
    text = signed_in.post(f"/jobs/{ended.pk}/pause", follow=True).content.decode()
    assert "A completed session cannot become paused." in text


def test_a_failed_job_is_retried_once_and_no_other_is(signed_in: Client, gallery: dict[str, Job]) -> None:
    for name, button in (("transfer-failed", "Retry the 3 failed files"), ("scan-failed", "Try again")):
        job = gallery[name]
        assert button in signed_in.get(f"/jobs/{job.pk}").content.decode()
        for _ in range(2):
            text = signed_in.post(f"/jobs/{job.pk}/retry", follow=True).content.decode()
            assert f'action="/jobs/{job.pk}/pause"' in text
            assert "cannot become" not in text
            assert button not in text
        job.refresh_from_db()
        assert (job.status, job.attempt) == ("pending", 2)
    completed = gallery["transfer-completed"].pk
    text = signed_in.post(f"/jobs/{completed}/retry", follow=True).content.decode()
    assert "A completed session cannot become pending." in text


def test_the_log_is_in_pages_from_the_first_event_on(signed_in: Client, gallery: dict[str, Job]) -> None:
    job = gallery["transfer-running"]
    Gallery(job.owner).fail_files(job, *(f"file {n}" for n in range(600)))
    first = signed_in.get(f"/jobs/{job.pk}/log")
    second = signed_in.get(f"/jobs/{job.pk}/log", {"after": first.context["next_after"]})
    seqs = [line.seq for answer in (first, second) for line in answer.context["lines"]]
    job.refresh_from_db()
    assert seqs == list(range(1, job.event_seq + 1))
    drawn = [line.seq for line in signed_in.get(f"/jobs/{job.pk}").context["log"]]
    assert drawn == list(range(job.event_seq - 199, job.event_seq + 1))


def test_colours_are_kept_in_a_cookie_and_set_by_the_server(signed_in: Client) -> None:
    answer = signed_in.post("/theme", {"theme": "dark", "next": "/jobs"})
    assert answer.headers["Location"] == "/jobs"
    assert '<html lang="en" data-theme="dark">' in signed_in.get("/jobs").content.decode()
    away = signed_in.post("/theme", {"theme": "pink", "next": "https://elsewhere.example/"})
    assert away.headers["Location"] == "/"
    assert signed_in.cookies["haulier_theme"].value == "dark"


def test_admin_draws_its_lists_and_a_job(signed_in: Client, gallery: dict[str, Job]) -> None:
    for table in ("job", "schedule", "jobevent", "shard", "worker", "user"):
        assert signed_in.get(f"/admin/sessions_app/{table}/").status_code == 200
    answer: Any = signed_in.get(f"/admin/sessions_app/job/{gallery['hostile'].pk}/change/")
    assert answer.status_code == 200
    assert "<script>alert" not in answer.content.decode()


def test_wording_does_what_its_examples_say() -> None:
    assert doctest.testmod(wording).failed == doctest.testmod(curve_view).failed == 0


def test_the_list_of_jobs_is_searched_and_filtered_and_its_pages_keep_the_filters(
    signed_in: Client, owner: User
) -> None:
    Job.objects.bulk_create(
        Job(owner=owner, type="scan" if n % 2 else "transfer", status="failed", search_text=f"shop {n}.")
        for n in range(120)
    )
    filters = {"q": "shop", "status": "failed", "type": "scan"}
    first = signed_in.get("/jobs", filters)
    assert "60 jobs found." in first.content.decode()
    second = signed_in.get(f"/jobs?{first.context['next_query']}")
    seen = [row.job.pk for answer in (first, second) for row in answer.context["rows"]]
    assert len(set(seen)) == 60
    assert {row.job.type for row in second.context["rows"]} == {"scan"}
    assert second.context["next_query"] == ""
    assert "/jobs?q=shop&amp;status=failed&amp;type=scan" in second.content.decode()
    assert "No job fits." in signed_in.get("/jobs", {"q": "nowhere"}).content.decode()
    odd = signed_in.get("/jobs", {"status": "odd"})
    assert "&#x27;odd&#x27; is not a status" in odd.content.decode()
    assert odd.context["total"] == 120


def test_rows_say_what_a_job_came_to(signed_in: Client, gallery: dict[str, Job]) -> None:
    end = gallery["transfer-completed"].created_at
    for name in ("transfer-completed", "transfer-failed", "scan-completed"):
        Job.objects.filter(pk=gallery[name].pk).update(
            started_at=end - timedelta(seconds=42), completed_at=end
        )
    rows = {row.job.pk: row for row in signed_in.get("/jobs").context["rows"]}
    said = {name: rows[gallery[name].pk] for name in gallery}
    copied = said["transfer-completed"]
    assert (copied.failures, copied.duration, copied.size_bytes) == ("", "42 s", 63_241_118)
    assert copied.rate == "1.4 MiB/s"
    assert said["transfer-failed"].failures == "3 failed"
    assert (said["scan-completed"].size_bytes, said["scan-completed"].rate) == (63_241_118, "–")
    waiting = said["scan-pending"]
    assert (waiting.duration, waiting.size_bytes, waiting.can_repeat) == ("–", 0, False)


def test_evidence_names_what_proved_something(signed_in: Client, gallery: dict[str, Job]) -> None:
    text = signed_in.get(f"/jobs/{gallery['transfer-completed'].pk}").content.decode()
    assert "<dd>2,514 files hashed on both sides</dd>" in text


def test_a_failed_job_leads_to_its_form_with_what_was_entered(
    signed_in: Client, gallery: dict[str, Job]
) -> None:
    for name, kind, place in (("scan-failed", "scan", "first"), ("transfer-failed", "transfer", "second")):
        job = gallery[name]
        text = signed_in.get(f"/jobs/{job.pk}").content.decode()
        assert f'{place}" href="/new/{kind}?from={job.pk}"' in text
        form = signed_in.get(f"/new/{kind}?from={job.pk}").content.decode()
        assert all(f'value="{value}"' in form for value in ("example.org", "2222", "www"))
        assert "hunter2" not in form


def test_main_button_of_a_scan_takes_along_what_is_ticked(signed_in: Client, gallery: dict[str, Job]) -> None:
    text = signed_in.get(f"/jobs/{gallery['scan-completed'].pk}").content.decode()
    assert '<button class="first" form="without">New transfer of this folder</button>' in text
    assert re.search(
        r'<form id="without" action="/new/transfer">.*name="exclude" value="cache"', text, re.DOTALL
    )
    empty = signed_in.get(f"/jobs/{gallery['scan-of-nothing'].pk}").content.decode()
    assert "New transfer of this folder" not in empty


def test_a_verification_leads_to_its_transfer(signed_in: Client, gallery: dict[str, Job]) -> None:
    transfer = gallery["transfer-completed"]
    answer = signed_in.post(f"/jobs/{transfer.pk}/verify", follow=True)
    assert f'<dt>Of</dt><dd><a href="/jobs/{transfer.pk}">' in answer.content.decode()


def test_first_button_of_a_copy_that_nobody_has_compared_by_content_does_that(
    signed_in: Client, owner: User, gallery: dict[str, Job]
) -> None:
    job = gallery["transfer-completed"]
    result = dict(job.result or {})
    check = result["verification_result"]
    verify = f'<button class="first" formaction="/jobs/{job.pk}/verify">'

    def drawn(**more: Any) -> str:
        Job.objects.filter(pk=job.pk).update(result=result | more)
        text = signed_in.get(f"/jobs/{job.pk}").content.decode()
        main = text[text.index("<main") : text.index("</main>")]
        assert main.count('class="first"') + main.count("button first") == 1 or "verify" not in main
        return main

    assert verify not in drawn()
    by_size = check | {"evidence": {"two_sided_hash": 0, "readback": 0, "size_only": 2514}}
    assert verify in drawn(verification_result=by_size)
    assert verify not in drawn(verification_result=None, errors_count=1)
    assert verify in drawn(verification_result=None)
    answer = signed_in.post(f"/jobs/{job.pk}/verify")
    later = Job.objects.get(pk=answer.headers["Location"].rpartition("/")[2])
    under_way = drawn(verification_result=None)
    assert verify not in under_way
    assert f'<a href="/jobs/{later.pk}">Verification of' in under_way
    assert "The copy was not verified." not in under_way
    transitions.move(later.pk, JobStatus.RUNNING)
    Gallery(owner).ended(later, check)
    assert verify not in drawn(verification_result=None)


def test_only_what_the_filters_show_is_deleted(signed_in: Client, gallery: dict[str, Job]) -> None:
    address = "/jobs/delete-finished?type=scan&status=failed"
    assert "1 finished job that your filters show" in signed_in.get(address).content.decode()
    before = Job.objects.count()
    answer = signed_in.post(address)
    assert answer.headers["Location"] == "/jobs?status=failed&type=scan"
    assert Job.objects.count() == before - 1
    assert not Job.objects.filter(pk=gallery["scan-failed"].pk).exists()
    assert signed_in.post("/jobs/delete-finished?status=odd").headers["Location"] == "/jobs"
    assert Job.objects.count() == before - 1


def test_a_job_is_done_again_once_with_its_secrets_and_options(
    signed_in: Client, gallery: dict[str, Job]
) -> None:
    job = gallery["transfer-completed"]
    Job.objects.filter(pk=job.pk).update(params={**job.params, "exclusions": [dict(_EXCLUSION)]})
    for _ in range(2):
        answer = signed_in.post(f"/jobs/{job.pk}/again", {"key": "one press"})
    new = Job.objects.get(pk=answer.headers["Location"].rpartition("/")[2])
    assert Job.objects.count() == len(gallery) + 1
    assert (new.type, new.title, new.public) == (job.type, job.title, job.public)
    assert (new.params["exclusions"], new.params["verify_after_transfer"]) == ([_EXCLUSION], True)
    sealed = Endpoint.objects.get(pk=new.params["source"]).sealed
    assert secrets.unseal(sealed) == {"password": "hunter2"}


def test_a_job_whose_secrets_are_gone_leads_to_its_form(signed_in: Client, gallery: dict[str, Job]) -> None:
    job = gallery["scan-failed"]
    Endpoint.objects.filter(job=job).update(sealed="")
    answer = signed_in.post(f"/jobs/{job.pk}/again", {"key": "x"}, follow=True)
    text = answer.content.decode()
    assert "Enter it to do it again." in text
    assert job.public["source_config"]["root_path"] in text
    assert Job.objects.count() == len(gallery)
    assert signed_in.get(f"/jobs/{job.pk}/again").status_code == 405


def test_nobody_does_a_job_of_somebody_else_again(client: Client, gallery: dict[str, Job]) -> None:
    client.force_login(User.objects.create(username="other"))
    assert client.post(f"/jobs/{gallery['scan-completed'].pk}/again").status_code == 404
    assert Job.objects.count() == len(gallery)


def test_pictures_of_a_scan_have_bars_and_the_same_in_numbers(
    signed_in: Client, gallery: dict[str, Job]
) -> None:
    text = signed_in.get(f"/jobs/{gallery['scan-completed'].pk}").content.decode()
    assert text.count('<svg class="picture"') == 6 + 4 + 5
    assert "49.0 % of the bytes, 15.9 % of the files" in text
    assert 'width="49.02"' in text
    assert "wp-content/*" in text
    assert "files in no folder" in text
    assert "3 more folders" in text
    assert "<picture" not in text
    nothing = signed_in.get(f"/jobs/{gallery['scan-of-nothing'].pk}").content.decode()
    assert '<svg class="picture"' not in nothing
    assert "In the pictures" not in nothing


@pytest.mark.parametrize("size", [0, 7])
def test_picture_of_a_single_file_is_one_full_bar(
    signed_in: Client, gallery: dict[str, Job], size: int
) -> None:
    found = Statistics()
    found.add("index.html", "file", size)
    job = gallery["scan-completed"]
    Job.objects.filter(pk=job.pk).update(result={**(job.result or {}), "statistics": found.as_json()})
    text = signed_in.get(f"/jobs/{job.pk}").content.decode()
    assert text.count('<svg class="picture"') == 3
    assert text.count('class="files" y="10" width="100.00"') == 3
    assert text.count(f'class="bytes" width="{100 if size else 0}.00"') == 3


def test_curve_breaks_where_nobody_was_at_work_and_stands_in_a_table_too(
    signed_in: Client, gallery: dict[str, Job]
) -> None:
    for name in ("transfer-running", "transfer-completed"):
        text = signed_in.get(f"/jobs/{gallery[name].pk}").content.decode()
        line = re.search(r'<path d="(M[^"]*)"', text)
        assert line is not None
        assert line[1].count("M") == 2
        assert "not at work" in text
    for name in ("transfer-comparing", "transfer-waiting"):
        text = signed_in.get(f"/jobs/{gallery[name].pk}").content.decode()
        assert '<section class="panel" aria-labelledby="curve-title" hidden>' in text
    assert 'id="curve"' not in signed_in.get(f"/jobs/{gallery['scan-running'].pk}").content.decode()


def test_missing_workers_are_told_on_every_page_with_what_to_do(signed_in: Client) -> None:
    sentence = "No worker has been heard of for 30 seconds"
    for address in ("/", "/jobs", "/workers"):
        text = signed_in.get(address).content.decode()
        assert sentence in text
        assert "manage.py serve --only worker" in text
    now = timezone.now()
    worker = Worker.objects.create(id="one", host="elsewhere", pid=1, queues="work", seen_at=now)
    for address in ("/", "/jobs", "/workers"):
        assert sentence not in signed_in.get(address).content.decode()
    Worker.objects.filter(pk=worker.pk).update(seen_at=now - timedelta(seconds=31))
    assert sentence in signed_in.get("/workers").content.decode()


def test_owners_see_workers_queue_and_disk_on_the_start_page(
    signed_in: Client, client: Client, gallery: dict[str, Job]
) -> None:
    Worker.objects.create(id="one", host="elsewhere", pid=1, queues="work", seen_at=timezone.now())
    text = signed_in.get("/").content.decode()
    line = re.search(r'id="system">(.*?)</p>', text)
    assert line is not None
    assert re.fullmatch(
        r"System: 1 worker, \d+ pieces of work waiting, \S+ .iB of \S+ .iB free for Haulier's own data\.",
        unescape(line[1]),
    )
    client.force_login(User.objects.create(username="operator"))
    assert 'id="system"' not in client.get("/").content.decode()
