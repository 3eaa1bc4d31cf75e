"""Scans of trees: complete, in order, able to go on, and no faster than what takes them."""

import asyncio
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from migration_app.engine.filters import Filter, parse_filter
from migration_app.engine.scan import Listing, ScanBatch, Unlisted, scan_tree
from migration_app.storages.base import Answer, Entry, FolderListing, Kind, Storage
from migration_app.storages.errors import ConnectionLost, NameRefused, PermissionDenied, StorageError
from tests.engine.memory_storage import MemoryStorage
from tests.engine.trees import EVERYTHING, collect, connected, local, make_tree, sftp
from tests.servers.openssh import OpenSshServer


async def batches_of(
    storage: Storage, chosen: Filter = EVERYTHING, frontier: Sequence[Unlisted] | None = None
) -> list[ScanBatch]:
    """A whole scan."""
    return [batch async for batch in scan_tree(storage, chosen, frontier=frontier)]


def listings_of(batches: list[ScanBatch]) -> list[Listing]:
    """All folders of a scan."""
    return [listing for batch in batches for listing in batch.folders]


def paths_of(batches: list[ScanBatch]) -> list[bytes]:
    """All entries of a scan."""
    return [entry.path for listing in listings_of(batches) for entry in listing.entries]


def wide_tree() -> MemoryStorage:
    """Some 3,000 entries in 220 folders, each answered after its own time."""
    storage = MemoryStorage(latency_s=0.003)
    for number in range(3000):
        storage.add(b"d%d/e%d/f%d" % (number % 20, number % 200, number))
    return storage


@pytest.mark.parametrize("place", ["local", "sftp"])
def test_scan_finds_what_is_there(place: str, tmp_path: Path, openssh: OpenSshServer) -> None:
    make_tree(tmp_path)
    storage = (local if place == "local" else sftp(openssh))(tmp_path)

    async def go() -> list[ScanBatch]:
        async with connected(storage):
            return await batches_of(storage)

    found = {entry.path: entry for listing in listings_of(asyncio.run(go())) for entry in listing.entries}
    base = os.fsencode(tmp_path)
    expected = {
        os.path.relpath(os.path.join(parent, name), base)
        for parent, folders, files in os.walk(base)
        for name in folders + files
    }
    assert found.keys() == expected
    assert found[b"a/b/two"].size == 70_000
    assert found[b"to-folder"].target == b"a"
    assert found[b"dangling"].kind is Kind.LINK


def test_parents_come_before_children() -> None:
    seen: set[bytes] = {b""}
    for listing in listings_of(asyncio.run(batches_of(wide_tree()))):
        assert listing.path in seen
        seen |= {entry.path for entry in listing.entries}
    assert len(seen) == 3000 + 220 + 1


def test_scan_goes_on_from_every_frontier() -> None:
    async def go() -> None:
        storage = wide_tree()
        batches = await batches_of(storage)
        whole = Counter(paths_of(batches))
        assert set(whole.values()) == {1}
        assert batches[-1].frontier == []
        assert len(batches) > 2
        for count in range(1, len(batches) + 1):
            rest = await batches_of(storage, frontier=batches[count - 1].frontier)
            assert Counter(paths_of(batches[:count]) + paths_of(rest)) == whole

    asyncio.run(go())


def test_excluded_folders_are_not_listed() -> None:
    storage = wide_tree()
    storage.add(b"d1/keep/cache/x")
    chosen = parse_filter(["cache/", "/d2"], include_hidden=True)
    batches = asyncio.run(batches_of(storage, chosen))
    excluded = {entry.path for listing in listings_of(batches) for entry in listing.excluded}
    assert excluded == {b"d2", b"d1/keep/cache"}
    assert not [path for path in paths_of(batches) if path.startswith((b"d2/", b"d1/keep/cache/"))]
    assert ("list_folder", b"d2") not in storage.calls


def test_folder_that_cannot_be_listed_is_told_and_the_rest_goes_on() -> None:
    storage = wide_tree()
    storage.hook = lambda _, path: PermissionDenied("No.") if path == b"d3" else None
    batches = asyncio.run(batches_of(storage))
    failed = [listing for listing in listings_of(batches) if listing.error is not None]
    assert [listing.path for listing in failed] == [b"d3"]
    assert len(paths_of(batches)) == 3220 - 160


def test_name_listed_twice_is_taken_once() -> None:
    storage = MemoryStorage()
    twice = [Entry(b"x", Kind.FILE, 1), Entry(b"y", Kind.FILE, 2), Entry(b"x", Kind.FOLDER)]
    storage.list_folder = lambda path, answer: answer(FolderListing(list(twice)))  # type: ignore[method-assign]
    (listing,) = listings_of(asyncio.run(batches_of(storage)))
    assert listing.entries == twice[:2]
    assert [(path, type(error)) for path, error in listing.problems] == [(b"x", NameRefused)]


def test_lost_connection_is_raised_after_what_was_listed_and_the_scan_can_go_on() -> None:
    async def go() -> None:
        storage = wide_tree()
        whole = Counter(paths_of(await batches_of(storage)))
        listed = 0

        def cut(operation: str, path: bytes) -> StorageError | None:
            nonlocal listed
            listed += 1
            return ConnectionLost("Cut.") if listed > 100 else None

        storage.hook = cut
        batches: list[ScanBatch] = []
        with pytest.raises(ConnectionLost):
            await collect(scan_tree(storage, EVERYTHING), batches)
        storage.hook = None
        rest = await batches_of(storage, frontier=batches[-1].frontier)
        assert Counter(paths_of(batches) + paths_of(rest)) == whole

    asyncio.run(go())


def test_slow_consumer_stops_the_scan() -> None:
    async def go() -> None:
        storage = MemoryStorage()

        def list_folder(path: bytes, answer: Answer[FolderListing]) -> None:
            storage.calls.append(("list_folder", path))
            kind, count = (Kind.FILE, 20) if path else (Kind.FOLDER, 600)
            answer(FolderListing([Entry(b"%s/%d" % (path, number), kind) for number in range(count)]))

        storage.list_folder = list_folder  # type: ignore[method-assign]
        scan = scan_tree(storage, EVERYTHING)
        batches = [await anext(scan)]
        await asyncio.sleep(0.3)
        asked = storage.count("list_folder")
        assert asked < 400
        await asyncio.sleep(0.1)
        assert storage.count("list_folder") == asked
        batches += [batch async for batch in scan]
        assert len(paths_of(batches)) == 600 * 21

    asyncio.run(go())


def test_at_most_64_folders_are_asked_for_at_once() -> None:
    storage = wide_tree()
    asyncio.run(batches_of(storage))
    assert 50 < storage.most_under_way <= 64


def test_closed_scan_asks_for_nothing_more() -> None:
    async def go() -> None:
        storage = wide_tree()
        scan = scan_tree(storage, EVERYTHING)
        await anext(scan)
        await scan.aclose()
        asked = len(storage.calls)
        await asyncio.sleep(0.05)
        assert len(storage.calls) == asked

    asyncio.run(go())


def test_batches_come_though_the_server_is_slow() -> None:
    async def go() -> ScanBatch:
        scan = scan_tree(MemoryStorage(latency_s=30), EVERYTHING)
        async with asyncio.timeout(0.4):
            batch = await anext(scan)
        await scan.aclose()
        return batch

    assert asyncio.run(go()) == ScanBatch([], [Unlisted(b"")])


async def limited(storage: Storage, **limits: int) -> list[ScanBatch]:
    """A scan with limits."""
    return [batch async for batch in scan_tree(storage, EVERYTHING, **limits)]


@pytest.mark.parametrize(("max_depth", "expected"), [(1, 20), (2, 220), (3, 3220), (9, 3220)])
def test_scan_ends_at_the_depth_that_it_may_go_to(max_depth: int, expected: int) -> None:
    storage = wide_tree()
    paths = paths_of(asyncio.run(limited(storage, max_depth=max_depth)))
    assert len(paths) == expected
    assert max(path.count(b"/") for path in paths) < max_depth
    assert storage.count("list_folder") == {1: 1, 2: 21}.get(max_depth, 221)


@pytest.mark.parametrize("max_files", [1, 15, 1000, 2999, 3000, 3001])
def test_scan_ends_with_the_last_file_that_it_may_find(max_files: int) -> None:
    batches = asyncio.run(limited(wide_tree(), max_files=max_files))
    entries = [entry for listing in listings_of(batches) for entry in listing.entries]
    assert sum(entry.kind is Kind.FILE for entry in entries) == min(max_files, 3000)
    assert batches[-1].frontier == []


def test_scan_with_limits_goes_on_from_every_frontier() -> None:
    async def go() -> None:
        batches = await limited(wide_tree(), max_files=2500, max_depth=3)
        assert len(batches) > 2
        for count in range(1, len(batches)):
            before = sum(entry.kind is Kind.FILE for x in listings_of(batches[:count]) for entry in x.entries)
            rest = [
                batch
                async for batch in scan_tree(
                    wide_tree(),
                    EVERYTHING,
                    max_files=2500 - before,
                    max_depth=3,
                    frontier=batches[count - 1].frontier,
                )
            ]
            files = [path for path in paths_of(batches[:count] + rest) if path.count(b"/") == 2]
            assert len(files) == len(set(files)) == 2500

    asyncio.run(go())
