"""`manage.py create_token`: a new API token."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from sessions_app import accounts
from sessions_app.management.commands._people import add_user_argument, find_user


class Command(BaseCommand):
    help = (
        "Print a new API token, alone on standard output. It is shown this once; "
        "send it as `Authorization: Bearer …`."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_user_argument(parser)
        parser.add_argument("--label", metavar="L", default="", help="What the token is for.")

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(accounts.create_token(find_user(options["user"]), label=options["label"]))
