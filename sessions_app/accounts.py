"""People, their API tokens and one-time sign-in links. Only digests of tokens are stored."""

import hashlib
import secrets

from django.db import transaction
from django.utils import timezone

from sessions_app.models import ApiToken, Role, SignInLink, User

OWNER_NAME = "owner"


def digest(token: str) -> str:
    """What is stored of a token: 256 random bits need no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()


def owner() -> User:
    """The first owner account; made, without a password, when there is none."""
    # Asked at each request without login: only who makes the account takes the database's write lock.
    if (found := _first_owner()) is not None:
        return found
    with transaction.atomic():
        if (found := _first_owner()) is not None:
            return found
        user = User(username=OWNER_NAME, role=Role.OWNER, is_staff=True, is_superuser=True)
        user.set_unusable_password()
        user.save()
        return user


def _first_owner() -> User | None:
    return User.objects.filter(role=Role.OWNER, is_active=True).order_by("pk").first()


def has_signed_in(user: User) -> bool:
    """Whether somebody has ever come in as this account."""
    return user.last_login is not None or user.has_usable_password()


def create_sign_in_link(user: User) -> str:
    """A new one-time token; earlier unused ones of the account stop working."""
    token = secrets.token_urlsafe(32)
    with transaction.atomic():
        SignInLink.objects.filter(user=user, used_at=None).delete()
        SignInLink.objects.create(user=user, digest=digest(token))
    return token


def use_sign_in_link(token: str) -> User | None:
    """Consume a token: its account, or None when it is unknown, used or the account is closed."""
    rows = SignInLink.objects.filter(digest=digest(token), used_at=None, user__is_active=True)
    link = rows.select_related("user").first()
    if link is None or rows.update(used_at=timezone.now()) != 1:
        return None
    return link.user


def create_token(user: User, *, label: str = "") -> str:
    """A new API token, shown this once."""
    token = f"haulier_{secrets.token_urlsafe(32)}"
    ApiToken.objects.create(user=user, label=label[:100], digest=digest(token))
    return token


def find_token(token: str) -> ApiToken | None:
    """The row of an API token, with its account, or None."""
    found = ApiToken.objects.select_related("user").filter(digest=digest(token), user__is_active=True)
    return found.first()
