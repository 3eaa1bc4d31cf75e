"""How a child process learns that its supervisor is gone or wants it to end: its standard input closes."""

import sys
import threading
from collections.abc import Callable


def watch(on_end: Callable[[], None]) -> None:
    """Call `on_end` from a thread once standard input ends."""

    def wait() -> None:
        while sys.stdin.buffer.read(4096):
            pass
        on_end()

    threading.Thread(target=wait, name="lifeline", daemon=True).start()
