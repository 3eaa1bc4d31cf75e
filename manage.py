#!/usr/bin/env python3
"""Haulier's command line; `manage.py help` lists the commands."""

import os
import sys


def open_closed_streams() -> None:
    """Standard streams that are closed lead nowhere: else the next file that is opened, as the database, is one."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, number)
            if nowhere != number:
                os.close(nowhere)
            setattr(sys, name, os.fdopen(number, "w" if number else "r"))


def main() -> None:
    open_closed_streams()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.exceptions import ImproperlyConfigured  # noqa: PLC0415 - not before the settings are named
    from django.core.management import execute_from_command_line  # noqa: PLC0415
    from django.db import OperationalError, ProgrammingError  # noqa: PLC0415

    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        # Most often a variable of the environment: its sentence says which.
        sys.exit(f"Haulier cannot start: {error}")
    except (OperationalError, ProgrammingError) as error:
        if "--traceback" in sys.argv:
            raise
        sys.exit(
            f"The database does not do its part: {error}. If it is new or of an earlier version, run "
            "`manage.py migrate`; --traceback tells more."
        )


if __name__ == "__main__":
    main()
