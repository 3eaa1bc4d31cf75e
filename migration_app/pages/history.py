"""The list of all jobs: searched and filtered by what is in the address; doing one again, deleting many."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from rest_framework.exceptions import ValidationError

from migration_app import contacts
from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.rows import rows_of
from migration_app.pages.wording import plural
from migration_app.repeats import SIDES, NotRepeatable, repeat
from sessions_app import jobs, listing
from sessions_app.jobs import IdempotencyConflict
from sessions_app.models import Job
from sessions_app.problems import flatten, sentence_of
from sessions_app.states import FINISHED, JobStatus
from sessions_app.submitters import RequestMeta

PAGE_ROWS = 50
FILTERS = ("q", "status", "type")


def _query(request: SignedRequest, *names: str) -> QueryDict:
    """What the address says of these parameters, and how long a page is."""
    query = QueryDict(mutable=True)
    query["limit"] = str(PAGE_ROWS)
    for name in names:
        if value := request.GET.get(name):
            query[name] = value
    return query


@require_safe
@page
def job_list(request: SignedRequest) -> HttpResponse:
    """A page of jobs, newest first."""
    owned = Job.objects.owned_by(request.user)
    query, note = _query(request, *FILTERS, "cursor"), ""
    try:
        wanted = listing.filtered(owned, query)
        found, cursor = listing.page(wanted, query)
    except ValidationError as error:
        note = sentence_of(flatten(error.detail))
        if "cursor" in flatten(error.detail):
            note = "That page of the list does not exist. This is the first one."
            query = _query(request, *FILTERS)
        else:
            query = _query(request)
        wanted = listing.filtered(owned, query)
        found, cursor = listing.page(wanted, query)
    filters = {name: query[name] for name in FILTERS if name in query}
    context: dict[str, Any] = {
        "rows": rows_of(found),
        "total": listing.total(wanted, found, cursor, query),
        "cursor": cursor,
        "is_first": "cursor" not in query,
        "note": note,
        "filters": filters,
        "filter_query": urlencode(filters),
        "next_query": urlencode({**filters, "cursor": cursor}) if cursor else "",
        "statuses": JobStatus.values,
        "types": list(settings.JOB_RUNNERS),
    }
    if not filters:
        # Two counts by indexes are much faster than one of all finished jobs.
        context["finished"] = context["total"] - owned.active().count()
    return render(request, "pages/jobs.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def delete_finished(request: SignedRequest) -> HttpResponse:
    """Ask, then delete the records of the finished jobs that the filters in the address leave; their files stay."""
    query = _query(request, *FILTERS)
    try:
        found = listing.filtered(Job.objects.owned_by(request.user), query)
    except ValidationError as error:
        messages.error(request, sentence_of(flatten(error.detail)))
        return redirect("jobs")
    finished = found.filter(status__in=FINISHED, keep=False)
    back = "?".join(
        filter(None, (reverse("jobs"), urlencode({name: query[name] for name in FILTERS if name in query})))
    )
    if request.method != "POST":
        context = {
            "finished": finished.count(),
            "kept": found.filter(status__in=FINISHED, keep=True).count(),
            "back": back,
            "is_filtered": "?" in back,
        }
        return render(request, "pages/delete_finished.html", context)
    deleted = jobs.delete(list(finished.values_list("pk", flat=True)), but_kept=True)
    messages.success(request, f"{plural(deleted, 'finished job')} deleted.")
    return redirect(back)


@require_POST
@page
def again(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """Start the same job again; where that cannot be, its form, filled in but for the secrets."""
    job = get_object_or_404(Job.objects.owned_by(request.user), pk=job_id, type__in=SIDES)
    form = f"{reverse(f'new-{job.type}')}?{urlencode({'from': str(job.pk)})}"
    unseen = contacts.unseen(contacts.sides_of(job))
    if unseen is not None:
        messages.info(
            request,
            f"Nobody has vouched for the host key of {unseen.server}: it is shown before the job starts.",
        )
        return redirect(form)
    try:
        key = f"again {job.pk} {request.POST['key']}" if request.POST.get("key") else None
        new = repeat(job, request.user, RequestMeta.of(request, idempotency_key=key))
    except NotRepeatable:
        messages.info(
            request, "The password or key of that job is not stored any more. Enter it to do it again."
        )
        return redirect(form)
    except ValidationError as error:
        messages.error(request, f"It cannot be done again as it was. {sentence_of(flatten(error.detail))}")
        return redirect(form)
    except IdempotencyConflict as error:
        messages.error(request, str(error))
        return redirect(form)
    return redirect("job", new.pk)
