"""Signing in, with a password or a one-time link, and out."""

import time
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login, update_session_auth_hash
from django.contrib.auth.forms import SetPasswordForm
from django.contrib.auth.views import LoginView, LogoutView
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from migration_app.pages.frame import THEME_COOKIE, THEMES, SignedRequest, page
from sessions_app import accounts
from sessions_app.models import User

CAME_BY_LINK = "came_by_link_at"
LINK_PROVES_S = 15 * 60
"""For so long a used link stands in for the old password."""
LINK_COMMAND = ".venv/bin/python manage.py sign_in_link"
A_YEAR_S = 365 * 24 * 3600


@method_decorator(never_cache, name="dispatch")
class SignInView(LoginView):
    """Name and password."""

    template_name = "pages/sign_in.html"
    redirect_authenticated_user = True

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Also the command that prints a link."""
        return super().get_context_data(link_command=LINK_COMMAND, **kwargs)


class SignOutView(LogoutView):
    """A POST, as it changes something."""


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
def sign_in_link(request: HttpRequest, token: str) -> HttpResponse:
    """GET draws a button and changes nothing, so that a link preview does not use the link up; POST signs in."""
    if request.method != "POST":
        return render(request, "pages/sign_in_link.html")
    user = accounts.use_sign_in_link(token)
    if user is None:
        return render(request, "pages/link_gone.html", {"link_command": LINK_COMMAND}, status=410)
    login(request, user)
    request.session[CAME_BY_LINK] = time.time()
    return redirect("set-password")


@never_cache
@sensitive_post_parameters()
@require_http_methods(["GET", "HEAD", "POST"])
@page
def set_password(request: SignedRequest) -> HttpResponse:
    """For who has just come by a link, which is proof enough; others print a new link."""
    if time.time() - request.session.get(CAME_BY_LINK, 0) > LINK_PROVES_S:
        return redirect("start")
    user: User = request.user
    form: SetPasswordForm[User] = SetPasswordForm(user, request.POST if request.method == "POST" else None)
    if form.is_valid():
        form.save()
        update_session_auth_hash(request, user)
        request.session.pop(CAME_BY_LINK, None)
        messages.success(request, f"The password is set. Next time sign in as {user.username} with it.")
        return redirect("start")
    context = {
        "form": form,
        # On a loopback address whoever reaches the port can print a link as well.
        "can_skip": settings.IS_LOOPBACK or user.has_usable_password(),
        "link_command": LINK_COMMAND,
    }
    return render(request, "pages/set_password.html", context, status=400 if form.is_bound else 200)


@require_POST
def theme(request: HttpRequest) -> HttpResponse:
    """Keep the reader's choice of colours in a cookie, and go back."""
    back = request.POST.get("next", "")
    if not url_has_allowed_host_and_scheme(
        back, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    ):
        back = "/"
    answer = redirect(back)
    chosen = request.POST.get("theme", "")
    if chosen in THEMES:
        answer.set_cookie(
            THEME_COOKIE, chosen, max_age=A_YEAR_S, samesite="Lax", httponly=True, secure=request.is_secure()
        )
    return answer
