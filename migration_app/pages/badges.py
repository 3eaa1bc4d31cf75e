"""A job's mark: a shape, a word and a colour, derived from what is known and not from the state alone."""

from dataclasses import dataclass

from migration_app.pages.wording import count_text
from sessions_app.models import Job
from sessions_app.states import Desired, JobStatus


@dataclass(frozen=True, slots=True)
class Badge:
    """`kind` names the colour and, in `static/favicons`, the tab's icon; `icon` names the shape in the sprite."""

    kind: str
    icon: str
    word: str
    sign: str
    """For the tab's title; empty where the title says a percentage instead."""


BADGES = {
    JobStatus.PENDING: Badge("waiting", "circle", "Waiting", ""),
    JobStatus.RUNNING: Badge("running", "arrow", "Running", ""),
    JobStatus.PAUSED: Badge("paused", "bars", "Paused", "⏸"),
    JobStatus.COMPLETED: Badge("completed", "tick", "Completed", "✓"),
    JobStatus.FAILED: Badge("failed", "octagon", "Failed", "✕"),
    JobStatus.CANCELLED: Badge("cancelled", "slashed", "Cancelled", "⊘"),
}


def badge_of(job: Job) -> Badge:
    """The mark of a job; green is only for one without a single failure."""
    if job.status == JobStatus.COMPLETED and (failed := failures_of(job)):
        return partial_badge(failed)
    if job.is_active and job.desired == Desired.CANCEL:
        return Badge("cancelled", "slashed", "Cancelling", "⊘")
    if job.desired == Desired.PAUSE and job.status in (JobStatus.PENDING, JobStatus.RUNNING):
        return Badge("paused", "bars", "Pausing", "⏸")
    return BADGES[JobStatus(job.status)]


def partial_badge(failed: int) -> Badge:
    """The mark of a job that ended with failures."""
    return Badge("partial", "triangle", f"{count_text(failed)} failed", "⚠")


def failures_of(job: Job) -> int:
    """How many files or folders of the job failed, as far as its result or its progress says."""
    result, progress = job.result or {}, job.progress or {}
    if "errors_count" in result:
        return int(result["errors_count"])
    if "unreadable" in result:
        return max(len(result["unreadable"]), int(progress.get("errors_encountered", 0)))
    return int(progress.get("errors_count", progress.get("errors_encountered", 0)))


def title_of(job: Job) -> str:
    """What people call the job."""
    return job.title or f"{job.type.capitalize()} {str(job.pk)[:8]}"
