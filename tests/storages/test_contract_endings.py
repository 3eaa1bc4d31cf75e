"""What every storage promises: roots, and how a connection begins and ends."""

import asyncio
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from migration_app.storages.base import Entry, Kind, Storage, ask
from migration_app.storages.errors import (
    ConnectionLost,
    NameRefused,
    NotAFolder,
    NotFound,
    PermissionDenied,
)
from tests.servers.openssh import OpenSshServer
from tests.storages.places import (
    Answers,
    Place,
    listing,
    open_reader,
    open_writer,
    sftp_address,
    write_all,
)


def ask_everything(storage: Storage, answers: Answers) -> None:
    """Ask for every operation at once."""
    to = answers.to
    storage.list_folder(b"", to("list"))
    storage.list_folder(b"folder", to("list a folder"))
    storage.open_reader(b"file", to("read"))
    storage.open_writer(b"new", to("write"))
    storage.open_writer(b"file", to("write over"))
    storage.make_folder(b"new folder", to("make folder"))
    storage.make_folder(b"file", to("make folder over"))
    storage.make_link(b"link", b"target", 0, to("link"))
    storage.make_link(b"file", b"target", 0, to("link over"))
    storage.rename(b"file", b"moved", to("rename"))
    storage.rename(b"missing", b"folder", to("rename over"))
    storage.remove(b"file", to("remove"))
    storage.remove(b"folder", to("remove a folder"))
    storage.remove_folder(b"folder", to("remove folder"))
    storage.remove_folder(b"file", to("remove a file as a folder"))
    storage.open_up(b"folder", to("open up"))
    storage.set_attributes(b"folder", mode=0o700, mtime=0, answer=to("attributes"))
    storage.set_attributes(b"missing", mode=0o700, mtime=0, answer=to("attributes of nothing"))


def fill(folder: Path) -> list[str]:
    (folder / "folder").mkdir()
    (folder / "file").write_bytes(b"content")
    (folder / "a link").symlink_to("file")
    return sorted(os.listdir(folder))


def all_lost(answers: Answers) -> bool:
    return all(isinstance(answer, ConnectionLost) for given in answers.by_name.values() for answer in given)


# Roots


def test_root_is_described(place: Place) -> None:
    place.folder.chmod(0o751)
    os.utime(place.folder, (1_300_000_000, 1_300_000_000))
    assert place.run(lambda storage: storage.root_entry()) == Entry(b"", Kind.FOLDER, 0, 1_300_000_000, 0o751)


def test_missing_root_is_told_and_can_be_made_with_its_parents(place: Place) -> None:
    root = os.fsencode(place.folder) + b"/a/b/c"

    async def test(storage: Storage) -> None:
        with pytest.raises(NotFound, match="/a/b/c does not exist"):
            await storage.root_entry()
        with pytest.raises(NotFound):
            await listing(storage)
        await storage.make_root()
        await storage.make_root()
        assert (await storage.root_entry()).kind is Kind.FOLDER
        await write_all(storage, b"file", b"x")

    place.run(test, root=root)
    assert (place.folder / "a/b/c/file").read_bytes() == b"x"


def test_two_may_make_the_same_root_at_once(place: Place) -> None:
    root = os.fsencode(place.folder) + b"/a/b/c"

    async def main() -> None:
        storages = [place.storage(root) for _ in range(3)]
        await asyncio.gather(*(storage.connect() for storage in storages))
        await asyncio.gather(*(storage.make_root() for storage in storages))
        await asyncio.gather(*(storage.close() for storage in storages))

    asyncio.run(main())
    assert (place.folder / "a/b/c").is_dir()


@pytest.mark.parametrize("below", [b"", b"/inner"])
def test_root_that_is_a_file_is_refused(place: Place, below: bytes) -> None:
    (place.folder / "file").touch()

    async def test(storage: Storage) -> None:
        with pytest.raises((NotAFolder, NotFound)):
            await storage.root_entry()
        with pytest.raises(NotAFolder):
            await storage.make_root()

    place.run(test, root=os.fsencode(place.folder / "file") + below)


@pytest.mark.parametrize("ending", [b"/", b"//", b"/./"])
def test_root_may_end_in_slashes(place: Place, ending: bytes) -> None:
    async def test(storage: Storage) -> None:
        await storage.make_root()
        await write_all(storage, b"file", b"x")
        assert [entry.path for entry in (await listing(storage)).entries] == [b"file"]

    place.run(test, root=os.fsencode(place.folder / "root") + ending)
    assert (place.folder / "root/file").exists()


def test_local_root_outside_of_the_allowed_folders_is_denied(local: Place) -> None:
    allowed = local.folder / "allowed"
    allowed.mkdir()
    (local.folder / "allowed but not").mkdir()
    place = replace(local, address=replace(local.address, local_roots=(str(allowed),)))
    for name in ("", "allowed but not", "else"):
        root = os.fsencode(local.folder / name)
        with pytest.raises(PermissionDenied, match="is not in a folder that may be reached here"):
            place.run(lambda storage: storage.root_entry(), root=root)
    with pytest.raises(NameRefused, match="not an absolute path"):
        place.run(lambda storage: storage.root_entry(), root=os.fsencode(allowed) + b"/../else")
    with pytest.raises(NameRefused, match="not an absolute path"):
        place.run(lambda storage: storage.root_entry(), root=b"relative")
    place.run(lambda storage: storage.root_entry(), root=os.fsencode(allowed))


def test_local_root_reached_through_a_link_is_refused(local: Place) -> None:
    (local.folder / "real").mkdir()
    (local.folder / "link").symlink_to("real")
    for root in ("link", "link/inner"):
        with pytest.raises(NotAFolder, match="symbolic link"):
            local.run(lambda storage: storage.make_root(), root=os.fsencode(local.folder / root))
    assert list((local.folder / "real").iterdir()) == []


def test_allowed_folder_may_itself_be_a_link(local: Place) -> None:
    (local.folder / "real").mkdir()
    (local.folder / "link").symlink_to("real")
    place = replace(local, address=replace(local.address, local_roots=(str(local.folder / "link"),)))
    for name in ("link", "real"):
        root = os.fsencode(local.folder / name / "root")
        place.run(lambda storage: storage.make_root(), root=root)
    assert (local.folder / "real/root").is_dir()


def test_forbidden_folder_is_reached_by_no_name(local: Place) -> None:
    data = local.folder / "var" / "data"
    data.mkdir(parents=True)
    (data / "secret.key").write_bytes(b"secret")
    (local.folder / "alias").symlink_to("var")
    for forbidden in (data, local.folder / "alias/data"):
        place = replace(local, address=replace(local.address, forbidden=(str(forbidden),)))
        for below in ("var/data", "var/data/inner"):
            with pytest.raises(PermissionDenied):
                place.run(lambda storage: storage.make_root(), root=os.fsencode(local.folder / below))

        async def test(storage: Storage) -> None:
            for attempt in (
                listing(storage, b"var/data"),
                open_reader(storage, b"var/data/secret.key"),
                open_writer(storage, b"var/data/secret.key"),
                ask(partial(storage.remove, b"var/data/secret.key")),
                ask(partial(storage.rename, b"var/data/secret.key", b"taken")),
            ):
                with pytest.raises(PermissionDenied, match="Haulier's own data"):
                    await attempt

        place.run(test)
    assert (data / "secret.key").read_bytes() == b"secret"


# Beginnings and ends


def test_nothing_is_answered_but_loss_before_connecting(place: Place) -> None:
    async def main() -> None:
        storage = place.storage()
        answers = Answers()
        assert not storage.is_connected
        ask_everything(storage, answers)
        await answers.wait()
        assert answers.are_all_once()
        assert all_lost(answers)
        for attempt in (storage.root_entry(), storage.make_root()):
            with pytest.raises(ConnectionLost):
                await attempt
        storage.abort()
        await storage.close()

    asyncio.run(main())
    assert list(place.folder.iterdir()) == []


def test_everything_is_answered_exactly_once(place: Place) -> None:
    fill(place.folder)

    async def test(storage: Storage) -> None:
        answers = Answers()
        ask_everything(storage, answers)
        await answers.wait()
        assert answers.are_all_once()
        for handle in (*answers.by_name["read"], *answers.by_name["write"], *answers.by_name["write over"]):
            if not isinstance(handle, Exception):
                handle.close()

    place.run(test)


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_abort_answers_what_is_outstanding_once(place: Place, turns: int) -> None:
    fill(place.folder)

    async def test(storage: Storage) -> None:
        answers = Answers()
        ask_everything(storage, answers)
        for _ in range(turns):
            await asyncio.sleep(0.001)
        storage.abort("Enough.")
        storage.abort("Again.")
        assert not storage.is_connected
        await answers.wait()
        assert answers.are_all_once()
        later = Answers()
        ask_everything(storage, later)
        await later.wait()
        assert later.are_all_once()
        assert all_lost(later)
        assert {str(given[0]) for given in later.by_name.values()} == {"Enough."}
        with pytest.raises(ConnectionLost):
            await storage.root_entry()

    place.run(test)


def test_open_files_answer_loss_after_an_abort(place: Place) -> None:
    fill(place.folder)
    before = len(os.listdir("/proc/self/fd"))

    async def test(storage: Storage) -> None:
        reader = await open_reader(storage, b"file")
        writer = await open_writer(storage, b"new")
        answers = Answers()
        storage.abort()
        reader.read(0, 10, answers.to("read"))
        reader.measure(answers.to("measure"))
        writer.write(0, b"late", answers.to("write"))
        writer.finish(mode=0o600, mtime=0, size=4, answer=answers.to("finish"))
        await answers.wait()
        assert answers.are_all_once()
        assert all_lost(answers)
        await storage.close()
        reader.close()
        writer.close()

    place.run(test)
    assert (place.folder / "new").read_bytes() == b""
    assert len(os.listdir("/proc/self/fd")) <= before


def test_nothing_is_sent_after_the_lease_is_over(place: Place) -> None:
    names = fill(place.folder)
    lease = [True]

    async def test(storage: Storage) -> None:
        writer = await open_writer(storage, b"begun")
        await ask(partial(writer.write, 0, b"in time"))
        lease[0] = False
        answers = Answers()
        writer.write(7, b" and late", answers.to("write"))
        writer.finish(mode=0o600, mtime=0, size=16, answer=answers.to("finish"))
        storage.make_folder(b"late", answers.to("make folder"))
        storage.remove(b"file", answers.to("remove"))
        storage.rename(b"file", b"late", answers.to("rename"))
        await answers.wait()
        assert answers.are_all_once()
        assert all_lost(answers)
        assert not storage.is_connected
        with pytest.raises(ConnectionLost):
            await storage.make_root()

    place.run(test, guard=lambda: lease[0])
    assert sorted(os.listdir(place.folder)) == sorted([*names, "begun"])
    assert (place.folder / "begun").read_bytes() == b"in time"


def test_closing_twice_or_after_an_abort_is_harmless(place: Place) -> None:
    async def test(storage: Storage) -> None:
        await storage.close()
        await storage.close()
        storage.abort()
        assert not storage.is_connected
        with pytest.raises(ConnectionLost):
            await listing(storage)

    place.run(test)


def test_answer_that_raises_leaves_nobody_waiting(place: Place) -> None:
    """The bug is told to the loop, and whoever else waits gets an answer or the error."""
    fill(place.folder)
    told: list[dict[str, Any]] = []

    async def test(storage: Storage) -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
        answers = Answers()

        def broken(_: object) -> None:
            raise RuntimeError("a bug in the engine")

        try:
            storage.list_folder(b"folder", broken)
        except RuntimeError as error:
            told.append({"exception": error})
        storage.list_folder(b"", answers.to("list"))
        storage.make_folder(b"new", answers.to("make folder"))
        await answers.wait()
        assert answers.are_all_once()

    place.run(test)
    assert [str(context.get("exception")) for context in told] == ["a bug in the engine"]


def test_killed_server_is_a_lost_connection(folder: Path, openssh: OpenSshServer) -> None:
    place = Place(sftp_address(openssh), folder, openssh)
    fill(place.folder)

    async def test(storage: Storage) -> None:
        answers = Answers()
        ask_everything(storage, answers)
        openssh.drop_sessions()
        await answers.wait()
        assert answers.are_all_once()
        with pytest.raises(ConnectionLost):
            await listing(storage)
        assert not storage.is_connected

    place.run(test)
