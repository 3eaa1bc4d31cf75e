"""The one guarded move of a job's state; nothing else writes `Job.status`."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from sessions_app import curve, events, leases
from sessions_app.models import Job, Shard
from sessions_app.runners import NewEvent, Outcome, Snapshot, log_info, runner_class, sum_counters
from sessions_app.states import FINISHED, Desired, JobStatus, sources_of

_ENDING = {
    JobStatus.COMPLETED: "complete",
    JobStatus.FAILED: "failed",
    JobStatus.CANCELLED: "cancelled",
}


_NEW_RUN: dict[str, Any] = {
    "desired": Desired.RUN,
    "executor": "",
    "progress": None,
    "result": None,
    "error_message": "",
    "started_at": None,
    "completed_at": None,
    "due_at": None,
    "served_at": None,
}
"""What a job that has failed takes into its next run."""


class IllegalMove(Exception):
    """The move is forbidden, as a rule by the state machine; `status` is where the job stands."""

    def __init__(self, status: str, target: str, *, reason: str = "") -> None:
        super().__init__(reason or f"A {status} session cannot become {target}.")
        self.status = status


def move(job_id: UUID, target: JobStatus, *, outcome: Outcome | None = None, reason: str = "") -> None:
    """Move a job to `target` and log it, in one transaction; raises IllegalMove, having changed nothing.

    `outcome` is kept with a job that ends; its error, or `reason`, is the error message of a failed one.
    """
    with transaction.atomic():
        found = Job.objects.filter(pk=job_id).values_list("status", "started_at").first()
        before, started_at = found or (None, None)
        now = timezone.now()
        changes: dict[str, Any] = {"status": target, "updated_at": now}
        if target == JobStatus.RUNNING and started_at is None:
            changes["started_at"] = now
        if target in FINISHED:
            changes["completed_at"] = now
        if before == JobStatus.FAILED:
            changes |= _NEW_RUN | {"attempt": F("attempt") + 1}
            curve.forget(job_id)
        if target == JobStatus.FAILED:
            changes["error_message"] = (outcome.error if outcome else "") or reason
        if outcome is not None:
            changes["result"] = outcome.result
        rows = Job.objects.filter(pk=job_id, status=before, status__in=sources_of(target))
        if before is None or rows.update(**changes) != 1:
            raise IllegalMove(before or "deleted", target)
        refresh_progress(job_id)
        log = [NewEvent("state", {"from": before, "to": target, **({"reason": reason} if reason else {})})]
        if target in FINISHED:
            log.append(_ending(target, outcome, changes.get("error_message", "")))
        events.append(job_id, log)
        job = Job.objects.only("type", "title", "public", "error_message").get(pk=job_id)
        if JobStatus.FAILED in (before, target):
            Job.objects.filter(pk=job_id).update(search_text=job.searched)
        if target in (JobStatus.FAILED, JobStatus.CANCELLED) and runner_class(job.type).leaves_traces:
            leases.add_cleaning(job_id)


def _ending(target: JobStatus, outcome: Outcome | None, error: str) -> NewEvent:
    data: dict[str, Any] = {}
    if outcome is not None:
        data["result"] = outcome.result
    if target == JobStatus.FAILED:
        data["error"] = error
    if target == JobStatus.CANCELLED:
        data["error"] = "Cancelled"
    return NewEvent(_ENDING[target], data)


def time_to_wait_for(job: Job, now: datetime) -> str:
    """A sentence that says when a job that waits for its time starts; empty for all others."""
    if job.status != JobStatus.PENDING or job.run_at is None or job.run_at <= now:
        return ""
    return f"Starts at {job.run_at:%Y-%m-%d %H:%M:%S} UTC."


def say_waiting(job_id: UUID, sentence: str, *, is_logged: bool = False) -> None:
    """Say in a job's progress what it waits for, unless it says so already; `is_logged`: in its log too.

    Not of a job that has ended: its progress stays, whatever is cleaned up.
    """
    with transaction.atomic():
        job = Job.objects.active().filter(pk=job_id).only("progress").first()
        if job is None or (job.progress or {}).get("message") == sentence:
            return
        refresh_progress(job_id, waiting_for=sentence)
        if is_logged:
            events.append(job_id, [log_info(sentence)])


def refresh_progress(
    job_id: UUID,
    *,
    current: dict[str, Any] | None = None,
    waiting_for: str = "",
    not_within: timedelta = timedelta(0),
) -> bool:
    """Word the job's progress anew from the counters of its shards, inside the caller's transaction.

    Left as it is, and False, when somebody has done it less than `not_within` ago.
    """
    job = Job.objects.get(pk=job_id)
    now = timezone.now()
    if not_within and job.progress_at is not None and now - job.progress_at < not_within:
        return False
    counters = sum_counters(list(Shard.objects.filter(job_id=job_id).values_list("counters", flat=True)))
    runner = runner_class(job.type)
    progress = runner.progress(
        Snapshot(
            status=job.status,
            params=job.params,
            counters=counters,
            current=current or {},
            previous=job.progress,
            now=now,
            started_at=job.started_at,
            error_message=job.error_message,
            waiting_for=waiting_for or time_to_wait_for(job, now),
        )
    )
    Job.objects.filter(pk=job_id).update(progress=progress, progress_at=now)
    rate = runner.rate(progress) if job.status == JobStatus.RUNNING and job.started_at is not None else None
    if rate is not None and job.started_at is not None:
        curve.note(job_id, (now - job.started_at).total_seconds(), rate)
    return True
