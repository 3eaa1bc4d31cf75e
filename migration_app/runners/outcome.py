"""How a transfer ended, summed up from the manifest."""

from django.db.models import Sum
from django.utils import timezone

from migration_app import manifest
from migration_app.models import EntryKind, EntryState
from sessions_app.models import Job
from sessions_app.runners import Json, Outcome, ShardContext

MOST_LISTED = 100


def transfer_outcome(context: ShardContext, verification: Json | None) -> Outcome:
    """The TransferResult of the HTTP contract; an error where any file failed or the proof did."""
    job = Job.objects.get(pk=context.job_id)
    rows = manifest.rows_of(job.pk)
    files = rows.filter(kind=EntryKind.FILE)
    done = files.filter(state=EntryState.DONE)
    skipped = files.filter(state=EntryState.SKIPPED)
    failed = rows.filter(state=EntryState.FAILED).order_by("number")
    failures = [
        {"path": path, "error": error} for path, error in failed.values_list("path", "error")[:MOST_LISTED]
    ]
    copied_bytes = int(done.aggregate(size=Sum("size", default=0))["size"])
    duration_s = (timezone.now() - (job.started_at or job.created_at)).total_seconds()
    errors = failed.count()
    error = _error(errors, rows.filter(number__gt=0).count(), verification)
    result: Json = {
        "success": not error,
        "files_transferred": done.count(),
        "bytes_transferred": copied_bytes,
        "duration": int(duration_s * 1e9),
        "average_speed": round(copied_bytes / 1e6 / duration_s, 3) if duration_s > 0 else 0.0,
        "errors_count": errors,
        "files_skipped": skipped.count(),
        "skipped_files": list(skipped.order_by("number").values_list("path", flat=True)[:MOST_LISTED]),
        "failed_files": [failure["path"] for failure in failures],
        "failures": failures,
        "method": context.params["method"],
    }
    if error:
        result["error_message"] = error
    if verification is not None:
        result["verification_result"] = verification
    return Outcome(result, error)


def _error(errors: int, total: int, verification: Json | None) -> str:
    if errors:
        return f"{errors:,} of {total:,} {'entry' if total == 1 else 'entries'} failed."
    if verification is not None and not verification["success"]:
        return f"The copy is not what the source is: {verification['message']}"
    return ""
