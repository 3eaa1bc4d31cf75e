"""Large files go on where an earlier attempt stopped, when what is there is proved to be right."""

import asyncio
import os
from collections.abc import Mapping

import pytest

from migration_app.engine import beginnings
from migration_app.engine.file_copies import KEEP_FROM
from migration_app.engine.transfer import Beginning, Item, Pace, TransferBatch, transfer_items
from migration_app.storages.base import Kind
from migration_app.storages.errors import ConnectionLost
from tests.engine.memory_storage import MemoryStorage
from tests.engine.trees import items_of

pytestmark = pytest.mark.slow

SIZE = 3 * KEEP_FROM
RATE = 4e6
"""Slow enough, in bytes a second, to be stopped in the middle."""
CONTENT = os.urandom(2**20) * (SIZE // 2**20)


@pytest.fixture
def source() -> MemoryStorage:
    storage = MemoryStorage(chunk_size=2**16)
    storage.add(b"large", CONTENT)
    storage.add(b"small", b"x" * 1000)
    return storage


def items_in(source: MemoryStorage) -> list[Item]:
    return items_of(entry for path in source.nodes if (entry := source.entry(path)).kind is Kind.FILE)


def number_of(items: list[Item], path: bytes) -> int:
    return next(item.number for item in items if item.entry.path == path)


def interrupted(
    source: MemoryStorage,
    destination: MemoryStorage,
    partial: Mapping[int, int] | None = None,
    *,
    keeps: bool = True,
    at_once: int | None = None,
) -> Mapping[int, int]:
    """Stop as soon as there is a part of the large file; gives what the next attempt can go on from."""

    async def go() -> Mapping[int, int]:
        batches = transfer_items(
            source,
            destination,
            items_in(source),
            pace=Pace(RATE),
            at_once=at_once,
            partial=partial,
            keeps=lambda: keeps,
        )
        async for batch in batches:
            if batch.partial:
                break
        await batches.aclose()
        return batch.partial

    found = asyncio.run(go())
    assert (source.handles, destination.handles) == (0, 0)
    return found


def finished(
    source: MemoryStorage, destination: MemoryStorage, partial: Mapping[int, int]
) -> list[TransferBatch]:
    async def go() -> list[TransferBatch]:
        left = [item for item in items_in(source) if item.entry.path not in destination.nodes]
        return [batch async for batch in transfer_items(source, destination, left, partial=partial)]

    batches = asyncio.run(go())
    assert [one.error for batch in batches for one in batch.done if one.error] == []
    assert destination.nodes[b"large"] == source.nodes[b"large"]
    assert destination.temps == []
    return batches


def test_stopped_file_goes_on_after_its_proved_beginning(source: MemoryStorage) -> None:
    destination = MemoryStorage(chunk_size=2**16)
    partial = interrupted(source, destination)
    number = number_of(items_in(source), b"large")
    assert list(partial) == [number]
    assert KEEP_FROM <= partial[number] < SIZE
    assert len(destination.temps) == 1
    source.calls.clear()
    batches = finished(source, destination, partial)
    beginning = Beginning(number, b"large", partial[number], is_read_back=True)
    assert [one for batch in batches for one in batch.beginnings] == [beginning]
    assert batches[0].partial == partial
    assert [one.resumed for batch in batches for one in batch.done if one.number == number] == [
        partial[number]
    ]


def test_beginning_that_is_another_one_is_not_gone_on_with(source: MemoryStorage) -> None:
    destination = MemoryStorage(chunk_size=2**16)
    partial = interrupted(source, destination)
    (temp,) = destination.temps
    destination.nodes[temp].content[1000] ^= 1
    batches = finished(source, destination, partial)
    assert [beginning.bytes for beginning in batches[0].beginnings] == [0]
    assert [one.resumed for batch in batches for one in batch.done if one.path == b"large"] == [0]


@pytest.mark.parametrize("length", [0, 1000])
def test_file_that_is_gone_or_shorter_than_noted_starts_over(source: MemoryStorage, length: int) -> None:
    destination = MemoryStorage(chunk_size=2**16)
    partial = interrupted(source, destination)
    (temp,) = destination.temps
    if length:
        del destination.nodes[temp].content[length:]
    else:
        del destination.nodes[temp]
    assert [beginning.bytes for beginning in finished(source, destination, partial)[0].beginnings] == [0]


def test_nothing_stays_when_nobody_will_go_on(source: MemoryStorage) -> None:
    destination = MemoryStorage(chunk_size=2**16)
    interrupted(source, destination, keeps=False)
    assert destination.temps == []


def test_attempt_that_is_stopped_before_it_got_on_leaves_what_there_was(source: MemoryStorage) -> None:
    destination = MemoryStorage(chunk_size=2**16)
    partial = interrupted(source, destination)
    assert interrupted(source, destination, partial) == partial
    assert len(destination.temps) == 1
    finished(source, destination, partial)


def test_connection_that_breaks_leaves_what_there_is(source: MemoryStorage) -> None:
    destination = MemoryStorage(chunk_size=2**16)
    partial: Mapping[int, int] = {}

    async def go() -> None:
        nonlocal partial
        async for batch in transfer_items(
            source, destination, items_in(source), pace=Pace(RATE), keeps=lambda: True
        ):
            partial = batch.partial
            if partial:
                source.lose()

    with pytest.raises(ConnectionLost):
        asyncio.run(go())
    source.lost = None
    finished(source, destination, partial)
    assert partial


def test_what_is_there_is_noted_also_with_one_file_at_once(source: MemoryStorage) -> None:
    destination = MemoryStorage(chunk_size=2**16)
    partial = interrupted(source, destination, at_once=1)
    assert partial[number_of(items_in(source), b"large")] >= KEEP_FROM
    finished(source, destination, partial)


def test_what_was_proved_before_the_connection_broke_again_is_not_read_twice(
    source: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(beginnings, "PIECE", 2**18)
    destination = MemoryStorage(chunk_size=2**16)
    partial = interrupted(source, destination)
    number = number_of(items_in(source), b"large")
    proved: dict[int, int] = {}

    async def go(breaks: bool) -> list[TransferBatch]:
        batches: list[TransferBatch] = []
        async for batch in transfer_items(
            source, destination, items_in(source), partial=partial, proved=proved
        ):
            batches.append(batch)
            if breaks and len(batches) == 2:
                source.lose()
        return batches

    with pytest.raises(ConnectionLost):
        asyncio.run(go(True))
    assert proved == {number: 2**19}
    source.lost = None
    source.calls.clear()
    batches = asyncio.run(go(False))
    assert [one.bytes for batch in batches for one in batch.beginnings] == [partial[number]]
    # Each byte once: to be proved, or to be copied.
    assert source.calls.count(("read", b"large")) == (SIZE - 2**19) // 2**16
    assert destination.nodes[b"large"] == source.nodes[b"large"]
