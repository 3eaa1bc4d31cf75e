"""A job shown in a terminal: a bar that moves, plain lines in a pipe, or one JSON object a line."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TextIO
from uuid import UUID

from django.db import connection
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from migration_app import manifest
from migration_app.files import file_json
from migration_app.models import EntryKind, EntryState
from migration_app.pages.wording import count_text, plain_text, rate_text, time_left_text
from migration_app.sizes import size_text
from sessions_app.models import Job, JobEvent

Json = dict[str, Any]

BAR_EVERY_S = 0.25
LINE_EVERY_S = 1.0


def summary(progress: Json) -> str:
    """`1,204 of 2,545 files, 30 MiB of 50 MiB, 5.1 MiB/s, about 2 min left`."""
    files = f"{count_text(progress['files_transferred'])} of {count_text(progress['total_files'])} files"
    so_far = " so far" if progress.get("totals_grow") else ""
    size = f"{size_text(progress['bytes_transferred'])} of {size_text(progress['total_bytes'])}{so_far}"
    parts = [files, size, rate_text(progress["speed"] * 1e6)]
    if progress["eta"] > 0:
        parts.append(f"{time_left_text(progress['eta'])} left")
    if progress["files_skipped"]:
        parts.append(f"{count_text(progress['files_skipped'])} already there")
    if progress["errors_count"]:
        parts.append(f"{count_text(progress['errors_count'])} failed")
    return ", ".join(parts)


def planned_entries(job_id: UUID) -> Iterator[Json]:
    """What a dry run would create, change or delete, folders too, as `/files` shows files, and the kind of each."""
    rows = manifest.all_rows(job_id).filter(number__gt=0, state=EntryState.PENDING).order_by("number")
    for row in rows.iterator():
        yield file_json(row) | {"kind": row.kind}


def planned_line(entry: Json) -> str:
    """`create  wp-content/uploads/`."""
    return f"{entry['action']}  {plain_text(entry['path'])}{'/' if entry['kind'] == EntryKind.FOLDER else ''}"


def planned_summary(found: Json) -> str:
    """The counts of a dry run in a sentence."""
    parts = [
        f"{count_text(found['create'])} to create",
        f"{count_text(found['update'])} to change",
        f"{count_text(found['skip'])} to leave as they are",
    ]
    if found["delete"]:
        parts.append(f"{count_text(found['delete'])} to delete")
    if found["conflict"]:
        parts.append(f"{count_text(found['conflict'])} that cannot be copied")
    return f"Only compared: {', '.join(parts)}; {size_text(found['bytes'])} to copy. Nothing was written."


class Follower:
    """A thread that shows a job's progress and log while the main thread works. Subclasses say how."""

    every_s = LINE_EVERY_S

    def __init__(self, job_id: UUID) -> None:
        self._job_id = job_id
        self._last_event = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while True:
                self._look()
                if self._ended.wait(self.every_s):
                    break
            self._look()
        finally:
            connection.close()

    def _look(self) -> None:
        job = Job.objects.filter(pk=self._job_id).first()
        if job is None:
            return
        for event in JobEvent.objects.filter(job=job, pk__gt=self._last_event).order_by("pk"):
            self._last_event = event.pk
            self.tell(event)
        self.show(job)

    def tell(self, event: JobEvent) -> None:
        """A new event of the log."""

    def show(self, job: Job) -> None:
        """The job as it stands."""


def sentence_of(event: JobEvent) -> str:
    """What a person should read of an event; empty for most."""
    if event.type == "file_failed":
        return plain_text(f"{event.data['path']}: {event.data['error']}")
    if event.type == "log":
        return plain_text(str(event.data.get("message", "")))
    return ""


class PlainLines(Follower):
    """A line now and then, for a pipe or a log file."""

    def __init__(self, job_id: UUID, out: TextIO) -> None:
        super().__init__(job_id)
        self._out = out
        self._shown = ""

    def tell(self, event: JobEvent) -> None:
        """Failures and notes, as they come."""
        if sentence := sentence_of(event):
            self._print(sentence)

    def show(self, job: Job) -> None:
        """The counters, when they have moved."""
        progress = job.progress or {}
        line = f"{progress.get('status', job.status)}: {summary(progress)}"
        if job.is_active and line != self._shown:
            self._shown = line
            self._print(line)

    def _print(self, line: str) -> None:
        print_line(self._out, line)


class JsonLines(Follower):
    """Events and progress as they are in the HTTP contract, one object a line."""

    every_s = 0.5

    def __init__(self, job_id: UUID, write: Callable[[Json], None]) -> None:
        super().__init__(job_id)
        self._write = write
        self._shown: Json | None = None

    def tell(self, event: JobEvent) -> None:
        """`{"event": …, "data": …}`."""
        self._write({"event": event.type, "data": event.data})

    def show(self, job: Job) -> None:
        """`{"event": "progress", "data": …}`."""
        if job.is_active and job.progress != self._shown:
            self._shown = job.progress
            self._write({"event": "progress", "data": job.told_progress})


class _TwoLines(Progress):
    """The bar on a line of its own, so that it is one on a narrow terminal, too; below it what the counters say."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """What rich draws."""
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            yield Text(task.fields["summary"], no_wrap=True, overflow="ellipsis")


class Bar(Follower):
    """A bar with rate and time left; failures and notes above it."""

    every_s = BAR_EVERY_S

    def __init__(self, job_id: UUID, console: Console) -> None:
        super().__init__(job_id)
        self._progress = _TwoLines(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>5.1f} %"),
            console=console,
            expand=True,
            transient=True,
        )
        self._task = self._progress.add_task("connecting", total=None, summary="")

    def __enter__(self) -> "Bar":
        self._progress.start()
        super().__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._progress.stop()

    def tell(self, event: JobEvent) -> None:
        """Above the bar, where it stays."""
        if sentence := sentence_of(event):
            self._progress.console.print(escape(sentence), highlight=False)

    def show(self, job: Job) -> None:
        """Move the bar; open while the total grows."""
        progress = job.progress or {}
        status = str(progress.get("status", job.status))
        has_total = status not in ("initializing", "connecting", "scanning")
        self._progress.update(
            self._task,
            description=status,
            total=100 if has_total else None,
            completed=progress.get("percent_complete", 0) if has_total else 0,
            summary=summary(progress),
        )


def print_line(out: TextIO, line: str) -> None:
    """Write a line, flushed. Where nobody reads any more, as behind `| head`, or nothing fits any more, as on a full
    disk, the work goes on unseen."""
    try:
        out.write(line + "\n")
        out.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())


def json_line(out: TextIO) -> Callable[[Json], None]:
    """A writer of one JSON object a line, flushed, safe for two threads."""
    lock = threading.Lock()

    def write(value: Json) -> None:
        with lock:
            print_line(out, json.dumps(value))

    return write
