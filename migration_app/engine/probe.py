"""A look at one side before anything depends on it: stage by stage, with times, rights and a sample of the speed."""

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from migration_app.storages.base import Answer, Features, Kind, Reader, Storage, Trace, Writer, ask
from migration_app.storages.errors import ConnectionLost, NotFound, OperationFailed, StorageError

LOOK_S = 5.5
"""For all that comes after connecting, so that a person has the answer within 15 s."""
CLEAN_UP_S = 1.0
SAMPLE_S = 1.0
"""For each direction."""
SAMPLE_BYTES = 4 * 2**20
FIRST_ROUND = 64 * 2**10
LATENCY_SAMPLES = 3
LATE = "The server did not answer in time."


@dataclass(frozen=True, slots=True)
class Stage:
    """One step: name or jump, port, handshake, host_key, login, session, list, write or read."""

    name: str
    state: str
    """ok, failed or skipped."""
    duration_s: float = 0.0
    message: str = ""


@dataclass(slots=True)
class Probe:
    """What was found. A right is None where it could not be tried."""

    stages: list[Stage] = field(default_factory=list)
    error: StorageError | None = None
    """Why the side cannot be used at all."""
    trace: Trace = field(default_factory=Trace)
    features: Features = field(default_factory=Features)
    connection_s: float = 0.0
    latency_s: float = 0.0
    upload_bps: float = 0.0
    """Bytes a second; 0 where nothing could be measured, like `download_bps`."""
    download_bps: float = 0.0
    is_missing: bool = False
    """Whether the root does not exist; a transfer to it would make it."""
    can_list: bool = False
    can_read: bool = False
    can_write: bool = False

    @contextlib.asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[None]:
        """Time a step and note how it ended."""
        started = time.monotonic()
        try:
            yield
        except StorageError as error:
            self._add(name, "failed", started, str(error))
            raise
        except asyncio.CancelledError:
            self._add(name, "failed", started, LATE)
            raise
        self._add(name, "ok", started)

    def _add(self, name: str, state: str, started: float, message: str = "") -> None:
        self.stages.append(Stage(name, state, time.monotonic() - started, message))


CONNECTING = ("name", "port", "handshake", "host_key", "login", "session")
CONNECTING_THROUGH = ("jump", *CONNECTING[1:])
"""A jump host resolves the name by itself."""


async def probe_storage(storage: Storage) -> Probe:
    """Connect, look, write and read a temporary file in the root, and disconnect. What fails is in the answer."""
    probe = Probe()
    started = time.monotonic()
    try:
        await storage.connect()
    except StorageError as error:
        probe.error = error
    probe.connection_s = time.monotonic() - started
    probe.trace = storage.trace
    if storage.address.protocol != "local":
        names = CONNECTING if storage.address.jump is None else CONNECTING_THROUGH
        probe.stages += _connecting(names, storage.trace, started, probe.error)
    if probe.error is not None:
        return probe
    try:
        async with asyncio.timeout(LOOK_S):
            await _look_around(storage, probe)
    except StorageError as error:
        probe.error = error
    except TimeoutError:
        if not probe.can_list:
            probe.error = OperationFailed(LATE)
    finally:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLEAN_UP_S):
                await storage.close()
    return probe


def _connecting(
    names: Sequence[str], trace: Trace, started: float, error: StorageError | None
) -> list[Stage]:
    stages = []
    before = started
    for name, at in trace.reached.items():
        stages.append(Stage(name, "ok", at - before))
        before = at
    left = [name for name in names if name not in trace.reached]
    if error is not None and left:
        stages.append(Stage(left[0], "failed", time.monotonic() - before, str(error)))
        left = left[1:]
    return stages + [Stage(name, "skipped") for name in left]


async def _look_around(storage: Storage, probe: Probe) -> None:
    asked = asyncio.ensure_future(storage.features())
    try:
        listed = await _list(storage, probe)
        if probe.can_list:
            await _try_writing(storage, probe)
        else:
            probe.stages.append(Stage("write", "skipped"))
        if probe.can_list and not probe.can_write:
            await _try_reading(storage, probe, listed)
        probe.features = await asked
    finally:
        if asked.done() and not asked.cancelled() and asked.exception() is None:
            probe.features = asked.result()
        asked.cancel()


async def _list(storage: Storage, probe: Probe) -> list[tuple[bytes, int]]:
    """The root's files with their sizes."""
    try:
        async with probe.stage("list"):
            await storage.root_entry()
            times = []
            for _ in range(LATENCY_SAMPLES):
                asked_at = time.monotonic()
                await storage.root_entry()
                times.append(time.monotonic() - asked_at)
            probe.latency_s = min(times)
            found = await ask(partial(storage.list_folder, b""))
    except NotFound:
        probe.is_missing = True
        return []
    probe.can_list = True
    return [(entry.path, entry.size) for entry in found.entries if entry.kind is Kind.FILE]


async def _try_writing(storage: Storage, probe: Probe) -> None:
    """Write a file that nobody can guess, read it back, remove it."""
    path = f".haulier-probe-{secrets.token_hex(12)}".encode()
    data = os.urandom(SAMPLE_BYTES)
    try:
        async with probe.stage("write"):
            writer = await ask(partial(storage.open_writer, path))
            size = await _upload(storage, probe, writer, data)
        probe.can_write = True
        async with probe.stage("read"):
            reader = await ask(partial(storage.open_reader, path))
            if not data.startswith(await _download(storage, probe, reader, size)):
                raise OperationFailed("What was read back is not what was written.")
        probe.can_read = True
    except ConnectionLost:
        raise
    except StorageError:
        # The stage has the reason; the rest may work.
        return
    finally:
        with contextlib.suppress(StorageError, TimeoutError):
            async with asyncio.timeout(CLEAN_UP_S):
                await ask(partial(storage.remove, path))


async def _upload(storage: Storage, probe: Probe, writer: Writer, data: bytes) -> int:
    """Write as much of the data as its time allows; how much that was."""
    try:
        size, probe.upload_bps = await _sample(
            storage,
            len(data),
            lambda offset, length: ask(partial(writer.write, offset, data[offset : offset + length])),
        )
        now = int(time.time())

        def finish(answer: Answer[None]) -> None:
            writer.finish(mode=0o600, mtime=now, size=size, answer=answer)

        await ask(finish)
    finally:
        writer.close()
    return size


async def _try_reading(storage: Storage, probe: Probe, files: list[tuple[bytes, int]]) -> None:
    """Read from the largest file that is there; where there is none, listing is all that can be known."""
    if not files:
        probe.can_read = True
        return
    path, size = max(files, key=lambda file: file[1])
    try:
        async with probe.stage("read"):
            reader = await ask(partial(storage.open_reader, path))
            await _download(storage, probe, reader, min(size, SAMPLE_BYTES))
    except ConnectionLost:
        raise
    except StorageError:
        return
    probe.can_read = True


async def _download(storage: Storage, probe: Probe, reader: Reader, size: int) -> bytes:
    pieces: dict[int, bytes] = {}

    async def read(offset: int, length: int) -> None:
        pieces[offset] = await ask(partial(reader.read, offset, length))

    try:
        _, probe.download_bps = await _sample(storage, size, read)
    finally:
        reader.close()
    return b"".join(pieces[offset] for offset in sorted(pieces))


async def _sample(
    storage: Storage, most: int, move: Callable[[int, int], Awaitable[None]]
) -> tuple[int, float]:
    """Move up to `most` bytes in rounds that double while there is time; how many, and the best round's rate."""
    offset, length, best_bps = 0, FIRST_ROUND, 0.0
    started = time.monotonic()
    while offset < most:
        end = min(offset + length, most)
        begun = time.monotonic()
        step = storage.capabilities.chunk_size
        await asyncio.gather(*(move(at, min(step, end - at)) for at in range(offset, end, step)))
        now = time.monotonic()
        best_bps = max(best_bps, (end - offset) / max(now - begun, 1e-6))
        offset, length = end, length * 2
        if now - started + length / best_bps > SAMPLE_S:
            break
    return offset, best_bps


_ADVICE = {
    "name": "Look at how the host is spelled.",
    "jump": "Look at the jump host, and at who we are there.",
    "port": "Look at host and port, and whether a firewall is in between.",
    "handshake": "Look at the port: something else than an SSH server may listen there.",
    "host_key": "Ask whoever runs the server for its fingerprint before you trust it.",
    "login": "Look at user name, password and key.",
    "session": "Ask the hoster to switch SFTP on for this account.",
    "list": "Look at the folder and at who may open it.",
}


def verdict(probe: Probe, root: str) -> str:
    """What it all means, in words for people."""
    if probe.error is not None:
        failed = next((stage.name for stage in probe.stages if stage.state == "failed"), "")
        return f"{probe.error} {_ADVICE.get(failed, '')}".strip()
    if probe.is_missing:
        return f"It can be reached, but {root} does not exist. A transfer to it would make it."
    speeds = [
        f"about {bps / 1e6:.3g} MB/s {way}"
        for way, bps in (("up", probe.upload_bps), ("down", probe.download_bps))
        if bps
    ]
    speed = f" Measured: {', '.join(speeds)}." if speeds else ""
    if probe.can_read and probe.can_write:
        return f"Ready as source and destination: {root} can be listed, read and written.{speed}"
    if probe.can_read:
        why = next((stage.message for stage in probe.stages if stage.name == "write"), "")
        return f"Good as a source only, since nothing can be written in {root}: {why}{speed}"
    return f"{root} can be listed, but reading a file in it failed.{speed}"
