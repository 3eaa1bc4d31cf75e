"""`manage.py serve`: web and workers under one supervisor."""

import logging
import os
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from sessions_app import __version__, accounts, addresses, presence, standstill, supervisor
from sessions_app.models import Worker
from sessions_app.reconciler import reconcile
from sessions_app.supervisor import Child, Supervisor, manage

logger = logging.getLogger(__name__)

PORT_PATIENCE_S = 15.0


class Command(BaseCommand):
    help = (
        "Start the web server and the workers, keep them running, and end them together on SIGTERM or Ctrl-C."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--bind",
            metavar="HOST:PORT",
            default=os.environ.get("HAULIER_BIND", "127.0.0.1:8080"),
            help="Address to listen on (default: %(default)s, or HAULIER_BIND).",
        )
        parser.add_argument(
            "--workers",
            type=int,
            metavar="N",
            default=settings.WORKERS,
            help=(
                "Worker processes of one slot each; one more serves what a person waits for "
                "(default: %(default)s, or HAULIER_WORKERS)."
            ),
        )
        parser.add_argument(
            "--no-login",
            action="store_true",
            default=settings.NO_LOGIN,
            help="Everybody who reaches the port is the owner; on a loopback address only.",
        )
        parser.add_argument(
            "--only", choices=("web", "worker"), help="Start the web server or the workers alone."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host, port = _parse_bind(options["bind"])
        if not 1 <= options["workers"] <= 64:
            raise CommandError("--workers must be between 1 and 64.")
        if options["no_login"] and not addresses.is_loopback(host):
            raise CommandError(
                f"--no-login works on a loopback address only, not on {host}: "
                "anybody who reaches the port would be the owner."
            )
        has_web, has_workers = options["only"] != "worker", options["only"] != "web"
        # The web server of an instance that was killed may take a moment to notice.
        if has_web and not supervisor.wait_for_port(host, port, patience_s=PORT_PATIENCE_S):
            raise CommandError(
                f"Something else listens on {host}:{port}. Choose another port with --bind {host}:{port + 1}."
            )
        os.environ["HAULIER_BIND"] = f"{host}:{port}"
        os.environ["HAULIER_WORKERS"] = str(options["workers"])
        os.environ["HAULIER_NO_LOGIN"] = "on" if options["no_login"] else "off"
        owner = accounts.owner()
        needs_link = has_web and not options["no_login"] and not accounts.has_signed_in(owner)
        link = accounts.create_sign_in_link(owner) if needs_link else ""
        reconcile()
        connection.close()
        children = [Child("web", manage("web", "--lifeline"))] if has_web else []
        if has_workers:
            children += [Child("worker", manage("worker", "--lifeline")) for _ in range(options["workers"])]
            children.append(Child("worker", manage("worker", "--interactive", "--lifeline")))
        address = addresses.remember(host, port)
        self._say(f"Haulier {__version__} on {address}")
        if link:
            self._say(f"Sign in: {address}/sign-in/link/{link}")
        running = Supervisor(children, on_death=_mend, is_blocking_all=_is_blocking_all)
        running.run(
            is_ready=lambda: (
                (not has_web or supervisor.is_answering(host, port))
                and _workers_seen(children) >= len(children) - has_web
            ),
            on_ready=lambda: self._say("Ready."),
        )

    def _say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def _mend() -> None:
    """After the death of a child: what it held goes on elsewhere at once."""
    try:
        presence.bury_dead()
        reconcile()
    except DatabaseError:
        # A worker's next pass mends it; the supervisor must not die of it.
        logger.warning("What a dead process held could not be freed yet.", exc_info=True)
    finally:
        connection.close()


def _is_blocking_all(pid: int) -> bool:
    is_sqlite = connection.vendor == "sqlite"
    return is_sqlite and standstill.is_blocking_all(pid, Path(str(connection.settings_dict["NAME"])))


def _workers_seen(children: list[Child]) -> int:
    pids = [child.process.pid for child in children if child.process is not None]
    try:
        return Worker.objects.filter(pid__in=pids).count()
    except DatabaseError:
        logger.warning("The database did not answer; looking again.", exc_info=True)
        return 0
    finally:
        connection.close()


def _parse_bind(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise CommandError(f"--bind must look like 127.0.0.1:8080, not {text!r}.")
    return host, int(port)
