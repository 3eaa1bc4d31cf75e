"""How a child process learns that its supervisor is gone or wants it to end: its standard input closes."""

import os
import threading
from collections.abc import Callable


def watch(on_end: Callable[[], None]) -> None:
    """Call `on_end` from a thread once standard input ends."""

    def wait() -> None:
        # Not through sys.stdin: this thread would hold its lock when the interpreter ends.
        while os.read(0, 4096):
            pass
        on_end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
