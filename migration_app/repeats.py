"""Doing a job again: its request, put together from what is stored of it."""

from typing import Any

from migration_app import secrets
from migration_app.endpoints import SECRETS, account, agent_of, split_secrets
from migration_app.models import Endpoint
from migration_app.paths import text_shown
from migration_app.serializers import ScanRequestSerializer, TransferRequestSerializer
from migration_app.submission import submit_scan, submit_transfer
from sessions_app.models import Job, User
from sessions_app.submitters import RequestMeta

Json = dict[str, Any]

SIDES = {
    "scan": {"server_config": ("source_config", "endpoint")},
    "transfer": {"source_config": ("source_config", "source"), "dest_config": ("dest_config", "destination")},
}
"""By type of job: the request's field of each side, with its name in the answer and in the parameters."""
_SUBMIT = {"scan": submit_scan, "transfer": submit_transfer}
_SERIALIZERS = {"scan": ScanRequestSerializer, "transfer": TransferRequestSerializer}
# A transfer's way is found anew, and what was right to delete then need not be so today.
_NOT_REPEATED = ("method", "confirm_deletions")


class NotRepeatable(Exception):
    """Secrets of this job are not stored any more: its form has to be filled in."""


def request_of(job: Job) -> Json:
    """The request that made a job, without its secrets."""
    found: Json = {
        field: {name: value for name, value in job.public.get(public, {}).items() if name not in SECRETS}
        for field, (public, _) in SIDES[job.type].items()
    }
    if job.type == "scan":
        found["custom_exclusions"] = job.params.get("exclusions", [])
    names = set(_SERIALIZERS[job.type]().fields) - set(found) - set(_NOT_REPEATED)
    found |= {name: job.params[name] for name in names if name in job.params}
    if "files" in found:
        found["files"] = [text_shown(path) for path in found["files"]]
    return found


def repeat(job: Job, user: User, meta: RequestMeta) -> Job:
    """Start the same job again. Raises NotRepeatable, ValidationError, jobs.IdempotencyConflict."""
    request = request_of(job)
    for field, (_, param) in SIDES[job.type].items():
        endpoint = Endpoint.objects.filter(pk=job.params.get(param), owner=user).first()
        if endpoint is None:
            raise NotRepeatable
        own, of_jump = _secrets(endpoint)
        request[field] |= own
        if of_jump:
            request[field]["jump"] |= of_jump
    return _SUBMIT[job.type](user, request, meta)[0]


def entered_secrets(job: Job, job_type: str, user: User) -> dict[str, tuple[dict[str, str], dict[str, str]]]:
    """What was entered for a job to sign in with, own and of the jump host, by the sides of a request of a type.

    What is a stored connection's is not among it.
    """
    found = {}
    for field, (_, param) in zip(SIDES[job_type], SIDES[job.type].values(), strict=False):
        endpoint = Endpoint.objects.filter(pk=job.params.get(param), owner=user).first()
        if endpoint is not None and endpoint.connection_id is None and endpoint.sealed:
            found[field] = split_secrets(secrets.unseal_or_nothing(endpoint.sealed))
    return found


def _secrets(endpoint: Endpoint) -> tuple[dict[str, str], dict[str, str]]:
    """Those of one side and of its jump host, but not what is stored: a request without them uses that."""
    if endpoint.protocol == "local":
        return {}, {}
    stored = endpoint.connection
    if stored is not None and account(stored) != account(endpoint):
        raise NotRepeatable
    own, of_jump = split_secrets(secrets.unseal_or_nothing(endpoint.sealed))
    if stored is None and not own and not agent_of(endpoint.owner):
        raise NotRepeatable
    return own, of_jump
