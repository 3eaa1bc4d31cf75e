"""REST framework's exception hook. A module of its own, since `rest_framework.views` loads the parsers."""

from typing import Any

from django.http import Http404
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import exception_handler

from sessions_app.problems import Conflict, body, flatten, sentence_of


def handle_exception(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Any API exception in the contract's form."""
    response = exception_handler(exc, context)
    if response is None:
        return None
    if isinstance(exc, exceptions.ValidationError):
        fields = flatten(exc.detail)
        response.data = body(sentence_of(fields), fields=fields)
    elif isinstance(exc, Http404):
        response.data = body("There is no such session." if "pk" in context["kwargs"] else "Not found.")
    elif isinstance(exc, exceptions.APIException):
        response.data = body(str(exc.detail))
        if isinstance(exc, Conflict) and exc.job_status is not None:
            response.data["status"] = exc.job_status
    else:
        response.data = body("That is not allowed.")
    return response
