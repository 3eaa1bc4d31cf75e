"""Opening a session on a connection that may break in the same moment."""

from collections.abc import Iterator
from contextlib import contextmanager

import asyncssh


@contextmanager
def opening() -> Iterator[None]:
    """Around what opens a session: raises asyncssh.ConnectionLost where its channel was closed meanwhile.

    asyncssh (2.24) starts the session all the same, which is not there any more, and fails with an AttributeError.
    """
    try:
        yield
    except AttributeError as error:
        if error.name != "session_started":
            raise
        raise asyncssh.ConnectionLost("Connection lost") from error
