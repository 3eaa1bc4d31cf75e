"""The forms that make a job: their errors, what they give back, and that one press makes one job."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from migration_app import contacts, secrets
from migration_app.submission import submit_scan
from sessions_app import accounts, retention
from sessions_app.models import Job, RetentionRule, User
from sessions_app.retention import Rule
from sessions_app.submitters import RequestMeta

pytestmark = pytest.mark.django_db

Fields = dict[str, Any]
FROM, TO, SCAN = "new-transfer-source_config", "new-transfer-dest_config", "new-scan-server_config"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server is there and shows the key that is known."""
    monkeypatch.setattr(contacts, "look", lambda *_: {})


@pytest.fixture
def signed_in(client: Client) -> Client:
    client.force_login(accounts.owner())
    return client


def scan_of(root: Path, **more: str) -> Fields:
    return {
        f"{SCAN}-protocol": "local",
        f"{SCAN}-root_path": str(root),
        "new-scan-key": "one press",
        "new-scan-include_hidden": "on",
        **more,
    }


def sftp(prefix: str, **fields: str) -> Fields:
    every = {"protocol": "sftp", "host": "example.org", "username": "www", "root_path": "/srv"}
    return {f"{prefix}-{name}": value for name, value in (every | fields).items()}


def beside(text: str, field_id: str) -> str:
    """The error beside a field."""
    found = re.search(rf'id="{field_id}_error">.*?</svg>(.*?)</p>', text)
    return found[1].strip() if found else ""


def test_a_form_makes_a_job_and_leads_to_it(signed_in: Client, tmp_path: Path) -> None:
    answer = signed_in.post("/new/scan", scan_of(tmp_path))
    job = Job.objects.get()
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/jobs/{job.pk}"
    assert job.public["source_config"]["root_path"] == str(tmp_path)


def test_a_second_press_opens_the_job_of_the_first(signed_in: Client, tmp_path: Path) -> None:
    first = signed_in.post("/new/scan", scan_of(tmp_path))
    second = signed_in.post("/new/scan", scan_of(tmp_path))
    assert first.headers["Location"] == second.headers["Location"]
    assert Job.objects.count() == 1


def test_the_same_form_with_other_fields_asks_before_it_makes_another_job(
    signed_in: Client, tmp_path: Path
) -> None:
    signed_in.post("/new/scan", scan_of(tmp_path))
    changed = scan_of(tmp_path / "other")
    answer = signed_in.post("/new/scan", changed)
    text = answer.content.decode()
    assert answer.status_code == 400
    assert "This form has started another job already." in text
    key = re.search(r'name="new-scan-key" value="(\w+)"', text)
    assert key is not None
    assert signed_in.post("/new/scan", changed | {"new-scan-key": key[1]}).status_code == 302
    assert Job.objects.count() == 2


def test_each_drawn_form_has_a_key_of_its_own(signed_in: Client) -> None:
    keys = [
        key
        for _ in range(2)
        for key in re.findall(r'-key" value="(\w+)"', signed_in.get("/").content.decode())
    ]
    assert len(keys) == len(set(keys)) == 4


def test_errors_stand_beside_their_fields_and_in_a_summary_that_takes_the_focus(signed_in: Client) -> None:
    data = sftp(FROM, host="no host!", port="70000", root_path="srv") | sftp(TO, host="", username="")
    answer = signed_in.post("/new/transfer", data)
    text = answer.content.decode()
    assert answer.status_code == 400
    assert not Job.objects.exists()
    expected = {
        f"id_{FROM}-host": "Must be a host name or an IP address, without a port or a path.",
        f"id_{FROM}-port": "Must not be more than 65535.",
        f"id_{FROM}-root_path": "Must be an absolute path: it starts with a slash.",
    }
    summary = text[text.index('id="errors"') : text.index('class="sides"')]
    assert "autofocus" in summary
    for field_id, message in expected.items():
        assert beside(text, field_id) == message
        assert f'<a href="#{field_id}">' in summary
        assert message in summary
        assert re.search(
            rf'id="{field_id}"[^>]*aria-invalid="true"|aria-invalid="true"[^>]*id="{field_id}"', text
        )
    assert "<title>Error: New transfer · Haulier</title>" in text
    assert 'value="no host!"' in text


def test_what_a_form_of_sftp_needs_is_said_field_by_field(signed_in: Client) -> None:
    text = signed_in.post("/new/scan", sftp(SCAN, host="", username="")).content.decode()
    assert beside(text, f"id_{SCAN}-host") == "Is needed for SFTP."
    assert beside(text, f"id_{SCAN}-username") == "Is needed for SFTP."


def test_an_empty_form_says_what_is_missing(signed_in: Client) -> None:
    text = signed_in.post("/new/scan", {}).content.decode()
    assert "Nothing was started" in text
    assert "enter them again" not in text
    assert not Job.objects.exists()
    text = signed_in.post(
        "/new/transfer", sftp(FROM, root_path="") | {f"{TO}-protocol": "local"}
    ).content.decode()
    assert beside(text, f"id_{FROM}-root_path") == beside(text, f"id_{TO}-root_path") == "Is needed."
    assert "From – Folder: Is needed." in text
    assert "To – Folder: Is needed." in text


def test_patterns_that_cannot_be_read_are_refused_beside_their_field(
    signed_in: Client, tmp_path: Path
) -> None:
    patterns = {"new-scan-exclusions": "*.log\n" + "a" * 100_000}
    text = signed_in.post("/new/scan", scan_of(tmp_path, **patterns)).content.decode()
    assert beside(text, "id_new-scan-exclusions")
    # The closed part of the form opens where an error is in it.
    assert '<details class="options" open>' in text


def test_secrets_never_come_back(signed_in: Client, seen: None) -> None:
    given = {"password": "hunter2", "ssh_key": "-----BEGIN KEY-----", "passphrase": "open sesame"}
    data = sftp(FROM, host="no host!", **given) | sftp(TO, **given)
    text = signed_in.post("/new/transfer", data).content.decode()
    for secret in given.values():
        assert secret not in text
    assert "please enter them again" in text
    started = signed_in.post(
        "/new/transfer", sftp(FROM, **given) | sftp(TO, host="example.net", **given), follow=True
    )
    job = Job.objects.get()
    pages = [started.content.decode()]
    pages += [
        signed_in.get(f"/{path}").content.decode()
        for path in ("", "jobs", f"jobs/{job.pk}/log", f"api/sessions/{job.pk}")
    ]
    pages += [signed_in.get(f"/admin/sessions_app/job/{job.pk}/change/").content.decode()]
    for secret in given.values():
        assert not any(secret in page for page in pages)


def test_a_copy_into_itself_is_refused_at_the_destination(signed_in: Client, tmp_path: Path) -> None:
    data = {f"{FROM}-protocol": "local", f"{FROM}-root_path": str(tmp_path)}
    data |= {f"{TO}-protocol": "local", f"{TO}-root_path": str(tmp_path / "inside")}
    text = signed_in.post("/new/transfer", data).content.decode()
    assert beside(text, f"id_{TO}-root_path").startswith("The destination lies inside the source")


def test_options_of_a_transfer_reach_its_job(signed_in: Client, seen: None) -> None:
    page = signed_in.get("/new/transfer").content.decode()
    assert '<option value="overwrite" selected>Replace them</option>' in page
    data = sftp(FROM) | sftp(TO, host="example.net")
    options = {"conflict": "rename", "dry_run": "on", "ignore_errors": "on", "follow_symlinks": "on"}
    options |= {"bandwidth_limit": "2.5", "skip_large_files": "", "checksum": "on"}
    data |= {f"new-transfer-{name}": value for name, value in options.items()}
    assert signed_in.post("/new/transfer", data).status_code == 302
    job = Job.objects.get()
    params = job.params
    assert (params["bandwidth_limit"], params["skip_large_files"]) == (2.5, 0)
    again = signed_in.get(f"/new/transfer?from={job.pk}").content.decode()
    assert re.search(r'name="new-transfer-bandwidth_limit" value="2.5"', again)
    assert not re.search(r'name="new-transfer-skip_large_files" value', again)
    assert (params["conflict"], params["dry_run"], params["ignore_errors"]) == ("rename", True, True)
    assert (params["follow_symlinks"], params["checksum"]) == (True, True)
    assert re.search(r'name="new-transfer-checksum"[^>]* checked', again)


def test_deletions_reach_a_job_and_are_asked_for_by_two_fields(signed_in: Client, seen: None) -> None:
    data = sftp(FROM) | sftp(TO, host="example.net") | {"new-transfer-delete_extraneous": "on"}
    assert signed_in.post("/new/transfer", data).status_code == 302
    params = Job.objects.get().params
    assert (params["delete_extraneous"], params["confirm_deletions"]) == (True, 0)
    again = signed_in.get(f"/new/transfer?from={Job.objects.get().pk}").content.decode()
    assert re.search(r'name="new-transfer-delete_extraneous"[^>]* checked', again)
    Job.objects.all().delete()
    signed_in.post("/new/transfer", data | {"new-transfer-confirm_deletions": "120"})
    assert Job.objects.get().params["confirm_deletions"] == 120
    refused = signed_in.post("/new/transfer", data | {"new-transfer-conflict": "rename"}).content.decode()
    assert beside(refused, "id_new-transfer-delete_extraneous").startswith("Does not go with")


@pytest.mark.parametrize(
    ("limit", "said"), [("-1", "greater than or equal to 0"), ("fast", "Enter a number")]
)
def test_limit_that_is_none_is_told_beside_its_field(
    signed_in: Client, seen: None, limit: str, said: str
) -> None:
    data = sftp(FROM) | sftp(TO, host="example.net") | {"new-transfer-bandwidth_limit": limit}
    text = signed_in.post("/new/transfer", data).content.decode()
    assert said in beside(text, "id_new-transfer-bandwidth_limit")
    assert not Job.objects.exists()


def test_only_the_paths_that_are_named_are_copied_and_the_form_keeps_them(
    signed_in: Client, seen: None
) -> None:
    data = sftp(FROM) | sftp(TO, host="example.net")
    paths = "wp-content/uploads/\r\n\r\n two blanks \r\nindex.php"
    assert signed_in.post("/new/transfer", data | {"new-transfer-files": paths}).status_code == 302
    job = Job.objects.get()
    assert job.params["files"] == ["wp-content/uploads", " two blanks ", "index.php"]
    text = signed_in.get(f"/new/transfer?from={job.pk}").content.decode()
    assert "wp-content/uploads\n two blanks \nindex.php</textarea>" in text
    assert '<details class="options" open>' in text
    Job.objects.filter(pk=job.pk).update(params=job.params | {"files": ["a\nb", "index.php"]})
    text = signed_in.get(f"/new/transfer?from={job.pk}").content.decode()
    assert "Paths that do not fit into this form are not in it: 1." in text


def test_limits_of_a_scan_reach_its_job_and_come_back(signed_in: Client, tmp_path: Path) -> None:
    limits = {"new-scan-max_depth": "2", "new-scan-max_files": "100"}
    signed_in.post("/new/scan", scan_of(tmp_path, **limits))
    job = Job.objects.get()
    assert (job.params["max_depth"], job.params["max_files"]) == (2, 100)
    text = signed_in.get(f"/new/scan?from={job.pk}").content.decode()
    assert all(f'name="{name}" value="{value}"' in text for name, value in limits.items())


@pytest.mark.parametrize(
    ("address", "field", "value", "label", "said"),
    [
        ("scan", "max_depth", "-1", "Deepest level", "greater than or equal to 0"),
        ("scan", "max_files", "1.5", "Most files", "Enter a whole number"),
        ("scan", "max_files", "1" + "0" * 10, "Most files", "Must not be more than 1000000000"),
        ("transfer", "files", "/srv/index.php", "Only these paths", "relative to the source"),
        ("transfer", "files", "a/../b", "Only these paths", "without “..”"),
    ],
)
def test_limits_and_paths_that_are_none_are_told_beside_their_fields(
    signed_in: Client, seen: None, address: str, field: str, value: str, label: str, said: str
) -> None:
    sides = sftp(SCAN) if address == "scan" else sftp(FROM) | sftp(TO, host="example.net")
    answer = signed_in.post(f"/new/{address}", sides | {f"new-{address}-{field}": value})
    text = answer.content.decode()
    assert answer.status_code == 400
    assert said in beside(text, f"id_new-{address}-{field}")
    assert f"{label}: " in text[text.index('id="errors"') : text.index('class="sides"')]
    assert not Job.objects.exists()


def test_folded_options_open_where_one_is_chosen(signed_in: Client, seen: None) -> None:
    assert '<details class="options">' in signed_in.get("/new/transfer").content.decode()
    data = sftp(FROM) | sftp(TO, host="example.net") | {"new-transfer-verify_after_transfer": "on"}
    signed_in.post("/new/transfer", data | {"new-transfer-key": "one"})
    signed_in.post("/new/transfer", data | {"new-transfer-key": "two", "new-transfer-dry_run": "on"})
    for job in Job.objects.all():
        text = signed_in.get(f"/new/transfer?from={job.pk}").content.decode()
        assert ('<details class="options" open>' in text) == job.params["dry_run"]


def test_operators_are_not_offered_folders_of_this_machine(client: Client, tmp_path: Path) -> None:
    client.force_login(User.objects.create(username="operator"))
    assert 'value="local"' not in client.get("/new/scan").content.decode()
    text = client.post("/new/scan", scan_of(tmp_path)).content.decode()
    assert "Nothing was started" in text
    assert not Job.objects.exists()


def test_a_scan_hands_its_folder_and_what_was_ticked_to_a_new_transfer(signed_in: Client) -> None:
    root, patterns = "/srv/site", ["/wp-content/cache/", "*.log"]
    config = {"protocol": "sftp", "host": "example.org", "username": "www", "password": "hunter2"}
    exclusions = [
        "*.tmp",
        {"pattern": "a/b[1]", "type": "exact"},
        {"pattern": "x$", "type": "regex"},
        {"pattern": "off", "enabled": False},
    ]
    body = {"server_config": {**config, "root_path": root}, "custom_exclusions": exclusions}
    job, _ = submit_scan(accounts.owner(), body, RequestMeta(None, "", ""))
    answer = signed_in.get("/new/transfer", {"from": str(job.pk), "exclude": [*patterns, "a\nb", " "]})
    form = answer.context["form"]
    source = form.connections["source_config"]
    assert [source[name].value() for name in ("protocol", "host", "username", "root_path")] == [
        *("sftp", "example.org", "www", root)
    ]
    lines = form.options["exclusions"].value().splitlines()
    assert lines == ["*.tmp", "/a/b[[]1]", *patterns]
    text = answer.content.decode()
    assert "Patterns that do not fit into this form are not in it: 1." in text
    assert "hunter2" not in text
    assert '<details class="options" open>' in text


def test_what_was_entered_for_a_scan_need_not_be_entered_again_for_its_transfer(
    signed_in: Client, client: Client, seen: None, tmp_path: Path
) -> None:
    through = {"jump": "me@bastion:2200", "jump_password": "canary of the bastion"}
    entered = sftp(SCAN, password="hunter2", **through)
    job_id = signed_in.post("/new/scan", entered).headers["Location"].rpartition("/")[2]
    text = signed_in.get("/new/transfer", {"from": job_id}).content.decode()
    assert "Entered before and kept. Leave this empty to use it." in text
    assert "hunter2" not in text
    assert "canary" not in text
    draft = re.search(r'name="draft" value="([^"]+)"', text)
    assert draft is not None
    form = sftp(FROM, jump=through["jump"]) | {"draft": draft[1]}
    form |= {f"{TO}-protocol": "local", f"{TO}-root_path": str(tmp_path)}
    turned = signed_in.post("/new/transfer", form | {f"{FROM}-host": "elsewhere.example"})
    assert "it is not kept for another server" in turned.content.decode()
    text = signed_in.get("/new/transfer", {"from": job_id}).content.decode()
    draft = re.search(r'name="draft" value="([^"]+)"', text)
    assert draft is not None
    assert signed_in.post("/new/transfer", form | {"draft": draft[1]}).status_code == 302
    sealed = Job.objects.get(type="transfer").endpoints.get(host="example.org").sealed
    assert secrets.unseal(sealed) == {"password": "hunter2", "jump_password": through["jump_password"]}
    client.force_login(User.objects.create(username="other"))
    assert 'name="draft"' not in client.get("/new/transfer", {"from": job_id}).content.decode()


def test_a_form_begins_empty_where_the_job_is_somebody_elses(client: Client) -> None:
    body = {"server_config": {"protocol": "local", "root_path": "/srv/secret"}}
    job, _ = submit_scan(accounts.owner(), body, RequestMeta(None, "", ""))
    client.force_login(User.objects.create(username="other"))
    for value in (str(job.pk), "nonsense", ""):
        answer = client.get("/new/transfer", {"from": value})
        assert answer.status_code == 200
        assert "/srv/secret" not in answer.content.decode()


def local_transfer(client: Client, folder: Path, **options: str) -> Job:
    sides = {f"{FROM}-protocol": "local", f"{FROM}-root_path": str(folder / "a")}
    sides |= {f"{TO}-protocol": "local", f"{TO}-root_path": str(folder / "b")}
    client.post("/new/transfer", sides | {f"new-transfer-{name}": value for name, value in options.items()})
    return Job.objects.get()


def change_form(client: Client, job: Job, **fields: str) -> Any:
    return client.post(f"/jobs/{job.pk}/change", {"title": job.title, "priority": "0", **fields})


def test_name_priority_and_bandwidth_of_a_job_can_be_changed(signed_in: Client, tmp_path: Path) -> None:
    job = local_transfer(signed_in, tmp_path, bandwidth_limit="5")
    page = signed_in.get(f"/jobs/{job.pk}/change").content.decode()
    assert 'value="5.0"' in page
    answer = change_form(signed_in, job, title="Shop", priority="7", keep="on", bandwidth_limit="")
    assert answer.status_code == 302
    job.refresh_from_db()
    assert (job.title, job.priority, job.keep, job.params["bandwidth_limit"]) == ("Shop", 7, True, 0)
    shown = signed_in.get(f"/jobs/{job.pk}").content.decode()
    assert "Until you delete it" in shown
    assert "<dt>Place in the queue</dt><dd>1</dd>" in shown


def test_timetable_of_a_job_is_entered_changed_and_taken_along(signed_in: Client, tmp_path: Path) -> None:
    zone = {"bandwidth_timezone": "Europe/Berlin"}
    job = local_transfer(signed_in, tmp_path, bandwidth_timetable="mon-fri 08:00-18:00 2", **zone)
    entry = {"from": "08:00", "to": "18:00", "limit": 2, "days": ["mon", "tue", "wed", "thu", "fri"]}
    assert (job.params["bandwidth_timetable"], job.params["bandwidth_timezone"]) == ([entry], "Europe/Berlin")
    shown = signed_in.get(f"/jobs/{job.pk}").content.decode()
    assert "<dd>mon-fri 08:00-18:00 2 MB/s, else no limit (Europe/Berlin)</dd>" in shown
    for page in (f"/jobs/{job.pk}/change", f"/new/transfer?from={job.pk}"):
        form = signed_in.get(page).content.decode()
        assert "mon-fri 08:00-18:00 2</textarea>" in form
        # The script leaves it alone.
        field = re.search(r'<input[^>]*bandwidth_timezone"[^>]*>', form)
        assert field is not None
        assert 'value="Europe/Berlin"' in field[0]
        assert "data-zone" not in field[0]
    text = "22:00-06:00 off\r\n06:00-22:00 1.5"
    assert change_form(signed_in, job, bandwidth_timetable=text, **zone).status_code == 302
    job.refresh_from_db()
    assert job.params["bandwidth_timetable"] == [
        {"from": "22:00", "to": "06:00", "limit": 0},
        {"from": "06:00", "to": "22:00", "limit": 1.5},
    ]
    # A zone without times says nothing.
    elsewhere = {"bandwidth_timetable": "", "bandwidth_timezone": "Asia/Tokyo"}
    assert change_form(signed_in, job, **elsewhere).status_code == 302
    job.refresh_from_db()
    assert (job.params["bandwidth_timetable"], job.params["bandwidth_timezone"]) == ([], "Europe/Berlin")
    assert "<dt>Bandwidth</dt>" not in signed_in.get(f"/jobs/{job.pk}").content.decode()


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"bandwidth_timetable": "8-18 2"}, "“8-18 2” must be like"),
        ({"bandwidth_timetable": "08:00-18:00 2", "bandwidth_timezone": "Mars"}, "“Mars” is no time zone"),
        ({"priority": "101"}, "less than or equal to 100"),
        ({"title": ""}, "This field is required."),
        ({"bandwidth_limit": "-1"}, "greater than or equal to 0"),
        ({"bandwidth_limit": "1e12"}, "Must not be more than"),
    ],
)
def test_what_cannot_be_changed_so_is_told_beside_its_field(
    signed_in: Client, tmp_path: Path, fields: dict[str, str], sentence: str
) -> None:
    job = local_transfer(signed_in, tmp_path)
    before = Job.objects.values().get()
    answer = change_form(signed_in, job, **fields)
    assert answer.status_code == 400
    assert sentence in answer.content.decode()
    assert Job.objects.values().get() == before


def test_of_a_job_that_has_ended_the_form_offers_name_and_keeping(signed_in: Client, tmp_path: Path) -> None:
    job = local_transfer(signed_in, tmp_path)
    Job.objects.update(status="completed")
    page = signed_in.get(f"/jobs/{job.pk}/change").content.decode()
    assert ('name="keep"' in page, 'name="priority"' in page) == (True, False)
    assert change_form(signed_in, job, keep="on").status_code == 302
    assert Job.objects.get().keep


RULES = {
    **{f"{name}-stays": "24h" for name in ("scan", "transfer", "verify")},
    **{f"{name}-most": "" for name in ("scan", "transfer", "verify", "failed")},
    "failed-stays": "7d",
}


def test_how_long_jobs_stay_can_be_tried_and_set(signed_in: Client, tmp_path: Path) -> None:
    job = local_transfer(signed_in, tmp_path)
    Job.objects.update(status="completed", completed_at=timezone.now() - timedelta(days=30))
    page = signed_in.get("/jobs/retention").content.decode()
    assert 'value="90d"' in page
    assert "By now the time of 0 jobs is over" in page
    tried = signed_in.post("/jobs/retention", RULES).content.decode()
    assert "With these rules the time of 1 job is over" in tried
    assert retention.policy()["transfer"] == Rule(timedelta(days=90))
    answer = signed_in.post("/jobs/retention", RULES | {"save": "1", "transfer-most": "500"})
    assert answer.status_code == 302
    assert retention.policy()["transfer"] == Rule(timedelta(hours=24), 500)
    assert retention.clean_up() == 1
    assert signed_in.get(f"/jobs/{job.pk}").status_code == 404


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("scan-stays", "", "This field is required."),
        ("scan-stays", "soon", "A duration looks like 24h or 90d"),
        ("scan-stays", "-1d", "A duration looks like 24h or 90d"),
        ("failed-most", "0", "greater than or equal to 1"),
        ("verify-most", "many", "Enter a whole number."),
    ],
)
def test_rule_that_means_nothing_is_told_beside_its_field(
    signed_in: Client, field: str, value: str, sentence: str
) -> None:
    answer = signed_in.post("/jobs/retention", RULES | {"save": "1", field: value})
    assert answer.status_code == 400
    assert sentence in beside(answer.content.decode(), f"id_{field}")
    assert not RetentionRule.objects.exists()


def test_only_owners_set_how_long_jobs_stay(client: Client) -> None:
    accounts.owner()
    client.force_login(User.objects.create_user("operator"))
    page = client.get("/jobs/retention").content.decode()
    assert "An owner can change this." in page
    assert client.post("/jobs/retention", RULES | {"save": "1"}).status_code == 403
    assert not RetentionRule.objects.exists()
