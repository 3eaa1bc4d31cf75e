"""What every storage promises of links that are followed: never out of the root, and told in one answer."""

import os
import struct
from functools import partial
from pathlib import Path

import pytest

from migration_app.storages.base import Address, Entry, Kind, Storage, ask
from migration_app.storages.errors import (
    NameRefused,
    NotFound,
    OperationFailed,
    OutsideRoot,
    PermissionDenied,
    StorageError,
)
from migration_app.storages.sftp import packets
from tests.servers.misbehaving import FILE_MODE, LINK_MODE, Session, attributes
from tests.storages.places import Place, listing, open_reader, read_all
from tests.storages.test_misbehaving_servers import run


async def led_to(storage: Storage, path: bytes) -> Entry:
    return await ask(partial(storage.follow_link, path))


def test_links_lead_to_files_and_folders_in_the_root(place: Place) -> None:
    (place.folder / "real/deep").mkdir(parents=True)
    (place.folder / "real/file").write_bytes(b"12345")
    (place.folder / "real/file").chmod(0o640)
    os.utime(place.folder / "real/file", (10, 10))
    (place.folder / "by name").symlink_to("real/file")
    (place.folder / "real/absolute").symlink_to(place.folder / "real/deep")
    (place.folder / "real/deep/chain").symlink_to("../../by name")
    (place.folder / "alias").symlink_to("real")
    (place.folder / "through").symlink_to("alias/deep")
    (place.folder / "root").symlink_to(".")

    async def test(storage: Storage) -> None:
        file = Entry(b"real/file", Kind.FILE, 5, 10, 0o640)
        assert await led_to(storage, b"by name") == file
        assert await led_to(storage, b"real/deep/chain") == file
        for path in (b"real/absolute", b"through"):
            found = await led_to(storage, path)
            assert (found.path, found.kind, found.size) == (b"real/deep", Kind.FOLDER, 0)
        root = await led_to(storage, b"root")
        assert (root.path, root.kind) == (b"", Kind.FOLDER)

    place.run(test)


def test_root_that_is_reached_through_a_link_has_links_that_stay_in_it(place: Place) -> None:
    (place.folder / "sites/one").mkdir(parents=True)
    (place.folder / "sites/one/file").touch()
    (place.folder / "sites/one/link").symlink_to(place.folder / "sites/one/file")
    (place.folder / "www").symlink_to("sites/one")
    root = os.fsencode(place.folder / ("www" if place.is_sftp else "sites/one"))
    assert place.run(partial(led_to, path=b"link"), root=root).path == b"file"


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../../etc/passwd", "out/passwd", "/", "../root-2/x", ".."]
)
def test_link_that_leads_out_of_the_root_is_not_followed(place: Place, target: str) -> None:
    (place.folder / "root").mkdir()
    (place.folder / "root-2").mkdir()
    (place.folder / "root-2/x").touch()
    (place.folder / "root/out").symlink_to("/etc")
    (place.folder / "root/link").symlink_to(target)
    with pytest.raises(OutsideRoot):
        place.run(partial(led_to, path=b"link"), root=os.fsencode(place.folder / "root"))


def test_link_that_leads_nowhere_says_so(place: Place) -> None:
    (place.folder / "dangling").symlink_to("no/where")
    (place.folder / "this").symlink_to("that")
    (place.folder / "that").symlink_to("this")
    with pytest.raises(NotFound):
        place.run(partial(led_to, path=b"dangling"))
    with pytest.raises(StorageError):
        place.run(partial(led_to, path=b"this"))
    with pytest.raises(NameRefused):
        place.run(partial(led_to, path=b"a/../this"))


def test_what_a_link_led_to_is_read_without_following_it_again(place: Place) -> None:
    (place.folder / "root/real").mkdir(parents=True)
    (place.folder / "root/real/file").write_bytes(b"mine")
    (place.folder / "root/link").symlink_to("real/file")
    (place.folder / "secret").write_bytes(b"not mine")

    async def test(storage: Storage) -> None:
        found = await led_to(storage, b"link")
        (place.folder / "root/link").unlink()
        (place.folder / "root/link").symlink_to("../secret")
        assert await read_all(storage, found.path) == b"mine"
        with pytest.raises(OutsideRoot):
            await led_to(storage, b"link")

    place.run(test, root=os.fsencode(place.folder / "root"))


def test_folder_that_becomes_a_link_after_it_was_led_to_is_not_read_through(local: Place) -> None:
    (local.folder / "root/real").mkdir(parents=True)
    (local.folder / "root/real/file").write_bytes(b"mine")
    (local.folder / "root/link").symlink_to("real")
    (local.folder / "elsewhere").mkdir()
    (local.folder / "elsewhere/file").write_bytes(b"not mine")

    async def test(storage: Storage) -> None:
        found = await led_to(storage, b"link")
        (local.folder / "root/real").rename(local.folder / "root/moved")
        (local.folder / "root/real").symlink_to(local.folder / "elsewhere")
        for attempt in (listing(storage, found.path), open_reader(storage, found.path + b"/file")):
            with pytest.raises(StorageError, match="link"):
                await attempt

    local.run(test, root=os.fsencode(local.folder / "root"))


def test_link_into_a_forbidden_folder_shows_nothing(folder: Path) -> None:
    (folder / "var").mkdir()
    (folder / "var/secret.key").touch()
    (folder / "link").symlink_to("var/secret.key")
    address = Address("local", local_roots=(str(folder),), forbidden=(str(folder / "var"),))
    with pytest.raises(PermissionDenied):
        Place(address, folder).run(partial(led_to, path=b"link"))


def realpath(answers: dict[bytes, bytes]) -> dict[int, object]:
    """A server that says where links lead to as it likes; everything that it is asked about is a file."""

    def answer(session: Session, request_id: int, cursor: packets.Cursor) -> None:
        asked = cursor.text()
        session.names(request_id, [(answers.get(asked, asked), attributes(0))])

    return {
        packets.REALPATH: answer,
        packets.LSTAT: lambda session, number, _: session.attributes(number, FILE_MODE, 3),
    }


@pytest.mark.parametrize(
    "said",
    [b"/etc/passwd", b"/root/../etc/passwd", b"/root//x", b"/rootx", b"root/x", b"", b"/root/" + b"x" * 5000],
)
def test_servers_answer_that_is_not_below_the_root_is_outside(said: bytes) -> None:
    async def test(storage: Storage) -> None:
        storage.root = b"/root"
        with pytest.raises(OutsideRoot):
            await led_to(storage, b"link")
        assert storage.is_connected

    run(test, realpath({b"/root/link": said}))


def test_server_that_only_tidies_paths_leaves_links_as_they_are() -> None:
    async def test(storage: Storage) -> None:
        storage.root = b"/root"
        with pytest.raises(OperationFailed, match="cannot be told"):
            await led_to(storage, b"link")

    lstat = {packets.LSTAT: lambda session, number, _: session.attributes(number, LINK_MODE)}
    run(test, realpath({}) | lstat)


def test_server_that_cannot_tell_real_paths_leaves_links_as_they_are() -> None:
    async def test(storage: Storage) -> None:
        with pytest.raises(OperationFailed):
            await led_to(storage, b"link")

    def refuse(session: Session, request_id: int, _: packets.Cursor) -> None:
        session.status(request_id, packets.OP_UNSUPPORTED)

    run(test, {packets.REALPATH: refuse})


def test_server_that_gives_two_real_paths_is_hung_up_on() -> None:
    async def test(storage: Storage) -> None:
        with pytest.raises(StorageError):
            await led_to(storage, b"link")
        assert not storage.is_connected

    def two(session: Session, request_id: int, _: packets.Cursor) -> None:
        name = packets.text(b"/a") + packets.text(b"") + attributes(0)
        session.packet(packets.NAME, request_id, struct.pack(">I", 2) + name + name)

    run(test, {packets.REALPATH: two})
