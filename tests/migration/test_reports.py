"""Reports of a job in each form."""

import csv
import doctest
import io

import pytest
from asgiref.sync import async_to_sync
from django.test import AsyncClient, Client

from migration_app import manifest, reports
from migration_app.manifest import Row
from migration_app.models import EntryAction, EntryState
from migration_app.storages.base import Entry, Kind
from sessions_app import accounts
from sessions_app.models import Job, User

FORMULAS = [b"=cmd()", b"+1", b"-2", b"@sum", b"\ttab", b"\rreturn"]
NAMES = [*FORMULAS, b'plain, with "quotes"', b"new\nline", b"caf\xc3\xa9", b"\xff", b"a=b", b"<b>x</b>"]


@pytest.fixture
def job(owner) -> Job:
    config = {"protocol": "sftp", "host": "example.org", "port": 22, "username": "www", "root_path": "/srv"}
    job = Job.objects.create(
        type="transfer",
        owner=owner,
        title='Shop "x";\r\nSet-Cookie: a=b → /srv/../ü',
        status="failed",
        error_message="1 of 12 entries failed.",
        public={"source_config": config},
    )
    rows = [Row(0, Entry(b"", Kind.FOLDER), EntryAction.SKIP, EntryState.SKIPPED)]
    rows += [
        Row(number, Entry(name, Kind.FILE, 10), EntryAction.CREATE, EntryState.DONE)
        for number, name in enumerate(NAMES, 1)
    ]
    rows.append(Row(99, Entry(b"bad", Kind.FILE, 5), EntryAction.CREATE, EntryState.FAILED, "=Denied."))
    manifest.add(job.pk, rows)
    return job


def test_json_has_the_job_its_sums_and_its_failures(api, job):
    answer = api.get(f"/api/sessions/{job.pk}/report")
    report = answer.json()
    assert report["job"]["id"] == str(job.pk)
    assert report["files"] == {
        "done": {"files": len(NAMES), "size_bytes": 10 * len(NAMES)},
        "failed": {"files": 1, "size_bytes": 5},
    }
    assert (report["failures_count"], report["failures"][0]["path"]) == (1, "bad")
    assert report["job"]["links"]["report"] == f"/api/sessions/{job.pk}/report"


def test_csv_has_every_file_and_no_cell_is_a_formula(owner, job, monkeypatch):
    monkeypatch.setattr(reports, "_CHUNK", 5)
    headers = {"Authorization": f"Bearer {accounts.create_token(owner)}"}

    async def read() -> tuple[str, str]:
        answer = await AsyncClient().get(f"/api/sessions/{job.pk}/report?format=csv", headers=headers)
        return answer["Content-Type"], b"".join([part async for part in answer]).decode()

    kind, text = async_to_sync(read)()
    assert kind == "text/csv; charset=utf-8"
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert rows[0] == list(reports.COLUMNS)
    paths = [row[0] for row in rows[1:]]
    readable = [name.decode("utf-8", "backslashreplace") for name in [*NAMES, b"bad"]]
    assert paths == [f"'{name}" if name.encode() in FORMULAS else name for name in readable]
    assert rows[-1] == ["bad", "", "5", "create", "failed", "0", "'=Denied.", ""]
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


def test_page_to_print_shows_sums_and_failures_harmlessly(client, owner, job):
    client.force_login(owner)
    manifest.mark(job.pk, [(len(NAMES), "No <i>such</i> file.", 1)])
    answer = client.get(f"/api/sessions/{job.pk}/report?format=html")
    text = answer.content.decode()
    assert answer["Content-Type"].startswith("text/html")
    for words in ("1 of 12 entries failed.", "sftp://", "&lt;b&gt;x&lt;/b&gt;", "No &lt;i&gt;such"):
        assert words in text


@pytest.mark.parametrize("form", ["json", "html", "csv"])
def test_names_of_reports_are_safe(owner, job, form):
    headers = {"Authorization": f"Bearer {accounts.create_token(owner)}"}
    address = f"/api/sessions/{job.pk}/report?format={form}"
    answer = async_to_sync(AsyncClient().get)(address, headers=headers)
    name = answer["Content-Disposition"].partition("filename=")[2]
    assert name == f'"haulier-Shop-x-Set-Cookie-a-b-srv-{str(job.pk)[:8]}.{form}"'


def test_unknown_form_is_refused_by_name(api, job):
    answer = api.get(f"/api/sessions/{job.pk}/report?format=pdf")
    assert answer.status_code == 400
    assert answer.json()["error"] == "format: 'pdf' is not a form of a report; those are json, csv, html."
    assert "form" in api.get(f"/api/sessions/{job.pk}/report?form=csv").json()["fields"]


def test_verification_has_a_report_too(api, job):
    Job.objects.filter(pk=job.pk).update(type="verify")
    links = api.get(f"/api/sessions/{job.pk}").json()["links"]
    assert api.get(links["report"]).json()["job"]["type"] == "verify"


def test_report_of_somebody_elses_job_does_not_exist(job):
    other = User.objects.create(username="other")
    client = Client(headers={"Authorization": f"Bearer {accounts.create_token(other)}"})
    for form in ("json", "csv", "html"):
        assert client.get(f"/api/sessions/{job.pk}/report?format={form}").status_code == 404


def test_cells_do_what_their_examples_say():
    assert doctest.testmod(reports).failed == 0
