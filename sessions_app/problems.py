"""Errors as the HTTP contract wants them: `{"error": "<one sentence>", "detail": …, "fields": {…}}`."""

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from rest_framework import exceptions, status
from rest_framework.request import Request

Fields = dict[str, list[str]]


class Conflict(exceptions.APIException):
    """A move that the state machine forbids, or an Idempotency-Key used twice."""

    status_code = status.HTTP_409_CONFLICT

    def __init__(self, detail: str, *, job_status: str | None = None) -> None:
        super().__init__(detail)
        self.job_status = job_status


class BodyTooLarge(exceptions.APIException):
    """The request's body is over the limit."""

    status_code = status.HTTP_413_REQUEST_ENTITY_TOO_LARGE
    default_detail = "The request body is larger than 1 MiB."


def body(error: str, *, detail: str = "", fields: Fields | None = None, **more: Any) -> dict[str, Any]:
    """The error object; `error` is one sentence, the others only where there is something to say."""
    found: dict[str, Any] = {"error": error}
    if detail:
        found["detail"] = detail
    if fields:
        found["fields"] = fields
    return found | more


def flatten(detail: Any, prefix: str = "") -> Fields:
    """Nested validation errors by dotted field name.

    >>> flatten({"source_config": {"port": ["Not a number."]}})
    {'source_config.port': ['Not a number.']}
    """
    if isinstance(detail, dict):
        found: Fields = {}
        for name, inner in detail.items():
            found |= flatten(inner, f"{prefix}.{name}" if prefix else str(name))
        return found
    if isinstance(detail, list) and any(isinstance(inner, dict | list) for inner in detail):
        found = {}
        for index, inner in enumerate(detail):
            if inner:
                found |= flatten(inner, f"{prefix}.{index}" if prefix else str(index))
        return found
    messages = detail if isinstance(detail, list) else [detail]
    return {prefix or "non_field_errors": [str(message) for message in messages]}


def refuse_fields(request: Request) -> None:
    """For a call that takes no field. Raises ValidationError for a JSON body that has one."""
    try:
        data = request.data
    except exceptions.UnsupportedMediaType:
        # Some clients send an empty form where there is nothing to send.
        return
    if not data:
        return
    if not isinstance(data, dict):
        raise exceptions.ValidationError("The body must be a JSON object.")
    raise exceptions.ValidationError({name: ["This field is not known."] for name in data})


def sentence_of(fields: Fields) -> str:
    """One sentence for several field errors: the first one, with its field's name."""
    name, messages = next(iter(fields.items()))
    if name.rpartition(".")[2] == "non_field_errors":
        return messages[0]
    return f"{name}: {messages[0]}"


def answer(request: HttpRequest, code: int, sentence: str) -> HttpResponse:
    """An error outside of REST framework: JSON for the API, a page for people."""
    if request.path.startswith(("/api/", "/ws/")) or request.path.rstrip("/") == "/health":
        return JsonResponse(body(sentence), status=code)
    return render(request, "error.html", {"code": code, "sentence": sentence}, status=code)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler400: a foreign Host, a body over the limit, a broken form."""
    if isinstance(exception, RequestDataTooBig):
        return answer(request, 413, BodyTooLarge.default_detail)
    # Not rendered as a page: a foreign Host must not even draw one.
    sentence = "The request is not valid, or its Host header is not one of this site's."
    return JsonResponse(body(sentence), status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler403."""
    return answer(request, 403, "That is not allowed.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler404."""
    return answer(request, 404, "There is nothing at this address.")


def server_error(request: HttpRequest) -> HttpResponse:
    """Django's handler500."""
    return answer(request, 500, "Haulier itself failed; the server's log has the details.")


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Django's CSRF_FAILURE_VIEW."""
    return answer(request, 403, "The form is too old or of another site: load the page again and repeat.")
