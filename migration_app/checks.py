"""System checks of the migration rooms."""

import posixpath
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def check_local_roots(**kwargs: Any) -> list[CheckMessage]:
    """Every folder that `local` may reach is an absolute path, written without detours."""
    return [
        Error(
            f"HAULIER_LOCAL_ROOTS holds {root!r}, which is not a plain absolute path.",
            id="migration_app.E001",
        )
        for root in settings.LOCAL_ROOTS
        if not root.startswith("/") or posixpath.normpath(root) != (root.rstrip("/") or "/")
    ]
