"""What every storage promises of files that are written."""

import contextlib
import os
import stat
from functools import partial

import pytest

from migration_app.storages.base import Storage, ask
from migration_app.storages.errors import (
    IsAFolder,
    NotAFolder,
    NotFound,
    OperationFailed,
    StorageError,
)
from tests.storages.places import (
    Place,
    finish,
    listing,
    make,
    open_writer,
    set_attributes,
    write_all,
)

BEFORE_1970 = -86_400
AFTER_2038 = 2**31 + 86_400


def test_new_file_is_private_until_it_is_finished(place: Place) -> None:
    path = place.folder / "file"

    async def test(storage: Storage) -> None:
        writer = await open_writer(storage, b"file")
        await ask(partial(writer.write, 0, b"abc"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await finish(writer, mode=0o6755, mtime=1_000_000, size=3)
        writer.close()

    place.run(test)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755, "set-user-id bits are not copied"
    assert path.stat().st_mtime == 1_000_000


def test_pieces_may_be_written_in_any_order(place: Place) -> None:
    async def test(storage: Storage) -> None:
        writer = await open_writer(storage, b"file")
        await ask(partial(writer.write, 6, b"world"))
        await ask(partial(writer.write, 0, b"hello "))
        await finish(writer, mode=0o600, mtime=0, size=11)

    place.run(test)
    assert (place.folder / "file").read_bytes() == b"hello world"


def test_file_that_is_there_is_replaced_and_not_written_through(place: Place) -> None:
    path = make(place.folder / "file", b"a longer content than the new one", mode=0o666)
    os.link(path, place.folder / "other name")

    async def test(storage: Storage) -> None:
        writer = await open_writer(storage, b"file")
        await ask(partial(writer.write, 0, b"new"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        await finish(writer, mode=0o600, mtime=0, size=3)

    place.run(test)
    assert path.read_bytes() == b"new"
    assert (place.folder / "other name").read_bytes() == b"a longer content than the new one"


def test_link_in_place_of_a_new_file_is_not_written_through(place: Place) -> None:
    victim = make(place.folder / "victim", b"untouched")
    (place.folder / "file").symlink_to("victim")
    (place.folder / "dangling").symlink_to("nowhere")

    async def test(storage: Storage) -> None:
        await write_all(storage, b"file", b"new")
        await write_all(storage, b"dangling", b"new")

    place.run(test)
    assert victim.read_bytes() == b"untouched"
    assert not (place.folder / "nowhere").exists()
    assert (place.folder / "file").read_bytes() == b"new"
    assert not (place.folder / "file").is_symlink()


def test_pipe_in_place_of_a_new_file_does_not_block(place: Place) -> None:
    os.mkfifo(place.folder / "file")
    place.run(partial(write_all, path=b"file", content=b"new"))
    assert (place.folder / "file").read_bytes() == b"new"


def test_file_cannot_be_written_where_a_folder_is_or_none(place: Place) -> None:
    (place.folder / "folder").mkdir()
    make(place.folder / "file")

    async def test(storage: Storage) -> None:
        with pytest.raises(IsAFolder):
            await open_writer(storage, b"folder")
        with pytest.raises(NotFound):
            await open_writer(storage, b"missing/file")
        with pytest.raises((NotFound, NotAFolder, OperationFailed)):
            await open_writer(storage, b"file/file")

    place.run(test)
    assert (place.folder / "folder").is_dir()


def test_closed_writer_takes_nothing_and_leaves_what_was_written(place: Place) -> None:
    async def test(storage: Storage) -> None:
        writer = await open_writer(storage, b"file")
        await ask(partial(writer.write, 0, b"half"))
        writer.close()
        writer.close()
        with pytest.raises(OperationFailed):
            await ask(partial(writer.write, 4, b"more"))
        with pytest.raises(OperationFailed):
            await finish(writer, mode=0o600, mtime=0, size=8)

    place.run(test)
    assert (place.folder / "file").read_bytes() == b"half"


@pytest.mark.parametrize("mtime", [BEFORE_1970, 0, 2**31 - 1, AFTER_2038])
def test_mtimes_are_kept_as_far_as_the_protocol_can(place: Place, mtime: int) -> None:
    async def test(storage: Storage) -> None:
        kept = min(max(mtime, storage.capabilities.earliest_mtime), storage.capabilities.latest_mtime)
        await write_all(storage, b"file", b"x", mtime=mtime)
        await ask(partial(storage.make_folder, b"folder"))
        await set_attributes(storage, b"folder", mode=0o700, mtime=mtime)
        assert (place.folder / "file").stat().st_mtime == kept
        assert (place.folder / "folder").stat().st_mtime == kept
        assert {entry.mtime for entry in (await listing(storage)).entries} == {kept}

    place.run(test)


def test_absurd_mtime_does_not_raise(place: Place) -> None:
    async def test(storage: Storage) -> None:
        for number, mtime in enumerate((-(2**63), 2**63 - 1)):
            with contextlib.suppress(StorageError):
                await write_all(storage, b"file-%d" % number, b"x", mtime=mtime)

    place.run(test)
