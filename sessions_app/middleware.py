"""What every request passes: the limit on its body, its method, a database that does not answer, and, without
login, who may send it."""

import logging
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import OperationalError
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed

from sessions_app import accounts, problems

logger = logging.getLogger(__name__)

GetResponse = Callable[[HttpRequest], HttpResponse]
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")
_OF_PAGES = ("GET", "HEAD", "OPTIONS", "POST")


class BodyLimitMiddleware:
    """Refuses a body over DATA_UPLOAD_MAX_MEMORY_SIZE, and measures one that does not say how large it is."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Refuse or pass on."""
        length = request.META.get("CONTENT_LENGTH") or self._measure(request)
        if not length.isdigit():
            return problems.answer(request, 400, "The Content-Length header is not a number.")
        if int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return problems.answer(request, 413, "The request body is larger than 1 MiB.")
        return self.get_response(request)

    @staticmethod
    def _measure(request: HttpRequest) -> str:
        # Django and REST framework take a chunked body, which comes without a length, for an empty one.
        body = request.read(settings.DATA_UPLOAD_MAX_MEMORY_SIZE + 1)
        if body:
            request._body = body
            request.META["CONTENT_LENGTH"] = str(len(body))
        return str(len(body))


class MethodMiddleware:
    """Says that an address does not take a method, before a token is asked for, and as a sentence."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Put the sentence into a bare refusal."""
        response = self.get_response(request)
        if not isinstance(response, HttpResponseNotAllowed):
            return response
        answer = problems.answer(request, 405, f"This address does not take {request.method}.")
        answer["Allow"] = response["Allow"]
        return answer

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        """Pages and forms know a few methods only; what needs no token looks at the method itself."""
        if request.method in _OF_PAGES or getattr(view, "csrf_exempt", False):
            return None
        return HttpResponseNotAllowed(("GET", "HEAD", "POST"))


class DatabaseMiddleware:
    """Says that the database cannot do its part now, as with a full disk, which is no fault of the program."""

    RETRY_AFTER_S = 5

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Pass on."""
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        """503, and the database's own words in the log."""
        if not isinstance(exception, OperationalError):
            return None
        logger.warning("%s %s: %s", request.method, request.path, exception)
        is_full = "full" in str(exception)
        reason = "has no room left on its disk" if is_full else "does not answer now"
        answer = problems.answer(request, 503, f"The database {reason}; try again in a moment.")
        answer["Retry-After"] = str(self.RETRY_AFTER_S)
        return answer


class NoLoginMiddleware:
    """With --no-login everybody is the owner, but for what a foreign web page makes a browser send."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Set the owner as the user, or refuse."""
        if not settings.NO_LOGIN:
            return self.get_response(request)
        if request.method not in _SAFE and is_foreign(request):
            return problems.answer(request, 403, "Requests of other web sites are refused.")
        if not request.user.is_authenticated:
            request.user = accounts.owner()
        return self.get_response(request)


def is_foreign(request: HttpRequest) -> bool:
    """Whether a page of another origin made the browser send this (Fetch Metadata, and the Origin header)."""
    origin = request.headers.get("Origin")
    if origin in settings.CORS_ALLOWED_ORIGINS:
        return False
    if request.headers.get("Sec-Fetch-Site", "none") not in ("same-origin", "none"):
        return True
    return origin is not None and urlsplit(origin).netloc != request.get_host()
