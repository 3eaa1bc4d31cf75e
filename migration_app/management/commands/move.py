"""`manage.py move`: the main job in the foreground."""

import getpass
import os
import signal
import sys
import threading
from argparse import ArgumentParser
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from rest_framework.exceptions import ValidationError
from rich.console import Console

from migration_app.host_keys import HostKeyNotTrusted, settle_host_key
from migration_app.locations import BadLocation, parse_location
from migration_app.submission import RequestMeta, submit_transfer
from migration_app.terminal import Bar, Follower, JsonLines, PlainLines, json_line, summary
from sessions_app import accounts
from sessions_app.inline import InlineWorker, NotToBeAdopted
from sessions_app.models import Job
from sessions_app.problems import flatten, sentence_of
from sessions_app.serializers import job_json

Json = dict[str, Any]

USAGE, FAILED, INTERRUPTED = 2, 1, 130


class Command(BaseCommand):
    help = (
        "Copy a folder, with a progress bar on a terminal and plain lines elsewhere. Ctrl-C pauses the job and "
        "prints the command that goes on with it. It needs no running server; beside one, the job is seen in its "
        "pages. Exit status: 0 done, 1 failed or some files failed, 2 wrong usage, 130 paused by Ctrl-C."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        place = "a local path, or sftp://user@host:port/path"
        parser.add_argument("source", nargs="?", metavar="SOURCE", help=f"The folder to copy: {place}.")
        parser.add_argument("destination", nargs="?", metavar="DESTINATION", help=f"Where to: {place}.")
        parser.add_argument("--resume", metavar="JOB", help="Go on with a paused job, by its id.")
        parser.add_argument(
            "--exclude", action="append", default=[], metavar="GLOB", help="Leave these out; may be repeated."
        )
        parser.add_argument(
            "--verify", action="store_true", default=True, help="Verify afterwards (default)."
        )
        parser.add_argument("--no-verify", dest="verify", action="store_false", help="Do not verify.")
        for side in ("source", "destination"):
            parser.add_argument(
                f"--{side}-key",
                metavar="FILE",
                help=f"Private key for the {side}. A password comes from HAULIER_{side.upper()}_PASSWORD or a prompt.",
            )
        parser.add_argument(
            "--accept-new-host-key",
            action="store_true",
            help="Pin the key of a host that was never seen before, without asking.",
        )
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON object a line; the last one is the job."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if bool(options["resume"]) == bool(options["source"]) or (
            options["source"] and not options["destination"]
        ):
            raise CommandError("Give SOURCE and DESTINATION, or --resume JOB.", returncode=USAGE)
        with InlineWorker() as worker:
            job_id = (
                self._adopt(worker, options["resume"]) if options["resume"] else self._submit(worker, options)
            )
            self._work(worker, job_id, as_json=options["json"])
        sys.exit(self._say_how_it_ended(Job.objects.select_related("owner").get(pk=job_id), options))

    def _adopt(self, worker: InlineWorker, text: str) -> UUID:
        try:
            job_id = UUID(text)
            worker.adopt(job_id)
        except (ValueError, Job.DoesNotExist):
            raise CommandError(f"There is no job {text}.", returncode=USAGE) from None
        except NotToBeAdopted as error:
            raise CommandError(str(error), returncode=USAGE) from None
        return job_id

    def _submit(self, worker: InlineWorker, options: Json) -> UUID:
        owner = accounts.owner()
        body: Json = {"exclusions": options["exclude"], "verify_after_transfer": options["verify"]}
        for side, field in (("source", "source_config"), ("destination", "dest_config")):
            try:
                body[field] = self._with_secrets(side, parse_location(options[side]), options[f"{side}_key"])
            except BadLocation as error:
                raise CommandError(str(error), returncode=USAGE) from None
        if not options["accept_new_host_key"]:
            try:
                for field in ("source_config", "dest_config"):
                    settle_host_key(owner, body[field], ask=self._ask)
            except HostKeyNotTrusted as error:
                raise CommandError(str(error), returncode=USAGE) from None
        meta = RequestMeta(None, f"manage.py move ({getpass.getuser()})", "", executor=worker.id)
        try:
            job, _ = submit_transfer(owner, body, meta)
        except ValidationError as error:
            raise CommandError(sentence_of(flatten(error.detail)), returncode=USAGE) from None
        return job.pk

    def _with_secrets(self, side: str, conn: Json, key_file: str | None) -> Json:
        if conn["protocol"] == "local":
            return conn
        if key_file:
            try:
                return conn | {"ssh_key": Path(key_file).expanduser().read_text()}
            except (OSError, UnicodeDecodeError) as error:
                reason = error.strerror if isinstance(error, OSError) else "it is no text"
                raise CommandError(f"--{side}-key {key_file}: {reason}.", returncode=USAGE) from None
        name = f"HAULIER_{side.upper()}_PASSWORD"
        if name in os.environ:
            return conn | {"password": os.environ[name]}
        if not sys.stdin.isatty():
            raise CommandError(
                f"The {side} needs --{side}-key FILE, or a password in {name}.", returncode=USAGE
            )
        return conn | {"password": getpass.getpass(f"Password of {conn['username']}@{conn['host']}: ")}

    def _ask(self, question: str) -> bool | None:
        """yes or no of the person at the terminal; None where nobody is."""
        if not sys.stdin.isatty():
            return None
        self.stderr.write(question, ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _work(self, worker: InlineWorker, job_id: UUID, *, as_json: bool) -> None:
        def interrupted(number: int, frame: FrameType | None) -> None:
            # A signal handler may interrupt a lock of the thread that it runs in.
            threading.Thread(target=worker.stop, daemon=True).start()

        signal.signal(signal.SIGINT, interrupted)
        signal.signal(signal.SIGTERM, interrupted)
        with self._follower(job_id, as_json=as_json):
            worker.work_off(job_id)

    def _follower(self, job_id: UUID, *, as_json: bool) -> Follower:
        if as_json:
            return JsonLines(job_id, json_line(sys.stdout))
        if sys.stdout.isatty():
            return Bar(job_id, Console())
        return PlainLines(job_id, sys.stdout)

    def _say_how_it_ended(self, job: Job, options: Json) -> int:
        if options["json"]:
            json_line(sys.stdout)(job_json(job))
        resume = f".venv/bin/python manage.py move --resume {job.pk}"
        result = job.result or {}
        say = self.stderr.write if options["json"] else self.stdout.write
        if job.status == "completed":
            proof = (result.get("verification_result") or {}).get("message", "Not verified.")
            say(f"Done: {summary(job.progress or {})}. {proof}")
            return 0
        if job.status == "paused":
            say(f"Paused. Go on with: {resume}")
            return INTERRUPTED
        if job.status in ("failed", "cancelled"):
            self.stderr.write(job.error_message or "The job was cancelled.")
            return FAILED
        say(f"The job is {job.status}.")
        return FAILED
