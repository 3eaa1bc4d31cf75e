"""The Job object of the HTTP contract."""

from datetime import datetime
from typing import Any

from sessions_app.models import Job
from sessions_app.runners import links_of

Json = dict[str, Any]


def instant(value: datetime | None) -> str | None:
    """RFC 3339 in UTC with microseconds, or None."""
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ") if value is not None else None


def job_json(job: Job) -> Json:
    """A job as the API shows it. It costs no query when `owner` came with the row."""
    base = f"/api/sessions/{job.pk}"
    found: Json = {
        "id": str(job.pk),
        "type": job.type,
        "status": job.status,
        "title": job.title,
        "owner": job.owner.username,
        "created_at": instant(job.created_at),
        "updated_at": instant(max(job.updated_at, job.progress_at or job.updated_at)),
        "run_at": instant(job.run_at),
        "started_at": instant(job.started_at),
        "completed_at": instant(job.completed_at),
        "priority": job.priority,
        "keep": job.keep,
        **job.public,
        "progress": job.told_progress,
        "error_message": job.error_message or None,
        "user_agent": job.user_agent,
        "client_ip": job.client_ip,
        "attempt": job.attempt,
        "schedule": str(job.schedule_id) if job.schedule_id else None,
        "parent": str(job.parent_id) if job.parent_id else None,
        "links": {"self": base, **{name: f"{base}/{name}" for name in ("events", *links_of(job.type))}},
    }
    if job.result is not None:
        found[f"{job.type}_result"] = job.result
    return {name: value for name, value in found.items() if value is not None or name == "progress"}
