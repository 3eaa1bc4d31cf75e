"""`manage.py sign_in_link`: a new one-time link."""

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from sessions_app import accounts, addresses
from sessions_app.management.commands._people import add_user_argument, find_user


class Command(BaseCommand):
    help = "Print a new one-time sign-in link; links of the same account that were not used stop working."

    def add_arguments(self, parser: ArgumentParser) -> None:
        add_user_argument(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        token = accounts.create_sign_in_link(find_user(options["user"]))
        self.stdout.write(f"{addresses.last()}/sign-in/link/{token}")
