"""`manage.py cleanup_jobs`: remove finished jobs."""

from argparse import ArgumentParser, ArgumentTypeError
from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.utils import timezone

from sessions_app import jobs, retention
from sessions_app.durations import parse_duration

PURGE_S = 30.0
"""How often it says that it is still at work."""


def duration(text: str) -> timedelta:
    """For the parser of arguments."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


class Command(BaseCommand):
    help = (
        "Remove finished jobs whose time is over by the retention policy (the page How long jobs stay, or "
        "HAULIER_RETENTION). Active jobs and those marked to be kept always stay."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--older-than",
            type=duration,
            metavar="24h",
            help="Remove all jobs that finished longer ago than this instead of following the policy.",
        )
        parser.add_argument("--dry-run", action="store_true", help="Only say how many would go.")

    def handle(self, *args: Any, **options: Any) -> None:
        older_than: timedelta | None = options["older_than"]
        if options["dry_run"]:
            count = retention.removable(timezone.now(), older_than=older_than).count()
            self.stdout.write(f"{count} finished jobs would be removed.")
            return
        count = retention.clean_up(older_than=older_than)
        while not jobs.purge(seconds=PURGE_S):
            self.stderr.write("Still removing their rows ...")
        self.stdout.write(f"{count} finished jobs removed.")
