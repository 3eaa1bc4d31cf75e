"""Django's admin over the engine's rows: to look, not to write. Jobs may be cancelled and, once ended, deleted."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.auth.admin import UserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest

from sessions_app import jobs
from sessions_app.authentication import asker
from sessions_app.models import Job, JobEvent, Schedule, Shard, User, Worker
from sessions_app.states import ACTIVE


class ReadOnly(admin.ModelAdmin[Any]):
    """Rows to look at; only an owner's account comes in."""

    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody adds rows here."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody changes rows here."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes rows here."""
        return False


@admin.register(Job)
class JobAdmin(ReadOnly):
    """Jobs, without the parameters that only runners read."""

    list_display = ("id", "type", "status", "title", "owner", "created_at", "completed_at")
    list_filter = ("type", "status")
    search_fields = ("id", "title", "error_message", "owner__username")
    date_hierarchy = "created_at"
    exclude = ("params", "request_digest", "idempotency_key")
    actions = ("cancel_jobs", "delete_jobs")

    @admin.action(description="Cancel the selected active jobs")
    def cancel_jobs(self, request: HttpRequest, queryset: "QuerySet[Job]") -> None:
        """Cancel what is active."""
        by = asker(request)
        count = sum(jobs.cancel(job.pk, by) for job in queryset.filter(status__in=ACTIVE))
        self.message_user(request, f"{count} jobs cancelled.")

    @admin.action(description="Delete the selected finished jobs")
    def delete_jobs(self, request: HttpRequest, queryset: "QuerySet[Job]") -> None:
        """Delete what has ended."""
        active = queryset.filter(status__in=ACTIVE).count()
        finished = queryset.exclude(status__in=ACTIVE).values_list("pk", flat=True)
        deleted = jobs.delete(list(finished))
        self.message_user(request, f"{deleted} jobs deleted.")
        if active:
            self.message_user(request, f"{active} active jobs stay; cancel them first.", messages.WARNING)


@admin.register(Schedule)
class ScheduleAdmin(ReadOnly):
    """Schedules, without what they submit."""

    list_display = ("id", "name", "owner", "type", "cron", "timezone", "is_paused", "next_run_at")
    search_fields = ("name", "owner__username")
    list_select_related = ("owner",)
    exclude = ("request", "sealed", "form_key")


@admin.register(Shard)
class ShardAdmin(ReadOnly):
    """Shards and their leases."""

    list_display = ("id", "job", "number", "kind", "state", "attempt", "deaths", "owner", "lease_until")
    list_filter = ("kind", "state")
    search_fields = ("job__id", "owner")
    list_select_related = ("job",)


@admin.register(JobEvent)
class JobEventAdmin(ReadOnly):
    """The event log."""

    list_display = ("id", "job", "seq", "type", "created_at")
    list_filter = ("type",)
    search_fields = ("job__id", "type")
    list_select_related = ("job",)


@admin.register(Worker)
class WorkerAdmin(ReadOnly):
    """Worker processes."""

    list_display = ("id", "host", "pid", "queues", "started_at", "seen_at")
    search_fields = ("id", "host")


class HaulierUserAdmin(UserAdmin[User]):
    """Accounts, with their role."""

    list_display = ("username", "role", "is_active", "last_login")
    fieldsets = (*(UserAdmin.fieldsets or ()), ("Haulier", {"fields": ("role", "most_running")}))


admin.site.register(User, HaulierUserAdmin)
