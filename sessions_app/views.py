"""The session endpoints."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.http import Http404, HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from rest_framework import mixins, viewsets
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from sessions_app import __version__, changes, control, events, jobs, listing
from sessions_app.answers import job_answer, jobs_answer
from sessions_app.audience import JobChannelManager, job_channel, person_channel
from sessions_app.authentication import asker
from sessions_app.fields import Instant, StrictSerializer, Text, validated
from sessions_app.gate import StreamGrant, Style, grant_stream, is_handshake
from sessions_app.jobs import IdempotencyConflict
from sessions_app.middleware import is_foreign
from sessions_app.models import Job
from sessions_app.problems import Conflict, body, refuse_fields
from sessions_app.states import JobStatus
from sessions_app.submitters import RequestMeta, refuse_instant, submitter_of
from sessions_app.transitions import IllegalMove

LOG_ROWS = 10_000
"""Events in one answer, at most."""


_OF_SESSIONS = ("type", "run_at")
"""Fields of a new session that are not its type's."""


class SessionSerializer(StrictSerializer):
    """What every new session may have."""

    type = Text(required=False)
    run_at = Instant(required=False)


@csrf_exempt
@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """`GET /health`: no login, no database."""
    return JsonResponse({"status": "ok", "version": __version__})


class SessionViewSet(mixins.RetrieveModelMixin, viewsets.GenericViewSet[Job]):
    """`/api/sessions`: the caller's jobs."""

    lookup_value_converter = "uuid"

    def get_queryset(self) -> Any:
        """The caller's jobs."""
        return Job.objects.owned_by(self.request.user).select_related("owner")  # type: ignore[arg-type]

    def list(self, request: Request) -> Response:
        """A page of jobs, newest first."""
        return self._page(request, self.get_queryset())

    def create(self, request: Request) -> Response:
        """A job of the type that the body names, at once or at `run_at`: 201; 200 for one that the same
        Idempotency-Key made before."""
        user: Any = request.user
        if not isinstance(request.data, dict):
            raise ValidationError("The body must be a JSON object.")
        own = validated(SessionSerializer, user, {name: request.data.get(name) for name in _OF_SESSIONS})
        submitter = submitter_of(own.get("type"))
        meta = RequestMeta.of(request).starting(own.get("run_at"))
        body = {name: value for name, value in request.data.items() if name not in _OF_SESSIONS}
        if meta.run_at is not None and not jobs.is_made(user.pk, meta.idempotency_key):
            refuse_instant(meta.run_at, "run_at")
        try:
            job, is_new = submitter.submit(user, body, meta)
        except IdempotencyConflict as error:
            raise Conflict(str(error)) from error
        return Response(job_answer(job), status=201 if is_new else 200, headers={"X-Job-ID": str(job.pk)})

    @action(detail=False)
    def active(self, request: Request) -> Response:
        """Jobs that are pending, running or paused."""
        return self._page(request, self.get_queryset().active())

    def _page(self, request: Request, queryset: Any) -> Response:
        query = request.query_params
        queryset = listing.filtered(queryset, query)
        found, cursor = listing.page(queryset, query)
        headers = {"X-Total-Count": str(listing.total(queryset, found, cursor, query))}
        if cursor is not None:
            headers["Link"] = listing.next_link(request.path, query, cursor)
        return Response(jobs_answer(found), headers=headers)

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """One job."""
        return Response(job_answer(self.get_object()))

    def change(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Change title, keep, priority, or an option that may change while the job is active."""
        job: Job = self.get_object()
        changes.change(job, request.data, asker(request))
        return Response(job_answer(self.get_object()))

    @action(detail=True, methods=["post"])
    def pause(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Pause a job; it holds no lease and no connection then."""
        return self._move(control.pause)

    @action(detail=True, methods=["post"])
    def resume(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Let a paused job go on where it stopped."""
        return self._move(control.resume)

    @action(detail=True, methods=["post"])
    def cancel(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Cancel a job that has not ended; unlike DELETE it never deletes one that has."""
        return self._move(control.cancel)

    @action(detail=True, methods=["post"])
    def retry(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Try a failed job again, as its next run."""
        return self._move(control.retry)

    @action(detail=True)
    def log(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """The job's events, oldest first, a page from `?after=`, a `seq`, on."""
        job: Job = self.get_object()
        listing.refuse_unknown(request.query_params, ("after", "limit"))
        limit = listing.limit_of(request.query_params, default=LOG_ROWS, most=LOG_ROWS)
        after = _number(request.query_params.get("after") or "0", "after")
        rows = list(job.events.filter(seq__gt=after).order_by("seq")[: limit + 1])
        headers = {"X-Total-Count": str(job.events.count())}
        if len(rows) > limit:
            headers["Link"] = listing.next_link(
                request.path, request.query_params, str(rows[limit - 1].seq), name="after"
            )
        return Response([events.record(row) for row in rows[:limit]], headers=headers)

    def _move(self, move: Callable[[UUID, str], None]) -> Response:
        job: Job = self.get_object()
        refuse_fields(self.request)
        try:
            move(job.pk, asker(self.request))
        except IllegalMove as error:
            raise Conflict(str(error), job_status=error.status) from error
        job.refresh_from_db()
        return Response(job_answer(job))

    def clear(self, request: Request) -> Response:
        """Delete the caller's finished jobs but those to be kept; with filters those that these leave."""
        chosen = listing.filtered(self.get_queryset(), request.query_params, is_paged=False)
        ids = list(chosen.finished().values_list("pk", flat=True))
        return Response({"deleted": jobs.delete(ids, but_kept=True)})

    def destroy(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Cancel an unfinished job; delete a finished one."""
        job: Job = self.get_object()
        if job.is_active:
            # Of two who cancel at once both have what they want.
            if not jobs.cancel(job.pk, asker(request)) and self.get_object().status != JobStatus.CANCELLED:
                status = self.get_object().status
                raise Conflict("The session ended before it could be cancelled.", job_status=status)
            return Response({"message": "Session cancelled"})
        if not jobs.delete([job.pk]):
            raise Conflict("The session has just begun again.", job_status=self.get_object().status)
        return Response({"message": "Session deleted"})


class EventsView(APIView):
    """The event streams. It decides who may listen, from where on; the gate then streams."""

    style: ClassVar[Style] = "events"

    def get(self, request: Request, pk: Any = None) -> Response:
        """Grant a stream of one job, or of all of the caller's."""
        user: Any = request.user
        channel = person_channel(user.pk) if pk is None else job_channel(pk)
        if not JobChannelManager().can_read_channel(user, channel):
            raise Http404
        grant_stream(request, StreamGrant(channel=channel, after=_last_event_id(request), style=self.style))
        return Response({"channel": channel})


class SocketView(EventsView):
    """The handshake of the same streams as WebSockets."""

    style = "socket"

    def get(self, request: Request, pk: Any = None) -> Response:
        """Grant a socket; 426 to a plain request."""
        # A browser lets any page open a socket to anywhere, with the cookies, and let it read: RFC 6455, section 10.2.
        if is_foreign(request._request):
            raise PermissionDenied("Requests of other web sites are refused.")
        if not is_handshake(request):
            sentence = "This address is for WebSockets."
            return Response(body(sentence), status=426, headers={"Upgrade": "websocket"})
        return super().get(request, pk)


def _last_event_id(request: Request) -> int | None:
    query = request.query_params
    text = request.headers.get("Last-Event-ID") or query.get("after") or query.get("lastEventId")
    if not text:
        return None
    return _number(text, "Last-Event-ID")


def _number(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValidationError({name: ["Must be the number of an event."]})
    return int(text)
