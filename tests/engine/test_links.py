"""Walks that follow links: inside the root, never in a circle, and going on from wherever they stood."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from migration_app.engine import links
from migration_app.engine.choices import Choices, Selection
from migration_app.engine.filters import Filter, parse_filter
from migration_app.engine.plan import Action, OpenFolder, PlanBatch, compare_trees
from migration_app.engine.scan import ScanBatch, Unlisted, scan_tree
from migration_app.storages.base import Entry, Kind, Storage
from migration_app.storages.errors import ConnectionLost, StorageError
from tests.engine.memory_storage import MemoryStorage
from tests.engine.trees import EVERYTHING, collect, connected, copy, items_of, local, seen, sftp
from tests.servers.openssh import OpenSshServer


async def scanned(
    storage: Storage,
    chosen: Filter = EVERYTHING,
    frontier: Sequence[Unlisted] | None = None,
    followed: int = 0,
) -> list[ScanBatch]:
    """A whole scan that follows links."""
    found = scan_tree(storage, chosen, follow_links=True, frontier=frontier, followed=followed)
    return [batch async for batch in found]


def entries_of(batches: Sequence[ScanBatch]) -> dict[bytes, Entry]:
    """All entries by path; none comes twice."""
    entries = [entry for batch in batches for folder in batch.folders for entry in folder.entries]
    found = {entry.path: entry for entry in entries}
    assert len(found) == len(entries)
    return found


def kept_of(batches: Sequence[ScanBatch]) -> dict[bytes, str]:
    """Links that were not followed."""
    return {path: why for batch in batches for folder in batch.folders for path, why in folder.kept_links}


def links_everywhere(latency_s: float = 0.003) -> MemoryStorage:
    """Links to files and folders, chains, circles, and ways out."""
    storage = MemoryStorage(latency_s=latency_s)
    for number in range(300):
        storage.add(b"shared/uploads/%d/pic.jpg" % number, b"picture %d" % number)
    for path, target in {
        b"site/uploads": b"../shared/uploads",
        b"site/again": b"uploads",
        b"site/first": b"uploads/0/pic.jpg",
        b"shared/uploads/7/site": b"../../../site",
        b"shared/uploads/8/up": b"..",
        b"shared/uploads/9/other": b"../8",
        b"site/whole": b"..",
        b"site/out": b"../../etc",
        b"site/gone": b"no/where",
        b"site/me": b"me",
    }.items():
        storage.add(path, kind=Kind.LINK, target=target)
    storage.nodes[b"site/first"].target = b"../shared/uploads/0/pic.jpg"
    storage.add(b"site/pipe", kind=Kind.OTHER)
    storage.add(b"site/to-pipe", kind=Kind.LINK, target=b"pipe")
    return storage


def test_links_that_stay_inside_stand_as_what_they_lead_to() -> None:
    found = asyncio.run(scanned(links_everywhere()))
    entries, kept = entries_of(found), kept_of(found)
    picture = entries[b"site/uploads/5/pic.jpg"]
    assert (picture.kind, picture.size) == (Kind.FILE, len("picture 5"))
    assert (picture.real, picture.read_path) == (b"shared/uploads/5/pic.jpg",) * 2
    assert entries[b"site/again/5/pic.jpg"].real == b"shared/uploads/5/pic.jpg"
    assert entries[b"site/first"].kind is Kind.FILE
    assert entries[b"shared/uploads/5/pic.jpg"].real == b""
    # Through a link and on through the next one.
    assert entries[b"site/uploads/9/other/pic.jpg"].real == b"shared/uploads/8/pic.jpg"
    assert entries[b"shared/uploads/7/site/first"].kind is Kind.FILE
    assert entries[b"site/gone"].kind is Kind.LINK
    assert b"site/gone" not in kept
    assert kept[b"site/out"] == "It leads out of the root. The link is kept."
    assert kept[b"site/me"] == "It cannot be told where it leads to. The link is kept."
    assert "neither a file nor a folder" in kept[b"site/to-pipe"]
    circles = {path for path, why in kept.items() if "it lies in itself" in why}
    assert {
        b"site/whole",
        b"shared/uploads/8/up",
        b"site/uploads/7/site",
        b"site/uploads/9/other/up",
    } <= circles
    assert all(entries[path].kind is Kind.LINK and entries[path].target for path in kept)


def test_nothing_is_asked_about_links_that_are_not_followed() -> None:
    storage = links_everywhere(0)

    async def go() -> None:
        async for _ in scan_tree(storage, EVERYTHING):
            pass
        chosen = parse_filter(["site/"], include_hidden=True)
        async for batch in scan_tree(storage, chosen, follow_links=True):
            assert all(folder.path != b"site" for folder in batch.folders)

    asyncio.run(go())
    assert {path for name, path in storage.calls if name == "follow_link"} == {
        b"shared/uploads/7/site",
        b"shared/uploads/8/up",
        b"shared/uploads/9/other",
    }


def test_folders_that_link_to_each_other_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "MOST_FOLLOWED", 500)
    storage = MemoryStorage()
    for one in range(12):
        for other in range(12):
            storage.add(b"d%d/to%d" % (one, other), kind=Kind.LINK, target=b"../d%d" % other)
    found = asyncio.run(scanned(storage))
    assert found[-1].followed == 500
    reasons = set(kept_of(found).values())
    assert reasons == {
        "It leads to a folder that it lies in itself. The link is kept.",
        "More than 500 links to folders were followed. The link is kept.",
    }


def test_folder_of_many_links_is_followed_to_the_end() -> None:
    storage = MemoryStorage()
    storage.add(b"file", b"12")
    for number in range(3000):
        storage.add(b"links/%d" % number, kind=Kind.LINK, target=b"../file")
    entries = entries_of(asyncio.run(scanned(storage)))
    assert sum(entry.size for entry in entries.values()) == 2 * 3001


def test_scan_that_follows_goes_on_from_every_frontier() -> None:
    async def go() -> None:
        batches = await scanned(links_everywhere())
        whole = entries_of(batches)
        assert len(batches) > 1
        for count in range(1, len(batches)):
            last = batches[count - 1]
            # As a cursor keeps it.
            frontier = [Unlisted(one.path, links.Way.read(one.way.as_json())) for one in last.frontier]
            assert frontier == last.frontier
            rest = await scanned(links_everywhere(), frontier=frontier, followed=last.followed)
            assert entries_of([*batches[:count], *rest]) == whole
            assert rest[-1].followed == batches[-1].followed

    asyncio.run(go())


def test_connection_lost_while_links_are_followed_leaves_their_folder_to_be_listed() -> None:
    async def go() -> None:
        storage = links_everywhere()

        def hook(operation: str, path: bytes) -> StorageError | None:
            if (operation, path) == ("follow_link", b"site/first"):
                storage.lose()
            return None

        storage.hook = hook
        batches: list[ScanBatch] = []
        with pytest.raises(ConnectionLost):
            await collect(scan_tree(storage, EVERYTHING, follow_links=True), batches)
        assert Unlisted(b"site") in batches[-1].frontier
        rest = await scanned(links_everywhere(), frontier=batches[-1].frontier, followed=batches[-1].followed)
        assert entries_of([*batches, *rest]) == entries_of(await scanned(links_everywhere()))

    asyncio.run(go())


async def compared(source: Storage, destination: Storage, *paths: bytes) -> list[PlanBatch]:
    """A comparison that follows links, of these paths."""
    choices = Choices(follow_links=True, selection=Selection(paths))
    return [batch async for batch in compare_trees(source, destination, EVERYTHING, choices=choices)]


def test_wanted_paths_may_lead_through_links() -> None:
    batches = asyncio.run(compared(links_everywhere(), MemoryStorage(), b"site/uploads/3", b"site/first"))
    steps = {step.entry.path: step.entry for batch in batches for step in batch.steps}
    assert set(steps) == {
        b"site",
        b"site/uploads",
        b"site/uploads/3",
        b"site/uploads/3/pic.jpg",
        b"site/first",
    }
    assert steps[b"site/uploads/3/pic.jpg"].real == b"shared/uploads/3/pic.jpg"


def test_followed_link_is_in_conflict_with_a_link_where_a_folder_should_be() -> None:
    destination = MemoryStorage()
    destination.add(b"site/uploads", kind=Kind.LINK, target=b"../shared/uploads")
    destination.add(b"site/first", kind=Kind.LINK, target=b"x")
    batches = asyncio.run(compared(links_everywhere(), destination, b"site/uploads/3", b"site/first"))
    steps = {step.entry.path: step for batch in batches for step in batch.steps}
    assert steps[b"site/uploads"].action is Action.CONFLICT
    assert steps[b"site/uploads/3/pic.jpg"].action is Action.CONFLICT
    assert steps[b"site/first"].action is Action.UPDATE
    assert all(isinstance(one, OpenFolder) for batch in batches for one in batch.frontier)


@pytest.mark.parametrize("place", ["local", pytest.param("sftp", marks=pytest.mark.slow)])
def test_tree_is_copied_as_what_its_links_lead_to(
    place: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    root, copied = tmp_path / "root", tmp_path / "copied"
    (root / "real/deep").mkdir(parents=True)
    (root / "real/deep/file").write_bytes(b"deep")
    (tmp_path / "secret").write_bytes(b"secret")
    (root / "absolute").symlink_to(root / "real")
    (root / "file").symlink_to("absolute/deep/file")
    (root / "real/loop").symlink_to("../absolute")
    (root / "out").symlink_to("../secret")
    copied.mkdir()
    server: OpenSshServer | None = request.getfixturevalue("openssh") if place == "sftp" else None
    source, destination = (sftp(server) if server is not None else local)(root), local(copied)

    async def go() -> dict[bytes, str]:
        async with connected(source, destination):
            found = await scanned(source)
            done = await copy(source, destination, items_of(entries_of(found).values()))
            assert {one.error for one in done.values()} == {None}
            return kept_of(found)

    kept = asyncio.run(go())
    assert set(kept) == {b"out", b"real/loop", b"absolute/loop"}
    assert {path: facts[0] for path, facts in seen(copied).items()} == {
        b"real": "folder",
        b"real/deep": "folder",
        b"real/deep/file": "file",
        b"real/loop": "link",
        b"absolute": "folder",
        b"absolute/deep": "folder",
        b"absolute/deep/file": "file",
        b"absolute/loop": "link",
        b"file": "file",
        b"out": "link",
    }
    assert (copied / "file").read_bytes() == b"deep"
    assert os.readlink(copied / "out") == "../secret"
