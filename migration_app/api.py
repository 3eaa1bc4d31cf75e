"""The endpoints that start migrations, and what a session has beside those that the engine serves."""

from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from django.http import HttpResponseBase, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from rest_framework import viewsets
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from migration_app import files, reports
from migration_app.cms import systems
from migration_app.probing import probe
from migration_app.submission import CannotVerify, submit_scan, submit_transfer, submit_verify
from sessions_app import listing
from sessions_app.answers import job_answer
from sessions_app.audience import job_channel
from sessions_app.gate import StreamGrant, grant_stream
from sessions_app.jobs import IdempotencyConflict
from sessions_app.models import Job
from sessions_app.problems import Conflict, refuse_fields
from sessions_app.submitters import RequestMeta


class SubmitViewSet(viewsets.ViewSet):
    """POST a request; `submit` answers with the job, `stream` follows it until its run ends."""

    start: ClassVar[Callable[..., tuple[Job, bool]]]

    def submit(self, request: Request) -> Response:
        """202 and the job; 200 for one that the same Idempotency-Key made before."""
        job, is_new = self._start(request)
        return Response(job_answer(job), status=202 if is_new else 200, headers={"X-Job-ID": str(job.pk)})

    def stream(self, request: Request) -> Response:
        """The same job as server-sent events in the first clients' form. It outlives the connection."""
        job, _ = self._start(request)
        grant_stream(request, StreamGrant(channel=job_channel(job.pk), after=0, style="progress"))
        return Response(job_answer(job), headers={"X-Job-ID": str(job.pk)})

    def _start(self, request: Request) -> tuple[Job, bool]:
        user: Any = request.user
        try:
            return type(self).start(user, request.data, RequestMeta.of(request))
        except IdempotencyConflict as error:
            raise Conflict(str(error)) from error


class ScanViewSet(SubmitViewSet):
    """`/api/scan` and `/api/scan/stream`."""

    start = staticmethod(submit_scan)


class TransferViewSet(SubmitViewSet):
    """`/api/transfer` and `/api/transfer/stream`."""

    start = staticmethod(submit_transfer)


class VerifyView(APIView):
    """`/api/sessions/{id}/verify`: a new job that compares what a transfer copied, by content."""

    def post(self, request: Request, pk: UUID) -> Response:
        """202 and the new job; 200 for one that the same Idempotency-Key made before."""
        user: Any = request.user
        transfer = get_object_or_404(Job.objects.owned_by(user), pk=pk)
        refuse_fields(request)
        try:
            job, is_new = submit_verify(user, transfer, RequestMeta.of(request))
        except CannotVerify as error:
            raise Conflict(str(error), job_status=error.status) from error
        except IdempotencyConflict as error:
            raise Conflict(str(error)) from error
        return Response(job_answer(job), status=202 if is_new else 200, headers={"X-Job-ID": str(job.pk)})


class FilesView(APIView):
    """`/api/sessions/{id}/files`."""

    def get(self, request: Request, pk: UUID) -> Response:
        """A page of the job's files, in the order of the walk."""
        job = _job(request, pk)
        query = request.query_params
        rows = files.filtered(files.files_of(job.pk), query)
        found, cursor = files.page(rows, query)
        headers = {"X-Total-Count": str(rows.count())}
        if cursor is not None:
            headers["Link"] = listing.next_link(request.path, query, cursor)
        return Response([files.file_json(row) for row in found], headers=headers)


class ProbeView(APIView):
    """`/api/probe`: a connection tried out; one that fails is an answer too."""

    def post(self, request: Request) -> Response:
        """ProbeResult."""
        user: Any = request.user
        return Response(probe(user, request.data))


class ReportView(APIView):
    """`/api/sessions/{id}/report?format=json|csv|html`."""

    def get(self, request: Request, pk: UUID) -> HttpResponseBase:
        """The report as JSON, all files as a table, or a page to print."""
        job = _job(request, pk)
        listing.refuse_unknown(request.query_params, ("format",))
        form = request.query_params.get("format") or "json"
        name = reports.file_name(job, form)
        if form == "json":
            headers = {"Content-Disposition": f'attachment; filename="{name}"'}
            return Response(reports.report_json(job), headers=headers)
        if form == "csv":
            return StreamingHttpResponse(
                reports.csv_lines(job),
                content_type="text/csv; charset=utf-8",
                headers={"Content-Disposition": f'attachment; filename="{name}"'},
            )
        if form == "html":
            return _printed(request, job)
        raise ValidationError({"format": [f"{form!r} is not a form of a report; those are json, csv, html."]})


def _printed(request: Request, job: Job) -> HttpResponseBase:
    sides = (("From", job.public.get("source_config")), ("To", job.public.get("dest_config")))
    result = job.result or {}
    site = (result.get("cms_detection") or {}).get("type", "")
    took = job.completed_at - job.started_at if job.completed_at and job.started_at else None
    context = {
        "job": job,
        "title": job.title or f"{job.type.capitalize()} {str(job.pk)[:8]}",
        "sides": [(label, config) for label, config in sides if config],
        "duration_s": took.total_seconds() if took is not None else None,
        "scan": result if job.type == "scan" else None,
        "cms_name": systems.NAMES.get(site, site),
        "suggestions": [one for one in result.get("exclusions", ()) if one.get("is_automatic")],
        "check": result if job.type == "verify" else result.get("verification_result"),
        "comparison": result.get("comparison"),
        "report": reports.report_json(job),
        "now": timezone.now(),
    }
    answer = render(request._request, "pages/report.html", context)
    answer["Content-Disposition"] = f'inline; filename="{reports.file_name(job, "html")}"'
    return answer


def _job(request: Request, pk: UUID) -> Job:
    """One of the caller's own jobs; everybody else's do not exist."""
    user: Any = request.user
    return get_object_or_404(Job.objects.owned_by(user).select_related("owner"), pk=pk)
