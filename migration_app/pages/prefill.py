"""What a form of a new job holds at first: an earlier job's request, or patterns that a scan proposed."""

import re
from typing import Any
from uuid import UUID

from django.contrib import messages

from migration_app.pages.frame import SignedRequest
from migration_app.repeats import SIDES, request_of
from migration_app.serializers import MOST_EXCLUSIONS
from sessions_app.models import Job

Json = dict[str, Any]


def first_values(request: SignedRequest, job_type: str, patterns_field: str) -> Json:
    """Values by the request's fields, as `?from=<job>&exclude=<pattern>` in the address says; the patterns are
    text under `exclusions`."""
    job = _job(request)
    found: Json = {}
    lines: list[str] = []
    if job is not None and job.type in SIDES:
        asked = request_of(job)
        lines = _lines(request, asked.get("exclusions") or asked.get("custom_exclusions") or [])
        if job.type == job_type:
            found = asked
        else:
            # What was scanned is what is copied, and what was copied is what is scanned.
            source = job.public.get("source_config", {})
            found = {next(iter(SIDES[job_type])): source}
    if any("jump" in side for side in found.values() if isinstance(side, dict)):
        messages.warning(
            request, "The jump host is not in this form: store a connection that goes through it."
        )
    lines += [text for text in request.GET.getlist("exclude") if text.strip() and text.isprintable()]
    found.pop(patterns_field, None)
    return found | {"exclusions": "\n".join(dict.fromkeys(lines[:MOST_EXCLUSIONS]))}


def _job(request: SignedRequest) -> Job | None:
    try:
        job_id = UUID(request.GET.get("from", ""))
    except ValueError:
        return None
    return Job.objects.owned_by(request.user).filter(pk=job_id).first()


def _lines(request: SignedRequest, exclusions: list[Json]) -> list[str]:
    """Patterns as the form takes them; says so where one cannot be written there."""
    lines, lost = [], 0
    for exclusion in exclusions:
        pattern = str(exclusion["pattern"])
        if not exclusion["enabled"]:
            continue
        if exclusion["type"] == "regex" or not pattern.isprintable():
            lost += 1
        elif exclusion["type"] == "exact":
            lines.append("/" + re.sub(r"([*?\[])", r"[\1]", pattern.strip("/")))
        else:
            lines.append(pattern)
    if lost:
        messages.warning(request, f"Patterns that do not fit into this form are not in it: {lost}.")
    return lines
