"""Whole transfers to and from servers that are bad at something: recovered, or a clear failure of single files.

What breaks the protocol itself is in tests/storages/test_misbehaving_servers.py, the line in test_broken_lines.py.
"""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from asyncssh.sftp import SFTPServerHandler

from migration_app.engine.digests import read_digests
from migration_app.engine.plan import Action, compare_trees
from migration_app.storages.base import Kind, Storage
from migration_app.storages.registry import open_storage
from migration_app.storages.sftp.wire import SMALL_DATA
from tests.engine.sites import BIG, at_server, down, files_in, make_site, moved, up
from tests.engine.trees import (
    EVERYTHING,
    connected,
    copy_tree,
    errors,
    is_allowed,
    local,
    make_tree,
    seen,
    sftp,
)
from tests.servers.faulty import Shuffled, faulty
from tests.servers.openssh import OpenSshServer


class ShortReads(asyncssh.SFTPServer):
    """Gives less than was asked for."""

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        return super().read(file_obj, offset, min(size, 20_000))


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
    """Has one file or folder open at a time."""

    is_taken = False

    def take(self) -> None:
        """Count a handle."""
        if self.is_taken:
            raise asyncssh.SFTPFailure("Too many open files")
        self.is_taken = True

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        self.take()
        try:
            return super().open(path, pflags, attrs)
        except BaseException:
            self.is_taken = False
            raise

    def close(self, file_obj: Any) -> Any:
        self.is_taken = False
        return super().close(file_obj)

    def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        self.take()
        return self.listed(super().scandir(path))

    async def listed(self, found: AsyncIterator[asyncssh.SFTPName]) -> AsyncIterator[asyncssh.SFTPName]:
        """The names; the handle is free after the last one."""
        async for entry in found:
            yield entry
        self.is_taken = False


class SmallPackets(asyncssh.SFTPServer):
    """Hangs up on whoever writes or asks for more than every server takes."""

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        return super().read(file_obj, offset, self.fitting(size))

    def write(self, file_obj: object, offset: int, data: bytes) -> Any:
        self.fitting(len(data))
        return super().write(file_obj, offset, data)

    def fitting(self, size: int) -> int:
        """A size that is not too large."""
        if size > SMALL_DATA:
            self.channel.get_connection().abort()
            raise asyncssh.SFTPFailure("Nobody hears this.")
        return size


class OddNames(asyncssh.SFTPServer):
    """Lists names that lead elsewhere."""

    async def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
        async for entry in super().scandir(path):
            yield entry
        for name in (b"../escaped", b"a/b", b""):
            yield asyncssh.SFTPName(
                name, attrs=asyncssh.SFTPAttrs(permissions=0o100644, size=3, mtime=1, atime=1)
            )


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


@pytest.mark.parametrize("at_once", [64, 1])
def test_server_with_one_handle_gets_and_gives_everything(at_once: int, tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    (tmp_path / "from/folder/larger").write_bytes(BIG * 3)
    for number in range(40):
        (tmp_path / f"from/folder{number}/inside").mkdir(parents=True)
        (tmp_path / f"from/folder{number}/inside/file").write_bytes(b"x")
    assert up(tmp_path / "from", tmp_path / "to", OneHandle, at_once=at_once) == {}
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")
    assert down(tmp_path / "to", tmp_path / "back", OneHandle, at_once=at_once) == {}
    assert files_in(tmp_path / "back") == files_in(tmp_path / "from")


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one handle", "any order", "32 KiB that it tells of", "32 KiB untold"])
def test_thousands_of_files_and_a_large_one_go_up_and_come_down(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_class = asyncssh.SFTPServer
    if kind == "one handle":
        server_class = OneHandle
    elif kind == "any order":
        monkeypatch.setattr(asyncssh.sftp, "SFTPServerHandler", Shuffled)
    else:
        server_class = SmallPackets
        extensions = [one for one in SFTPServerHandler._extensions if one[0] != b"limits@openssh.com"]
        if kind == "32 KiB untold":
            monkeypatch.setattr(SFTPServerHandler, "_extensions", extensions)
        monkeypatch.setattr(asyncssh.sftp, "MAX_SFTP_READ_LEN", SMALL_DATA)
        monkeypatch.setattr(asyncssh.sftp, "MAX_SFTP_WRITE_LEN", SMALL_DATA)
    make_tree(tmp_path / "from")
    for path in (tmp_path / "from").rglob("*"):
        # asyncssh's server does not tell what links hold when it is shut up in a folder.
        if path.is_symlink():
            path.unlink()
    for number in range(2000):
        path = tmp_path / f"from/many{number % 50}/inside/{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number % 300))
    (tmp_path / "from/larger").write_bytes(os.urandom(10_000_000))
    (tmp_path / "to").mkdir()
    (tmp_path / "back").mkdir()

    def move(root: Path, go: Callable[[Storage], Coroutine[Any, Any, dict[bytes, str]]]) -> dict[bytes, str]:
        return at_server(root, server_class, go, seconds=120)

    assert move(tmp_path / "to", lambda there: moved(local(tmp_path / "from"), there)) == {}
    assert seen(tmp_path / "to") == seen(tmp_path / "from")
    assert move(tmp_path / "to", lambda there: moved(there, local(tmp_path / "back"))) == {}
    assert seen(tmp_path / "back") == seen(tmp_path / "from")


@pytest.mark.parametrize("is_shuffled", [False, True])
@pytest.mark.parametrize("order", ["draft", "OpenSSH"])
def test_links_are_made_whichever_name_the_server_takes_first(
    order: str, is_shuffled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if order == "OpenSSH":
        # It looks who the client is.
        monkeypatch.setattr(asyncssh.sftp.SFTPHandler, "_nonstandard_symlink_impls", ["AsyncSSH"])
    if is_shuffled:
        monkeypatch.setattr(asyncssh.sftp, "SFTPServerHandler", Shuffled)
    make_tree(tmp_path / "from")
    (tmp_path / "to").mkdir()
    (tmp_path / "to/dangling").symlink_to("older")
    (tmp_path / "to/to-file").write_text("older")
    assert up(tmp_path / "from", tmp_path / "to", asyncssh.SFTPServer) == {}
    links = {path: one for path, one in seen(tmp_path / "from").items() if one[0] == "link"}
    assert {path: seen(tmp_path / "to")[path] for path in links} == links
    assert sorted(seen(tmp_path / "to")) == sorted(seen(tmp_path / "from"))
    assert set(os.listdir(tmp_path)) == {"from", "to"}


def test_both_trees_are_compared_and_read_back_on_servers_with_one_handle(tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    make_site(tmp_path / "to")
    (tmp_path / "from/folder/new").touch()

    async def go() -> tuple[list[bytes], list[int]]:
        async with faulty(tmp_path / "from", OneHandle) as here, faulty(tmp_path / "to", OneHandle) as there:
            source, destination = (open_storage(side, b"/", guard=is_allowed) for side in (here, there))
            async with asyncio.timeout(30), connected(source, destination):
                steps = [s async for b in compare_trees(source, destination, EVERYTHING) for s in b.steps]
                files = [step.entry for step in steps if step.entry.kind is Kind.FILE]
                digests = [one async for batch in read_digests(source, files) for one in batch]
        assert [digest for _, digest in digests if not isinstance(digest, bytes)] == []
        return [step.entry.path for step in steps if step.action is Action.CREATE], [n for n, _ in digests]

    created, read = asyncio.run(go())
    assert created == [b"folder/new"]
    assert sorted(read) == list(range(7))


def test_folder_or_file_that_stays_refused_is_named_and_its_neighbours_come(tmp_path: Path) -> None:
    class Refuses(asyncssh.SFTPServer):
        """Does not say why it opens one file and one folder not."""

        tries = 0

        def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
            if path.endswith(b"small3"):
                Refuses.tries += 1
                raise asyncssh.SFTPFailure("Failure")
            return super().open(path, pflags, attrs)

        def scandir(self, path: bytes) -> AsyncIterator[asyncssh.SFTPName]:
            if path.endswith(b"closed"):
                raise asyncssh.SFTPFailure("Failure")
            return super().scandir(path)

    make_site(tmp_path / "from")
    (tmp_path / "from/closed").mkdir()
    refused = {b"folder/small3": "It cannot be read: The server refused: Failure."}
    assert down(tmp_path / "from", tmp_path / "to", Refuses) == refused
    assert Refuses.tries == 3
    expected = files_in(tmp_path / "from")
    del expected["folder/small3"]
    assert files_in(tmp_path / "to") == expected


@pytest.mark.parametrize("server_class", [ShortReads, OddNames])
def test_everything_that_can_be_is_read(server_class: type[asyncssh.SFTPServer], tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    assert down(tmp_path / "from", tmp_path / "to", server_class) == {}
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")
    assert not (tmp_path / "escaped").exists()


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
