"""The page of a job, its whole log, and what one can do to it."""

from collections.abc import Callable, Sequence
from uuid import UUID

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from rest_framework.exceptions import ValidationError

from migration_app import contacts
from migration_app.endpoints import BANDWIDTH
from migration_app.pages.badges import title_of
from migration_app.pages.forms import ChangeForm
from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.job_view import JobView, line_of
from migration_app.pages.rows import JobRow
from migration_app.pages.wording import plain_text
from migration_app.submission import CannotVerify, submit_verify
from sessions_app import changes, control, jobs
from sessions_app.authentication import asker
from sessions_app.models import Job
from sessions_app.problems import Conflict, flatten
from sessions_app.states import JobStatus
from sessions_app.submitters import RequestMeta
from sessions_app.transitions import IllegalMove

LOG_PAGE_ROWS = 500


def _job(request: SignedRequest, job_id: UUID) -> Job:
    """One of the reader's own jobs; everybody else's do not exist."""
    return get_object_or_404(Job.objects.owned_by(request.user).select_related("owner"), pk=job_id)


@require_safe
@page
def job(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """A job as it stands; the script takes it from there."""
    view = JobView(_job(request, job_id))
    log, has_earlier = view.log()
    context = {"view": view, "job": view.job, "log": log, "has_earlier": has_earlier, "row": JobRow(view.job)}
    return render(request, "pages/job.html", context)


@require_safe
@page
def log(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """The whole log, in pages, from the first event on."""
    found = _job(request, job_id)
    text = request.GET.get("after", "0")
    after = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    rows = list(found.events.filter(seq__gt=after).order_by("seq")[: LOG_PAGE_ROWS + 1])
    lines = [line_of(row) for row in rows[:LOG_PAGE_ROWS]]
    context = {
        "job": found,
        "title": title_of(found),
        "lines": lines,
        "next_after": lines[-1].seq if len(rows) > LOG_PAGE_ROWS else None,
    }
    return render(request, "pages/log.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def cancel(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """Ask, then cancel. A job that has ended stays as it is, so a second click does no harm."""
    found = _job(request, job_id)
    if request.method != "POST":
        return render(request, "pages/cancel.html", {"view": JobView(found), "job": found})
    if jobs.cancel(found.pk, asker(request)):
        messages.success(request, "The job is cancelled. What it has copied stays where it is.")
    else:
        found.refresh_from_db()
        messages.info(request, f"The job had ended already: it is {found.status}.")
    return redirect("job", found.pk)


@require_POST
@page
def pause(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """Pause. A second click finds the job as the first one left it."""
    return _moved(request, _job(request, job_id), control.pause, [JobStatus.PAUSED])


@require_POST
@page
def resume(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """Go on with a paused job."""
    return _moved(request, _job(request, job_id), control.resume, [JobStatus.RUNNING, JobStatus.PENDING])


@require_POST
@page
def retry(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """Try a failed job again: what it has copied stays."""
    done = [JobStatus.PENDING, JobStatus.RUNNING]
    return _moved(request, _job(request, job_id), control.retry, done)


def _moved(
    request: SignedRequest, found: Job, move: Callable[[UUID, str], None], targets: Sequence[JobStatus]
) -> HttpResponse:
    """The job's page. A second click finds the job as the first one left it, in one of `targets`."""
    try:
        move(found.pk, asker(request))
    except IllegalMove as error:
        if error.status not in targets:
            messages.error(request, str(error))
    return redirect("job", found.pk)


@require_POST
@page
def verify(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """Compare what a transfer copied, by content, in a job of its own."""
    found = _job(request, job_id)
    unseen = contacts.unseen(contacts.sides_of(found))
    if unseen is not None:
        messages.error(
            request,
            f"Nobody has vouched for the host key of {unseen.server}: test a connection to it, which shows the key.",
        )
        return redirect("job", found.pk)
    try:
        started, _ = submit_verify(request.user, found, RequestMeta.of(request))
    except CannotVerify as error:
        messages.error(request, str(error))
        return redirect("job", found.pk)
    return redirect("job", started.pk)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def change(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """Name and whether it is kept, and of an active job its priority and bandwidth."""
    found = _job(request, job_id)
    names = ["title", "keep"]
    if found.is_active:
        names += ["priority", *(BANDWIDTH if "bandwidth_limit" in found.params else ())]
    known = {name: getattr(found, name, None) for name in names}
    known |= {name: found.params[name] or None for name in names if name in found.params}
    data = request.POST if request.method == "POST" else None
    form = ChangeForm(data, names=names, initial=known)
    if form.is_valid() and _is_changed(request, found, form):
        return redirect("job", found.pk)
    context = {"job": found, "title": title_of(found), "form": form}
    return render(request, "pages/change_job.html", context, status=400 if form.is_bound else 200)


def _is_changed(request: SignedRequest, found: Job, form: ChangeForm) -> bool:
    """Whether the job is as the form says now; what speaks against it is put into the form."""
    try:
        changes.change(found, form.wanted, asker(request))
    except ValidationError as error:
        for name, sentences in flatten(error.detail).items():
            form.add_error(name if name in form.fields else None, sentences[0])
    except Conflict as error:
        form.add_error(None, str(error.detail))
    return not form.errors


@require_http_methods(["GET", "HEAD", "POST"])
@page
def delete_job(request: SignedRequest, job_id: UUID) -> HttpResponse:
    """Ask, then delete the record of one finished job."""
    found = _job(request, job_id)
    title = plain_text(title_of(found))
    if request.method != "POST":
        return render(request, "pages/delete_job.html", {"job": found, "title": title_of(found)})
    if not jobs.delete([found.pk]):
        messages.error(request, "The job is still active; cancel it first.")
        return redirect("job", found.pk)
    messages.success(request, f"Deleted: {title}.")
    return redirect("jobs")
