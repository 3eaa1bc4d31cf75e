"""Attributes of folders, set from below."""

import asyncio

import pytest

from migration_app.engine.folders import set_attributes
from migration_app.engine.transfer import Done
from migration_app.storages.base import Entry, Kind
from migration_app.storages.errors import AttributesRefused, ConnectionLost, PermissionDenied
from tests.engine.memory_storage import MemoryStorage

LATENCIES = [0.0, 0.003]


def tree(latency_s: float) -> tuple[MemoryStorage, list[Entry]]:
    """A destination with folders, and what they should be: none of them lets anybody in."""
    destination = MemoryStorage(latency_s=latency_s)
    for number in range(1500):
        destination.add(b"a%d/b%d/c%d" % (number % 3, number % 30, number), kind=Kind.FOLDER, mode=0o700)
    wanted = [Entry(path, Kind.FOLDER, 0, 1000 + len(path), 0o600) for path in destination.nodes]
    return destination, wanted


async def set_all(destination: MemoryStorage, folders: list[Entry]) -> list[Done]:
    """Everything that was set."""
    return [done async for batch in set_attributes(destination, folders) for done in batch]


@pytest.mark.parametrize("latency_s", LATENCIES)
def test_parent_is_set_after_all_below_it(latency_s: float) -> None:
    destination, wanted = tree(latency_s)
    done = asyncio.run(set_all(destination, wanted))
    assert sorted(one.number for one in done) == list(range(len(wanted)))
    assert all(one.error is None and one.path == wanted[one.number].path for one in done)
    assert all(destination.nodes[entry.path].mtime == entry.mtime for entry in wanted)
    assert all(destination.nodes[entry.path].mode == 0o600 for entry in wanted)


def test_folders_between_may_be_missing_from_the_list() -> None:
    destination, wanted = tree(0.003)
    some = [entry for entry in wanted if b"/b" not in entry.path or b"/c" in entry.path]
    assert all(one.error is None for one in asyncio.run(set_all(destination, some)))


def test_failure_is_told_and_the_rest_goes_on() -> None:
    destination, wanted = tree(0.003)
    destination.hook = lambda _, path: PermissionDenied("No.") if path == b"a1/b1" else None
    done = asyncio.run(set_all(destination, wanted))
    assert [one.path for one in done if one.error is not None] == [b"a1/b1"]
    assert len(done) == len(wanted)


def test_refused_attributes_are_no_failure() -> None:
    destination, wanted = tree(0.003)
    destination.hook = lambda _, path: AttributesRefused("No.") if path == b"a1/b1" else None
    done = asyncio.run(set_all(destination, wanted))
    assert [one.error for one in done] == [None] * len(wanted)
    assert [one.path for one in done if one.refusal is not None] == [b"a1/b1"]


def test_lost_connection_is_raised_after_what_was_done() -> None:
    destination, wanted = tree(0.003)
    done: list[Done] = []

    def cut(operation: str, path: bytes) -> None:
        if len(destination.calls) > 400:
            destination.lose()

    destination.hook = cut

    async def go() -> None:
        async for batch in set_attributes(destination, wanted):
            done.extend(batch)

    with pytest.raises(ConnectionLost):
        asyncio.run(go())
    assert 100 < len(done) < 500


def test_no_folders_are_no_batch() -> None:
    assert asyncio.run(set_all(MemoryStorage(), [])) == []
