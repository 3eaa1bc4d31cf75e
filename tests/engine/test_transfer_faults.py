"""What a transfer does when something goes wrong, on storages that answer late, out of order, or with errors."""

import asyncio
import time
from collections.abc import Sequence

import pytest

from migration_app.engine.transfer import Done, Item, Pace, TransferBatch, transfer_items
from migration_app.storages.base import Entry, Kind
from migration_app.storages.errors import (
    AttributesRefused,
    ConnectionLost,
    NoSpace,
    PermissionDenied,
    SourceChanged,
    StorageError,
)
from tests.engine.memory_storage import MTIME, MemoryStorage
from tests.engine.trees import copy, errors, items_of

LATENCIES = [0.0, 0.004]


def file_items(source: MemoryStorage) -> list[Item]:
    """All files and links of a source, but none of its folders."""
    entries = [source.entry(path) for path in source.nodes]
    return items_of(entry for entry in entries if entry.kind is not Kind.FOLDER)


def some_files(source: MemoryStorage, count: int = 50) -> None:
    """Files in folders, three deep."""
    for number in range(count):
        source.add(b"a%d/b%d/c%d/f%d" % (number % 2, number % 3, number % 5, number), b"x" * number * 50)


def assert_is_copy(source: MemoryStorage, destination: MemoryStorage) -> None:
    """All files are the same on both sides."""
    for path, node in source.nodes.items():
        if node.kind is not Kind.FOLDER:
            assert destination.nodes[path] == node
    assert destination.nodes.keys() == source.nodes.keys()


def run(source: MemoryStorage, destination: MemoryStorage, items: Sequence[Item]) -> dict[bytes, Done]:
    """Copy; nothing may be left open or under a temp name."""
    done = asyncio.run(copy(source, destination, items))
    assert (source.handles, destination.handles, destination.temps) == (0, 0, [])
    return done


@pytest.mark.parametrize("latency_s", LATENCIES)
def test_folders_above_are_made_though_answers_come_in_any_order(latency_s: float) -> None:
    source, destination = MemoryStorage(latency_s=latency_s), MemoryStorage(latency_s=latency_s)
    some_files(source)
    source.add(b"d/e/f/g/h/link", kind=Kind.LINK, target=b"../x", mode=0o777)
    items = file_items(source)
    assert errors(run(source, destination, items)) == {}
    assert_is_copy(source, destination)


def test_requests_below_a_new_folder_do_not_wait_for_it() -> None:
    source, destination = MemoryStorage(), MemoryStorage(latency_s=0.02)
    source.add(b"a/b/c", b"1")
    assert errors(run(source, destination, file_items(source))) == {}
    assert [path for _, path in destination.calls[:3]] == [b"a", b"a/b", b"a/b/.haulier-%024x" % 0]


def test_known_folders_are_not_made() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"a/b/c", b"1")
    destination.add(b"a", kind=Kind.FOLDER)

    async def go() -> None:
        async for _ in transfer_items(source, destination, file_items(source), folders_known=[b"a"]):
            pass

    asyncio.run(go())
    assert [path for name, path in destination.calls if name == "make_folder"] == [b"a/b"]


@pytest.mark.parametrize("latency_s", LATENCIES)
def test_failed_folder_fails_what_is_below_it_and_nothing_else(latency_s: float) -> None:
    def refuse(operation: str, path: bytes) -> StorageError | None:
        return PermissionDenied("No.") if (operation, path) == ("make_folder", b"a") else None

    source = MemoryStorage(latency_s=latency_s)
    destination = MemoryStorage(latency_s=latency_s, hook=refuse)
    source.add(b"a/b/c/one", b"1")
    source.add(b"a/b/link", kind=Kind.LINK, target=b"t")
    source.add(b"z/two", b"2")
    done = run(source, destination, items_of(source.entry(path) for path in source.nodes if path))
    below = "The folder a could not be made: No."
    assert errors(done) == {
        b"a": "No.",
        b"a/b": below,
        b"a/b/c": below,
        b"a/b/c/one": below,
        b"a/b/link": below,
    }
    assert isinstance(done[b"a/b/c/one"].error, PermissionDenied)
    assert b"z/two" in destination.nodes


@pytest.mark.parametrize("latency_s", LATENCIES)
def test_folder_that_is_not_one_gets_nothing_written_through_it(latency_s: float) -> None:
    # A link has the folder's name, and the server follows it when a file is opened below.
    source, destination = MemoryStorage(), MemoryStorage(latency_s=latency_s)
    source.add(b"a/one", b"1")
    destination.add(b"a", kind=Kind.LINK, target=b"/etc")
    destination._missing_parent = lambda path: None  # type: ignore[method-assign]
    done = run(source, destination, file_items(source))
    assert list(errors(done)) == [b"a/one"]
    assert destination.count("write") == destination.count("rename") == 0


@pytest.mark.parametrize("latency_s", LATENCIES)
@pytest.mark.parametrize(
    "operation", ["open_writer", "write", "finish", "rename", "open_reader", "read", "measure"]
)
def test_failing_file_leaves_its_neighbours_alone(operation: str, latency_s: float) -> None:
    def fail(asked: str, path: bytes) -> StorageError | None:
        is_bad = path in (b"f7", b".haulier-%024x" % 7)
        return NoSpace("The disk is full.") if asked == operation and is_bad else None

    source = MemoryStorage(latency_s=latency_s, hook=fail)
    destination = MemoryStorage(latency_s=latency_s, hook=fail)
    for number in range(20):
        source.add(b"f%d" % number, b"y" * 5500)
    done = run(source, destination, file_items(source))
    assert list(errors(done)) == [b"f7"]
    assert isinstance(done[b"f7"].error, NoSpace)
    assert b"f7" not in destination.nodes
    assert len(done) == 20
    assert len(destination.nodes) == 20


@pytest.mark.parametrize("latency_s", LATENCIES)
@pytest.mark.parametrize("change", ["shorter", "longer", "touched", "gone"])
def test_file_that_changes_while_it_is_read_is_not_published(change: str, latency_s: float) -> None:
    def alter(operation: str, path: bytes) -> None:
        if (operation, path) == ("open_reader" if change == "gone" else "read", b"changing"):
            node = source.nodes[b"changing"]
            if change == "shorter":
                del node.content[1500:]
            elif change == "longer":
                node.content += b"more"
            elif change == "touched":
                node.mtime += 1
            else:
                del source.nodes[b"changing"]

    source = MemoryStorage(latency_s=latency_s, hook=alter)
    destination = MemoryStorage(latency_s=latency_s)
    source.add(b"changing", b"z" * 3000)
    source.add(b"quiet", b"z" * 3000)
    done = run(source, destination, file_items(source))
    assert isinstance(done[b"changing"].error, SourceChanged)
    assert done[b"quiet"] == Done(1, b"quiet", 3000, None)
    assert b"changing" not in destination.nodes


@pytest.mark.parametrize("latency_s", LATENCIES)
def test_link_left_under_the_temp_name_does_no_harm(latency_s: float) -> None:
    source, destination = MemoryStorage(), MemoryStorage(latency_s=latency_s)
    source.add(b"link", kind=Kind.LINK, target=b"new", mode=0o777)
    destination.add(b".haulier-%024x" % 0, kind=Kind.LINK, target=b"old")
    assert errors(run(source, destination, file_items(source))) == {}
    assert destination.nodes[b"link"].target == b"new"


def test_special_files_are_named_and_left_out() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    done = run(source, destination, items_of([Entry(b"pipe", Kind.OTHER)]))
    assert errors(done) == {b"pipe": "Not a regular file, folder or link; it is left out."}
    assert destination.calls == []


@pytest.mark.parametrize("side", ["source", "destination"])
def test_lost_connection_is_raised_after_what_was_done(side: str) -> None:
    seen: list[Done] = []

    def cut(operation: str, path: bytes) -> None:
        if len(renamed) == 25:
            (source if side == "source" else destination).lose()
        elif operation == "rename":
            renamed.append(path)

    renamed: list[bytes] = []
    source, destination = MemoryStorage(latency_s=0.002), MemoryStorage(latency_s=0.002, hook=cut)
    some_files(source, 200)

    async def go() -> None:
        async for batch in transfer_items(source, destination, file_items(source)):
            seen.extend(batch.done)

    with pytest.raises(ConnectionLost):
        asyncio.run(go())
    assert 25 <= len(seen) < 100
    assert all(one.error is None and one.path in destination.nodes for one in seen)
    assert source.handles == destination.handles == 0
    if side == "source":
        assert destination.temps == []


@pytest.mark.parametrize("is_cancelled", [True, False])
def test_stopped_transfer_removes_what_is_half_done(is_cancelled: bool) -> None:
    source, destination = MemoryStorage(latency_s=0.01), MemoryStorage(latency_s=0.01)
    for number in range(2000):
        source.add(b"f%d" % number, b"x" * 20_000)

    async def consume() -> None:
        batches = transfer_items(source, destination, file_items(source))
        try:
            async for _ in batches:
                if not is_cancelled:
                    break
        finally:
            await batches.aclose()

    async def go() -> tuple[int, int]:
        task = asyncio.ensure_future(consume())
        if is_cancelled:
            for _ in range(2000):
                if destination.temps:
                    break
                await asyncio.sleep(0.01)
            assert destination.temps
            task.cancel()
        await asyncio.wait([task])
        asked = len(destination.calls), len(source.calls)
        await asyncio.sleep(0.1)
        assert (len(destination.calls), len(source.calls)) == asked
        return source.under_way, destination.under_way

    assert asyncio.run(go()) == (0, 0)
    assert (source.handles, destination.handles, destination.temps) == (0, 0, [])
    assert len(destination.nodes) < 2000


@pytest.mark.slow
@pytest.mark.parametrize("latency_s", LATENCIES)
def test_what_ends_while_all_is_stopped_is_told(latency_s: float) -> None:
    """What is in place is done, to the file: nothing of it is copied again."""
    source, destination = MemoryStorage(latency_s=latency_s), MemoryStorage(latency_s=0.02)
    for number in range(500):
        source.add(b"f%d" % number, b"x" * 100)
    told: list[TransferBatch] = []

    async def go() -> None:
        batches = transfer_items(
            source, destination, file_items(source), pace=Pace(20_000), on_stop=told.append
        )
        async for batch in batches:
            told.append(batch)
            if sum(len(one.done) for one in told) > 20:
                break
        await batches.aclose()

    asyncio.run(go())
    done = {one.path for batch in told for one in batch.done if one.error is None}
    assert {path for path in destination.nodes if path} == done
    assert 20 < len(done) < 500


def test_stopping_does_not_wait_for_a_server_that_is_silent() -> None:
    source, destination = MemoryStorage(), MemoryStorage(latency_s=100)
    source.add(b"f", b"x")

    async def go() -> float:
        batches = transfer_items(source, destination, file_items(source))
        await anext(batches)
        started = time.monotonic()
        await batches.aclose()
        return time.monotonic() - started

    assert 1 < asyncio.run(go()) < 2
    assert source.handles == 0


def test_files_in_flight_and_bytes_in_flight_are_bounded() -> None:
    source, destination = MemoryStorage(chunk_size=100_000), MemoryStorage(latency_s=0.01, chunk_size=100_000)
    for number in range(200):
        source.add(b"s%d" % number, b"x")
    for number in range(6):
        source.add(b"l%d" % number, bytes(4_000_000))
    assert errors(run(source, destination, file_items(source))) == {}
    assert destination.most_open <= 64 + 4
    # 8 MiB of pieces, and what opens and renames the files.
    assert destination.most_under_way <= 84 + 68


@pytest.mark.slow
def test_small_files_end_while_a_large_one_moves() -> None:
    source, destination = MemoryStorage(), MemoryStorage(latency_s=0.01)
    source.add(b"large", bytes(20_000_000))
    for number in range(100):
        source.add(b"s%d" % number, b"x" * 3000)
    order = list(run(source, destination, file_items(source)))
    assert order.index(b"large") == 100


@pytest.mark.slow
def test_batches_come_while_one_file_moves() -> None:
    source, destination = MemoryStorage(), MemoryStorage(latency_s=1.2, chunk_size=20_000)
    source.add(b"large", bytes(1_500_000))

    async def go() -> list[tuple[float, TransferBatch]]:
        started = time.monotonic()
        return [
            (time.monotonic() - started, batch)
            async for batch in transfer_items(source, destination, file_items(source))
        ]

    found = asyncio.run(go())
    # Four in a second, also on a machine that is busy with other things.
    assert len(found) >= 4 * int(found[-1][0])
    assert any(0 < batch.bytes_in_flight < 1_500_000 and batch.current_file == b"large" for _, batch in found)
    shown = [one for _, batch in found for one in batch.under_way if one.path == b"large"]
    assert any(0 < one.done < one.size for one in shown)
    assert found[-1][1].bytes_in_flight == 0


@pytest.mark.slow
def test_loop_is_not_held_by_storages_that_answer_at_once() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    for number in range(10_000):
        source.add(b"d%d/f%d" % (number % 100, number), b"x" * 100)
    source.add(b"large", bytes(20_000_000))
    gaps: list[float] = []

    async def watch() -> None:
        before = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            gaps.append(now - before)
            before = now

    async def go() -> None:
        items = file_items(source)
        watcher = asyncio.ensure_future(watch())
        assert errors(await copy(source, destination, items)) == {}
        watcher.cancel()

    asyncio.run(go())
    assert_is_copy(source, destination)
    # In one turn all is lined up, and a collection of garbage may fall into another one: the rest tell.
    assert len(gaps) > 20
    assert sorted(gaps)[-3] < 0.03


@pytest.mark.parametrize("latency_s", LATENCIES)
def test_file_whose_attributes_are_refused_is_in_place_and_says_so(latency_s: float) -> None:
    source, destination = MemoryStorage(latency_s=latency_s), MemoryStorage(latency_s=latency_s)
    some_files(source)
    destination.hook = lambda operation, _: AttributesRefused("No.") if operation == "finish" else None
    done = run(source, destination, file_items(source))
    assert errors(done) == {}
    assert {str(one.refusal) for one in done.values()} == {"No."}
    for path, node in source.nodes.items():
        assert destination.nodes[path].content == node.content


def test_nothing_to_copy_is_no_batch() -> None:
    assert run(MemoryStorage(), MemoryStorage(), []) == {}


def test_error_of_our_own_is_raised_and_not_waited_for() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"f", b"1")
    source.open_reader = lambda path, answer: 1 / 0  # type: ignore[method-assign, assignment, return-value]
    with pytest.raises(ZeroDivisionError):
        asyncio.run(copy(source, destination, file_items(source)))


def test_bits_beyond_permissions_are_dropped() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"f", b"1", mode=0o4755)
    run(source, destination, file_items(source))
    assert (destination.nodes[b"f"].mode, destination.nodes[b"f"].mtime) == (0o755, MTIME)
