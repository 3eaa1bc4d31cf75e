"""From a request to a job, whatever its type: what `POST /api/sessions` and schedules know of it.

`settings.JOB_SUBMITTERS` names a `Submitter` for each type that can be asked for so; it is imported on first use.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from django.utils.module_loading import import_string
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from sessions_app.models import Job, User

Json = dict[str, Any]

LONGEST_KEY = 255
LONGEST_WAIT = timedelta(days=5 * 366)


class CannotSubmit(Exception):
    """What is needed to submit a stored request is gone; the sentence says what."""


@dataclass(frozen=True, slots=True)
class RequestMeta:
    """Who asks, and when for: what is kept of a request beside its body."""

    idempotency_key: str | None
    user_agent: str
    client_ip: str
    executor: str = ""
    """Id of the one worker that is to do the job by itself."""
    run_at: datetime | None = None
    """When the job is to start; None: at once."""
    schedule_id: int | None = None
    origin: str = ""
    """A sentence for the job's log, where no person asks."""

    @classmethod
    def of(cls, request: HttpRequest | Request, *, idempotency_key: str | None = None) -> "RequestMeta":
        """Read from a request; the key comes from its header where none is given. Raises ValidationError."""
        key = idempotency_key or request.headers.get("Idempotency-Key") or None
        if key is not None and (len(key) > LONGEST_KEY or not key.isprintable()):
            raise ValidationError(
                {"Idempotency-Key": [f"Must be at most {LONGEST_KEY} printable characters."]}
            )
        user_agent = request.headers.get("User-Agent", "")
        printable = "".join(sign for sign in user_agent if sign.isprintable())
        return cls(key, printable, str(request.META.get("REMOTE_ADDR", "")))

    def starting(self, run_at: datetime | None) -> "RequestMeta":
        """The same for a job that starts then; None: at once."""
        return replace(self, run_at=run_at)


def refuse_instant(run_at: datetime, name: str) -> None:
    """Raises ValidationError, for a field of this name, for a time that has passed or that nobody means."""
    now = timezone.now()
    if run_at <= now:
        raise ValidationError({name: ["Must be in the future; leave it out to start at once."]})
    if run_at > now + LONGEST_WAIT:
        raise ValidationError({name: ["Must be within the next five years."]})


@dataclass(frozen=True, slots=True)
class KeptRequest:
    """A request as a schedule holds it."""

    request: Json
    """All but its secrets."""
    sealed: str
    """Its secrets as one token; empty when there are none."""
    title: str = ""
    """What people call it."""


class Submitter(ABC):
    """How requests of one type become jobs, at once or later."""

    type: ClassVar[str]

    @abstractmethod
    def submit(self, user: User, data: Any, meta: RequestMeta) -> tuple[Job, bool]:
        """The job, and whether it is new. Raises ValidationError, jobs.IdempotencyConflict."""

    @abstractmethod
    def keep(self, user: User, data: Any, earlier: KeptRequest | None) -> KeptRequest:
        """A request to be submitted later; it must be one that could be submitted now. Raises ValidationError.

        Secrets that it leaves empty are taken from `earlier`, where that has them for the same account.
        """

    @abstractmethod
    def restore(self, kept: KeptRequest) -> Json:
        """The request with its secrets. Raises CannotSubmit."""

    @abstractmethod
    def shown(self, kept: KeptRequest) -> Json:
        """What an answer shows of a request: its secrets are empty."""


def submitter_of(job_type: Any) -> Submitter:
    """The submitter of a type. Raises ValidationError that names `type` for one that cannot be asked for so."""
    types = ", ".join(settings.JOB_SUBMITTERS)
    if job_type is None:
        raise ValidationError({"type": [f"Is needed: one of {types}."]})
    if not isinstance(job_type, str) or job_type not in settings.JOB_SUBMITTERS:
        raise ValidationError({"type": [f"Must be one of {types}."]})
    found: Submitter = import_string(settings.JOB_SUBMITTERS[job_type])()
    return found
