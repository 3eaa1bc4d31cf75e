"""What every storage promises: the operations, on what is there and on what is not."""

import asyncio
import os
import stat
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from migration_app.storages.base import Address, Entry, Kind, Storage, Writer, ask
from migration_app.storages.errors import (
    AlreadyExists,
    IsAFolder,
    NameRefused,
    NotAFolder,
    NotFound,
    OperationFailed,
    PermissionDenied,
    SourceChanged,
    StorageError,
)
from tests.storages.places import (
    Place,
    entries,
    finish,
    held_back_by_modes,
    listing,
    make,
    open_reader,
    open_writer,
    read_all,
    set_attributes,
    write_all,
)

BEFORE_1970 = -86_400
AFTER_2038 = 2**31 + 86_400


# Listing


def test_empty_folder_is_listed(place: Place) -> None:
    assert entries(place) == {}


def test_entries_say_what_is_there(place: Place) -> None:
    make(place.folder / "file", b"12345", mode=0o640)
    folder = place.folder / "folder"
    folder.mkdir()
    folder.chmod(0o2750)
    os.utime(folder, (10, 10))
    link = place.folder / "link"
    link.symlink_to("../anywhere")
    os.utime(link, (20, 20), follow_symlinks=False)
    os.mkfifo(place.folder / "pipe", 0o600)
    os.utime(place.folder / "pipe", (30, 30))
    mode_of_links = stat.S_IMODE(link.lstat().st_mode)
    assert entries(place) == {
        b"file": Entry(b"file", Kind.FILE, 5, 1_500_000_000, 0o640),
        b"folder": Entry(b"folder", Kind.FOLDER, 0, 10, 0o2750),
        b"link": Entry(b"link", Kind.LINK, 0, 20, mode_of_links, b"../anywhere"),
        b"pipe": Entry(b"pipe", Kind.OTHER, 0, 30, 0o600),
    }


def test_inner_folder_is_listed_with_whole_paths(place: Place) -> None:
    (place.folder / "a/b/c").mkdir(parents=True)
    make(place.folder / "a/b/file")
    (place.folder / "a/b/link").symlink_to("c")
    assert set(entries(place, b"a/b")) == {b"a/b/c", b"a/b/file", b"a/b/link"}


def test_more_entries_and_links_than_one_answer_holds_are_listed(place: Place) -> None:
    for number in range(150):
        (place.folder / f"file-{number}").touch()
        (place.folder / f"link-{number}").symlink_to(f"file-{number}")
    found = entries(place)
    assert len(found) == 300
    assert all(
        entry.target == path.replace(b"link", b"file") for path, entry in found.items() if b"link" in path
    )


def test_very_deep_folder_is_reached(place: Place) -> None:
    depth = 700
    (place.folder / "a").mkdir()
    descriptor = os.open(place.folder / "a", os.O_RDONLY)
    for _ in range(depth - 1):
        os.mkdir("a", dir_fd=descriptor)
        inner = os.open("a", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(descriptor)
    deepest = b"/".join([b"a"] * depth)

    async def test(storage: Storage) -> None:
        await write_all(storage, deepest + b"/new", b"deep")
        await ask(partial(storage.rename, deepest + b"/new", b"moved"))
        await ask(partial(storage.rename, b"moved", deepest + b"/back"))
        assert [entry.path for entry in (await listing(storage, deepest)).entries] == [deepest + b"/back"]
        await ask(partial(storage.remove, deepest + b"/back"))

    place.run(test)


def test_listing_what_is_no_folder_is_refused(place: Place) -> None:
    make(place.folder / "file")
    (place.folder / "folder").mkdir()
    (place.folder / "link").symlink_to("folder")

    async def test(storage: Storage) -> None:
        with pytest.raises(NotFound):
            await listing(storage, b"missing")
        with pytest.raises(NotFound):
            await listing(storage, b"missing/inner")
        with pytest.raises(NotAFolder):
            await listing(storage, b"file")
        with pytest.raises(NotAFolder):
            await listing(storage, b"link")

    place.run(test)


# Reading


@pytest.mark.parametrize("size", [0, 1, 70_000, 261_120, 261_121, 20 * 2**20])
def test_file_is_written_and_read_back(place: Place, size: int) -> None:
    content = os.urandom(size)

    async def test(storage: Storage) -> None:
        await write_all(storage, b"file", content)
        assert await read_all(storage, b"file") == content

    place.run(test)
    assert (place.folder / "file").read_bytes() == content


def test_file_that_is_there_is_opened_as_it_is(place: Place) -> None:
    make(place.folder / "file", b"0123456789")
    (place.folder / "folder").mkdir()
    (place.folder / "link").symlink_to("file")

    async def test(storage: Storage) -> None:
        writer: Writer = await ask(partial(storage.reopen_writer, b"file"))
        await ask(partial(writer.write, 4, b"four"))
        await finish(writer, mode=0o640, mtime=1234, size=10)
        for name in (b"missing", b"folder", b"link"):
            with pytest.raises(StorageError):
                await ask(partial(storage.reopen_writer, name))

    place.run(test)
    found = place.folder / "file"
    assert (found.read_bytes(), found.stat().st_mode & 0o777) == (b"0123four89", 0o640)


def test_read_gives_what_was_asked_for_and_less_only_at_the_end(place: Place) -> None:
    make(place.folder / "file", b"0123456789", mtime=1234)

    async def test(storage: Storage) -> None:
        reader = await open_reader(storage, b"file")
        assert await ask(partial(reader.read, 0, 4)) == b"0123"
        assert await ask(partial(reader.read, 8, 4)) == b"89"
        assert await ask(partial(reader.read, 10, 4)) == b""
        assert await ask(partial(reader.read, 1000, 4)) == b""
        assert await ask(reader.measure) == (10, 1234)
        reader.close()
        reader.close()
        with pytest.raises(OperationFailed):
            await ask(partial(reader.read, 0, 4))
        with pytest.raises(OperationFailed):
            await ask(reader.measure)

    place.run(test)


def test_file_that_grows_is_read_and_measured_as_it_is(place: Place) -> None:
    path = make(place.folder / "file", b"before")

    async def test(storage: Storage) -> None:
        reader = await open_reader(storage, b"file")
        with path.open("ab") as file:
            file.write(b" and after")
        os.utime(path, (99, 99))
        assert await ask(partial(reader.read, 0, 100)) == b"before and after"
        assert await ask(reader.measure) == (16, 99)
        reader.close()

    place.run(test)


def test_what_is_no_file_is_not_read(place: Place) -> None:
    (place.folder / "folder").mkdir()

    async def test(storage: Storage) -> None:
        with pytest.raises(NotFound):
            await open_reader(storage, b"missing")
        with pytest.raises((SourceChanged, IsAFolder, OperationFailed, PermissionDenied)):
            await read_all(storage, b"folder")

    place.run(test)


def test_link_in_place_of_a_file_is_not_read(local: Place) -> None:
    """Version 3 of SFTP cannot open a file for reading without following links: see SftpStorage."""
    place = local
    make(place.folder / "file", b"secret")
    (place.folder / "link").symlink_to("file")

    async def test(storage: Storage) -> None:
        with pytest.raises((NameRefused, SourceChanged)):
            await open_reader(storage, b"link")

    place.run(test)


def test_file_whose_size_is_said_to_be_0_is_read() -> None:
    place = Place(Address("local", local_roots=("/proc/self",)), Path("/proc/self").resolve())

    async def test(storage: Storage) -> None:
        reader = await open_reader(storage, b"status")
        assert await ask(reader.measure) != (-1, -1)
        assert (await ask(partial(reader.read, 0, 5))).startswith(b"Name:")
        reader.close()

    place.run(test, root=b"/proc/self")


# Folders, links, names


def test_folder_is_made_private_and_left_when_it_is_there(place: Place) -> None:
    async def test(storage: Storage) -> None:
        await ask(partial(storage.make_folder, b"folder"))
        assert stat.S_IMODE((place.folder / "folder").stat().st_mode) == 0o700
        await set_attributes(storage, b"folder", mode=0o7751, mtime=77)
        await ask(partial(storage.make_folder, b"folder"))

    place.run(test)
    found = (place.folder / "folder").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o751, 77)


def test_folder_cannot_be_made_where_something_else_is(place: Place) -> None:
    make(place.folder / "file")
    (place.folder / "folder").mkdir()
    (place.folder / "link").symlink_to("folder")

    async def test(storage: Storage) -> None:
        for path in (b"file", b"link"):
            with pytest.raises(NotAFolder):
                await ask(partial(storage.make_folder, path))
        with pytest.raises(NotFound):
            await ask(partial(storage.make_folder, b"missing/folder"))

    place.run(test)


def test_attributes_of_the_root_are_set(place: Place) -> None:
    place.run(lambda storage: set_attributes(storage, b"", mode=0o711, mtime=5))
    assert stat.S_IMODE(place.folder.stat().st_mode) == 0o711
    assert place.folder.stat().st_mtime == 5


def test_attributes_of_a_file_are_set_and_of_nothing_else_where_one_is_meant(place: Place) -> None:
    make(place.folder / "file", b"content")
    (place.folder / "link").symlink_to("file")
    (place.folder / "folder").mkdir()

    async def test(storage: Storage) -> None:
        for path in (b"link", b"missing"):
            with pytest.raises(StorageError):
                await set_attributes(storage, path, mode=0o777, mtime=5, kind=Kind.FILE)
        await set_attributes(storage, b"file", mode=0o4640, mtime=77, kind=Kind.FILE)

    place.run(test)
    found = (place.folder / "file").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o640, 77)
    assert (place.folder / "file").read_bytes() == b"content"


def test_attributes_are_not_set_through_a_link(place: Place) -> None:
    (place.folder / "folder").mkdir(mode=0o700)
    os.utime(place.folder / "folder", (50, 50))
    (place.folder / "link").symlink_to("folder")

    async def test(storage: Storage) -> None:
        with pytest.raises(NotAFolder):
            await set_attributes(storage, b"link", mode=0o777, mtime=5)
        with pytest.raises(NotFound):
            await set_attributes(storage, b"missing", mode=0o777, mtime=5)

    place.run(test)
    found = (place.folder / "folder").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o700, 50)


@pytest.mark.parametrize(
    "target", [b"../up", b"/etc/passwd", b"nowhere", b"a \n'\"%s", b"\xff\xfe", b"x" * 1000]
)
def test_link_is_made_as_it_is(place: Place, target: bytes) -> None:
    async def test(storage: Storage) -> None:
        await ask(partial(storage.make_link, b"link", target, 1_400_000_000))
        (entry,) = (await listing(storage)).entries
        assert (entry.kind, entry.target) == (Kind.LINK, target)
        if storage.capabilities.link_times:
            assert entry.mtime == 1_400_000_000

    place.run(test)
    assert os.readlink(os.fsencode(place.folder) + b"/link") == target


def test_link_is_not_made_over_anything(place: Place) -> None:
    make(place.folder / "file", b"kept", mtime=44)

    async def test(storage: Storage) -> None:
        with pytest.raises(AlreadyExists):
            await ask(partial(storage.make_link, b"file", b"target", 5))
        with pytest.raises(NotFound):
            await ask(partial(storage.make_link, b"missing/link", b"target", 5))
        for target in (b"", b"a\0b"):
            with pytest.raises(NameRefused):
                await ask(partial(storage.make_link, b"link", target, 5))

    place.run(test)
    assert (place.folder / "file").stat().st_mtime == 44


def test_rename_replaces_a_file_or_link_but_no_folder(place: Place) -> None:
    make(place.folder / "new", b"new")
    make(place.folder / "old", b"old")
    make(place.folder / "victim", b"untouched")
    (place.folder / "link").symlink_to("victim")
    (place.folder / "folder").mkdir()

    async def test(storage: Storage) -> None:
        await ask(partial(storage.rename, b"new", b"old"))
        await ask(partial(storage.rename, b"old", b"link"))
        await ask(partial(storage.rename, b"link", b"folder/moved"))
        with pytest.raises(IsAFolder):
            await ask(partial(storage.rename, b"victim", b"folder"))
        with pytest.raises(NotFound):
            await ask(partial(storage.rename, b"missing", b"victim"))
        with pytest.raises(NotFound):
            await ask(partial(storage.rename, b"victim", b"missing/name"))

    place.run(test)
    assert (place.folder / "folder/moved").read_bytes() == b"new"
    assert sorted(path.name for path in place.folder.iterdir()) == ["folder", "victim"]
    assert (place.folder / "victim").read_bytes() == b"untouched"


def test_link_is_renamed_as_it_is(place: Place) -> None:
    (place.folder / "link").symlink_to("nowhere")
    place.run(lambda storage: ask(partial(storage.rename, b"link", b"other")))
    assert os.readlink(place.folder / "other") == "nowhere"


def test_remove_takes_files_and_links_only(place: Place) -> None:
    make(place.folder / "file")
    (place.folder / "folder").mkdir()
    (place.folder / "link").symlink_to("folder")

    async def test(storage: Storage) -> None:
        await ask(partial(storage.remove, b"file"))
        await ask(partial(storage.remove, b"link"))
        with pytest.raises(IsAFolder):
            await ask(partial(storage.remove, b"folder"))
        with pytest.raises(NotFound):
            await ask(partial(storage.remove, b"file"))

    place.run(test)
    assert [path.name for path in place.folder.iterdir()] == ["folder"]


def test_folders_are_removed_when_they_are_empty(place: Place) -> None:
    for name in ("empty", "full"):
        (place.folder / name).mkdir()
    make(place.folder / "full/file")
    (place.folder / "link").symlink_to("empty")

    async def test(storage: Storage) -> None:
        for path, refusal in ((b"full", OperationFailed), (b"full/file", NotAFolder), (b"link", NotAFolder)):
            with pytest.raises(refusal):
                await ask(partial(storage.remove_folder, path))
        await ask(partial(storage.remove_folder, b"empty"))
        with pytest.raises(NotFound):
            await ask(partial(storage.remove_folder, b"empty"))
        await ask(partial(storage.remove, b"full/file"))
        await ask(partial(storage.remove_folder, b"full"))

    place.run(test)
    assert [path.name for path in place.folder.iterdir()] == ["link"]


def swap_a_folder_for_a_link(place: Place, ask_for: Callable[[Storage], Awaitable[object]]) -> None:
    """Ask for something in a folder that was swapped for a link after it was listed."""
    outside = place.folder / "outside"
    outside.mkdir()
    make(outside / "file", b"untouched", mtime=9)
    os.utime(outside, (8, 8))
    inside = place.folder / "root"
    (inside / "folder").mkdir(parents=True)
    make(inside / "folder" / "file")
    make(inside / "own")

    async def test(storage: Storage) -> None:
        await listing(storage)
        (inside / "folder").rename(place.folder / "was here")
        (inside / "folder").symlink_to(outside)
        with pytest.raises(NotAFolder):
            await ask_for(storage)

    place.run(test, root=os.fsencode(inside))
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert (outside / "file").read_bytes() == b"untouched"
    assert outside.stat().st_mtime == 8


def test_folder_swapped_for_a_link_is_not_listed(place: Place) -> None:
    swap_a_folder_for_a_link(place, partial(listing, path=b"folder"))


def test_folder_swapped_for_a_link_gets_no_attributes(place: Place) -> None:
    swap_a_folder_for_a_link(place, partial(set_attributes, path=b"folder", mode=0o777, mtime=0))


@pytest.mark.parametrize(
    "ask_for",
    [
        partial(open_reader, path=b"folder/file"),
        partial(open_writer, path=b"folder/new"),
        lambda storage: ask(partial(storage.make_folder, b"folder/new")),
        lambda storage: ask(partial(storage.make_link, b"folder/new", b"target", 0)),
        lambda storage: ask(partial(storage.remove, b"folder/file")),
        lambda storage: ask(partial(storage.remove_folder, b"folder/below")),
        lambda storage: ask(partial(storage.rename, b"folder/file", b"taken")),
        lambda storage: ask(partial(storage.rename, b"own", b"folder/file")),
    ],
    ids=["read", "write", "folder", "link", "remove", "remove folder", "rename from", "rename to"],
)
def test_nothing_goes_through_a_folder_swapped_for_a_link(
    local: Place, ask_for: Callable[[Storage], Awaitable[object]]
) -> None:
    """Over SFTP the server resolves whole paths, and follows links in them: see SftpStorage."""
    swap_a_folder_for_a_link(local, ask_for)


# Permissions


def test_what_modes_forbid_is_permission_denied(place: Place) -> None:
    make(place.folder / "secret", b"x", mode=0o000)
    closed = place.folder / "closed"
    closed.mkdir(mode=0o000)
    fixed = place.folder / "fixed"
    fixed.mkdir()
    make(fixed / "file")
    fixed.chmod(0o555)

    async def test(storage: Storage) -> None:
        with pytest.raises(PermissionDenied):
            await open_reader(storage, b"secret")
        with pytest.raises(PermissionDenied):
            await listing(storage, b"closed")
        with pytest.raises(PermissionDenied):
            await open_writer(storage, b"fixed/new")
        with pytest.raises(PermissionDenied):
            await ask(partial(storage.make_folder, b"fixed/new"))
        with pytest.raises(PermissionDenied):
            await ask(partial(storage.make_link, b"fixed/new", b"x", 0))
        with pytest.raises(PermissionDenied):
            await ask(partial(storage.remove, b"fixed/file"))
        with pytest.raises(PermissionDenied):
            await ask(partial(storage.rename, b"fixed/file", b"fixed/other"))

    if place.is_sftp:
        place.as_somebody_else().run(test)
    else:
        with held_back_by_modes():
            place.run(test)


def test_many_operations_at_once_are_all_answered(place: Place) -> None:
    async def test(storage: Storage) -> None:
        names = [b"file-%d" % number for number in range(150)]
        await asyncio.gather(*(write_all(storage, name, name * 10) for name in names))
        assert await asyncio.gather(*(read_all(storage, name) for name in names)) == [
            name * 10 for name in names
        ]

    place.run(test)
    assert len(os.listdir(place.folder)) == 150


def test_folder_is_opened_for_its_owner_and_keeps_the_rest_of_its_mode(place: Place) -> None:
    for name, mode in {"closed": 0o555, "shut": 0o000, "open": 0o750}.items():
        (place.folder / name).mkdir()
        (place.folder / name).chmod(mode)
    (place.folder / "link").symlink_to("closed")
    make(place.folder / "file", mode=0o444)

    async def test(storage: Storage) -> None:
        for name in (b"closed", b"shut", b"open"):
            await ask(partial(storage.open_up, name))
        for name in (b"link", b"file", b"missing"):
            with pytest.raises(StorageError):
                await ask(partial(storage.open_up, name))

    place.run(test)
    modes = {name: stat.S_IMODE((place.folder / name).stat().st_mode) for name in os.listdir(place.folder)}
    assert modes == {"closed": 0o755, "shut": 0o300, "open": 0o750, "link": 0o755, "file": 0o444}
    (place.folder / "closed").chmod(0o555)
    with pytest.raises(StorageError):
        place.run(lambda storage: ask(partial(storage.open_up, b"link")))
    assert stat.S_IMODE((place.folder / "closed").stat().st_mode) == 0o555
