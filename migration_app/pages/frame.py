"""What is around every page: the resume strip, the theme, and from which event on the page goes live."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, Concatenate, ParamSpec, cast

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse

from migration_app.pages.badges import BADGES, Badge, badge_of, partial_badge, title_of
from migration_app.pages.wording import count_text, plural, rate_text, time_left_text
from migration_app.sizes import size_text
from sessions_app import __version__, presence
from sessions_app.models import Job, JobEvent, User

THEME_COOKIE = "haulier_theme"
THEMES = ("auto", "light", "dark")
MOST_IN_STRIP = 50
P = ParamSpec("P")


class SignedRequest(HttpRequest):
    """A request of somebody who is signed in."""

    user: User


@dataclass(frozen=True, slots=True)
class ActiveJob:
    """A line of the resume strip."""

    job: Job
    title: str
    badge: Badge
    percent: float | None
    note: str
    """Rate and time left, or why it waits."""


class Frame:
    """The frame of one answer. Nothing is read from the database before a template asks for it."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request

    @cached_property
    def user(self) -> User | None:
        """Who is signed in."""
        # An error may be answered before the middleware that sets the user has run.
        user = getattr(self._request, "user", None)
        return user if isinstance(user, User) else None

    @cached_property
    def last_event_id(self) -> int:
        """The page goes live after this event."""
        return JobEvent.objects.order_by("-pk").values_list("pk", flat=True).first() or 0

    def mark(self) -> int:
        """Settle from which event on the page goes live: before it reads any row, so that none is lost."""
        return self.last_event_id

    @cached_property
    def active(self) -> list[ActiveJob]:
        """The person's active jobs, newest first."""
        if self.user is None:
            return []
        self.mark()
        jobs = Job.objects.owned_by(self.user).active()[:MOST_IN_STRIP]
        return [ActiveJob(job, title_of(job), badge_of(job), percent_of(job), note_of(job)) for job in jobs]

    @property
    def theme(self) -> str:
        """auto, light or dark."""
        theme = self._request.COOKIES.get(THEME_COOKIE, "auto")
        return theme if theme in THEMES else "auto"

    @cached_property
    def workers(self) -> int:
        """How many workers were heard of lately."""
        return presence.count_seen()

    themes = THEMES
    version = __version__
    badges = (*BADGES.values(), partial_badge(0))

    @property
    def has_login(self) -> bool:
        """Whether people sign in and out."""
        return not settings.NO_LOGIN

    @property
    def path(self) -> str:
        """Where the reader is, to come back after changing the theme."""
        return self._request.get_full_path() if self._request.method == "GET" else "/"


def percent_of(job: Job) -> float | None:
    """How much of a job is done, None where its total is not known; below 100 until it is completed."""
    progress = job.progress or {}
    if job.status == "completed":
        return 100.0
    if job.status == "pending" or progress.get("status") in ("initializing", "connecting", "scanning"):
        return None
    return min(float(progress.get("percent_complete") or 0), 99.9)


def note_of(job: Job) -> str:
    """What an active job is about, in a line. `static/app.js` says the same."""
    read = (job.progress or {}).get
    if message := read("message"):
        return str(message)
    if job.status == "pending":
        return ""
    if job.type == "scan":
        return f"{count_text(read('files_scanned') or 0)} files, {size_text(read('total_size') or 0)} so far"
    if read("status") == "scanning":
        return f"{plural(read('total_files') or 0, 'file')} to copy so far"
    rate, left = float(read("speed") or 0) * 1e6, float(read("eta") or 0)
    return f"{rate_text(rate)}, {time_left_text(left)} left" if rate > 0 and left > 0 else ""


def frame_of(request: HttpRequest) -> Frame:
    """The request's one frame."""
    found = getattr(request, "haulier_frame", None)
    if not isinstance(found, Frame):
        found = Frame(request)
        request.haulier_frame = found  # type: ignore[attr-defined]
    return found


def frame_context(request: HttpRequest) -> dict[str, Any]:
    """Context processor."""
    return {"frame": frame_of(request)}


def page(view: Callable[Concatenate[SignedRequest, P], HttpResponse]) -> Callable[..., HttpResponse]:
    """A page for people who are signed in; it goes live after the last event before it was drawn."""

    @login_required
    @wraps(view)
    def signed(request: HttpRequest, *args: P.args, **kwargs: P.kwargs) -> HttpResponse:
        frame_of(request).mark()
        return view(cast(SignedRequest, request), *args, **kwargs)

    return cast(Callable[..., HttpResponse], signed)
