"""Servers that hang up, fall silent or take their time: nothing half-written has a final name, the next try goes on."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from migration_app.storages.errors import ConnectionLost
from migration_app.storages.sftp import wire
from tests.engine.sites import BIG, down, files_in, make_site, up

Move = Callable[[Path, Path, type[asyncssh.SFTPServer]], dict[bytes, str]]


def breaking(operation: str, *, is_silent: bool) -> type[asyncssh.SFTPServer]:
    """A server that once hangs up, or never answers, in the middle of the large file or at its end."""

    class Breaks(asyncssh.SFTPServer):
        left = 1

    def broken(self: Breaks, *arguments: Any) -> Any:
        is_it = {
            "read": lambda: arguments[1] > 300_000,
            "write": lambda: arguments[1] > 300_000,
            "close": lambda: arguments[0].seek(0, 2) > 300_000,
            "posix_rename": lambda: arguments[1].endswith(b"big"),
        }[operation]
        if not Breaks.left or not is_it():
            return getattr(asyncssh.SFTPServer, operation)(self, *arguments)
        Breaks.left = 0
        if is_silent:
            self.channel.write = lambda *_: None
        else:
            self.channel.get_connection().abort()
        if operation == "close":
            super(Breaks, self).close(*arguments)
        raise asyncssh.SFTPFailure("Nobody hears this any more.")

    setattr(Breaks, operation, broken)
    return Breaks


@pytest.mark.parametrize("is_silent", [False, True], ids=["hangs up", "falls silent"])
@pytest.mark.parametrize(
    ("move", "operation"),
    [(up, "write"), (up, "close"), (up, "posix_rename"), (down, "read")],
    ids=["while it writes", "while it closes", "while it renames", "while it reads"],
)
def test_line_that_breaks_leaves_no_half_file_and_the_next_one_goes_on(
    move: Move, operation: str, is_silent: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "SILENCE_S", 0.4)
    make_site(tmp_path / "from")
    (tmp_path / "to/folder").mkdir(parents=True)
    (tmp_path / "to/folder/big").write_bytes(b"as it was")
    server_class = breaking(operation, is_silent=is_silent)
    with pytest.raises(ConnectionLost):
        move(tmp_path / "from", tmp_path / "to", server_class)
    assert files_in(tmp_path / "to")["folder/big"] == b"as it was"
    assert move(tmp_path / "from", tmp_path / "to", server_class) == {}
    whole = files_in(tmp_path / "from")
    assert {path: content for path, content in files_in(tmp_path / "to").items() if path in whole} == whole
    # What the first one could not remove any more is there under its temp name alone, which jobs know.
    assert all("/.haulier-" in path for path in files_in(tmp_path / "to").keys() - whole.keys())


class SlowNames:
    """A folder's names, each late."""

    def __init__(self, names: AsyncIterator[asyncssh.SFTPName]) -> None:
        self._names = names
        self._turn = asyncio.Lock()

    def __aiter__(self) -> "SlowNames":
        return self

    async def __anext__(self) -> asyncssh.SFTPName:
        # Two READDIRs may be under way at once.
        async with self._turn:
            await asyncio.sleep(0.1)
            return await anext(self._names)


class Slow(asyncssh.SFTPServer):
    """Takes 100 ms for each answer."""

    def scandir(self, path: bytes) -> Any:
        return SlowNames(super().scandir(path))


def slow(operation: str) -> Callable[..., Any]:
    async def method(self: Slow, *arguments: Any) -> Any:
        await asyncio.sleep(0.1)
        found = getattr(asyncssh.SFTPServer, operation)(self, *arguments)
        return await found if inspect.isawaitable(found) else found

    return method


for _operation in (
    *("open", "read", "write", "close", "stat", "lstat", "fstat", "setstat", "lsetstat", "fsetstat"),
    *("mkdir", "remove", "rename", "posix_rename", "symlink", "readlink", "realpath", "fsync", "statvfs"),
):
    setattr(Slow, _operation, slow(_operation))


@pytest.mark.slow
def test_server_that_takes_100_ms_for_every_answer_gets_and_gives_everything(tmp_path: Path) -> None:
    (tmp_path / "from/folder/inside").mkdir(parents=True)
    (tmp_path / "from/folder/big").write_bytes(BIG)
    (tmp_path / "from/folder/inside/file").touch()
    assert up(tmp_path / "from", tmp_path / "to", Slow) == {}
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")
    assert down(tmp_path / "to", tmp_path / "back", Slow) == {}
    assert files_in(tmp_path / "back") == files_in(tmp_path / "from")
