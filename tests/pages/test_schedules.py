"""The pages of schedules: what a form makes of one, shows before, and keeps; and jobs that are to start later."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.test import Client
from django.utils import timezone
from playwright.sync_api import BrowserContext, Page, expect

from migration_app import connections, contacts, secrets
from migration_app.pages.schedule_pages import ScheduleView
from migration_app.submission import submit_transfer
from sessions_app import accounts, schedules
from sessions_app.models import Job, Schedule, User
from sessions_app.states import JobStatus
from sessions_app.submitters import RequestMeta
from tests.pages.conftest import Yard
from tests.pages.gallery import Gallery
from tests.product import Product, until
from tests.trees import small_tree

Fields = dict[str, Any]
FORM = "new-scheduled-transfer"
FROM, TO = f"{FORM}-source_config", f"{FORM}-dest_config"


@pytest.fixture
def owner(db: None) -> User:
    return accounts.owner()


@pytest.fixture
def signed_in(client: Client, owner: User) -> Client:
    client.force_login(owner)
    return client


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server is there and shows the key that is known."""
    monkeypatch.setattr(contacts, "look", lambda *_: {})


@pytest.fixture
def unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """No server may be looked at."""
    monkeypatch.setattr(contacts, "look", lambda *_: pytest.fail("a server was looked at"))


def nightly(**more: str) -> Fields:
    side = {"protocol": "sftp", "host": "example.org", "username": "www", "root_path": "/srv"}
    fields = {"key": "one press", "cron": "0 3 * * *", "timezone": "Europe/Berlin", "name": "Nightly"} | more
    return (
        {f"{FROM}-{name}": value for name, value in side.items()}
        | {f"{TO}-protocol": "local", f"{TO}-root_path": "/srv/copy", f"{FROM}-password": "hunter2"}
        | {f"{FORM}-{name}": value for name, value in fields.items()}
    )


def text_of(answer: Any) -> str:
    return unescape(answer.content.decode())


def draft_of(answer: Any) -> str:
    found = re.search(r'name="draft" value="([^"]+)"', answer.content.decode())
    return found[1] if found else ""


def held(schedule: Schedule) -> dict[str, str]:
    return secrets.unseal(schedule.sealed)


def test_form_stores_one_schedule_however_often_it_is_sent(signed_in: Client, seen: None) -> None:
    for _ in range(2):
        answer = signed_in.post("/schedules/new/transfer", nightly())
        assert answer.status_code == 302
        assert answer["Location"].startswith("/schedules")
    schedule = Schedule.objects.get()
    assert (schedule.name, schedule.cron, schedule.timezone) == ("Nightly", "0 3 * * *", "Europe/Berlin")
    assert held(schedule) == {"source_config.password": "hunter2"}
    assert schedule.next_run_at is not None
    text = text_of(signed_in.get("/schedules"))
    assert "hunter2" not in text
    for words in ("Nightly", "At 03:00 every day", "Europe/Berlin", "example.org:/srv → /srv/copy"):
        assert words in text
    assert "Next by schedule" in text_of(signed_in.get("/"))


def test_next_runs_are_shown_before_anything_is_stored(
    signed_in: Client, unreachable: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = nightly(cron="30 22 31 12 *", timezone="UTC") | {"preview": "yes"}
    fields.pop(f"{TO}-root_path")
    answer = signed_in.post("/schedules/new/transfer", fields)
    text = text_of(answer)
    assert answer.status_code == 200
    assert "At 22:30 on December 31" in text
    year = datetime.now(UTC).year
    assert len(re.findall(r"\w{3} \d{4}-12-31 22:30 UTC</time>", text)) == 5
    assert f"{year + 3}-12-31 22:30 UTC" in text
    assert 'value="example.org"' in text
    assert "hunter2" not in text
    assert "Is needed" not in text
    assert not Schedule.objects.exists()
    # The password is kept, and need not be entered again.
    again = nightly() | {"draft": draft_of(answer), f"{FROM}-password": ""}
    monkeypatch.setattr(contacts, "look", lambda *_: {})
    assert signed_in.post("/schedules/new/transfer", again).status_code == 302
    assert held(Schedule.objects.get()) == {"source_config.password": "hunter2"}


def test_part_of_a_page_says_what_an_expression_means(signed_in: Client) -> None:
    text = text_of(signed_in.get("/schedules/preview?cron=0 3 * * 1&timezone=UTC"))
    assert "At 03:00 on Monday" in text
    assert text.count("<li>") == 5
    for query in (
        "",
        "?cron=x&timezone=UTC",
        "?cron=0 3 * * *&timezone=Mars",
        "?cron=0 0 31 2 *&timezone=UTC",
    ):
        assert "mean nothing yet" in text_of(signed_in.get(f"/schedules/preview{query}"))


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"cron": "61 * * * *"}, "cron", "minute means nothing"),
        ({"cron": ""}, "cron", "five fields"),
        ({"timezone": "Mars/Olympus"}, "timezone", "is no time zone"),
        ({"name": "a\tb"}, "name", "control characters"),
    ],
)
def test_what_means_nothing_is_told_beside_its_field(
    signed_in: Client, seen: None, change: Fields, field: str, said: str
) -> None:
    answer = signed_in.post("/schedules/new/transfer", nightly(**change))
    assert answer.status_code == 400
    found = re.search(rf'id="id_{FORM}-{field}_error">.*?</svg>(.*?)</p>', text_of(answer))
    assert found is not None
    assert said in found[1]
    assert "Nothing was saved" in text_of(answer)
    assert not Schedule.objects.exists()


def test_finished_job_becomes_a_schedule_with_its_secrets(signed_in: Client, owner: User, seen: None) -> None:
    source = {"protocol": "sftp", "host": "example.org", "username": "www", "password": "hunter2"}
    body = {
        "source_config": source | {"root_path": "/srv"},
        "dest_config": {"protocol": "local", "root_path": "/srv/copy"},
        "exclusions": ["*.log"],
    }
    job, _ = submit_transfer(owner, body, RequestMeta(None, "", ""))
    Job.objects.filter(pk=job.pk).update(status=JobStatus.COMPLETED, completed_at=timezone.now())
    assert f"/schedules/new/transfer?from={job.pk}" in text_of(signed_in.get(f"/jobs/{job.pk}"))
    assert f"/schedules/new/transfer?from={job.pk}" in text_of(signed_in.get("/schedules"))
    form = signed_in.get(f"/schedules/new/transfer?from={job.pk}")
    assert "*.log" in text_of(form)
    assert "hunter2" not in text_of(form)
    fields = nightly(exclusions="*.log") | {"draft": draft_of(form), f"{FROM}-password": ""}
    assert signed_in.post("/schedules/new/transfer", fields).status_code == 302
    schedule = Schedule.objects.get()
    assert held(schedule) == {"source_config.password": "hunter2"}
    assert schedule.request["exclusions"] == ["*.log"]
    Job.objects.filter(pk=job.pk).update(schedule=schedule)
    assert f"/schedules#schedule-{schedule.pk}" in text_of(signed_in.get(f"/jobs/{job.pk}"))


def stored(signed_in: Client) -> Schedule:
    assert signed_in.post("/schedules/new/transfer", nightly()).status_code == 302
    schedule = Schedule.objects.get()
    schedule.request["source_config"]["host_key"] = f"SHA256:{'A' * 43}"
    schedule.save()
    return schedule


def test_other_times_need_no_server_and_lose_nothing(
    signed_in: Client, seen: None, request: pytest.FixtureRequest
) -> None:
    schedule = stored(signed_in)
    request.getfixturevalue("unreachable")
    path = f"/schedules/{schedule.pk}/edit"
    form = signed_in.get(path)
    assert 'value="0 3 * * *"' in text_of(form)
    fields = nightly(cron="0 4 * * *", name="Later", on_overlap="queue") | {"draft": draft_of(form)}
    answer = signed_in.post(path, fields | {f"{FROM}-password": ""})
    assert answer.status_code == 302, text_of(answer)
    found = Schedule.objects.get()
    assert (found.name, found.cron, found.on_overlap) == ("Later", "0 4 * * *", "queue")
    assert (found.request, held(found)) == (schedule.request, held(schedule))


def test_what_the_form_has_no_field_for_stays(signed_in: Client, owner: User, unreachable: None) -> None:
    source = {"protocol": "sftp", "host": "example.org", "username": "www", "root_path": "/srv"}
    job = {
        "type": "transfer",
        "source_config": source | {"password": "hunter2", "jump": "me@bastion.example.org:22"},
        "dest_config": {"protocol": "local", "root_path": "/srv/copy"},
        "exclusions": [{"pattern": "/cache", "type": "glob"}],
        "enable_resume": False,
        "transfers": 8,
    }
    schedule = schedules.create(owner, {"cron": "0 3 * * *", "job": job})
    path = f"/schedules/{schedule.pk}/edit"
    page = signed_in.get(path)
    # What is typed into the same form as it stands.
    fields = nightly(exclusions="/cache", name="Renamed") | {
        f"{FROM}-password": "",
        f"{FROM}-jump": "me@bastion.example.org:22",
        "draft": draft_of(page),
    }
    answer = signed_in.post(path, fields)
    assert answer.status_code == 302, text_of(answer)
    found = Schedule.objects.get()
    assert (found.name, found.request, held(found)) == ("Renamed", schedule.request, held(schedule))


def test_changed_job_keeps_what_the_form_has_no_field_for(signed_in: Client, owner: User) -> None:
    job = {"type": "scan", "server_config": {"protocol": "local", "root_path": "/srv"}, "max_depth": 3}
    schedule = schedules.create(owner, {"cron": "0 3 * * *", "job": job})
    Schedule.objects.filter(pk=schedule.pk).update(request=schedule.request | {"later": True})
    prefix = "new-scheduled-scan"
    fields = {"protocol": "local", "root_path": "/srv/other"}
    body = {f"{prefix}-server_config-{name}": value for name, value in fields.items()}
    body |= {f"{prefix}-cron": "0 4 * * *", f"{prefix}-timezone": "UTC", f"{prefix}-max_depth": "2"}
    answer = signed_in.post(f"/schedules/{schedule.pk}/edit", body)
    # A field of a version to come is refused, not lost.
    assert answer.status_code == 400
    assert "later: This field is not known." in text_of(answer)
    Schedule.objects.filter(pk=schedule.pk).update(request=schedule.request)
    assert signed_in.post(f"/schedules/{schedule.pk}/edit", body).status_code == 302
    found = Schedule.objects.get()
    assert (found.request["server_config"]["root_path"], found.request["max_depth"]) == ("/srv/other", 2)


def test_lost_key_is_told_in_the_form(signed_in: Client, seen: None, settings: Any) -> None:
    schedule = stored(signed_in)
    settings.SECRETS_KEYS = [Fernet.generate_key().decode()]
    path = f"/schedules/{schedule.pk}/edit"
    assert "its encryption key is gone" in text_of(signed_in.get(path))
    assert signed_in.post(path, nightly()).status_code == 302
    assert held(Schedule.objects.get()) == {"source_config.password": "hunter2"}


def test_connection_names_the_schedules_that_use_it(signed_in: Client, owner: User, seen: None) -> None:
    web = {"protocol": "sftp", "host": "example.org", "username": "www", "password": "x", "root_path": "/"}
    connection = connections.create(owner, web | {"name": "web"})
    other = connections.create(owner, web | {"name": "other"})
    source = {"connection": str(connection.pk), "root_path": "/srv"}
    body = {"name": "Nightly", "cron": "0 3 * * *", "job": {"type": "scan", "server_config": source}}
    schedules.create(owner, body)
    assert ", 1 schedule</dd>" in text_of(signed_in.get(f"/connections/{connection.pk}"))
    assert "will start nothing any more" in text_of(signed_in.get(f"/connections/{connection.pk}/delete"))
    assert "Nightly" not in text_of(signed_in.get(f"/connections/{other.pk}/delete"))
    assert "web:/srv" in text_of(signed_in.get("/schedules"))
    connections.delete(connection)
    assert "(deleted):/srv" in text_of(signed_in.get("/schedules"))
    assert signed_in.get(f"/schedules/{Schedule.objects.get().pk}/edit").status_code == 200


def test_other_server_needs_its_own_secret(signed_in: Client, seen: None) -> None:
    schedule = stored(signed_in)
    path = f"/schedules/{schedule.pk}/edit"
    fields = nightly() | {f"{FROM}-host": "other.example", "draft": draft_of(signed_in.get(path))}
    answer = signed_in.post(path, fields | {f"{FROM}-password": ""})
    assert answer.status_code == 400
    assert "Enter it again" in text_of(answer)
    assert signed_in.post(path, fields | {f"{FROM}-password": "other"}).status_code == 302
    found = Schedule.objects.get()
    assert held(found) == {"source_config.password": "other"}
    assert found.request["source_config"]["host"] == "other.example"


def test_folder_is_chosen_for_a_schedule_that_is_changed(signed_in: Client, owner: User, seen: None) -> None:
    here = connections.create(
        owner, {"name": "here", "protocol": "local", "root_path": str(Path(__file__).parent)}
    )
    schedule = stored(signed_in)
    path = f"/schedules/{schedule.pk}/edit"
    place = {f"{TO}-protocol": "stored", f"{TO}-connection": str(here.pk), f"{TO}-root_path": ""}
    fields = (
        nightly(cron="0 4 * * *") | place | {"browse": "dest_config", "draft": draft_of(signed_in.get(path))}
    )
    answer = signed_in.post(path, fields)
    assert answer.status_code == 302
    folders = text_of(signed_in.get(answer["Location"]))
    back = re.search(r'href="(/schedules/new/transfer\?[^"]+)"', folders)
    assert back is not None
    form = text_of(signed_in.get(back[1]))
    assert "Edit Nightly" in form
    assert f'action="{path}"' in form
    assert 'value="0 4 * * *"' in form
    assert f'value="{Path(__file__).parent}"' in form


def test_schedule_is_paused_goes_on_and_is_deleted(signed_in: Client, seen: None) -> None:
    schedule = stored(signed_in)
    for path, is_paused in (("pause", True), ("pause", True), ("go-on", False), ("go-on", False)):
        assert signed_in.get(f"/schedules/{schedule.pk}/{path}").status_code == 405
        assert signed_in.post(f"/schedules/{schedule.pk}/{path}").status_code == 302
        assert Schedule.objects.get().is_paused is is_paused
    assert "Delete this schedule?" in text_of(signed_in.get(f"/schedules/{schedule.pk}/delete"))
    assert Schedule.objects.exists()
    assert signed_in.post(f"/schedules/{schedule.pk}/delete").status_code == 302
    assert not Schedule.objects.exists()


def test_schedules_of_somebody_else_do_not_exist(client: Client, signed_in: Client, seen: None) -> None:
    schedule = stored(signed_in)
    client.force_login(User.objects.create_user("stranger", role="owner"))
    assert "Nightly" not in text_of(client.get("/schedules"))
    for path in ("edit", "delete"):
        assert client.get(f"/schedules/{schedule.pk}/{path}").status_code == 404
    assert client.get(f"/schedules/{10**30}/edit").status_code == 404
    for path in ("edit", "delete", "pause", "go-on"):
        assert client.post(f"/schedules/{schedule.pk}/{path}").status_code == 404
    assert client.get(f"/schedules/new/transfer?schedule={schedule.pk}").status_code == 404


def test_page_says_what_went_wrong_and_what_was_left_out(signed_in: Client, owner: User) -> None:
    Gallery(owner).schedules()
    page = signed_in.get("/schedules")
    for words in (
        *("could not start: ", "You have no stored connection of this id."),
        *("was left out. No worker ran at 2026-11-27 03:00 UTC.", "None while it is paused"),
        *("3 failed", "Completed"),
    ):
        assert words in text_of(page), words
    assert b"&lt;script&gt;alert(1)" in page.content
    assert b"<script>alert" not in page.content


def scan_at(start_at: str, zone: str = "Europe/Berlin") -> Fields:
    prefix = "new-scan-server_config"
    place = {f"{prefix}-protocol": "local", f"{prefix}-root_path": "/srv"}
    return place | {"new-scan-key": "k", "new-scan-start_at": start_at, "new-scan-zone": zone}


def test_job_is_started_later_by_the_reader_s_clock(signed_in: Client) -> None:
    assert signed_in.post("/new/scan", scan_at("2030-07-01T03:00")).status_code == 302
    job = Job.objects.get()
    assert job.run_at == datetime(2030, 7, 1, 1, tzinfo=UTC)
    text = text_of(signed_in.get(f"/jobs/{job.pk}"))
    assert "Starts at 2030-07-01 01:00:00 UTC." in text
    assert "To start at" in text


@pytest.mark.parametrize(
    ("start_at", "said"),
    [
        ("soon", "Must be a date and a time"),
        ("2020-01-01T03:00", "Must be in the future"),
        ("9999-12-31T23:59", "Must be within the next five years"),
    ],
)
def test_time_that_means_nothing_is_told_beside_its_field(
    signed_in: Client, start_at: str, said: str
) -> None:
    answer = signed_in.post("/new/scan", scan_at(start_at, "Nowhere"))
    assert answer.status_code == 400
    found = re.search(r'id="id_new-scan-start_at_error">.*?</svg>(.*?)</p>', text_of(answer))
    assert found is not None
    assert said in found[1]
    assert not Job.objects.exists()


def test_missed_and_overlapping_runs_are_worded(owner: User) -> None:
    body = {
        "cron": "0 3 * * *",
        "job": {"type": "scan", "server_config": {"protocol": "local", "root_path": "/srv"}},
    }
    schedule = schedules.create(owner, body | {"on_missed": "skip", "on_overlap": "queue"})
    view = ScheduleView(schedule, "", [], [])
    assert view.overlap_text == "one run waits for the one before"
    assert view.missed_text == "not made up for"
    assert not view.is_skip_news
    schedule.last_skipped_at = timezone.now() - timedelta(days=1)
    assert view.is_skip_news


@pytest.mark.slow
@pytest.mark.parametrize("has_script", [True, False])
def test_schedule_is_made_of_a_job_in_a_browser(
    product: Product, yard: Yard, new_context: Any, has_script: bool
) -> None:
    body = {"server_config": {"protocol": "local", "root_path": str(small_tree(yard.folder / "site"))}}
    job = product.post("/api/scan", body).body["id"]
    product.wait_for(job)
    context: BrowserContext = new_context(java_script_enabled=has_script, timezone_id="America/New_York")
    page: Page = context.new_page()
    page.goto(f"{product.url}/jobs/{job}")
    page.get_by_role("link", name="As schedule").click()
    expect(page.get_by_label("Folder", exact=True)).to_have_value(body["server_config"]["root_path"])
    expect(page.get_by_label("Time zone")).to_have_value("America/New_York" if has_script else "UTC")
    page.get_by_label("Times").fill("0 5 * * SUN")
    if not has_script:
        page.get_by_role("button", name="Show the next runs").click()
    expect(page.locator("#preview strong")).to_have_text("At 05:00 on Sunday")
    expect(page.locator("#preview li")).to_have_count(5)
    expect(page.locator("#preview li").first).to_contain_text("05:00")
    page.get_by_label("Name").fill("On Sundays")
    page.get_by_role("button", name="Save the schedule").click()
    expect(page.get_by_role("heading", name="On Sundays")).to_be_visible()
    page.get_by_role("button", name="Pause On Sundays").click()
    expect(page.get_by_text("None while it is paused")).to_be_visible()
    (schedule,) = until(lambda: product.get("/api/schedules").body)
    assert (schedule["cron"], schedule["paused"]) == ("0 5 * * SUN", True)
    page.get_by_role("link", name="Delete On Sundays…").click()
    page.get_by_role("button", name="Delete the schedule").click()
    expect(page.get_by_text("There is no schedule yet.")).to_be_visible()
    assert product.get("/api/schedules").body == []


_DUE = """
import django; django.setup()
from django.utils import timezone
from sessions_app.models import Schedule
Schedule.objects.update(next_run_at=timezone.now())
"""


@pytest.mark.slow
def test_run_that_starts_is_seen_without_loading_the_page_again(
    product: Product, yard: Yard, page: Page
) -> None:
    source = {"protocol": "local", "root_path": str(small_tree(yard.folder / "site"))}
    body = {"name": "Nightly", "cron": "0 3 1 1 *", "job": {"type": "scan", "server_config": source}}
    schedule = product.post("/api/schedules", body).body["id"]
    page.goto(f"{product.url}/schedules")
    expect(page.get_by_text("None yet")).to_be_visible()
    expect(page.locator("#link")).to_have_text("Live")
    product.python("-c", _DUE)
    expect(page.locator(".schedule .completed")).to_have_text("Completed")
    expect(page.get_by_text("None yet")).to_have_count(0)
    product.delete(f"/api/schedules/{schedule}")
