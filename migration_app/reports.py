"""The report of a job: as JSON, as a table of its files, and as what the printed page shows."""

import csv
import io
import re
from collections.abc import AsyncIterator
from typing import Any

from asgiref.sync import sync_to_async
from django.db.models import Count, Sum
from django.utils import timezone

from migration_app import files
from migration_app.models import EntryState
from sessions_app.models import Job
from sessions_app.serializers import instant, job_json

Json = dict[str, Any]

MOST_FAILURES = 1000
COLUMNS = ("path", "path_b64", "size_bytes", "action", "state", "attempts", "error", "evidence")
_CHUNK = 2000


def report_json(job: Job) -> Json:
    """The job, its files counted by state, and the first of those that failed."""
    rows = files.files_of(job.pk)
    failed = rows.filter(state=EntryState.FAILED).order_by("number")
    sums = rows.order_by("state").values_list("state").annotate(Count("number"), Sum("size"))
    return {
        "created_at": instant(timezone.now()),
        "job": job_json(job),
        "files": {state: {"files": count, "size_bytes": size} for state, count, size in sums},
        "failures": [files.file_json(row) for row in failed[:MOST_FAILURES]],
        "failures_count": failed.count(),
    }


async def csv_lines(job: Job) -> AsyncIterator[bytes]:
    """All files, in the order of the walk, a chunk at a time."""
    yield _line(COLUMNS)
    last = -1
    while rows := await sync_to_async(_rows_after)(job, last):
        last = rows[-1].number
        found = (files.file_json(row) for row in rows)
        yield b"".join(_line([one.get(name) for name in COLUMNS]) for one in found)


def _rows_after(job: Job, number: int) -> list[Any]:
    return list(files.files_of(job.pk).filter(number__gt=number).order_by("number")[:_CHUNK])


def _line(cells: Any) -> bytes:
    line = io.StringIO()
    csv.writer(line).writerow([safe_cell(cell) for cell in cells])
    return line.getvalue().encode()


def safe_cell(value: Any) -> str:
    """A cell that a spreadsheet takes for text and not for a formula.

    >>> [safe_cell(value) for value in ("=1+1", "a=b", None, 7)]
    ["'=1+1", 'a=b', '', '7']
    """
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def file_name(job: Job, extension: str) -> str:
    """A name for the report that any file system and header takes, as in `haulier-example.org-srv-1b4f0c11.csv`."""
    title = re.sub(r"[^A-Za-z0-9._]+", "-", job.title).strip("-.")[:80].rstrip("-.")
    return (
        "-".join(part for part in ("haulier", title or job.type, str(job.pk)[:8]) if part) + f".{extension}"
    )
