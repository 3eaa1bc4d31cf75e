"""What every request passes: the limit on its body, and, without login, who may send it."""

from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from sessions_app import accounts, problems

GetResponse = Callable[[HttpRequest], HttpResponse]
_SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")


class BodyLimitMiddleware:
    """Refuses a body that says it is larger than DATA_UPLOAD_MAX_MEMORY_SIZE."""

    def __init__(self, get_response: GetResponse) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Refuse or pass on."""
        length = request.META.get("CONTENT_LENGTH") or "0"
        if not length.isdigit():
            return problems.answer(request, 400, "The Content-Length header is not a number.")
        if int(length) > settings.DATA_UPLOAD_MAX_MEMORY_SIZE:
            return problems.answer(request, 413, "The request body is larger than 1 MiB.")
        return self.get_response(request)


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
