"""What the product itself is doing: its workers, its queue, its disk."""

import shutil
from dataclasses import dataclass

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from migration_app.pages.forms import RetentionForm
from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.wording import plural
from migration_app.sizes import size_text
from sessions_app import presence, retention
from sessions_app.models import Job, Shard
from sessions_app.states import ShardState


@dataclass(frozen=True, slots=True)
class SystemLine:
    """One line for the start page."""

    workers: str
    queue: str
    disk: str


def system_line() -> SystemLine:
    """The state of workers, queue and disk, in words."""
    waiting = Shard.objects.filter(state=ShardState.QUEUED).count()
    disk = shutil.disk_usage(settings.DATA_DIR)
    return SystemLine(
        plural(presence.count_seen(), "worker"),
        f"{plural(waiting, 'piece')} of work waiting" if waiting else "nothing waiting",
        f"{size_text(disk.free)} of {size_text(disk.total)} free for Haulier's own data",
    )


@require_http_methods(["GET", "HEAD", "POST"])
@page
def retention_rules(request: SignedRequest) -> HttpResponse:
    """How long jobs stay: to see for all, to set for owners."""
    may_set = request.user.is_owner
    if request.method == "POST" and not may_set:
        raise PermissionDenied
    rules = retention.policy()
    form = RetentionForm(request.POST if request.method == "POST" else None, rules=rules)
    is_fine = form.is_bound and form.is_valid()
    if is_fine and "save" in request.POST:
        retention.set_policy(form.rules())
        messages.success(request, "Saved. What is over by now goes within minutes.")
        return redirect("retention")
    tried = form.rules() if is_fine else rules
    context = {
        "form": form,
        "may_set": may_set,
        "is_tried": is_fine,
        "over": retention.removable(timezone.now(), rules=tried).count() if may_set else None,
        "kept": Job.objects.finished().filter(keep=True).count() if may_set else None,
    }
    status = 400 if form.is_bound and not is_fine else 200
    return render(request, "pages/retention.html", context, status=status)


@require_safe
@page
def workers(request: SignedRequest) -> HttpResponse:
    """The warning of missing workers, for pages that are open for long."""
    return render(request, "workers.html")
