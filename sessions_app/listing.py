"""Lists of jobs: filters and cursor pages; limit and `Link` also serve the lists of other rooms."""

import base64
import binascii
import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.db.models import Q, QuerySet
from django.http import QueryDict
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from sessions_app.instants import in_utc, parse_instant
from sessions_app.models import Job, JobQuerySet
from sessions_app.states import JobStatus

DEFAULT_LIMIT = 100
MOST = 1000
_FEW = 1000
_FILTERS = ("status", "type", "q", "created_after", "created_before")
_PAGING = ("limit", "cursor")


def refuse_unknown(query: QueryDict, known: Sequence[str]) -> None:
    """Raises ValidationError for a parameter that means nothing."""
    if unknown := [name for name in query if name not in known]:
        raise ValidationError({unknown[0]: [f"Is not a parameter here; those are {', '.join(known)}."]})


def filtered(jobs: JobQuerySet, query: QueryDict, *, is_paged: bool = True) -> JobQuerySet:
    """Jobs that match `status`, `type`, `q`, `created_after` and `created_before`.

    Raises ValidationError for a value or a parameter that means nothing.
    """
    refuse_unknown(query, (*_FILTERS, *_PAGING) if is_paged else _FILTERS)
    if status := query.get("status"):
        jobs = jobs.in_states(_words(status, "status", JobStatus.values))
    if job_type := query.get("type"):
        jobs = jobs.filter(type__in=_words(job_type, "type", list(settings.JOB_RUNNERS)))
    if text := query.get("q"):
        if "\0" in text:
            raise ValidationError({"q": ["Must not hold a NUL."]})
        jobs = _matching(jobs, text)
    if "created_after" in query:
        jobs = jobs.filter(created_at__gt=_instant(query, "created_after"))
    if "created_before" in query:
        jobs = jobs.filter(created_at__lt=_instant(query, "created_before"))
    return jobs


def _words(text: str, name: str, known: list[str]) -> list[str]:
    words = text.split(",")
    if unknown := [word for word in words if word not in known]:
        raise ValidationError({name: [f"{unknown[0]!r} is not a {name}; those are {', '.join(known)}."]})
    return words


def _matching(jobs: JobQuerySet, text: str) -> JobQuerySet:
    """Those of the jobs whose name, server, error or id a search means."""
    found = jobs.filter(search_text__contains=text.lower())
    # Few are found once, for the page and for its count, by an index that holds all that a search reads.
    few = list(found.order_by().values_list("pk", flat=True)[: _FEW + 1])
    if len(few) > _FEW:
        return found
    with contextlib.suppress(ValueError):
        few.append(UUID(text))
    return jobs.filter(pk__in=few)


def _instant(query: QueryDict, name: str) -> datetime:
    # A plus sign in a query that was not escaped arrives as a space.
    text = str(query[name]).replace(" ", "+")
    try:
        return parse_instant(text)
    except ValueError as error:
        raise ValidationError({name: [str(error)]}) from None


def page(jobs: "QuerySet[Job]", query: QueryDict) -> tuple[list[Job], str | None]:
    """A page, newest first, and the next one's cursor; raises ValidationError for a bad limit or cursor."""
    limit = limit_of(query)
    # Not joined, which costs SQLite the order of its index.
    jobs = jobs.select_related(None).prefetch_related("owner").order_by("-created_at", "-id")
    if text := query.get("cursor"):
        created_at, job_id = _decode(text)
        jobs = jobs.filter(Q(created_at__lt=created_at) | Q(created_at=created_at, id__lt=job_id))
    found = list(jobs[: limit + 1])
    if len(found) <= limit:
        return found, None
    last = found[limit - 1]
    raw = f"{last.created_at.isoformat()} {last.pk}".encode()
    return found[:limit], base64.urlsafe_b64encode(raw).decode().rstrip("=")


def limit_of(query: QueryDict, *, default: int = DEFAULT_LIMIT, most: int = MOST) -> int:
    """How many rows a page has; raises ValidationError."""
    text = query.get("limit", str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise ValidationError({"limit": [f"Must be a whole number from 1 to {most}."]})
    return int(text)


def _decode(text: str) -> tuple[datetime, UUID]:
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
        instant, _, job_id = raw.partition(" ")
        return in_utc(datetime.fromisoformat(instant)), UUID(job_id)
    except (ValueError, binascii.Error):
        raise ValidationError({"cursor": ["Is not one that this list gave out."]}) from None


def total(jobs: JobQuerySet, found: list[Job], cursor: str | None, query: QueryDict) -> int:
    """How many jobs all pages have, given one; a first page that is the last one needs no counting."""
    return len(found) if cursor is None and not query.get("cursor") else jobs.count()


def next_link(path: str, query: QueryDict, cursor: str, *, name: str = "cursor") -> str:
    """The `Link` header of the next page (RFC 8288), which `name` asks for."""
    parameters = {other: query[other] for other in query if other != name} | {name: cursor}
    return f'<{path}?{urlencode(parameters)}>; rel="next"'


def page_by_id(
    request: Request, rows: "QuerySet[Any]", as_json: Callable[[Any], dict[str, Any]]
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A page of rows, newest first by their numbers, and the headers of its answer. Raises ValidationError."""
    query = request.query_params
    refuse_unknown(query, _PAGING)
    headers = {"X-Total-Count": str(rows.count())}
    limit = limit_of(query)
    if cursor := query.get("cursor"):
        if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
            raise ValidationError({"cursor": ["Is not one that this list gave out."]})
        rows = rows.filter(pk__lt=int(cursor))
    found = list(rows.order_by("-pk")[: limit + 1])
    if len(found) > limit:
        headers["Link"] = next_link(request.path, query, str(found[limit - 1].pk))
    return [as_json(row) for row in found[:limit]], headers
