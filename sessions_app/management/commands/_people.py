"""What the commands about people share."""

from argparse import ArgumentParser

from django.core.management.base import CommandError

from sessions_app import accounts
from sessions_app.models import User


def add_user_argument(parser: ArgumentParser) -> None:
    """`--user NAME`, the owner by default."""
    parser.add_argument(
        "--user", metavar="NAME", help="The account (default: the owner made on the first start)."
    )


def find_user(name: str | None) -> User:
    """The named account, or the owner; raises CommandError for an unknown name."""
    if name is None:
        return accounts.owner()
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise CommandError(f"There is no account named {name!r}.")
    return user
