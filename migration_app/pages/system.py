"""What the product itself is doing: its workers, its queue, its disk."""

import shutil
from dataclasses import dataclass

from django.conf import settings
from django.http import HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.wording import plural
from migration_app.sizes import size_text
from sessions_app import presence
from sessions_app.models import Shard
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


@require_safe
@page
def workers(request: SignedRequest) -> HttpResponse:
    """The warning of missing workers, for pages that are open for long."""
    return render(request, "workers.html")
