"""Who sends a request: an API token, or a browser's session with CSRF."""

from datetime import timedelta

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from rest_framework import authentication, exceptions
from rest_framework.request import Request

from sessions_app import accounts
from sessions_app.models import ApiToken, User

LAST_USE_STEP = timedelta(minutes=1)


class TokenAuthentication(authentication.BaseAuthentication):
    """`Authorization: Bearer <token>`, or `Token <token>`."""

    def authenticate(self, request: Request) -> tuple[User, str] | None:
        """The token's account; None without the header; raises AuthenticationFailed for an unknown one."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token"):
            return None
        row = accounts.find_token(token.strip())
        if row is None:
            raise exceptions.AuthenticationFailed("The API token is not valid.")
        now = timezone.now()
        # At most one write a minute: reading must not queue up behind the database's writer, which is where even
        # an update of no row would wait.
        if row.last_used_at is None or row.last_used_at <= now - LAST_USE_STEP:
            ApiToken.objects.filter(pk=row.pk).update(last_used_at=now)
        return row.user, token

    def authenticate_header(self, request: Request) -> str:
        """Makes REST framework answer 401, not 403, to who is not signed in."""
        return "Bearer"


class SessionAuthentication(authentication.SessionAuthentication):
    """The browser's session. Without login the middleware has checked the origin, and there is no cookie to abuse."""

    def enforce_csrf(self, request: Request) -> None:
        """Raises PermissionDenied when the CSRF token is missing or wrong."""
        if not settings.NO_LOGIN:
            super().enforce_csrf(request)


def asker(request: HttpRequest | Request) -> str:
    """Who asks and from where, as a job's log has it: `anna from 192.0.2.7`."""
    return f"{request.user.get_username()} from {request.META.get('REMOTE_ADDR', 'nowhere')}"
