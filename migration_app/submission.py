"""From a request, of the API or of a page, to a job."""

import hashlib
import hmac
import json
from typing import Any

from django.conf import settings
from rest_framework.exceptions import ValidationError

from migration_app import endpoints
from migration_app.models import Endpoint
from migration_app.serializers import ScanRequestSerializer, TransferRequestSerializer
from sessions_app import jobs
from sessions_app.fields import validated
from sessions_app.models import Job, User
from sessions_app.runners import Submission
from sessions_app.states import JobStatus
from sessions_app.submitters import RequestMeta

Json = dict[str, Any]

CHOICES = (
    *(
        "bandwidth_limit",
        "bandwidth_timetable",
        "bandwidth_timezone",
        "checksum",
        "confirm_deletions",
        "conflict",
    ),
    *("delete_extraneous", "dry_run"),
    *("files", "follow_symlinks", "ignore_errors", "skip_large_files", "transfers"),
)
"""Options of a transfer that its parameters hold as they are."""


class CannotVerify(Exception):
    """The job is none that can be verified now; `status` is where it stands."""

    def __init__(self, reason: str, status: str) -> None:
        super().__init__(reason)
        self.status = status


def submit_scan(user: User, data: Any, meta: RequestMeta) -> tuple[Job, bool]:
    """A scan, and whether it is new. Raises ValidationError, jobs.IdempotencyConflict."""
    request = validated(ScanRequestSerializer, user, data)
    config = request["server_config"]
    params = {
        "root": config["root_path"],
        "exclusions": request["custom_exclusions"],
        "include_hidden": request["include_hidden"],
        "detect_cms": request["detect_cms"],
        "max_depth": request["max_depth"],
        "max_files": request["max_files"],
        "follow_symlinks": request["follow_symlinks"],
    }

    def with_rows(job: Job) -> None:
        job.params["endpoint"] = _store(job, config)

    submission = _submission("scan", user, data, meta, params, title=place_of(config))
    submission.public = {"source_config": endpoints.public(config)}
    return jobs.submit(submission, with_rows=with_rows)


def submit_transfer(user: User, data: Any, meta: RequestMeta) -> tuple[Job, bool]:
    """A transfer, and whether it is new. Raises ValidationError, jobs.IdempotencyConflict."""
    request = validated(TransferRequestSerializer, user, data)
    source, destination = request["source_config"], request["dest_config"]
    params = {
        "source_root": source["root_path"],
        "destination_root": destination["root_path"],
        "claim": endpoints.claim_key(destination),
        "exclusions": request["exclusions"],
        "verify_after_transfer": request["verify_after_transfer"],
        "enable_resume": request["enable_resume"],
        **{name: request[name] for name in CHOICES},
        "method": "sftp_stream" if "sftp" in (source["protocol"], destination["protocol"]) else "local_copy",
        "wish": request["method"],
    }

    def with_rows(job: Job) -> None:
        job.params["source"] = _store(job, source)
        job.params["destination"] = _store(job, destination)

    title = f"{place_of(source)} → {place_of(destination)}"
    submission = _submission("transfer", user, data, meta, params, title=title)
    submission.public = {
        "source_config": endpoints.public(source),
        "dest_config": endpoints.public(destination),
    }
    return jobs.submit(submission, with_rows=with_rows)


def submit_verify(user: User, transfer: Job, meta: RequestMeta) -> tuple[Job, bool]:
    """A verification of a transfer that has ended, and whether it is new. Raises CannotVerify, IdempotencyConflict."""
    if transfer.type != "transfer":
        raise CannotVerify(f"A {transfer.type} cannot be verified; a transfer can.", transfer.status)
    if transfer.status not in (JobStatus.COMPLETED, JobStatus.FAILED):
        raise CannotVerify("The transfer cannot be verified before it has ended.", transfer.status)
    if transfer.params.get("dry_run"):
        raise CannotVerify("The transfer only compared; there is no copy to verify.", transfer.status)
    names = ("source", "source_root", "destination", "destination_root", "method")
    params = {name: transfer.params[name] for name in names} | {"transfer": str(transfer.pk)}
    title = f"Verify {transfer.title}"
    submission = _submission("verify", user, {"verify": str(transfer.pk)}, meta, params, title=title)
    submission.public, submission.parent_id = transfer.public, transfer.pk
    return jobs.submit(submission)


def _store(job: Job, config: Json) -> int:
    try:
        return endpoints.store(job, config).pk
    except Endpoint.DoesNotExist:
        raise ValidationError({"connection": ["The stored connection has just been deleted."]}) from None


def _submission(
    job_type: str, user: User, data: Any, meta: RequestMeta, params: Json, *, title: str
) -> Submission:
    return Submission(
        job_type,
        user.pk,
        title,
        params,
        {},
        idempotency_key=meta.idempotency_key,
        request_digest=_digest(job_type, data, meta) if meta.idempotency_key else "",
        user_agent=meta.user_agent,
        client_ip=meta.client_ip,
        executor=meta.executor,
        run_at=meta.run_at,
        schedule_id=meta.schedule_id,
        origin=meta.origin,
    )


def _digest(job_type: str, data: Any, meta: RequestMeta) -> str:
    # Keyed: a plain hash of a body that holds a weak password would give it away.
    when = [meta.run_at.isoformat()] if meta.run_at is not None else []
    body = json.dumps([job_type, data, *when], sort_keys=True).encode()
    return hmac.new(settings.SECRET_KEY.encode(), body, hashlib.sha256).hexdigest()


def place_of(config: Json) -> str:
    """`example.org:/srv/www`, or the path alone on this machine."""
    host = f"{config['host']}:" if config["protocol"] != "local" else ""
    return f"{host}{config['root_path']}"
