"""Many who listen, to event streams and WebSockets, while the web process is killed; part of script/bench.

Each account has some jobs of a runner that writes a line into the log for each step; they run one after another, and
in the middle of each but the last one the web process is killed. One half of the listeners hears all jobs of its
account, the other half one job, each from the first event on. Who is cut off comes back with its last id, as browsers
do, and everybody must have heard each event once, in order.
"""

import argparse
import asyncio
import json
import random
import resource
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from tests.product import Product
from tests.sessions.engine import Engine

KILLS = 3
AT_ONCE = 100
"""Connections that are opened at once at first; after a kill all come back when they like."""
PATIENCE_S = 300.0
STEP_S = 0.02
SHARDS = 4

_PREPARE = """
import django, json, sys
django.setup()
from sessions_app import accounts, control, jobs
from sessions_app.models import User
from sessions_app.runners import Submission
params = json.loads(sys.argv[2])
for number in range(int(sys.argv[1])):
    user = User.objects.create(username=f"listener{number}")
    made = [jobs.submit(Submission("demo", user.pk, "t", params, {}))[0] for _ in range(int(sys.argv[3]))]
    for job in made:
        control.pause(job.pk)
    print(accounts.create_token(user), *(job.pk for job in made))
"""
_COUNT = """
import django, json
django.setup()
from sessions_app.models import Job
print(json.dumps({str(pk): seq for pk, seq in Job.objects.values_list("pk", "event_seq")}))
"""


@dataclass
class Account:
    """Somebody with some jobs."""

    token: str
    jobs: list[str]


@dataclass(eq=False)
class Listener:
    """A client that comes back whenever it is cut off, and what it has heard."""

    token: str
    jobs: list[str]
    path: str
    is_socket: bool
    port: int
    last_id: int = 0
    seqs: dict[str, list[int]] = field(default_factory=dict)
    """What it has heard of each job."""
    delays_s: list[float] = field(default_factory=list)
    """From the instant in an event to its arrival, of those that happened while it was connected."""
    back_at: float = 0.0
    """When it was last connected."""
    disorders: int = 0
    ended: int = 0

    @property
    def has_ended(self) -> bool:
        """Whether it has heard the end of all its jobs."""
        return self.ended == len(self.jobs)

    async def listen(self) -> None:
        """Hear everything up to the end of the jobs."""
        while not self.has_ended:
            try:
                messages = self._hear_socket() if self.is_socket else self._hear_stream()
                async for number, data in messages:
                    self._note(number, data)
                    if self.has_ended:
                        break
            except (OSError, EOFError, ConnectionClosed, InvalidHandshake, TimeoutError):
                pass
            if not self.has_ended:
                self.back_at = 0.0
                await asyncio.sleep(random.uniform(0.2, 1.0))

    def _note(self, number: int, data: dict[str, Any]) -> None:
        at = datetime.fromisoformat(data["at"]).timestamp()
        if at > self.back_at:
            self.delays_s.append(time.time() - at)
        if number <= self.last_id:
            self.disorders += 1
        self.last_id = number
        self.seqs.setdefault(data["job_id"], []).append(data["seq"])
        self.ended += "result" in data

    @property
    def _target(self) -> str:
        return f"{self.path}?after={self.last_id}"

    async def _hear_socket(self) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        async with connect(
            f"ws://127.0.0.1:{self.port}{self._target}",
            additional_headers={"Authorization": f"Bearer {self.token}"},
            compression=None,
            open_timeout=60,
            ping_interval=None,
            proxy=None,
        ) as socket:
            self.back_at = time.time()
            async for text in socket:
                message = json.loads(text)
                if "id" in message:
                    yield message["id"], message["data"]

    async def _hear_stream(self) -> AsyncIterator[tuple[int, dict[str, Any]]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            # HTTP/1.0 has no chunks.
            writer.write(
                f"GET {self._target} HTTP/1.0\r\nHost: 127.0.0.1:{self.port}\r\n"
                f"Authorization: Bearer {self.token}\r\n\r\n".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " not in head.split(b"\r\n", 1)[0]:
                raise OSError(head.decode())
            self.back_at = time.time()
            rest = b""
            while chunk := await reader.read(65536):
                *frames, rest = (rest + chunk).split(b"\n\n")
                for frame in frames:
                    # Progress has no id, and a sign of life is a comment.
                    if frame.startswith(b"id: "):
                        number, _, data = frame.split(b"\n", 2)
                        yield int(number[4:]), json.loads(data[6:])
        finally:
            writer.close()


def measure_listeners(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Figures of `options.listeners` streams and a fifth as many sockets; `success`: whether all heard everything."""
    streams, sockets = options.listeners, max(1, options.listeners // 5)
    _allow_files(2 * (streams + sockets) + 200)
    with Engine(folder / "listeners", HAULIER_LEASE_S="60") as product:
        product.migrate()
        params = {"shards": SHARDS, "steps": options.steps, "pause_s": STEP_S, "tells": True}
        lines = product.python("-c", _PREPARE, str(options.accounts), json.dumps(params), str(KILLS + 1))
        accounts = [Account(token, jobs) for token, *jobs in map(str.split, lines.splitlines())]
        product.start(workers=options.workers, no_login=False)
        return asyncio.run(_Run(product, accounts, streams, sockets, options.steps * SHARDS).measure())


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count if hard == -1 else min(count, hard), hard))


class _Run:
    def __init__(
        self, product: Product, accounts: list[Account], streams: int, sockets: int, lines: int
    ) -> None:
        self._product = product
        self._accounts = accounts
        self._lines = lines
        self._streams = [self._listener(number, is_socket=False) for number in range(streams)]
        self._sockets = [self._listener(number, is_socket=True) for number in range(sockets)]
        self._all = self._streams + self._sockets
        self._tasks: list[asyncio.Task[None]] = []

    def _listener(self, number: int, *, is_socket: bool) -> Listener:
        pair = number // 2
        account = self._accounts[pair % len(self._accounts)]
        port = self._product.port
        if number % 2 == 0:
            path = "/ws/events" if is_socket else "/api/events"
            return Listener(account.token, account.jobs, path, is_socket, port)
        job = account.jobs[pair // len(self._accounts) % len(account.jobs)]
        path = f"/ws/sessions/{job}" if is_socket else f"/api/sessions/{job}/events"
        return Listener(account.token, [job], path, is_socket, port)

    async def measure(self) -> dict[str, Any]:
        # The first ones start threads and load modules, which is no matter of how many there are.
        first, rest = self._streams[:AT_ONCE], self._streams[AT_ONCE:]
        await self._open(first)
        resting = self._memory()
        await self._open(rest)
        with_streams = self._memory()
        await self._open(self._sockets)
        with_sockets = self._memory()
        back_s = []
        for turn in range(KILLS + 1):
            for account in self._accounts:
                await asyncio.to_thread(self._resume, account, account.jobs[turn])
            if turn < KILLS:
                back_s.append(await self._kill({account.jobs[turn] for account in self._accounts}))
        _, late = await asyncio.wait(self._tasks, timeout=PATIENCE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        counted = json.loads(await asyncio.to_thread(self._product.python, "-c", _COUNT))
        return self._verdict(counted) | {
            "streams": len(self._streams),
            "sockets": len(self._sockets),
            "accounts": len(self._accounts),
            "kills": KILLS,
            "back_s": [round(seconds, 1) for seconds in back_s],
            "kib_per_stream": round((with_streams - resting) / 1024 / len(rest), 1) if rest else None,
            "kib_per_socket": round((with_sockets - with_streams) / 1024 / len(self._sockets), 1),
            "web_mib": round(with_sockets / 2**20),
        }

    def _web(self) -> psutil.Process:
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self._product.children("web")):
            if time.monotonic() > deadline:
                raise RuntimeError("the web process did not come back")
            time.sleep(0.05)
        return found[0]

    def _memory(self) -> int:
        return int(self._web().memory_info().rss)

    async def _open(self, listeners: list[Listener]) -> None:
        for start in range(0, len(listeners), AT_ONCE):
            some = listeners[start : start + AT_ONCE]
            self._tasks += [asyncio.create_task(listener.listen()) for listener in some]
            await self._until(lambda some=some: all(listener.seqs for listener in some))

    async def _until(self, condition: Any) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline:
                raise RuntimeError("the listeners waited in vain")
            await asyncio.sleep(0.05)

    def _resume(self, account: Account, job: str) -> None:
        headers = {"Authorization": f"Bearer {account.token}"}
        answer = self._product.post(f"/api/sessions/{job}/resume", headers=headers)
        if answer.status != 200:
            raise RuntimeError(f"a job could not be resumed: {answer}")

    async def _kill(self, jobs: set[str]) -> float:
        """Kill the web process when those who hear them have heard half of some jobs; seconds until all are back."""

        def heard() -> float:
            return statistics.median(
                len(seqs) for one in self._all for job, seqs in one.seqs.items() if job in jobs
            )

        await self._until(lambda: heard() >= self._lines / 2)
        killed_at = time.time()
        (await asyncio.to_thread(self._web)).kill()
        await self._until(lambda: all(one.back_at > killed_at or one.has_ended for one in self._all))
        return time.time() - killed_at

    def _verdict(self, counted: dict[str, int]) -> dict[str, Any]:
        lost = doubled = disorders = 0
        for one in self._all:
            disorders += one.disorders
            for job in one.jobs:
                seqs = one.seqs.get(job, [])
                lost += counted[job] - len(set(seqs))
                doubled += len(seqs) - len(set(seqs))
                disorders += seqs != sorted(seqs)
        delays_ms = sorted(1000 * delay for one in self._all for delay in one.delays_s)
        return {
            "events": sum(counted.values()),
            "heard": sum(len(seqs) for one in self._all for seqs in one.seqs.values()),
            "lost": lost,
            "doubled": doubled,
            "out_of_order": disorders,
            "delay_ms": {
                name: round(delays_ms[min(len(delays_ms) - 1, int(len(delays_ms) * share))])
                for name, share in (("p50", 0.5), ("p99", 0.99), ("max", 1.0))
            },
            "success": not (lost or doubled or disorders),
        }


def listeners_table(found: dict[str, Any]) -> str:
    """For people, from the JSON."""
    delays = found["delay_ms"]
    return "\n".join(
        (
            f"{found['streams']:,} event streams and {found['sockets']:,} WebSockets of {found['accounts']} accounts",
            f"{found['events']:,} events, heard {found['heard']:,} times over {found['kills']} kills of the web "
            f"process: {found['lost']} lost, {found['doubled']} doubled, {found['out_of_order']} out of order",
            f"all were back after {', '.join(map(str, found['back_s']))} s",
            f"from event to listener: median {delays['p50']} ms, p99 {delays['p99']} ms, at most {delays['max']} ms",
            f"memory: {found['kib_per_stream'] or '—'} KiB for a stream, {found['kib_per_socket']} KiB for a socket; "
            f"the web process had {found['web_mib']} MiB",
        )
    )
