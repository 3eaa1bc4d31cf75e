"""The page with the files of a job."""

from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe
from rest_framework.exceptions import ValidationError

from migration_app import files
from migration_app.models import EntryState
from migration_app.pages.badges import title_of
from migration_app.pages.frame import SignedRequest, page
from sessions_app.models import Job
from sessions_app.problems import flatten, sentence_of

PAGE_ROWS = 200


@require_safe
@page
def job_files(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """A job's files in the order of the walk, searched and filtered by what is in the address."""
    job = get_object_or_404(Job.objects.owned_by(request.user), pk=job_id)
    every = files.files_of(job.pk)
    query = request.GET.copy()
    query["limit"] = str(PAGE_ROWS)
    note, status = "", 200
    try:
        rows = files.filtered(every, query)
        found, cursor = files.page(rows, query)
    except ValidationError as error:
        note, status = f"{sentence_of(flatten(error.detail))} All files are shown.", 400
        query.clear()
        query["limit"] = str(PAGE_ROWS)
        rows = every
        found, cursor = files.page(rows, query)
    filters = {name: query[name] for name in ("q", "state") if query.get(name)}
    context = {
        "job": job,
        "title": title_of(job),
        "rows": found,
        "total": rows.count(),
        "filters": filters,
        "states": EntryState.values,
        "first": f"?{urlencode(filters)}" if "cursor" in query else "",
        "next": f"?{urlencode({**filters, 'cursor': cursor})}" if cursor else "",
        "note": note,
    }
    return render(request, "pages/files.html", context, status=status)
