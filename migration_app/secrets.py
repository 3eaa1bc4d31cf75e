"""Secrets at rest: sealed with Fernet, opened with any of the keys, never shown."""

import json

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class CannotOpen(Exception):
    """The stored secrets were sealed with a key that is not among HAULIER_SECRETS_KEYS."""


def _keys() -> MultiFernet:
    return MultiFernet([Fernet(key) for key in settings.SECRETS_KEYS])


def seal(secrets: dict[str, str]) -> str:
    """One token that holds the secrets that are not empty; the empty text when there are none."""
    given = {name: value for name, value in secrets.items() if value}
    return _keys().encrypt(json.dumps(given).encode()).decode() if given else ""


def unseal(token: str) -> dict[str, str]:
    """The secrets of a token; raises CannotOpen."""
    if not token:
        return {}
    try:
        opened = _keys().decrypt(token.encode())
    except InvalidToken:
        raise CannotOpen("The stored password or key cannot be opened: its encryption key is gone.") from None
    return {str(name): str(value) for name, value in json.loads(opened).items()}


def unseal_or_nothing(token: str) -> dict[str, str]:
    """The secrets of a token; none where they cannot be opened any more."""
    try:
        return unseal(token)
    except CannotOpen:
        return {}
