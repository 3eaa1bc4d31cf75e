"""Whole transfers to and from servers that are bad at something: recovered, or a clear failure of single files.

What breaks the protocol itself is in tests/storages/test_misbehaving_servers.py.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from migration_app.engine.transfer import transfer_items
from migration_app.storages.errors import ConnectionLost
from migration_app.storages.registry import open_storage
from tests.engine.trees import connected, copy, copy_tree, entries_of, errors, items_of, local, seen, sftp
from tests.servers.faulty import faulty
from tests.servers.openssh import OpenSshServer

BIG = b"b" * 600_000


class ShortReads(asyncssh.SFTPServer):
    """Gives less than was asked for."""

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        return super().read(file_obj, offset, min(size, 20_000))


class Slow(asyncssh.SFTPServer):
    """Takes its time for each answer."""

    async def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        await asyncio.sleep(0.1)
        return super().open(path, pflags, attrs)


class FullDisk(asyncssh.SFTPServer):
    """Has no room for the second half of a file."""

    def write(self, file_obj: object, offset: int, data: bytes) -> Any:
        if offset > 300_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(file_obj, offset, data)

    def statvfs(self, path: bytes) -> Any:
        return asyncssh.SFTPVFSAttrs(bsize=4096, frsize=4096, blocks=100, bavail=0, files=100, favail=100)


class Quota(asyncssh.SFTPServer):
    """Refuses to write more, and does not say why."""

    def write(self, file_obj: object, offset: int, data: bytes) -> Any:
        if offset > 300_000:
            raise asyncssh.SFTPFailure("Failure")
        return super().write(file_obj, offset, data)


class ShortWrites(asyncssh.SFTPServer):
    """Keeps a part of what is written, and says that all is well."""

    def write(self, file_obj: object, offset: int, data: bytes) -> Any:
        return super().write(file_obj, offset, data[: max(300_000 - offset, 0)])


class RefusesRename(asyncssh.SFTPServer):
    """Keeps one name for itself."""

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if newpath.endswith(b"big"):
            raise asyncssh.SFTPPermissionDenied("Permission denied")
        return super().posix_rename(oldpath, newpath)


class ClosesBadly(asyncssh.SFTPServer):
    """Finds out only when a file is closed that it could not be kept."""

    def close(self, file_obj: Any) -> Any:
        is_big = os.fstat(file_obj.fileno()).st_size > 300_000
        super().close(file_obj)
        if is_big:
            raise asyncssh.SFTPFailure("Quota exceeded")


class OneHandle(asyncssh.SFTPServer):
    """Has one file open at a time."""

    is_taken = False

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        if self.is_taken:
            raise asyncssh.SFTPFailure("Too many open files")
        found = super().open(path, pflags, attrs)
        self.is_taken = True
        return found

    def close(self, file_obj: Any) -> Any:
        self.is_taken = False
        return super().close(file_obj)


class OddNames(asyncssh.SFTPServer):
    """Lists names that lead elsewhere."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            yield entry
        for name in (b"../escaped", b"a/b", b""):
            yield asyncssh.SFTPName(
                name, attrs=asyncssh.SFTPAttrs(permissions=0o100644, size=3, mtime=1, atime=1)
            )


def make_site(root: Path) -> None:
    """A large file and its neighbours."""
    (root / "folder").mkdir(parents=True)
    (root / "folder/big").write_bytes(BIG)
    for number in range(5):
        (root / f"folder/small{number}").write_bytes(b"%d" % number)


def up(
    source: Path, destination: Path, server_class: type[asyncssh.SFTPServer], **options: Any
) -> dict[bytes, str]:
    """Copy everything to a server; gives what failed."""
    destination.mkdir(exist_ok=True)

    async def go() -> dict[bytes, str]:
        async with asyncio.timeout(30), faulty(destination, server_class) as address:
            here, there = local(source), open_storage(address, b"/", guard=lambda: True)
            async with connected(here, there):
                items = items_of(await entries_of(here))
                done = [
                    one async for batch in transfer_items(here, there, items, **options) for one in batch.done
                ]
        return {one.path: str(one.error) for one in done if one.error is not None}

    return asyncio.run(go())


def files_in(root: Path) -> dict[str, bytes]:
    """Contents by path, temp names too."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("server_class", "error"),
    [
        (FullDisk, "The disk is full or the quota used up."),
        (Quota, "The server refused: Failure."),
        (ClosesBadly, "The server refused: Quota exceeded."),
        (ShortWrites, "The server kept 300,000 bytes of 600,000."),
        (RefusesRename, "Permission denied."),
    ],
)
def test_file_that_the_server_cannot_take_fails_alone(
    server_class: type[asyncssh.SFTPServer], error: str, tmp_path: Path
) -> None:
    make_site(tmp_path / "from")
    assert up(tmp_path / "from", tmp_path / "to", server_class) == {b"folder/big": error}
    expected = files_in(tmp_path / "from")
    del expected["folder/big"]
    assert files_in(tmp_path / "to") == expected


@pytest.mark.parametrize("server_class", [FullDisk, Quota, ClosesBadly, ShortWrites, RefusesRename])
def test_file_that_was_there_stays_whole_where_a_new_one_fails(
    server_class: type[asyncssh.SFTPServer], tmp_path: Path
) -> None:
    make_site(tmp_path / "from")
    (tmp_path / "to/folder").mkdir(parents=True)
    (tmp_path / "to/folder/big").write_bytes(b"as it was")
    assert set(up(tmp_path / "from", tmp_path / "to", server_class)) == {b"folder/big"}
    assert files_in(tmp_path / "to")["folder/big"] == b"as it was"


@pytest.mark.slow
def test_slow_server_gets_everything(tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    assert up(tmp_path / "from", tmp_path / "to", Slow) == {}
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")


def test_server_with_one_handle_gets_everything_one_after_the_other(tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    (tmp_path / "from/folder/larger").write_bytes(BIG * 3)
    assert up(tmp_path / "from", tmp_path / "to", OneHandle, at_once=1) == {}
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")


def test_server_with_one_handle_fails_what_it_cannot_take_and_says_why(tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    failed = up(tmp_path / "from", tmp_path / "to", OneHandle)
    assert set(failed.values()) == {"The server refused: Too many open files."}
    whole = files_in(tmp_path / "from")
    there = files_in(tmp_path / "to")
    assert there == {path: content for path, content in whole.items() if path.encode() not in failed}


@pytest.mark.parametrize("server_class", [ShortReads, OddNames])
def test_everything_that_can_be_is_read(server_class: type[asyncssh.SFTPServer], tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    (tmp_path / "to").mkdir()

    async def go() -> dict[bytes, str]:
        async with asyncio.timeout(30), faulty(tmp_path / "from", server_class) as address:
            there, here = open_storage(address, b"/", guard=lambda: True), local(tmp_path / "to")
            async with connected(there, here):
                return errors(await copy(there, here, items_of(await entries_of(there))))

    assert asyncio.run(go()) == {}
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")
    assert not (tmp_path / "escaped").exists()


def test_connection_that_breaks_in_mid_file_leaves_no_half_file_and_the_next_one_goes_on(
    tmp_path: Path,
) -> None:
    class Resets(asyncssh.SFTPServer):
        """Hangs up in the middle of a file, once."""

        left = 1

        def write(self, file_obj: object, offset: int, data: bytes) -> Any:
            if offset > 300_000 and Resets.left:
                Resets.left = 0
                self.channel.get_connection().abort()
            return super().write(file_obj, offset, data)

    make_site(tmp_path / "from")
    with pytest.raises(ConnectionLost):
        up(tmp_path / "from", tmp_path / "to", Resets)
    assert not (tmp_path / "to/folder/big").exists()
    assert up(tmp_path / "from", tmp_path / "to", Resets) == {}
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")


@pytest.mark.slow
def test_server_of_plain_version_3_replaces_what_is_there(tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    make_site(tmp_path / "to")
    (tmp_path / "to/folder/big").write_bytes(b"older")
    without = "posix-rename,lsetstat,fsync,limits,copy-data,statvfs,fstatvfs"
    with OpenSshServer(has_shell=False, sftp_options=["-P", without]) as server:
        source, destination = local(tmp_path / "from"), sftp(server)(tmp_path / "to")

        async def go() -> dict[bytes, str]:
            async with connected(source, destination):
                return errors(await copy_tree(source, destination))

        assert asyncio.run(go()) == {}
    assert seen(tmp_path / "to") == seen(tmp_path / "from")
