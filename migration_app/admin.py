"""Django's admin over pinned host keys: to look, and to forget one that has rightly changed."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from migration_app.models import HostKey


@admin.register(HostKey)
class HostKeyAdmin(admin.ModelAdmin[HostKey]):
    """Forgetting a key makes the next connection pin the one that the server shows then."""

    list_display = ("host", "port", "algorithm", "fingerprint", "owner", "created_at")
    search_fields = ("host", "fingerprint", "owner__username")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Keys are pinned by connecting."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """A key is what the server showed."""
        return False
