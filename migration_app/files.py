"""The files of a job as its lists show them: filters and cursor pages over the manifest."""

import base64
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.http import QueryDict
from rest_framework.exceptions import ValidationError

from migration_app import manifest
from migration_app.models import EntryKind, EntryState, ManifestEntry
from migration_app.paths import path_bytes, path_shown, path_text
from sessions_app.listing import limit_of, refuse_unknown

Json = dict[str, Any]

_PARAMETERS = ("state", "q", "limit", "cursor")


def files_of(job_id: UUID) -> "QuerySet[ManifestEntry]":
    """All entries of a job but its folders; a folder is one of them where it failed."""
    return manifest.all_rows(job_id).filter(~Q(kind=EntryKind.FOLDER) | Q(state=EntryState.FAILED))


def filtered(rows: "QuerySet[ManifestEntry]", query: QueryDict) -> "QuerySet[ManifestEntry]":
    """Those that match `state`, one or several with commas, and hold `q` in their path.

    Raises ValidationError for a value or a parameter that means nothing.
    """
    refuse_unknown(query, _PARAMETERS)
    if state := query.get("state"):
        wanted = state.split(",")
        if unknown := [word for word in wanted if word not in EntryState.values]:
            known = ", ".join(EntryState.values)
            raise ValidationError({"state": [f"{unknown[0]!r} is not a state; those are {known}."]})
        rows = rows.filter(state__in=wanted)
    if text := query.get("q"):
        if "\0" in text:
            raise ValidationError({"q": ["Must not hold a NUL."]})
        # Paths are stored with their backslashes doubled, and shown so where they are not UTF-8.
        rows = rows.filter(Q(path__icontains=text) | Q(path__icontains=path_text(text.encode())))
    return rows


def page(rows: "QuerySet[ManifestEntry]", query: QueryDict) -> tuple[list[ManifestEntry], str | None]:
    """A page in the order of the walk, and the next one's cursor; raises ValidationError."""
    limit = limit_of(query)
    if text := query.get("cursor"):
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise ValidationError({"cursor": ["Is not one that this list gave out."]})
        rows = rows.filter(number__gt=int(text))
    found = list(rows.order_by("number")[: limit + 1])
    return found[:limit], str(found[limit - 1].number) if len(found) > limit else None


def file_json(row: ManifestEntry) -> Json:
    """A file as the API shows it; `path_b64` is there where the path is not UTF-8."""
    path = path_bytes(row.path)
    found: Json = {
        "path": path_shown(path),
        "size_bytes": row.size,
        "action": row.action,
        "state": row.state,
        "attempts": row.attempts,
        "error": row.error or None,
        "evidence": row.evidence or None,
    }
    try:
        path.decode()
    except UnicodeDecodeError:
        found["path_b64"] = base64.b64encode(path).decode()
    return found
