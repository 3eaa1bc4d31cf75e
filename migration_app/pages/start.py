"""The start page."""

from django.http import HttpResponse
from django.shortcuts import render

from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.new_job import ScanForm, TransferForm
from migration_app.pages.rows import rows_of
from migration_app.pages.schedule_pages import next_of
from migration_app.pages.system import system_line
from sessions_app.models import Job
from sessions_app.states import FINISHED

LAST_RESULTS = 10


@page
def start(request: SignedRequest) -> HttpResponse:
    """What runs, what ended last, what is next, and both forms."""
    owned = Job.objects.owned_by(request.user)
    # Of each state by itself, which the index of states has in this order.
    last = [
        job
        for state in FINISHED
        for job in owned.filter(status=state).order_by("-completed_at")[:LAST_RESULTS]
    ]
    finished = sorted(last, key=lambda job: str(job.completed_at), reverse=True)[:LAST_RESULTS]
    context = {
        "forms": [TransferForm(request), ScanForm(request)],
        "rows": rows_of(finished),
        "schedules": next_of(request.user),
        "system": system_line() if request.user.is_owner else None,
    }
    return render(request, "pages/start.html", context)
