"""Doing a job again: its request, put together from what is stored of it."""

from typing import Any

from migration_app.endpoints import SECRETS
from migration_app.serializers import ScanRequestSerializer, TransferRequestSerializer
from sessions_app.models import Job

Json = dict[str, Any]

SIDES = {
    "scan": {"server_config": ("source_config", "endpoint")},
    "transfer": {"source_config": ("source_config", "source"), "dest_config": ("dest_config", "destination")},
}
"""By type of job: the request's field of each side, with its name in the answer and in the parameters."""
_SERIALIZERS = {"scan": ScanRequestSerializer, "transfer": TransferRequestSerializer}
# A transfer's way is found anew.
_NOT_REPEATED = ("method",)


def request_of(job: Job) -> Json:
    """The request that made a job, without its secrets."""
    found: Json = {
        field: {name: value for name, value in job.public.get(public, {}).items() if name not in SECRETS}
        for field, (public, _) in SIDES[job.type].items()
    }
    if job.type == "scan":
        found["custom_exclusions"] = job.params.get("exclusions", [])
    names = set(_SERIALIZERS[job.type]().fields) - set(found) - set(_NOT_REPEATED)
    return found | {name: job.params[name] for name in names if name in job.params}
