"""Copies of real trees, from local folders and OpenSSH to local folders and OpenSSH."""

import asyncio
import os
from pathlib import Path

import pytest

from migration_app.engine import bundling
from migration_app.engine.transfer import transfer_items
from migration_app.storages.errors import ConnectionLost, SourceChanged, StorageError
from tests.engine.trees import (
    ROUTES,
    Route,
    collect,
    connected,
    copy,
    copy_tree,
    entries_of,
    errors,
    items_of,
    make_tree,
    route_of,
    seen,
)


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Route:
    """How to open source and destination."""
    monkeypatch.setattr(bundling, "WORTH_FROM", 1)
    return route_of(request)


def copied(route: Route, source_root: Path, destination_root: Path) -> dict[bytes, str]:
    """Copy a whole tree; gives what failed."""
    source, destination = route[0](source_root), route[1](destination_root)

    async def run() -> dict[bytes, str]:
        async with connected(source, destination):
            return errors(await copy_tree(source, destination))

    destination_root.mkdir(exist_ok=True)
    return asyncio.run(run())


def test_copy_has_everything_that_the_tree_has(route: Route, tmp_path: Path) -> None:
    make_tree(tmp_path / "from")
    assert copied(route, tmp_path / "from", tmp_path / "to") == {}
    assert route.seen(tmp_path / "to") == route.seen(tmp_path / "from")


@pytest.mark.slow
def test_large_file_arrives_whole(route: Route, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "large").write_bytes(os.urandom(20_000_123))
    assert copied(route, tmp_path / "from", tmp_path / "to") == {}
    assert route.seen(tmp_path / "to") == route.seen(tmp_path / "from")


@pytest.mark.slow
def test_thousands_of_small_files_arrive(route: Route, tmp_path: Path) -> None:
    for number in range(5000):
        path = tmp_path / "from" / f"{number % 20}" / f"{number % 400}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number % 300))
    assert copied(route, tmp_path / "from", tmp_path / "to") == {}
    assert route.seen(tmp_path / "to") == route.seen(tmp_path / "from")


def test_only_files_that_changed_since_the_listing_fail(route: Route, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    for name in ("same", "shorter", "longer", "touched", "gone", "folder"):
        (tmp_path / "from" / name).write_bytes(b"x" * 300_000)
    source, destination = route[0](tmp_path / "from"), route[1](tmp_path / "to")

    async def go() -> dict[bytes, StorageError | None]:
        async with connected(source, destination):
            entries = await entries_of(source)
            (tmp_path / "from" / "shorter").write_bytes(b"y" * 270_000)
            (tmp_path / "from" / "longer").write_bytes(b"y" * 300_001)
            os.utime(tmp_path / "from" / "touched", (1, 1))
            (tmp_path / "from" / "gone").unlink()
            (tmp_path / "from" / "folder").unlink()
            (tmp_path / "from" / "folder").mkdir()
            done = await copy(source, destination, items_of(entries))
            return {path: one.error for path, one in done.items() if one.error is not None}

    failed = asyncio.run(go())
    assert failed.keys() == {b"shorter", b"longer", b"touched", b"gone", b"folder"}
    assert all(isinstance(error, SourceChanged) for path, error in failed.items() if path != b"folder")
    assert os.listdir(tmp_path / "to") == ["same"]


def test_file_that_cannot_be_written_leaves_its_neighbours_alone(route: Route, tmp_path: Path) -> None:
    make_tree(tmp_path / "from")
    (tmp_path / "to" / "a" / "one").mkdir(parents=True)
    (tmp_path / "to" / "empty").write_bytes(b"in the way")
    source, destination = route[0](tmp_path / "from"), route[1](tmp_path / "to")

    async def go() -> dict[bytes, str]:
        async with connected(source, destination):
            return errors(await copy(source, destination, items_of(await entries_of(source))))

    assert asyncio.run(go()).keys() == {b"a/one", b"empty"}
    expected = {path for path in seen(tmp_path / "from") if path != b"a/one"}
    assert expected | {b"a/one"} == seen(tmp_path / "to").keys()


async def standing_still(folder: Path) -> None:
    """Wait until nothing appears in a folder, and nothing goes, for half a second."""
    before, now = None, os.listdir(folder)
    while before != now:
        await asyncio.sleep(0.5)
        before, now = now, os.listdir(folder)


@pytest.mark.slow
@pytest.mark.parametrize("is_stopped", [True, False])
def test_stopped_or_fenced_off_transfer_writes_nothing_more(
    is_stopped: bool, route: Route, tmp_path: Path
) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "to").mkdir()
    for number in range(3000):
        (tmp_path / "from" / f"{number}").write_bytes(b"x" * 5000)
    (tmp_path / "from" / "large").write_bytes(bytes(30_000_000))
    source, destination = route[0](tmp_path / "from"), route[1](tmp_path / "to")

    async def go() -> None:
        async with connected(source, destination):
            batches = transfer_items(source, destination, items_of(await entries_of(source)))
            while not (await anext(batches)).done:
                pass
            if is_stopped:
                await batches.aclose()
            else:
                destination.guard = lambda: False
                with pytest.raises(ConnectionLost):
                    await collect(batches, [])
                # A server still carries out what had reached it by then.
                await standing_still(tmp_path / "to")
            there = sorted(os.listdir(tmp_path / "to"))
            await asyncio.sleep(0.2)
            assert sorted(os.listdir(tmp_path / "to")) == there

    asyncio.run(go())
    there = os.listdir(tmp_path / "to")
    assert 0 < len(there) < 3001
    for name in there:
        if name.startswith(".haulier-"):
            assert not is_stopped
        else:
            whole = (tmp_path / "from" / name).read_bytes()
            assert (tmp_path / "to" / name).read_bytes() == whole
