"""`manage.py move`: the main job in the foreground."""

import getpass
import logging
import os
import signal
import sys
import threading
from argparse import ArgumentParser, BooleanOptionalAction
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from rest_framework.exceptions import ValidationError
from rich.console import Console

from migration_app import endpoints
from migration_app.bandwidth import timetable_of_steps
from migration_app.host_keys import HostKeyNotTrusted, lets_in, settle_host_keys
from migration_app.locations import BadLocation, parse_location
from migration_app.runners.transfer import RESUME
from migration_app.serializers import TransferRequestSerializer
from migration_app.storages.sftp.identity import is_encrypted
from migration_app.submission import submit_transfer
from migration_app.terminal import (
    Bar,
    Follower,
    JsonLines,
    PlainLines,
    json_line,
    planned_entries,
    planned_line,
    planned_summary,
    print_line,
    summary,
)
from sessions_app import accounts
from sessions_app.fields import validated
from sessions_app.inline import InlineWorker, NotToBeAdopted
from sessions_app.models import Job, User
from sessions_app.problems import flatten, sentence_of
from sessions_app.serializers import job_json
from sessions_app.submitters import RequestMeta

Json = dict[str, Any]

USAGE, FAILED, INTERRUPTED = 2, 1, 130
FOR_NEW = (
    *("dry_run", "delete", "confirm_deletions", "exclude", "checksum", "verify", "bwlimit", "bwlimit_zone"),
    *("source_key", "destination_key", "accept_new_host_key"),
)
"""Options that a job keeps, so that resuming it takes none of them."""
SIDES = {"source": "source_config", "destination": "dest_config"}
_ARGUMENTS = {
    "source_config": "SOURCE",
    "dest_config": "DESTINATION",
    "exclusions": "--exclude",
    "delete_extraneous": "--delete",
    "confirm_deletions": "--confirm-deletions",
    "bandwidth_limit": "--bwlimit",
    "bandwidth_timetable": "--bwlimit",
    "bandwidth_timezone": "--bwlimit-zone",
}
"""What a field of the request is called here."""


class Command(BaseCommand):
    help = (
        "Copy a folder, with a progress bar on a terminal and plain lines elsewhere. Ctrl-C pauses the job and "
        "prints the command that goes on with it. It needs no running server; beside one, the job is seen in its "
        "pages. SOURCE and DESTINATION are a local path, sftp://user@host:port/path, or NAME:/path on a stored "
        "connection. A local path with a colon before its first slash is written ./a:b. A password comes from a "
        "stored connection, HAULIER_SOURCE_PASSWORD, HAULIER_DESTINATION_PASSWORD or a prompt. "
        "Exit status: 0 done, 1 failed or some files failed, 2 wrong usage, 130 paused by Ctrl-C."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("source", nargs="?", metavar="SOURCE", help="The folder to copy.")
        parser.add_argument("destination", nargs="?", metavar="DESTINATION", help="The folder to copy it to.")
        parser.add_argument(
            "--resume",
            metavar="JOB",
            help="Go on with a paused job, by its id, as it was started; of a failed one do what failed.",
        )
        parser.add_argument(
            "--json", action="store_true", help="Print one JSON object a line; the last one is the job."
        )
        # None where not given, see FOR_NEW.
        new = parser.add_argument_group("for a new job")
        new.add_argument(
            "--dry-run",
            action="store_true",
            default=None,
            help="Say what would be created, changed or deleted, and write nothing.",
        )
        new.add_argument(
            "--delete",
            action="store_true",
            default=None,
            help="At the end, delete at DESTINATION what SOURCE does not have; what --exclude names stays. Nothing is "
            "deleted when anything failed.",
        )
        new.add_argument(
            "--confirm-deletions",
            type=int,
            metavar="N",
            help="So many deletions are right: more than 100, or than half of what is there, have to be confirmed.",
        )
        new.add_argument(
            "--checksum",
            action="store_true",
            default=None,
            help="Compare files of equal size by content, whatever their times. What cannot be hashed at a server, as "
            "it gives no shell, is read over the network.",
        )
        new.add_argument("--exclude", action="append", metavar="GLOB", help="Leave these out; repeatable.")
        new.add_argument(
            "--verify",
            action=BooleanOptionalAction,
            help="Compare both sides by content afterwards, which is the default.",
        )
        new.add_argument(
            "--bwlimit",
            metavar="LIMIT",
            help="Send at most so many megabytes a second, or so many from a time of day on: '08:00,2 18:00,off'.",
        )
        new.add_argument(
            "--bwlimit-zone",
            metavar="ZONE",
            help="Time zone of these times, such as Europe/Berlin; else UTC.",
        )
        for side in SIDES:
            new.add_argument(f"--{side}-key", metavar="FILE", help=f"Private key for the {side}'s address.")
        new.add_argument(
            "--accept-new-host-key",
            action="store_true",
            default=None,
            help="Pin the key of a host that was never seen before, without asking.",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            code = self._move(options)
        except KeyboardInterrupt:
            # Later on, a signal pauses the job instead.
            self.stderr.write("\nInterrupted; no job was started.")
            code = INTERRUPTED
        sys.exit(code)

    def _move(self, options: Json) -> int:
        places = [options[side] for side in SIDES if options[side] is not None]
        if len(places) != (0 if options["resume"] else len(SIDES)):
            raise CommandError("Give SOURCE and DESTINATION, or --resume JOB.", returncode=USAGE)
        given = [name.replace("_", "-") for name in FOR_NEW if options[name] is not None]
        if options["resume"] and given:
            raise CommandError(
                f"--resume goes on as the job was started; leave --{given[0]} out.", returncode=USAGE
            )
        owner = accounts.owner()
        resumed = self._transfer(options["resume"]) if options["resume"] else None
        body = self._request(owner, options) if resumed is None else {}
        with InlineWorker() as worker:
            _pause_on_signals(worker)
            # Which shards stop and why is for a server's log.
            logging.getLogger("sessions_app").setLevel(logging.WARNING)
            job_id = self._submit(worker, owner, body) if resumed is None else self._adopt(worker, resumed)
            with self._follower(job_id, as_json=options["json"]):
                worker.work_off(job_id)
        return self._say_how_it_ended(Job.objects.select_related("owner").get(pk=job_id), options)

    def _transfer(self, text: str) -> UUID:
        """The id of a transfer that is there."""
        try:
            job = Job.objects.get(pk=UUID(text))
        except (ValueError, Job.DoesNotExist):
            raise CommandError(f"There is no job {text}.", returncode=USAGE) from None
        if job.type != "transfer":
            raise CommandError(
                f"{text} is a {job.type}; a transfer goes on here, all else in the server.", returncode=USAGE
            )
        return job.pk

    def _adopt(self, worker: InlineWorker, job_id: UUID) -> UUID:
        try:
            worker.adopt(job_id)
        except (NotToBeAdopted, Job.DoesNotExist) as error:
            raise CommandError(str(error), returncode=USAGE) from None
        return job_id

    def _request(self, owner: User, options: Json) -> Json:
        """The request as the HTTP contract has it, with all that a person is asked for."""
        body: Json = {
            "exclusions": options["exclude"] or [],
            "verify_after_transfer": options["verify"] is not False,
            "dry_run": bool(options["dry_run"]),
            "checksum": bool(options["checksum"]),
            "delete_extraneous": bool(options["delete"]),
            "confirm_deletions": options["confirm_deletions"] or 0,
            **_bandwidth(options["bwlimit"]),
            "bandwidth_timezone": options["bwlimit_zone"],
        }
        for side, field in SIDES.items():
            try:
                conn = parse_location(options[side], owner)
            except BadLocation as error:
                raise CommandError(str(error), returncode=USAGE) from None
            body[field] = self._with_secrets(owner, side, conn, options[f"{side}_key"])
        try:
            request = validated(TransferRequestSerializer, owner, body)
        except ValidationError as error:
            raise _wrong_usage(error) from None
        if not options["accept_new_host_key"]:
            try:
                settle_host_keys(owner, [request[field] for field in SIDES.values()], ask=self._ask)
            except HostKeyNotTrusted as error:
                raise CommandError(str(error), returncode=USAGE) from None
        for side, field in SIDES.items():
            if endpoints.needs_agent(request[field]) and not lets_in(owner, request[field]):
                body[field] |= self._prompted(side, body[field])
        return body

    def _submit(self, worker: InlineWorker, owner: User, body: Json) -> UUID:
        meta = RequestMeta(None, f"manage.py move ({getpass.getuser()})", "", executor=worker.id)
        try:
            job, _ = submit_transfer(owner, body, meta)
        except ValidationError as error:
            raise _wrong_usage(error) from None
        return job.pk

    def _with_secrets(self, owner: User, side: str, conn: Json, key_file: str | None) -> Json:
        if "connection" in conn or conn["protocol"] == "local":
            if key_file:
                raise CommandError(f"--{side}-key goes with an address, sftp://….", returncode=USAGE)
            return conn
        if key_file:
            return conn | self._key_of(side, key_file)
        name = f"HAULIER_{side.upper()}_PASSWORD"
        if name in os.environ:
            return conn | {"password": os.environ[name]}
        # An agent is tried when the host's key is settled.
        if endpoints.stored_for(owner, conn) is not None or settings.SSH_AGENT:
            return conn
        return conn | self._prompted(side, conn)

    def _key_of(self, side: str, key_file: str) -> Json:
        try:
            key = Path(key_file).expanduser().read_text()
        except (OSError, RuntimeError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it cannot be read as text"
            raise CommandError(f"--{side}-key {key_file}: {reason}.", returncode=USAGE) from None
        if not is_encrypted(key):
            return {"ssh_key": key}
        passphrase = self._secret(f"Passphrase of {key_file}: ")
        if passphrase is None:
            raise CommandError(
                f"--{side}-key {key_file} needs a passphrase, and nobody can be asked for it: add the key to "
                "the SSH agent, or store a connection with both.",
                returncode=USAGE,
            )
        return {"ssh_key": key, "passphrase": passphrase}

    def _secret(self, question: str) -> str | None:
        """What the person at the terminal enters unseen; None where nobody is, or nothing comes."""
        if not sys.stdin.isatty():
            return None
        try:
            return getpass.getpass(question)
        except EOFError:
            self.stderr.write("")
            return None

    def _prompted(self, side: str, conn: Json) -> Json:
        password = self._secret(f"Password of {conn['username']}@{conn['host']}: ")
        if password is not None:
            return {"password": password}
        raise CommandError(
            f"The {side} needs --{side}-key FILE, a password in HAULIER_{side.upper()}_PASSWORD, "
            "a stored connection, or a key in the SSH agent.",
            returncode=USAGE,
        )

    def _ask(self, question: str) -> bool | None:
        """yes or no of the person at the terminal; None where nobody is."""
        if not sys.stdin.isatty():
            return None
        self.stderr.write(question, ending="")
        self.stderr.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    def _follower(self, job_id: UUID, *, as_json: bool) -> Follower:
        if as_json:
            return JsonLines(job_id, json_line(sys.stdout))
        if sys.stdout.isatty():
            return Bar(job_id, Console())
        return PlainLines(job_id, sys.stdout)

    def _say_how_it_ended(self, job: Job, options: Json) -> int:
        is_dry = bool(job.params.get("dry_run")) and job.status == "completed"
        if is_dry:
            for entry in planned_entries(job.pk):
                if options["json"]:
                    json_line(sys.stdout)({"event": "entry", "data": entry})
                else:
                    print_line(sys.stdout, planned_line(entry))
        if options["json"]:
            json_line(sys.stdout)(job_json(job))
        result = job.result or {}
        say = partial(print_line, sys.stderr if options["json"] else sys.stdout)
        if (found := result.get("comparison")) and job.status == "completed":
            say(found["message"])
        if is_dry:
            say(planned_summary(result["summary"]))
            return 0
        if job.status == "completed":
            proof = (result.get("verification_result") or {}).get("message", "Not verified.")
            say(f"Done: {summary(job.progress or {})}. {proof}")
            return 0
        if job.status == "paused":
            say(f"Paused. Go on with: {RESUME} {job.pk}")
            return INTERRUPTED
        if job.status in ("failed", "cancelled"):
            self.stderr.write(job.error_message or "The job was cancelled.")
            if job.status == "failed":
                self.stderr.write(f"What failed is done anew with: {RESUME} {job.pk}")
            return FAILED
        say(f"The job is {job.status}.")
        return FAILED


def _bandwidth(text: str | None) -> Json:
    """The limit of a request for what was typed. Raises CommandError."""
    if text is None:
        return {}
    try:
        return {"bandwidth_limit": float(text)}
    except ValueError:
        pass
    try:
        return {"bandwidth_timetable": timetable_of_steps(text)}
    except ValueError as error:
        raise CommandError(f"--bwlimit: {error}", returncode=USAGE) from None


def _pause_on_signals(worker: InlineWorker) -> None:
    def interrupted(number: int, frame: FrameType | None) -> None:
        # A signal handler may interrupt a lock of the thread that it runs in.
        threading.Thread(target=worker.stop, daemon=True).start()

    signal.signal(signal.SIGINT, interrupted)
    signal.signal(signal.SIGTERM, interrupted)


def _wrong_usage(error: ValidationError) -> CommandError:
    fields = flatten(error.detail)
    # A side's errors are about what was given for it, whatever its parts are called in the request.
    named = {_ARGUMENTS.get(name.partition(".")[0], name): messages for name, messages in fields.items()}
    return CommandError(sentence_of(named), returncode=USAGE)
