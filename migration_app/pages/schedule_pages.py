"""The pages of schedules: all of them, the form, what it means, and what one can do to one."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from migration_app import endpoints
from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.new_job import answer
from migration_app.pages.prefill import (
    first_values,
    keep_scheduled_secrets,
    keep_secrets,
    scheduled_values,
)
from migration_app.pages.rows import JobRow, rows_of
from migration_app.pages.schedule_form import FORMS
from migration_app.pages.when import preview_of
from migration_app.pages.wording import plain_text
from migration_app.repeats import SIDES
from sessions_app import schedules
from sessions_app.models import Job, Schedule, User
from sessions_app.states import FINISHED

JOBS_OFFERED = 5
NEXT_RUNS = 3


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule for people."""

    schedule: Schedule
    words: str
    next_runs: list[datetime]
    last_runs: list[JobRow]

    @property
    def what(self) -> str:
        """What is scanned, or copied from where to where."""
        owner, request = self.schedule.owner, self.schedule.request
        return " → ".join(_place(owner, request[side]) for side in SIDES[self.schedule.type])

    @property
    def overlap_text(self) -> str:
        """What happens while the run before is not over."""
        waits = self.schedule.on_overlap == "queue"
        return "one run waits for the one before" if waits else "left out while the run before is not over"

    @property
    def missed_text(self) -> str:
        """What happens about a time at which Haulier was off."""
        makes_up = self.schedule.on_missed == "run_once"
        return "once as soon as it is on again" if makes_up else "not made up for"

    @property
    def is_skip_news(self) -> bool:
        """Whether a run was left out since the last one that was started."""
        skipped_at = self.schedule.last_skipped_at
        started_at = self.last_runs[0].job.created_at if self.last_runs else None
        return skipped_at is not None and (started_at is None or skipped_at > started_at)


def _place(owner: User, side: dict[str, Any]) -> str:
    """A side as it is named: a folder of a stored connection by its name, also as one writes it for `move`."""
    root, host = side.get("root_path", ""), side.get("host", "")
    if side.get("connection"):
        stored = endpoints.find_stored(owner, side["connection"])
        return f"{stored.name}:{root or stored.root_path}" if stored is not None else f"(deleted):{root}"
    return f"{host}:{root}" if host else str(root)


def _view_of(schedule: Schedule) -> ScheduleView:
    table = schedules.timetable_of(schedule)
    return ScheduleView(
        schedule, table.words, schedules.next_runs(schedule), rows_of(schedules.last_runs(schedule))
    )


def _schedule(request: SignedRequest, number: int) -> Schedule:
    """One of the reader's own; everybody else's do not exist."""
    found: Schedule = get_object_or_404(schedules.of(request.user), pk=number)
    return found


def next_of(user: User) -> list[Schedule]:
    """The schedules whose next times come first."""
    coming = schedules.of(user).filter(next_run_at__isnull=False)
    return list(coming.order_by("next_run_at")[:NEXT_RUNS])


@require_safe
@page
def schedule_list(request: SignedRequest) -> HttpResponse:
    """All of them, by name; where there is none, jobs that could become one."""
    views = [_view_of(schedule) for schedule in schedules.of(request.user).order_by("name", "pk")]
    offered: list[Job] = []
    if not views:
        done = Job.objects.owned_by(request.user).filter(status__in=FINISHED, type__in=SIDES)
        offered = list(done[:JOBS_OFFERED])
    return render(request, "pages/schedules.html", {"views": views, "offered": rows_of(offered)})


def _form_page(request: SignedRequest, job_type: str, schedule: Schedule | None) -> HttpResponse:
    form_class = FORMS[job_type]
    if schedule is None:
        first = first_values(request, job_type, form_class.patterns_field)
    else:
        first = scheduled_values(request, schedule, form_class.patterns_field)
    form = form_class(request, first, schedule)
    if request.method == "GET" and schedule is None:
        keep_secrets(request, form.draft, job_type, first)
    elif request.method == "GET" and schedule is not None and not form.draft.word:
        keep_scheduled_secrets(request, form.draft, schedule)
    return answer(request, form, "pages/schedule_form.html")


def _new(job_type: str) -> Callable[..., HttpResponse]:
    @require_http_methods(["GET", "HEAD", "POST"])
    @page
    def view(request: SignedRequest) -> HttpResponse:
        # Back from the folders of a connection, where one was being changed.
        number = request.GET.get("schedule", "")
        is_change = number.isascii() and number.isdigit() and len(number) < 19
        schedule = _schedule(request, int(number)) if is_change else None
        return _form_page(request, schedule.type if schedule is not None else job_type, schedule)

    return view


new_transfer = _new("transfer")
new_scan = _new("scan")


@require_http_methods(["GET", "HEAD", "POST"])
@page
def edit_schedule(request: SignedRequest, number: int) -> HttpResponse:
    """Change a schedule and what it does."""
    schedule = _schedule(request, number)
    return _form_page(request, schedule.type, schedule)


@require_safe
@page
def preview(request: SignedRequest) -> HttpResponse:
    """What an expression means and when it runs next, as a part of a page."""
    found = preview_of(request.GET.get("cron", ""), request.GET.get("timezone", ""))
    return render(request, "pages/schedule_preview.html", {"preview": found})


@require_POST
@page
def pause_schedule(request: SignedRequest, number: int) -> HttpResponse:
    """Pause. A second press changes nothing."""
    schedules.set_paused(_schedule(request, number), is_paused=True)
    return redirect("schedules")


@require_POST
@page
def resume_schedule(request: SignedRequest, number: int) -> HttpResponse:
    """Go on with the next time."""
    schedules.set_paused(_schedule(request, number), is_paused=False)
    return redirect("schedules")


@require_http_methods(["GET", "HEAD", "POST"])
@page
def delete_schedule(request: SignedRequest, number: int) -> HttpResponse:
    """Ask, then delete a schedule; its jobs stay."""
    schedule = _schedule(request, number)
    if request.method != "POST":
        return render(request, "pages/delete_schedule.html", {"view": _view_of(schedule)})
    schedule.delete()
    messages.success(request, f"Deleted: {plain_text(schedule.name)}.")
    return redirect("schedules")
