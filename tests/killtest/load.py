"""A full load on SQLite: four workers and two web processes, and people who submit, list, listen and scan on both."""

import shutil
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.product import ENDED, Product
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree

WORKERS = 4
MOVERS, SCANNERS, READERS, LISTENERS = 4, 2, 4, 10
"""Half of each at either port."""
PATIENCE_S = 120.0
"""For the end of a job."""
LOCKED = "database is locked"


@dataclass
class Findings:
    """What they saw."""

    answers: Counter[int] = field(default_factory=Counter)
    """By status."""
    jobs: Counter[str] = field(default_factory=Counter)
    """By how they ended."""
    events: int = 0
    submit_s: list[float] = field(default_factory=list)
    list_s: list[float] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For people and programs."""
        return {
            "answers_by_status": {str(status): count for status, count in sorted(self.answers.items())},
            "jobs_by_end": dict(self.jobs),
            "events_heard": self.events,
            "submit_p50_ms": _ms(self.submit_s, 50),
            "submit_p99_ms": _ms(self.submit_s, 99),
            "list_p50_ms": _ms(self.list_s, 50),
            "list_p99_ms": _ms(self.list_s, 99),
            "violations": self.violations,
        }


def _ms(seconds: list[float], percent: int) -> float | None:
    return round(1000 * statistics.quantiles(seconds, n=100)[percent - 1], 1) if len(seconds) > 1 else None


def load(folder: Path, seconds: float) -> Findings:
    """Keep everybody busy for so long, then wait until all jobs have ended."""
    with ExitStack() as stack:
        host = stack.enter_context(OpenSshServer(has_shell=False))
        first = stack.enter_context(Product(folder / "product"))
        first.start(WORKERS)
        second = stack.enter_context(Product(folder / "product"))
        second.start(only="web")
        crowd = _Crowd(folder, host)
        crowd.keep_busy([first, second], seconds)
        printed = first.printed()
        lines = [line for line in printed.splitlines() if LOCKED in line or "did not answer" in line]
        crowd.found.violations += [f"printed: {line}" for line in lines[:10]]
        return crowd.found


class _Crowd:
    def __init__(self, folder: Path, host: OpenSshServer) -> None:
        self.found = Findings()
        self._folder, self._host = folder, host
        self._site = small_tree(folder / "site", folders=10, files=60, size_bytes=3000)
        self._is_over = threading.Event()

    def keep_busy(self, products: list[Product], seconds: float) -> None:
        """Everybody does their thing again and again, half of them at either port."""
        tasks: list[tuple[int, Callable[[Product, int], None]]] = [
            (MOVERS, self._move),
            (SCANNERS, self._scan),
            (READERS, self._read),
            (LISTENERS, self._listen),
        ]
        threads = [
            threading.Thread(target=self._repeat, args=(task, products[number % 2], number), daemon=True)
            for people, task in tasks
            for number in range(people)
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        self._is_over.set()
        for thread in threads:
            thread.join(2 * PATIENCE_S)

    def _repeat(self, task: Callable[[Product, int], None], product: Product, number: int) -> None:
        while not self._is_over.is_set():
            try:
                task(product, number)
            except TimeoutError:
                # Of a stream that was silent for a moment.
                continue
            except (AssertionError, OSError, HTTPException) as error:
                self.found.violations.append(f"{task.__name__[1:]}: {type(error).__name__}: {error}"[:500])
                return

    def _ask(self, product: Product, method: str, path: str, body: Any = None) -> Any:
        answer = product.request(method, path, body)
        self.found.answers[answer.status] += 1
        if answer.status >= 500 or LOCKED in str(answer.body):
            self.found.violations.append(
                f"{method} {path} was answered with {answer.status}: {answer.body}"[:500]
            )
        return answer.body

    def _do(self, product: Product, path: str, body: Any) -> str:
        started = time.monotonic()
        job = str(self._ask(product, "POST", path, body)["id"])
        self.found.submit_s.append(time.monotonic() - started)
        deadline = time.monotonic() + PATIENCE_S
        while (now := self._ask(product, "GET", f"/api/sessions/{job}"))["status"] not in ENDED:
            assert time.monotonic() < deadline, f"job {job} is {now['status']} still"
            time.sleep(0.05)
        self.found.jobs[now["status"]] += 1
        if now["status"] != "completed":
            self.found.violations.append(f"job {job} is {now['status']}: {now.get('error_message')}")
        return job

    def _move(self, product: Product, number: int) -> None:
        """Half of them to a server, half of them within this machine."""
        copy = self._folder / f"copy {number}"
        destination: dict[str, Any] = {"protocol": "local", "root_path": str(copy)}
        if number >= MOVERS / 2:
            destination = self._host.conn(copy)
        source = {"protocol": "local", "root_path": str(self._site)}
        job = self._do(product, "/api/transfer", {"source_config": source, "dest_config": destination})
        assert differences(self._site, copy) == "", "the copy differs"
        shutil.rmtree(copy)
        if number % 2:
            self._ask(product, "DELETE", f"/api/sessions/{job}")

    def _scan(self, product: Product, number: int) -> None:
        source = {"protocol": "local", "root_path": str(self._site)}
        self._do(product, "/api/scan", {"server_config": source})

    def _read(self, product: Product, number: int) -> None:
        started = time.monotonic()
        jobs = self._ask(product, "GET", "/api/sessions?limit=100")
        self.found.list_s.append(time.monotonic() - started)
        for job in jobs[:3]:
            self._ask(product, "GET", f"/api/sessions/{job['id']}/files?limit=100")
            self._ask(product, "GET", f"/api/sessions/{job['id']}/log")
        time.sleep(0.1)

    def _listen(self, product: Product, number: int) -> None:
        with product.read_sse("/api/events", timeout_s=5) as stream:
            assert stream.status == 200, f"the listener was answered with {stream.status}"
            for frame in stream:
                self.found.events += bool(frame.id)
                if self._is_over.is_set():
                    return
