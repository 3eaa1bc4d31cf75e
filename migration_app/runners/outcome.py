"""How a transfer ended, summed up from the manifest."""

from collections.abc import Mapping
from uuid import UUID

from django.db.models import Count, Q, Sum
from django.utils import timezone

from migration_app import manifest
from migration_app.engine.items import Way
from migration_app.models import EntryAction, EntryKind, EntryState, Evidence
from migration_app.paths import text_shown
from migration_app.runners.contents import comparison_result
from sessions_app.models import Job
from sessions_app.runners import Json, Outcome, ShardContext, sum_counters

MOST_LISTED = 100
LOCAL_COPY = "local_copy"
METHODS = {Way.DIRECT: "server_copy", Way.BUNDLED: "tar_stream"}
"""What the result calls a way other than alone that files took."""
_WISHES = {"sftp_stream": (Way.ALONE,), "tar_stream": (Way.ALONE, Way.BUNDLED)}


def transfer_outcome(context: ShardContext, verification: Json | None) -> Outcome:
    """The TransferResult of the HTTP contract.

    An error where any file failed or the proof did, unless the job was told to put up with files that fail.
    """
    result = _result(context)
    if context.params["ignore_errors"]:
        proven = verification is None or not _has_other_differences(context.job_id)
        error = "" if proven else _unproven(verification)
    else:
        error = _failed(context.job_id, result["errors_count"]) or _unproven(verification)
    error = error or _undone(context.job_id)
    result["success"] = not error
    if error:
        result["error_message"] = error
    if verification is not None:
        result["verification_result"] = verification
    return Outcome(result, error)


def dry_run_outcome(context: ShardContext) -> Outcome:
    """The TransferResult of a comparison alone; its `summary` is that of a PlanResult."""
    return Outcome(_result(context) | {"success": True, "dry_run": True, "summary": summary(context.job_id)})


def refused_outcome(context: ShardContext, sentence: str) -> Outcome:
    """That of a job that would delete more than was agreed to: it has copied nothing either."""
    found = _result(context) | {
        "success": False,
        "error_message": sentence,
        "summary": summary(context.job_id),
    }
    return Outcome(found, sentence)


def summary(job_id: UUID) -> Json:
    """How many entries are to be created, updated, left alone and deleted, how many cannot be, and bytes to copy."""
    left_out = Q(kind=EntryKind.OTHER, state=EntryState.SKIPPED)
    rows = manifest.rows_of(job_id).filter(number__gt=0).exclude(left_out)
    actions = dict(rows.order_by().values_list("action").annotate(Count("number")))
    to_copy = rows.filter(kind=EntryKind.FILE, action__in=(EntryAction.CREATE, EntryAction.UPDATE))
    return {
        "create": actions.get(EntryAction.CREATE, 0),
        "update": actions.get(EntryAction.UPDATE, 0),
        "skip": actions.get(EntryAction.SKIP, 0),
        "delete": manifest.deletions(job_id).exclude(state=EntryState.SKIPPED).count(),
        "conflict": actions.get(EntryAction.CONFLICT, 0),
        "bytes": int(to_copy.aggregate(size=Sum("size", default=0))["size"]),
    }


def _result(context: ShardContext) -> Json:
    job = Job.objects.get(pk=context.job_id)
    rows = manifest.rows_of(job.pk)
    sums = _sums(job.pk)
    # Nobody looks through a million rows for what is known not to be there.
    failed = manifest.all_rows(job.pk).filter(state=EntryState.FAILED).order_by("number")
    failed = failed if sums["failed"] else failed.none()
    failures = [
        {"path": text_shown(path), "error": error}
        for path, error in failed.values_list("path", "error")[:MOST_LISTED]
    ]
    skipped = rows.filter(kind=EntryKind.FILE, state=EntryState.SKIPPED).order_by("number")
    left = skipped.values_list("path", flat=True)[:MOST_LISTED] if sums["skipped"] else ()
    copied_bytes = sums["bytes"]
    duration_s = (timezone.now() - (job.started_at or job.created_at)).total_seconds()
    counters = sum_counters(list(job.shards.values_list("counters", flat=True)))
    earlier = counters.get("earlier_bytes", 0)
    speed = max(0, copied_bytes - earlier) / 1e6 / duration_s if duration_s > 0 else 0.0
    found: Json = {
        "files_transferred": sums["files"],
        "bytes_transferred": copied_bytes,
        "duration": int(duration_s * 1e9),
        "average_speed": round(speed, 3),
        "errors_count": sums["failed"],
        "files_skipped": sums["skipped"],
        "skipped_files": [text_shown(path) for path in left],
        "failed_files": [failure["path"] for failure in failures],
        "failures": failures,
        "method": _method(context.params["method"], counters),
        "bytes_resumed": counters.get("resumed", 0),
        "resumed_files": _resumed(job),
    }
    if context.params.get("delete_extraneous"):
        found["entries_deleted"] = sums["deleted"]
    if context.params.get("checksum"):
        found["comparison"] = comparison_result(counters)
    return found


def _sums(job_id: UUID) -> dict[str, int]:
    """Files copied and their bytes, files skipped, and entries that failed or were deleted: the rows are gone through
    once."""
    is_deletion = Q(action=EntryAction.DELETE)
    files = Q(kind=EntryKind.FILE) & ~is_deletion
    copied = files & Q(state=EntryState.DONE)
    found: dict[str, int] = manifest.all_rows(job_id).aggregate(
        deleted=Count("pk", filter=is_deletion & Q(state=EntryState.DONE)),
        files=Count("pk", filter=copied),
        bytes=Sum("size", filter=copied, default=0),
        skipped=Count("pk", filter=files & Q(state=EntryState.SKIPPED)),
        failed=Count("pk", filter=Q(state=EntryState.FAILED)),
    )
    return found | {"bytes": int(found["bytes"])}


def ways_of(params: Json) -> tuple[Way, ...]:
    """The ways that are tried: all, unless somebody wished for a method."""
    return _WISHES.get(params.get("wish", ""), tuple(Way))


def _method(usual: str, counters: Mapping[str, int]) -> str:
    """The way that files took, at least the small ones; on one machine it has one name whatever copies them."""
    if usual == LOCAL_COPY:
        return usual
    return next((name for way, name in METHODS.items() if counters.get(way)), usual)


def _resumed(job: Job) -> list[Json]:
    """Files that went on after what was there of them, or had to start over: path, bytes and how these were proved."""
    rows = job.events.filter(type="log", data__has_key="resumed", data__run=job.attempt).order_by("seq")
    # Of each file its last beginning, which is what its copy was made with.
    found = {data["resumed"]["path"]: data["resumed"] for data in rows.values_list("data", flat=True)}
    return list(found.values())[:MOST_LISTED]


def _has_other_differences(job_id: UUID) -> bool:
    """Whether the proof found more wrong than the files that failed."""
    rows = manifest.rows_of(job_id).exclude(state=EntryState.FAILED)
    differs = Q(evidence=Evidence.MISMATCH)
    is_missing = Q(evidence="", number__gt=0, error="") & ~Q(kind=EntryKind.OTHER)
    return rows.filter(differs | is_missing).exists()


def _failed(job_id: UUID, errors: int) -> str:
    """How many of how many failed; empty when none did."""
    if not errors:
        return ""
    rows = manifest.all_rows(job_id).filter(number__gt=0)
    files = rows.filter(kind=EntryKind.FILE)
    is_files = files.filter(state=EntryState.FAILED).count() == errors
    total = files.count() if is_files else rows.count()
    one, many = ("file", "files") if is_files else ("entry", "entries")
    return f"{errors:,} of {total:,} {one if total == 1 else many} failed."


def _undone(job_id: UUID) -> str:
    """What no part of the job has looked at; that is never so, and must not be called a success."""
    count = manifest.rows_of(job_id).filter(state=EntryState.PENDING).count()
    return f"{count:,} of its files and folders were not copied. Retry it." if count else ""


def _unproven(verification: Json | None) -> str:
    """What the proof found to be wrong."""
    if verification is not None and not verification["success"]:
        return f"The copy is not what the source is: {verification['message']}"
    return ""
