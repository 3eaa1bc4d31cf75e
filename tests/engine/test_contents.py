"""Files of equal size compared by what they hold."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from migration_app.engine import contents
from migration_app.engine.contents import Compared, Pair, compare_contents
from migration_app.engine.pace import Pace
from migration_app.storages.base import Path
from migration_app.storages.errors import ConnectionLost, NotFound, PermissionDenied, StorageError
from tests.engine.memory_storage import MTIME, MemoryStorage


def pairs_of(source: MemoryStorage, *, is_settled: bool = True) -> list[Pair]:
    paths = sorted(path for path in source.nodes if path)
    return [Pair(n, source.entry(path), is_settled, "", b"") for n, path in enumerate(paths)]


def compared(
    source: MemoryStorage, destination: MemoryStorage, pairs: Sequence[Pair], *, mends: bool = True
) -> list[list[Compared]]:
    """What comes of them, in batches."""

    async def go() -> list[list[Compared]]:
        found = compare_contents(source, destination, pairs, pace=Pace(), mends=mends)
        return [batch async for batch in found]

    return asyncio.run(go())


def two_sides(*contents: tuple[bytes, bytes, bytes]) -> tuple[MemoryStorage, MemoryStorage]:
    source, destination = MemoryStorage(), MemoryStorage()
    for name, here, there in contents:
        source.add(name, here)
        destination.add(name, there, mtime=MTIME + 9, mode=0o600)
    return source, destination


def test_equal_files_get_mode_and_time_unless_settled_and_different_ones_nothing() -> None:
    source, destination = two_sides(
        (b"equal", b"1" * 2500, b"1" * 2500), (b"differs", b"1" * 2500, b"2" * 2500), (b"settled", b"3", b"3")
    )
    pairs = [replace(pair, is_settled=pair.entry.path == b"settled") for pair in pairs_of(source)]
    [batch] = compared(source, destination, pairs)
    found = {one.pair.entry.path: (one.is_equal, one.is_mended) for one in batch}
    assert found == {b"equal": (True, True), b"differs": (False, False), b"settled": (True, False)}
    nodes = destination.nodes
    assert (nodes[b"equal"].mtime, nodes[b"equal"].mode) == (MTIME, 0o644)
    assert (nodes[b"differs"].mtime, nodes[b"settled"].mtime) == (MTIME + 9, MTIME + 9)
    assert source.handles == destination.handles == 0


def test_nothing_is_mended_where_that_is_not_wanted() -> None:
    source, destination = two_sides((b"equal", b"1", b"1"))
    [[one]] = compared(source, destination, pairs_of(source, is_settled=False), mends=False)
    assert (one.is_equal, one.is_mended) == (True, False)
    assert destination.nodes[b"equal"].mtime == MTIME + 9


def test_file_behind_a_followed_link_is_read_where_it_is() -> None:
    source, destination = MemoryStorage(), MemoryStorage()
    source.add(b"real", b"1")
    destination.add(b"link", b"1")
    entry = replace(source.entry(b"real"), path=b"link", real=b"real")
    [[one]] = compared(source, destination, [Pair(1, entry, True, "", b"")])
    assert one.is_equal
    assert ("open_reader", b"real") in source.calls
    assert ("open_reader", b"link") in destination.calls


@pytest.mark.parametrize("side", [0, 1])
def test_what_cannot_be_read_on_either_side_counts_as_different(side: int) -> None:
    sides = two_sides((b"bad", b"1", b"1"), (b"good", b"2", b"2"))

    def refuse(operation: str, path: Path) -> StorageError | None:
        return (
            PermissionDenied("Permission denied.") if (operation, path) == ("open_reader", b"bad") else None
        )

    sides[side].hook = refuse
    [batch] = compared(*sides, pairs_of(sides[0]))
    assert [one.is_equal for one in batch] == [False, True]


def test_file_that_grew_meanwhile_is_not_equal_to_its_beginning() -> None:
    source, destination = two_sides((b"log", b"1" * 1500, b"1" * 1500))
    pairs = pairs_of(source)
    destination.nodes[b"log"].content.extend(b"more")
    [[one]] = compared(source, destination, pairs)
    assert not one.is_equal


def test_equal_file_that_goes_before_it_is_mended_is_to_be_copied() -> None:
    source, destination = two_sides((b"gone", b"1", b"1"))
    destination.hook = lambda operation, _: NotFound("Gone.") if operation == "set_attributes" else None
    [[one]] = compared(source, destination, pairs_of(source, is_settled=False))
    assert (one.is_equal, one.is_mended) == (False, False)


def test_batches_are_small_and_a_large_file_is_one_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "BATCH_BYTES", 5000)
    monkeypatch.setattr(contents, "BATCH_FILES", 3)
    sizes = [1, 1, 1, 1, 9000, 2000, 2000, 2000, 0]
    source, destination = two_sides(*((b"%d" % n, b"x" * size, b"x" * size) for n, size in enumerate(sizes)))
    batches = compared(source, destination, pairs_of(source))
    assert [[one.pair.entry.size for one in batch] for batch in batches] == [
        [1, 1, 1],
        [1],
        [9000],
        [2000, 2000],
        [2000, 0],
    ]
    assert all(one.is_equal for batch in batches for one in batch)


class Hashing(MemoryStorage):
    """Hashes by itself."""

    async def digests_there(self, paths: Sequence[Path], *, size: int = 0) -> dict[Path, bytes]:
        self.calls.append(("digests_there", b"%d of %d" % (len(paths), size)))
        return {path: hashlib.sha256(self.nodes[path].content).digest() for path in paths}


def test_each_side_is_asked_once_for_a_batch_and_reads_only_where_it_must() -> None:
    source, destination = Hashing(), MemoryStorage()
    for name in (b"a", b"b"):
        source.add(name, b"12")
        destination.add(name, b"12")
    [batch] = compared(source, destination, pairs_of(source))
    assert source.calls == [("digests_there", b"2 of 4")]
    assert [(one.is_equal, one.read_back) for one in batch] == [(True, 2), (True, 2)]


def test_lost_connection_ends_the_comparison_after_what_was_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(contents, "BATCH_FILES", 1)
    source, destination = two_sides((b"a", b"1", b"1"), (b"b", b"1", b"1"))

    def cut(operation: str, path: Path) -> None:
        if path == b"b":
            destination.lose()

    destination.hook = cut
    found: list[Path] = []

    async def go() -> None:
        async for batch in compare_contents(source, destination, pairs_of(source), pace=Pace(), mends=True):
            found.extend(one.pair.entry.path for one in batch)

    with pytest.raises(ConnectionLost):
        asyncio.run(go())
    assert found == [b"a"]


def test_reading_back_keeps_to_the_pace() -> None:
    source, destination = Hashing(), MemoryStorage()
    for name in (b"a", b"b", b"c"):
        source.add(name, b"1" * 8000)
        destination.add(name, b"1" * 8000)
    asked: list[float] = []

    def note(operation: str, _: Path) -> None:
        if operation == "read":
            asked.append(asyncio.get_running_loop().time())

    destination.hook = note
    pace = Pace(60_000)

    async def go() -> list[bool]:
        found = compare_contents(source, destination, pairs_of(source), pace=pace, mends=True)
        return [one.is_equal async for batch in found for one in batch]

    assert asyncio.run(go()) == [True] * 3
    # 24,000 bytes at 60,000 a second; the last piece may overdraw.
    assert asked[-1] - asked[0] >= 0.3
    assert pace.taken == 24_000
    assert all(before <= after for before, after in pairwise(asked))
