"""Jobs as rows of a table."""

import uuid
from collections.abc import Iterable

from migration_app.pages import wording
from migration_app.pages.badges import Badge, badge_of, failures_of, title_of
from migration_app.repeats import SIDES
from sessions_app.models import Job


class JobRow:
    """A job with its mark and what it came to."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.title: str = title_of(job)
        self.badge: Badge = badge_of(job)

    @property
    def failures(self) -> str:
        """How many files failed, where the mark does not say it."""
        count = failures_of(self.job)
        return f"{wording.count_text(count)} failed" if count and self.badge.kind != "partial" else ""

    @property
    def duration_s(self) -> float | None:
        """How long it took; None until it has ended."""
        start, end = self.job.started_at, self.job.completed_at
        return (end - start).total_seconds() if start and end else None

    @property
    def duration(self) -> str:
        """How long it took."""
        return "–" if self.duration_s is None else wording.duration_text(self.duration_s)

    @property
    def size_bytes(self) -> int:
        """What was copied, or what a scan found."""
        result, progress = self.job.result or {}, self.job.progress or {}
        if self.job.type == "scan":
            return int((result.get("statistics") or progress).get("total_size") or 0)
        return int((result if "bytes_transferred" in result else progress).get("bytes_transferred") or 0)

    @property
    def rate(self) -> str:
        """How fast it was copied, on the whole; a scan copies nothing."""
        if self.job.type == "scan" or not self.duration_s:
            return "–"
        return wording.rate_text(self.size_bytes / self.duration_s)

    @property
    def can_repeat(self) -> bool:
        """Whether it can be done again."""
        return self.job.is_finished and self.job.type in SIDES

    @property
    def key(self) -> str:
        """For the button that does it again, so that two presses make one job."""
        return uuid.uuid4().hex


def rows_of(jobs: Iterable[Job]) -> list[JobRow]:
    """The rows of jobs."""
    return [JobRow(job) for job in jobs]
