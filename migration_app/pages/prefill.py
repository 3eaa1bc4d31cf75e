"""What a form of a new job holds at first: an earlier job's request, or patterns that a scan proposed."""

import re
from typing import Any
from uuid import UUID

from django.contrib import messages

from migration_app.endpoints import account, jump_account
from migration_app.models import Endpoint
from migration_app.pages import drafts
from migration_app.pages.drafts import Draft
from migration_app.pages.frame import SignedRequest
from migration_app.repeats import SIDES, entered_secrets, request_of
from migration_app.serializers import MOST_EXCLUSIONS, ExclusionsField
from sessions_app import schedules
from sessions_app.models import Job, Schedule
from sessions_app.submitters import CannotSubmit, submitter_of

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
        # What was scanned is what is copied, and what was copied is what is scanned.
        source = {next(iter(SIDES[job_type])): job.public.get("source_config", {})}
        found = asked if job.type == job_type else source
        found |= _stored_sides(job, job_type, found)
    lines += [text for text in request.GET.getlist("exclude") if text.strip() and text.isprintable()]
    return _as_fields(request, found, patterns_field, lines)


def _as_fields(request: SignedRequest, found: Json, patterns_field: str, lines: list[str]) -> Json:
    """What fields begin with, of a request; patterns are text under `exclusions`."""
    if "files" in found:
        found["files"] = _paths(request, found["files"])
    found.pop(patterns_field, None)
    return found | {"exclusions": "\n".join(dict.fromkeys(lines[:MOST_EXCLUSIONS]))}


def scheduled_values(request: SignedRequest, schedule: Schedule, patterns_field: str) -> Json:
    """Values by the fields of a schedule and of its request."""
    asked = dict(schedule.request)
    lines = _lines(request, ExclusionsField().to_internal_value(asked.get(patterns_field) or []))
    for side in SIDES[schedule.type]:
        if asked[side].get("connection"):
            asked[side] = asked[side] | {"protocol": "stored"}
        elif isinstance(jump := asked[side].get("jump"), dict) and jump and not jump.get("connection"):
            asked[side] = asked[side] | {"jump": {"username": "", "port": 0} | jump}
    when = ("name", "cron", "timezone", "on_overlap", "on_missed")
    return _as_fields(request, asked, patterns_field, lines) | {
        name: getattr(schedule, name) for name in when
    }


def keep_scheduled_secrets(request: SignedRequest, draft: Draft, schedule: Schedule) -> None:
    """Keep what a schedule signs in with, so that nobody has to enter it once more."""
    try:
        asked = submitter_of(schedule.type).restore(schedules.kept_of(schedule))
    except CannotSubmit as error:
        messages.warning(request, str(error))
        return
    for side in SIDES[schedule.type]:
        draft.keep(side, asked[side])
    drafts.save(request, draft)


def keep_secrets(request: SignedRequest, draft: Draft, job_type: str, first: Json) -> None:
    """Keep what was entered for the earlier job of the address, so that nobody has to enter it once more."""
    job = _job(request)
    if job is None or job.type not in SIDES:
        return
    for field, (own, of_jump) in entered_secrets(job, job_type, request.user).items():
        conn = {**first[field], **own}
        if jump := conn.get("jump"):
            # What the form says of a stored one.
            is_stored = "connection" in jump
            conn["jump"] = {"connection": jump["connection"]} if is_stored else jump | of_jump
        draft.keep(field, conn)
    drafts.save(request, draft)


def _job(request: SignedRequest) -> Job | None:
    try:
        job_id = UUID(request.GET.get("from", ""))
    except ValueError:
        return None
    return Job.objects.owned_by(request.user).filter(pk=job_id).first()


def _stored_sides(job: Job, job_type: str, found: Json) -> Json:
    """Those of the sides whose connection is stored, as the choice of it."""
    chosen = {}
    for field, (_, param) in zip(SIDES[job_type], SIDES[job.type].values(), strict=False):
        endpoint = Endpoint.objects.select_related("connection").filter(pk=job.params.get(param)).first()
        stored = endpoint.connection if endpoint is not None else None
        if endpoint is None or stored is None or account(stored) != account(endpoint):
            continue
        if jump_account(stored) == jump_account(endpoint):
            place = {"protocol": "stored", "connection": str(stored.pk)}
            chosen[field] = place | {"root_path": found[field].get("root_path", "")}
    return chosen


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


def _paths(request: SignedRequest, paths: list[str]) -> list[str]:
    """Paths as the form takes them, one a line; says so where one cannot be written there."""
    found = [path for path in paths if path.strip() and not {"\n", "\r"} & set(path)]
    if lost := len(paths) - len(found):
        messages.warning(request, f"Paths that do not fit into this form are not in it: {lost}.")
    return found
