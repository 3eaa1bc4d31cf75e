"""`manage.py worker`: one worker process."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from sessions_app.presence import INTERACTIVE_QUEUE, WORK_QUEUE
from sessions_app.worker import WorkerProcess


class Command(BaseCommand):
    help = "Run one worker of one slot. `serve` starts several of these and restarts them."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--interactive",
            action="store_true",
            help="Take only what a person waits for: scans and the listing of transfers.",
        )
        parser.add_argument("--lifeline", action="store_true", help="End when standard input closes.")

    def handle(self, *args: Any, **options: Any) -> None:
        queues = [INTERACTIVE_QUEUE] if options["interactive"] else [INTERACTIVE_QUEUE, WORK_QUEUE]
        WorkerProcess(queues).run(has_lifeline=options["lifeline"])
