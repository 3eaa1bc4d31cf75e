"""What the page of a job shows, as plain values. `static/job.js` moves the same fields on."""

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.utils import timezone

from migration_app.bandwidth import limit_of
from migration_app.cms import systems
from migration_app.pages import wording
from migration_app.pages.badges import Badge, badge_of, failures_of, title_of
from migration_app.pages.curve_view import CurveView
from migration_app.pages.forms import jump_text
from migration_app.pages.frame import percent_of
from migration_app.pages.pictures import Picture, pictures_of
from migration_app.sizes import size_text
from sessions_app import turns
from sessions_app.models import Job, JobCurve, JobEvent
from sessions_app.states import JobStatus

Json = dict[str, Any]

LOG_ROWS = 200
FAILURE_ROWS = 100

PHASES = {
    "scan": (("connecting", "Connect"), ("scanning", "Scan")),
    "transfer": (("connecting", "Connect"), ("scanning", "Compare"), ("transferring", "Copy")),
    "verify": (("connecting", "Connect"), ("verifying", "Compare")),
}

CURVED = ("transfer", "verify")
"""Types of job that move bytes."""


@dataclass(frozen=True, slots=True)
class Phase:
    """A step of the phase line: `state` is done, now, stopped or later."""

    name: str
    word: str
    state: str


@dataclass(frozen=True, slots=True)
class Number:
    """A counter with its label; `field` is what the script calls it."""

    field: str
    label: str
    text: str
    title: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the log."""

    seq: int
    at: datetime
    kind: str
    """info, warning or error."""
    text: str


class JobView:
    """A job as its page shows it, read in an order that leaves no gap: first the row, then its log up to that row."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.progress: Json = job.progress or {}
        self.result: Json | None = job.result

    @property
    def title(self) -> str:
        """What people call the job."""
        return title_of(self.job)

    @property
    def badge(self) -> Badge:
        """Its mark."""
        return badge_of(self.job)

    @property
    def tab_title(self) -> str:
        """`62% title`, `✓ title`, `✕ 3 failed · title`."""
        title = wording.plain_text(self.title)
        badge, failed = self.badge, failures_of(self.job)
        if self.job.is_active and badge.kind == "running" and self.percent is not None:
            return f"{int(self.percent)}% {title}"
        if self.job.is_finished and failed:
            return f"{badge.sign} {wording.count_text(failed)} failed · {title}"
        return f"{badge.sign} {title}".strip()

    @property
    def percent(self) -> float | None:
        """How much is done; None where the total is not known."""
        return percent_of(self.job)

    @property
    def percent_text(self) -> str:
        """The number beside the bar."""
        if self.percent is None:
            return ""
        return "100 %" if self.job.status == "completed" else f"{self.percent:.1f} %"

    @property
    def bandwidth(self) -> str:
        """The limit of a transfer as a sentence; empty without one."""
        return limit_of(self.job.params).words

    failure_rows = FAILURE_ROWS

    @property
    def failures(self) -> int:
        """How many files failed."""
        return failures_of(self.job)

    @property
    def failed_text(self) -> str:
        """What of a failed transfer a retry copies: `12 failed files`; empty where that is not how it failed."""
        if self.job.type != "transfer" or self.job.status != JobStatus.FAILED or not self.failures:
            return ""
        return f"{wording.count_text(self.failures)} failed {'file' if self.failures == 1 else 'files'}"

    @property
    def can_verify(self) -> bool:
        """Whether there is a copy that can be compared by content."""
        has_copy = self.job.type == "transfer" and not self.job.params.get("dry_run")
        return has_copy and self.job.status in ("completed", "failed")

    @cached_property
    def verification(self) -> Job | None:
        """The newest verification of a transfer that was started by itself."""
        if self.job.type != "transfer":
            return None
        return Job.objects.filter(parent=self.job, type="verify").order_by("-created_at").first()

    @property
    def verification_badge(self) -> Badge | None:
        """The mark of that verification."""
        return badge_of(self.verification) if self.verification is not None else None

    @property
    def wants_verification(self) -> bool:
        """Whether all was copied and nobody has compared the copy by content, so that this is what comes next."""
        if not self.can_verify or self.job.status != JobStatus.COMPLETED or self.failures:
            return False
        later = self.verification
        if later is not None and later.is_active:
            return False
        check: Json = (
            (later.result if later is not None else None)
            or (self.result or {}).get("verification_result")
            or {}
        )
        return not check.get("success") or bool(check.get("evidence", {}).get("size_only"))

    @property
    def place(self) -> int | None:
        """Its place among the jobs of its owner that wait for their turn."""
        return turns.positions([self.job]).get(self.job.pk)

    @property
    def message(self) -> str:
        """What the job itself says now: why it waits, or what it does."""
        if self.job.status == "failed":
            return self.job.error_message
        return str(self.progress.get("message") or "")

    @property
    def current(self) -> str:
        """The path that moves now; nothing when none does."""
        if not self.is_under_way:
            return ""
        return str(self.progress.get("current_file") or self.progress.get("current_path") or "")

    @property
    def is_under_way(self) -> bool:
        """Whether the job moves, or will by itself."""
        return self.job.status in (JobStatus.PENDING, JobStatus.RUNNING)

    @property
    def phases(self) -> list[Phase]:
        """The phase line."""
        steps = list(PHASES.get(self.job.type, ()))
        if self.job.params.get("dry_run"):
            steps = steps[:2]
        elif self.job.params.get("verify_after_transfer"):
            steps.append(("verifying", "Verify"))
        names = [name for name, _ in steps]
        now = self.progress.get("status", "") if self.is_under_way else self._last_phase()
        at = names.index(now) if now in names else -1
        if self.job.status == "completed":
            at = len(names)
        here = "now" if self.is_under_way else "stopped"
        return [
            Phase(name, word, "done" if index < at else here if index == at else "later")
            for index, (name, word) in enumerate(steps)
        ]

    def _last_phase(self) -> str:
        row = self.job.events.filter(type="phase").order_by("-seq").values_list("data", flat=True).first()
        return str((row or {}).get("phase", ""))

    @property
    def elapsed_s(self) -> float:
        """Seconds from the start to now or to the end."""
        if self.job.started_at is None:
            return 0.0
        if self.job.status == JobStatus.PAUSED:
            return float(self.progress.get("elapsed_seconds") or 0)
        return ((self.job.completed_at or timezone.now()) - self.job.started_at).total_seconds()

    @property
    def elapsed_text(self) -> str:
        """How long the job has been running, or took."""
        return wording.duration_text(self.elapsed_s) if self.job.started_at else "–"

    @property
    def numbers(self) -> list[Number]:
        """The counters."""
        return self._scan_numbers() if self.job.type == "scan" else self._transfer_numbers()

    def _scan_numbers(self) -> list[Number]:
        read = self.progress.get
        size = read("total_size") or 0
        return [
            Number("files", "Files", wording.count_text(read("files_scanned") or 0)),
            Number("folders", "Folders", wording.count_text(read("dirs_scanned") or 0)),
            Number("size", "Size", size_text(size), f"{wording.count_text(size)} bytes"),
            Number("failed", "Not readable", wording.count_text(self.failures)),
            Number("elapsed", "Time", self.elapsed_text),
        ]

    def _transfer_numbers(self) -> list[Number]:
        read = self.progress.get
        done, total = read("bytes_transferred") or 0, read("total_bytes") or 0
        files, all_files = read("files_transferred") or 0, read("total_files") or 0
        runs = self.job.is_active
        so_far = " so far" if read("totals_grow") else ""
        rate = float(read("speed") or 0) * 1e6
        left = wording.time_left_text(float(read("eta") or 0)) if runs and (read("eta") or 0) > 0 else "–"
        return [
            Number(
                "files", "Files", f"{wording.count_text(files)} of {wording.count_text(all_files)}{so_far}"
            ),
            Number(
                "size",
                "Size",
                f"{size_text(done)} of {size_text(total)}{so_far}",
                f"{wording.count_text(done)} of {wording.count_text(total)} bytes",
            ),
            Number("rate", "Rate" if runs else "Average rate", wording.rate_text(rate)),
            Number("left", "Time left", left),
            Number("skipped", "Already there", wording.count_text(read("files_skipped") or 0)),
            Number("failed", "Failed", wording.count_text(self.failures)),
            Number("elapsed", "Time", self.elapsed_text),
        ]

    @property
    def source(self) -> str:
        """Where from."""
        return address_text(self.job.public.get("source_config"))

    @property
    def destination(self) -> str:
        """Where to; empty for a scan."""
        return address_text(self.job.public.get("dest_config"))

    @property
    def cms_name(self) -> str:
        """What a scan found the site to be made with."""
        found = str(((self.result or {}).get("cms_detection") or {}).get("type", ""))
        return systems.NAMES.get(found, found)

    @property
    def patterns(self) -> list[Json]:
        """Patterns that a scan was asked to leave out."""
        return [one for one in (self.result or {}).get("exclusions", ()) if not one.get("is_automatic")]

    @property
    def suggestions(self) -> list[Json]:
        """Patterns that a scan proposes to leave out."""
        return [one for one in (self.result or {}).get("exclusions", ()) if one.get("is_automatic")]

    @property
    def in_flight(self) -> list[Json]:
        """The files that are under way."""
        return list(self.progress.get("files_in_flight") or [])

    @cached_property
    def curve(self) -> CurveView | None:
        """How fast it went; None where there is nothing to draw."""
        if self.job.type not in CURVED:
            return None
        row = JobCurve.objects.filter(pk=self.job.pk).first() or JobCurve()
        found = CurveView(row.step_s, row.rates, self.job.is_finished)
        return found if found.is_drawn else None

    @property
    def pictures(self) -> list[Picture]:
        """Where the bytes of a scanned tree are."""
        return pictures_of((self.result or {}).get("statistics") or {})

    levels = (("info", "All"), ("warning", "Warnings and errors"), ("error", "Errors"))
    """Which rows of the log the page may show; the style sheet hides the others."""

    def log(self) -> tuple[list[Line], bool]:
        """The last rows up to the job's row, oldest first, and whether there are earlier ones."""
        rows = list(self.job.events.filter(seq__lte=self.job.event_seq).order_by("-seq")[: LOG_ROWS + 1])
        return [line_of(row) for row in reversed(rows[:LOG_ROWS])], len(rows) > LOG_ROWS

    @cached_property
    def failed_files(self) -> list[Json]:
        """The first files that failed in this run, each with path and error."""
        rows = self.job.events.filter(
            type="file_failed", seq__lte=self.job.event_seq, data__run=self.job.attempt
        )
        return [dict(data) for data in rows.order_by("seq").values_list("data", flat=True)[:FAILURE_ROWS]]


def address_text(config: Json | None) -> str:
    """`sftp://user@host:2222/path` and what it is reached through, or a path on this machine."""
    if not config:
        return ""
    path = str(config.get("root_path", ""))
    if config.get("protocol") == "local":
        return path
    user = f"{config['username']}@" if config.get("username") else ""
    host = str(config.get("host", ""))
    port = f":{config['port']}" if config.get("port") not in (None, 0, 22) else ""
    way = f" through {jump_text(config['jump'])}" if config.get("jump") else ""
    return f"{config.get('protocol')}://{user}{host}{port}{path}{way}"


_ENDS = {"complete": "Completed", "cancelled": "Cancelled"}
_STATES = {"pending": "waiting"}


def line_of(event: JobEvent) -> Line:
    """An event as a row of the log."""
    data = event.data
    kind, text = "info", event.type
    if event.type == "job_created":
        text = f"Created by {data['by']}" if data.get("by") else "Created"
    elif event.type == "state":
        text = f"Now {_STATES.get(data.get('to', ''), data.get('to', ''))}"
        if reason := data.get("reason"):
            text += f": {reason}"
    elif event.type == "phase":
        text = f"Phase: {data.get('phase', '')}"
    elif event.type == "file_failed":
        kind, text = "error", f"{data.get('path', '')}: {data.get('error', '')}"
    elif event.type == "log":
        kind, text = str(data.get("level", "info")), str(data.get("message", ""))
    elif event.type == "failed":
        kind, text = "error", f"Failed: {data.get('error', '')}"
    elif event.type in _ENDS:
        text = _ENDS[event.type]
    return Line(event.seq, event.created_at, kind if kind in ("info", "warning", "error") else "info", text)
