"""What is at the destination alone: what is found, what is spared, and the order in which it goes."""

import asyncio

import pytest

from migration_app.engine.choices import Choices
from migration_app.engine.extraneous import NO_CONTENT, SAME_NAME, UNLISTED, delete_entries, names_in
from migration_app.engine.filters import Filter, parse_filter
from migration_app.engine.plan import Action, PlanBatch, compare_trees
from migration_app.storages.base import Answer, Entry, FolderListing, Kind
from migration_app.storages.errors import ConnectionLost, NameRefused, PermissionDenied, StorageError
from tests.engine.memory_storage import MemoryStorage
from tests.engine.trees import EVERYTHING


def both() -> tuple[MemoryStorage, MemoryStorage]:
    """Two trees that answer out of order."""
    source, destination = MemoryStorage(latency_s=0.003), MemoryStorage(latency_s=0.003)
    for tree in (source, destination):
        tree.add(b"both/file", b"1")
    return source, destination


def plan(source: MemoryStorage, destination: MemoryStorage, chosen: Filter = EVERYTHING) -> list[PlanBatch]:
    async def go() -> list[PlanBatch]:
        found = compare_trees(source, destination, chosen, choices=Choices(deletes=True))
        return [batch async for batch in found]

    return asyncio.run(go())


def close(storage: MemoryStorage, folder: bytes) -> None:
    """Let nobody list a folder."""
    refusal = PermissionDenied("Permission denied.")
    storage.hook = lambda name, path: refusal if (name, path) == ("list_folder", folder) else None


def doomed(batches: list[PlanBatch]) -> list[bytes]:
    """What is to be deleted, in the order of the walk."""
    steps = [step for batch in batches for step in batch.steps]
    return [step.entry.path for step in steps if step.action is Action.DELETE]


def spared(batches: list[PlanBatch]) -> dict[bytes, str]:
    return {path: reason for batch in batches for path, reason in batch.spared}


def kept(batches: list[PlanBatch]) -> set[bytes]:
    return {path for batch in batches for path in batch.kept}


def test_all_below_a_folder_that_is_there_alone_is_found_after_it() -> None:
    source, destination = both()
    destination.add(b"gone/deep/file", b"1")
    destination.add(b"both/link", kind=Kind.LINK, target=b"..")
    found = doomed(plan(source, destination))
    assert set(found) == {b"gone", b"gone/deep", b"gone/deep/file", b"both/link"}
    assert [path for path in found if path.startswith(b"gone")] == [b"gone", b"gone/deep", b"gone/deep/file"]
    # Nobody asks the source for what it does not have.
    assert {path for name, path in source.calls if name == "list_folder"} == {b"", b"both"}


def test_without_being_asked_for_nothing_is_to_be_deleted() -> None:
    source, destination = both()
    destination.add(b"gone/file", b"1")

    async def go() -> list[PlanBatch]:
        return [batch async for batch in compare_trees(source, destination, EVERYTHING)]

    assert doomed(asyncio.run(go())) == []


def test_what_a_pattern_leaves_out_stays_with_the_folders_above_it() -> None:
    source, destination = both()
    for path in (b"gone/deep/cache/file", b"gone/deep/other", b"both/cache/file"):
        destination.add(path, b"1")
    batches = plan(source, destination, parse_filter(["cache"], include_hidden=True))
    assert set(doomed(batches)) == {b"gone", b"gone/deep", b"gone/deep/other"}
    assert kept(batches) == {b"gone/deep"}
    assert spared(batches) == {}


def test_unfinished_files_stay() -> None:
    source, destination = both()
    destination.add(b"both/.haulier-0123456789abcdef01234567", b"1")
    assert doomed(plan(source, destination)) == []


@pytest.mark.parametrize(
    ("here", "there"),
    [("Photo.JPG", "photo.jpg"), ("caf\u00e9", "cafe\u0301"), ("STRASSE", "stra\u00dfe"), ("end. ", "end")],
)
def test_names_that_a_destination_may_take_for_one_are_spared(here: str, there: str) -> None:
    source, destination = both()
    source.add(b"both/" + here.encode(), b"1")
    destination.add(b"both/" + there.encode(), b"1")
    batches = plan(source, destination)
    assert (doomed(batches), spared(batches)) == ([], {b"both/" + there.encode(): SAME_NAME})


def test_what_is_no_content_is_spared() -> None:
    source, destination = both()
    destination.add(b"both/pipe", kind=Kind.OTHER)
    batches = plan(source, destination)
    assert (doomed(batches), spared(batches)) == ([], {b"both/pipe": NO_CONTENT})


def test_folder_that_cannot_be_listed_at_the_destination_stays() -> None:
    source, destination = both()
    destination.add(b"gone/closed/file", b"1")
    close(destination, b"gone/closed")
    batches = plan(source, destination)
    assert (set(doomed(batches)), kept(batches)) == ({b"gone", b"gone/closed"}, {b"gone/closed"})
    assert spared(batches) == {b"gone/closed": UNLISTED}


def test_nothing_is_to_be_deleted_where_the_source_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    source, destination = both()
    destination.add(b"both/gone", b"1")
    source.add(b"closed/file", b"1")
    destination.add(b"closed/gone", b"1")
    close(source, b"closed")
    assert set(doomed(plan(source, destination))) == {b"both/gone"}
    list_folder = source.list_folder

    def with_an_odd_name(path: bytes, answer: Answer[FolderListing]) -> None:
        def listed(found: FolderListing | StorageError) -> None:
            if isinstance(found, FolderListing) and path == b"both":
                found.problems.append((b"both/odd", NameRefused("No name.")))
            answer(found)

        list_folder(path, listed)

    monkeypatch.setattr(source, "list_folder", with_an_odd_name)
    assert doomed(plan(source, destination)) == []


def test_name_that_the_destination_lists_twice_is_deleted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source, destination = both()
    destination.add(b"gone/deep/file", b"1")
    list_folder = destination.list_folder

    def twice(path: bytes, answer: Answer[FolderListing]) -> None:
        def listed(found: FolderListing | StorageError) -> None:
            if isinstance(found, FolderListing):
                found.entries.extend([*found.entries])
            answer(found)

        list_folder(path, listed)

    monkeypatch.setattr(destination, "list_folder", twice)
    batches = plan(source, destination)
    assert doomed(batches) == [b"gone", b"gone/deep", b"gone/deep/file"]
    assert kept(batches) == set()


def entries(*paths: bytes) -> list[Entry]:
    return [Entry(path, Kind.FOLDER if path.endswith(b"r") else Kind.FILE) for path in paths]


def test_folders_go_after_what_they_hold_and_what_is_gone_is_no_error() -> None:
    _, destination = both()
    destination.add(b"r/r/file", b"1")
    destination.add(b"r/full/stays", b"1")

    async def go() -> dict[bytes, str]:
        found = delete_entries(destination, entries(b"r", b"r/r", b"r/r/file", b"r/missing"))
        return {one.path: str(one.error or "") async for batch in found for one in batch}

    assert asyncio.run(go()) == {
        b"r/r/file": "",
        b"r/missing": "",
        b"r/r": "",
        b"r": "The folder is not empty.",
    }
    assert b"r/full/stays" in destination.nodes


def test_connection_that_breaks_ends_a_deletion() -> None:
    _, destination = both()
    paths = [b"%d" % number for number in range(300)]
    for path in paths:
        destination.add(path, b"1")

    async def go() -> None:
        asyncio.get_running_loop().call_later(0.001, destination.abort)
        async for _ in delete_entries(destination, entries(*paths)):
            pass

    with pytest.raises(ConnectionLost):
        asyncio.run(go())
    assert b"299" in destination.nodes or b"0" in destination.nodes


def test_names_of_folders_are_told_in_their_order() -> None:
    source, _ = both()
    source.add(b"closed/file", b"1")
    close(source, b"closed")

    async def go() -> list[set[bytes] | None]:
        return [one async for part in names_in(source, [b"both", b"missing", b"closed", b""]) for one in part]

    assert asyncio.run(go()) == [{b"file"}, set(), None, {b"both", b"closed"}]
