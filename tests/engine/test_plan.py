"""Comparisons of two trees."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from migration_app.engine.choices import Choices, Conflict
from migration_app.engine.filters import Filter, parse_filter
from migration_app.engine.plan import Action, OpenFolder, PlanBatch, compare_trees
from migration_app.storages.base import Capabilities, Kind, Storage
from migration_app.storages.errors import ConnectionLost, PermissionDenied, StorageError
from tests.engine.memory_storage import MTIME, MemoryStorage
from tests.engine.trees import EVERYTHING, collect, connected, copy_tree, local, make_tree, sftp
from tests.servers.openssh import OpenSshServer

Found = dict[bytes, tuple[Action, str]]


async def compared(
    source: Storage,
    destination: Storage,
    chosen: Filter = EVERYTHING,
    frontier: Sequence[OpenFolder] | None = None,
) -> list[PlanBatch]:
    """A whole comparison."""
    return [batch async for batch in compare_trees(source, destination, chosen, frontier=frontier)]


def steps_of(batches: list[PlanBatch]) -> Found:
    """What to do with each entry; none comes twice, no child before its parent."""
    found: Found = {b"": (Action.SKIP, "")}
    for batch in batches:
        for step in batch.steps:
            assert step.entry.path not in found
            assert step.entry.path.rpartition(b"/")[0] in found
            found[step.entry.path] = (step.action, step.reason)
    del found[b""]
    return found


def plan(source: MemoryStorage, destination: MemoryStorage) -> Found:
    """Compare two trees in memory."""
    return steps_of(asyncio.run(compared(source, destination)))


def both() -> tuple[MemoryStorage, MemoryStorage]:
    """Two empty trees that answer out of order."""
    return MemoryStorage(latency_s=0.003), MemoryStorage(latency_s=0.003)


def test_everything_is_made_where_nothing_is() -> None:
    source, destination = both()
    source.add(b"a/b/file", b"1")
    source.add(b"a/link", kind=Kind.LINK, target=b"b")
    paths = (b"a", b"a/b", b"a/b/file", b"a/link")
    assert plan(source, destination) == dict.fromkeys(paths, (Action.CREATE, ""))
    assert destination.calls == [("list_folder", b"")]


def test_missing_root_is_a_place_where_nothing_is() -> None:
    source, destination = both()
    source.add(b"file", b"1")
    destination.nodes.clear()
    assert plan(source, destination) == {b"file": (Action.CREATE, "")}


@pytest.mark.parametrize(
    ("there", "action"),
    [
        ({"content": b"1", "mtime": MTIME}, Action.SKIP),
        ({"content": b"2", "mtime": MTIME}, Action.SKIP),
        ({"content": b"1", "mtime": MTIME + 1}, Action.UPDATE),
        ({"content": b"12", "mtime": MTIME}, Action.UPDATE),
        ({"kind": Kind.LINK, "target": b"x"}, Action.UPDATE),
        ({"kind": Kind.FOLDER}, Action.CONFLICT),
        ({"kind": Kind.OTHER}, Action.CONFLICT),
    ],
)
def test_file_is_compared_by_size_and_mtime(there: dict[str, object], action: Action) -> None:
    source, destination = both()
    source.add(b"f", b"1")
    destination.add(b"f", **there)  # type: ignore[arg-type]
    assert plan(source, destination)[b"f"][0] is action


def test_mtime_that_the_destination_cannot_hold_is_compared_as_it_holds_it() -> None:
    source, destination = both()
    destination.capabilities = Capabilities(earliest_mtime=0, latest_mtime=2**32 - 1)
    for name, mtime, there in ((b"early", -5, 0), (b"late", 2**40, 2**32 - 1), (b"wrong", -5, 5)):
        source.add(name, b"1", mtime=mtime)
        destination.add(name, b"1", mtime=there)
    actions = {path: action for path, (action, _) in plan(source, destination).items()}
    assert actions == {b"early": Action.SKIP, b"late": Action.SKIP, b"wrong": Action.UPDATE}


def test_folder_is_settled_where_mode_and_mtime_are_as_the_destination_can_hold_them() -> None:
    source, destination = both()
    destination.capabilities = Capabilities(earliest_mtime=0, latest_mtime=2**32 - 1)
    for name, mtime, mode, there_mtime, there_mode in (
        (b"same", MTIME, 0o755, MTIME, 0o40755),
        (b"early", -5, 0o755, 0, 0o755),
        (b"time", MTIME, 0o755, MTIME + 1, 0o755),
        (b"mode", MTIME, 0o750, MTIME, 0o755),
    ):
        source.add(name, kind=Kind.FOLDER, mtime=mtime, mode=mode)
        destination.add(name, kind=Kind.FOLDER, mtime=there_mtime, mode=there_mode)
    source.add(b"new", kind=Kind.FOLDER)
    source.add(b"same/file", b"1")
    source.add(b"new/file", b"1")
    source.add(b"kept", b"1")
    destination.add(b"kept", b"1")
    batches = asyncio.run(compared(source, destination))
    steps = [step for batch in batches for step in batch.steps]
    assert {step.entry.path for step in steps if step.is_settled} == {b"same", b"early"}
    existing = {path for batch in batches for path in batch.existing}
    assert existing == {b"", b"same", b"early", b"time", b"mode"}


def test_folder_that_keeps_its_own_mode_and_mtime_is_settled() -> None:
    source, destination = both()
    source.add(b"a", kind=Kind.FOLDER, mtime=1, mode=0o700)
    destination.add(b"a", kind=Kind.FOLDER, mtime=2, mode=0o755)

    async def go() -> list[PlanBatch]:
        choices = Choices(conflict=Conflict.SKIP)
        return [batch async for batch in compare_trees(source, destination, EVERYTHING, choices=choices)]

    (step,) = [step for batch in asyncio.run(go()) for step in batch.steps]
    assert (step.entry.mtime, step.entry.mode, step.is_settled) == (2, 0o755, True)


@pytest.mark.parametrize(("target", "action"), [(b"t", Action.SKIP), (b"other", Action.UPDATE)])
def test_links_are_compared_by_target(target: bytes, action: Action) -> None:
    source, destination = both()
    source.add(b"l", kind=Kind.LINK, target=b"t", mtime=1)
    destination.add(b"l", kind=Kind.LINK, target=target)
    assert plan(source, destination) == {b"l": (action, "")}


@pytest.mark.parametrize("kind", [Kind.FILE, Kind.LINK, Kind.OTHER])
def test_nothing_below_a_folder_can_be_copied_where_something_else_has_its_name(kind: Kind) -> None:
    source, destination = both()
    source.add(b"a/b/file", b"1")
    source.add(b"z", b"1")
    destination.add(b"a", kind=kind, target=b"elsewhere")
    found = plan(source, destination)
    reason = found[b"a"][1]
    assert reason.endswith(".")
    conflicts = dict.fromkeys((b"a", b"a/b", b"a/b/file"), (Action.CONFLICT, reason))
    assert found == {**conflicts, b"z": (Action.CREATE, "")}
    assert ("list_folder", b"a") not in destination.calls


def test_reasons_name_both_kinds() -> None:
    source, destination = both()
    source.add(b"file", b"1")
    source.add(b"folder", kind=Kind.FOLDER)
    source.add(b"pipe", kind=Kind.OTHER)
    destination.add(b"file", kind=Kind.FOLDER)
    destination.add(b"folder", b"1")
    assert plan(source, destination) == {
        b"file": (Action.CONFLICT, "A folder is where a file should be."),
        b"folder": (Action.CONFLICT, "A file is where a folder should be."),
        b"pipe": (Action.CONFLICT, "Not a regular file, folder or link; it is left out."),
    }


def test_destination_folder_that_cannot_be_listed_is_a_conflict_of_all_in_it() -> None:
    source, destination = both()
    source.add(b"a/b/file", b"1")
    destination.add(b"a", kind=Kind.FOLDER)
    destination.hook = lambda _, path: PermissionDenied("No.") if path == b"a" else None
    reason = "The folder cannot be listed at the destination: No."
    assert plan(source, destination) == {
        b"a": (Action.SKIP, ""),
        b"a/b": (Action.CONFLICT, reason),
        b"a/b/file": (Action.CONFLICT, reason),
    }


def test_unreadable_and_excluded_entries_are_counted_apart() -> None:
    source, destination = both()
    source.add(b"a/file", b"1")
    source.add(b"b/log", b"12345")
    source.add(b"cache/x", b"1")
    source.hook = lambda _, path: PermissionDenied("No.") if path == b"a" else None
    chosen = parse_filter(["log", "cache/"], include_hidden=True)
    batches = asyncio.run(compared(source, destination, chosen))
    assert steps_of(batches) == {b"a": (Action.CREATE, ""), b"b": (Action.CREATE, "")}
    assert [(path, str(error)) for batch in batches for path, error in batch.unreadable] == [(b"a", "No.")]
    assert sum(batch.excluded_count for batch in batches) == 2
    assert sum(batch.excluded_size for batch in batches) == 5


def large_pair() -> tuple[MemoryStorage, MemoryStorage]:
    """Two trees of which a part is the same, with conflicts at several depths."""
    source, destination = both()
    for number in range(2500):
        path = b"d%d/e%d/f%d" % (number % 15, number % 150, number)
        source.add(path, b"1")
        if number % 3 and number % 15 != 4:
            destination.add(path, b"1" * (1 + number % 2))
    destination.add(b"d4", b"a file")
    del destination.nodes[b"d5/e5"]
    destination.add(b"d5/e5", kind=Kind.LINK, target=b"/")
    return source, destination


def test_comparison_goes_on_from_every_frontier() -> None:
    async def go() -> None:
        source, destination = large_pair()
        batches = await compared(source, destination)
        whole = steps_of(batches)
        assert {action for action, _ in whole.values()} == set(Action) - {Action.COMPARE, Action.DELETE}
        assert len(batches) > 2
        for count in range(1, len(batches) + 1):
            rest = await compared(source, destination, frontier=batches[count - 1].frontier)
            assert steps_of(batches[:count] + rest) == whole

    asyncio.run(go())


@pytest.mark.parametrize("side", [0, 1])
def test_lost_connection_is_raised_and_the_comparison_can_go_on(side: int) -> None:
    async def go() -> None:
        pair = large_pair()
        whole = steps_of(await compared(*pair))
        asked = 0

        def cut(operation: str, path: bytes) -> StorageError | None:
            nonlocal asked
            asked += 1
            return ConnectionLost("Cut.") if asked > 70 else None

        pair[side].hook = cut
        batches: list[PlanBatch] = []
        with pytest.raises(ConnectionLost):
            await collect(compare_trees(*pair, EVERYTHING), batches)
        pair[side].hook = None
        rest = await compared(*pair, frontier=batches[-1].frontier)
        assert steps_of(batches + rest) == whole

    asyncio.run(go())


def test_copy_of_a_tree_has_nothing_left_to_do(tmp_path: Path, openssh: OpenSshServer) -> None:
    make_tree(tmp_path / "from")
    os.utime(tmp_path / "from" / "index.php", (-100, -100))
    (tmp_path / "to").mkdir()
    source, destination = local(tmp_path / "from"), sftp(openssh)(tmp_path / "to")

    async def go() -> Found:
        async with connected(source, destination):
            await copy_tree(source, destination)
            return steps_of(await compared(source, destination))

    assert {action for action, _ in asyncio.run(go()).values()} == {Action.SKIP}


def coarse_pair(
    round_to_even: Callable[[int], int], *, count: int = 40
) -> tuple[MemoryStorage, MemoryStorage]:
    """Files of one time a second, and their copies as a storage keeps them that knows each other second only."""
    source, destination = MemoryStorage(), MemoryStorage()
    for number in range(count):
        source.add(b"folder/%02d" % number, b"1", mtime=MTIME + number)
        destination.add(b"folder/%02d" % number, b"1", mtime=round_to_even(MTIME + number))
    return source, destination


@pytest.mark.parametrize("up", [0, 1])
def test_times_that_the_destination_rounds_to_two_seconds_are_the_same(up: int) -> None:
    source, destination = coarse_pair(lambda mtime: mtime + (up or -1) * (mtime % 2))
    source.nodes[b"folder/05"].mtime += 4
    source.nodes[b"folder/07"].mtime -= 4
    actions = {path: action for path, (action, _) in plan(source, destination).items()}
    assert {path for path, action in actions.items() if action is Action.UPDATE} == {
        b"folder/05",
        b"folder/07",
    }


def test_second_is_a_second_where_one_file_shows_that_or_few_show_anything() -> None:
    source, destination = coarse_pair(lambda mtime: mtime - mtime % 2)
    destination.add(b"folder/other", b"1", mtime=MTIME + 1)
    found = plan(source, destination)
    assert [found[b"folder/%02d" % n][0] for n in (4, 5)] == [Action.SKIP, Action.UPDATE]
    found = plan(*coarse_pair(lambda mtime: mtime - mtime % 2, count=8))
    assert [found[b"folder/%02d" % n][0] for n in (4, 5)] == [Action.SKIP, Action.UPDATE]
