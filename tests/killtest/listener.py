"""Somebody who listens to a job's log all the time, and comes back with the last id whenever the line breaks."""

import threading
import time
from http.client import HTTPException

from tests.product import Product

_PATIENCE_S = 2.0
"""A stream that is silent for so long is left for another one, which is how the end is noticed, too."""


class Listener:
    """Hears the named events of a job from the first one on, in a thread of its own."""

    def __init__(self, product: Product, job_id: str) -> None:
        self.heard: list[tuple[int, int]] = []
        """Id and seq, in the order they came."""
        self.connections = 0
        self.problems: list[str] = []
        self._product = product
        self._path = f"/api/sessions/{job_id}/events"
        self._is_over = False
        self._thread = threading.Thread(target=self._run, name="listener", daemon=True)
        self._thread.start()

    def finish(self, last_seq: int, *, patience_s: float) -> None:
        """Wait until an event with this seq was heard, for so long at most, then hang up."""
        deadline = time.monotonic() + patience_s
        while (not self.heard or self.heard[-1][1] < last_seq) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._is_over = True
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over:
            try:
                self._listen()
            except (OSError, HTTPException):
                # That is what a kill looks like from here.
                time.sleep(0.05)
            except (AssertionError, ValueError) as error:
                self.problems.append(f"the listener got what no client reads: {error!r}")

    def _listen(self) -> None:
        last = str(self.heard[-1][0]) if self.heard else "0"
        with self._product.read_sse(
            self._path, headers={"Last-Event-ID": last}, timeout_s=_PATIENCE_S
        ) as stream:
            if stream.status != 200:
                self.problems.append(f"the listener was answered with {stream.status}")
                time.sleep(0.5)
                return
            self.connections += 1
            for frame in stream:
                if frame.id:
                    self.heard.append((int(frame.id), int(frame.data["seq"])))
                if self._is_over:
                    return
