"""`manage.py web`: the web process alone. `manage.py serve` starts it with everything else."""

import os
import resource
import threading
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.module_loading import import_string

from sessions_app import lifeline
from sessions_app.web_server import WebServer

GRACE_S = 5.0


class Command(BaseCommand):
    help = "Serve pages and API with daphne, without workers. `serve` starts this and the workers."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--lifeline", action="store_true", help="End when standard input closes.")

    def handle(self, *args: Any, **options: Any) -> None:
        _allow_many_connections()
        host = settings.BIND_HOST.strip("[]").replace(":", r"\:")
        server = WebServer(
            application=import_string(settings.ASGI_APPLICATION),
            # The backlog lets a thousand tabs reconnect at once after a restart.
            endpoints=[f"tcp:port={settings.BIND_PORT}:interface={host}:backlog=2048"],
            application_close_timeout=2,
            verbosity=0,
            server_name="haulier",
        )
        if options["lifeline"]:
            lifeline.watch(lambda: self._end(server))
        server.run()

    def _end(self, server: WebServer) -> None:
        from twisted.internet import reactor  # noqa: PLC0415 - daphne chooses which one at its import

        reactor.callFromThread(server.stop)
        # A request that does not end must not keep the process.
        timer = threading.Timer(GRACE_S, os._exit, args=(0,))
        timer.daemon = True
        timer.start()


def _allow_many_connections() -> None:
    """As many open files as this account may have: 1,024, which is often the limit at first, are soon taken by tabs."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
