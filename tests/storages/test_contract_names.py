"""What every storage promises: names from outside, whatever bytes they are."""

import os
from functools import partial

import pytest

from migration_app.storages.base import Storage, ask
from migration_app.storages.errors import NameRefused, NotFound, OperationFailed, StorageError
from tests.storages.places import (
    Place,
    listing,
    open_reader,
    open_writer,
    read_all,
    set_attributes,
    write_all,
)

NAMES = [
    b"with spaces ",
    b" ",
    b"'single' \"double\" `back`",
    b"new\nline\r\n",
    b"-rf",
    b"--help",
    b"100% %s %2e%2e",
    "emoji 🚚 👩‍👩‍👧".encode(),
    "NFC é".encode(),
    "NFD e\u0301".encode(),
    b"latin-1 \xe9\xff",
    b"back\\slash",
    b"...",
    b"..hidden",
    b"~",
    b"$HOME * ? [a] {b,c} ; rm",
    b"\x01\x1b[31m\x7f",
    b"x" * 255,
]
BAD_PATHS = [
    b"..",
    b".",
    b"../escape",
    b"a/../../b",
    b"a//b",
    b"/absolute",
    b"a/",
    b"a/./b",
    b"nul\0",
    b"a\0b/c",
]


def test_every_name_is_written_listed_renamed_and_removed(place: Place) -> None:
    async def test(storage: Storage) -> None:
        for name in NAMES:
            await ask(partial(storage.make_folder, name))
            await write_all(storage, name + b"/temp", name)
            await ask(partial(storage.rename, name + b"/temp", name + b"/" + name))
            (entry,) = (await listing(storage, name)).entries
            assert entry.path == name + b"/" + name
            assert await read_all(storage, entry.path) == name
            await ask(partial(storage.make_link, name + b"/link", name, 0))
            targets = {entry.path: entry.target for entry in (await listing(storage, name)).entries}
            assert targets[name + b"/link"] == name
            await set_attributes(storage, name, mode=0o755, mtime=1)
        found = await listing(storage)
        assert found.problems == []
        assert {entry.path for entry in found.entries} == set(NAMES)

    place.run(test)
    assert set(os.listdir(os.fsencode(place.folder))) == set(NAMES)


def test_name_that_is_too_long_is_refused(place: Place) -> None:
    name = b"x" * 256

    async def test(storage: Storage) -> None:
        # ProFTPD says in words alone that it is the name.
        with pytest.raises((NameRefused, OperationFailed), match="name"):
            await open_writer(storage, name)
        with pytest.raises((NameRefused, OperationFailed), match="name"):
            await ask(partial(storage.make_folder, name))

    place.run(test)
    assert list(place.folder.iterdir()) == []


@pytest.mark.parametrize("path", BAD_PATHS)
def test_path_that_is_none_is_refused_by_every_operation(place: Place, path: bytes) -> None:
    (place.folder / "a").mkdir()
    (place.folder / "file").touch()

    async def test(storage: Storage) -> None:
        for attempt in (
            listing(storage, path),
            open_reader(storage, path),
            open_writer(storage, path),
            ask(partial(storage.make_folder, path)),
            ask(partial(storage.open_up, path)),
            ask(partial(storage.make_link, path, b"target", 0)),
            ask(partial(storage.rename, path, b"new")),
            ask(partial(storage.rename, b"file", path)),
            ask(partial(storage.remove, path)),
            set_attributes(storage, path, mode=0o700, mtime=0),
        ):
            with pytest.raises(NameRefused):
                await attempt

    place.run(test)
    assert sorted(os.listdir(place.folder)) == ["a", "file"]


def test_root_itself_is_no_name(place: Place) -> None:
    async def test(storage: Storage) -> None:
        for attempt in (
            open_reader(storage, b""),
            open_writer(storage, b""),
            ask(partial(storage.make_folder, b"")),
            ask(partial(storage.rename, b"", b"new")),
            ask(partial(storage.remove, b"")),
        ):
            with pytest.raises(NameRefused):
                await attempt

    place.run(test)
    assert place.folder.is_dir()


def test_messages_are_one_printable_line(place: Place) -> None:
    async def test(storage: Storage) -> None:
        for name in (b"new\nline\x1b[31m" + b"x" * 100, b"bad\n\0\x1b"):
            with pytest.raises(StorageError) as caught:
                await listing(storage, name)
            assert str(caught.value).isprintable()

    place.run(test)


def test_missing_root_with_an_odd_name_is_named_readably(place: Place) -> None:
    root = os.fsencode(place.folder) + b"/odd \n \xff"

    async def test(storage: Storage) -> None:
        with pytest.raises(NotFound) as caught:
            await storage.root_entry()
        assert str(caught.value).isprintable()
        assert "odd" in str(caught.value)

    place.run(test, root=root)
