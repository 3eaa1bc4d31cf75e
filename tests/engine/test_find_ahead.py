"""Folders that find lists ahead: the same as over SFTP, whatever find says, and wherever it ends."""

import asyncio
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from migration_app.engine.scan import scan_tree
from migration_app.storages.base import Entry
from migration_app.storages.errors import ConnectionLost
from migration_app.storages.sftp import find_ahead, storage
from migration_app.storages.sftp.shell_channel import Program
from tests.engine.trees import EVERYTHING, connected, sftp
from tests.servers.accounts import Account
from tests.servers.openssh import OpenSshServer

pytestmark = pytest.mark.slow
Found = tuple[set[Entry], dict[bytes, str]]


@pytest.fixture
def over_sftp(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The folders that were listed over SFTP."""
    paths: list[bytes] = []

    class Noted(storage.FolderLister):
        def __init__(self, wire: Any, path: bytes, *rest: Any) -> None:
            paths.append(path)
            super().__init__(wire, path, *rest)

    monkeypatch.setattr(storage, "FolderLister", Noted)
    return paths


@pytest.fixture
def find_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Next door SFTP may be through before find has started, which nobody waits for: here the root's listing does."""
    channels: list[find_ahead.ShellChannel] = []

    class Noted(find_ahead.ShellChannel):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            channels.append(self)

    class Waiting(storage.FolderLister):
        def __init__(self, wire: Any, path: bytes, *rest: Any) -> None:
            super().__init__(wire, path, *rest)
            self.is_first = not path

        def start(self) -> None:
            if self.is_first and not (channels[-1].is_ready or channels[-1].is_ended):
                asyncio.get_running_loop().call_later(0.01, self.start)
            else:
                super().start()

    monkeypatch.setattr(find_ahead, "ShellChannel", Noted)
    monkeypatch.setattr(storage, "FolderLister", Waiting)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree with what a listing may trip over."""
    root = tmp_path / "tree"
    for number in range(40):
        folder = root / f"folder {number % 8}" / f"inner {number % 3}" / f"{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x" * number)
    odd = os.fsencode(root) + b"/-odd\n'\\ \xff\"$(reboot)"
    os.mkdir(odd)
    for name in (b" ", b"\n", b"%s", b"\xfe\xff", b".hidden", b"a\\nb"):
        with open(odd + b"/" + name, "wb") as file:
            file.write(name)
    os.symlink(b"else\nwhere \xff", odd + b"/link")
    os.symlink("..", root / "folder 0/up")
    (root / "empty").mkdir()
    (root / "empty").chmod(0o2755)
    os.mkfifo(root / "pipe")
    os.utime(root / "folder 1/inner 0/9/file", (5, 5))
    return root


def listed(server: OpenSshServer, root: Path, username: str = "", *, follow_links: bool = False) -> Found:
    """All entries, and why folders could not be listed."""

    async def go() -> Found:
        here = sftp(server, username)(root)
        entries: set[Entry] = set()
        errors: dict[bytes, str] = {}
        async with asyncio.timeout(40), connected(here):
            async for batch in scan_tree(here, EVERYTHING, follow_links=follow_links):
                for listing in batch.folders:
                    entries |= set(listing.entries)
                    errors |= {path: str(error) for path, error in listing.problems}
                    if listing.error is not None:
                        errors[listing.path] = str(listing.error)
        return entries, errors

    return asyncio.run(go())


@pytest.fixture
def expected(openssh_without_shell: OpenSshServer, tree: Path) -> Found:
    """What SFTP alone says."""
    found = listed(openssh_without_shell, tree)
    assert len(found[0]) > 80
    return found


def test_find_lists_what_sftp_would(openssh, tree, expected, find_first, over_sftp):
    over_sftp.clear()
    assert listed(openssh, tree) == expected
    assert over_sftp == [b""]


def test_folder_that_may_not_be_read_is_named_and_all_else_listed(
    openssh, openssh_without_shell, account: Account, over_sftp
):
    root = account.folder / "closed"
    for name in ("one", "two", "three"):
        (root / name / "below").mkdir(parents=True)
        (root / name / "below/file").write_text(name)
    account.own(root)
    (root / "two/below").chmod(0)
    try:
        expected = listed(openssh_without_shell, root, account.name)
        assert expected[1] == {b"two/below": "Permission denied."}
        over_sftp.clear()
        assert listed(openssh, root, account.name) == expected
        assert b"two/below" in over_sftp
    finally:
        shutil.rmtree(root)


@pytest.mark.parametrize("most", [1, 7, 60])
def test_more_than_is_kept_in_memory_is_listed_over_sftp(
    openssh, tree, expected, over_sftp, monkeypatch, most
):
    over_sftp.clear()
    monkeypatch.setattr(find_ahead, "MOST_ENTRIES", most)
    assert listed(openssh, tree) == expected
    assert len(over_sftp) > 1
    assert len(over_sftp) == len(set(over_sftp))


def test_what_cannot_be_said_in_a_listing_of_find_is_asked_over_sftp(
    openssh, openssh_without_shell, tree, find_first, over_sftp
):
    old = tree / "folder 2/inner 2/2/file"
    os.utime(old, (-5, -5))
    expected = listed(openssh_without_shell, tree)
    over_sftp.clear()
    assert listed(openssh, tree) == expected
    assert over_sftp == [b"", b"folder 2/inner 2/2"]


def in_shell(script: str) -> str:
    """A command that runs a script in which FIND stands for find."""
    return f"sh -c '{script.replace('FIND', find_ahead.FIND.command.replace(chr(39), chr(34)))}'"


def test_folder_that_links_lead_to_is_waited_for_by_each(
    openssh, openssh_without_shell, tmp_path, find_first, monkeypatch
):
    (tmp_path / "shared/uploads").mkdir(parents=True)
    (tmp_path / "shared/uploads/picture").touch()
    for name in ("one", "two"):
        (tmp_path / name).symlink_to("shared")
    expected = listed(openssh_without_shell, tmp_path, follow_links=True)
    assert len(expected[0]) == 9
    monkeypatch.setattr(find_ahead, "FIND", Program("find", "true", in_shell("sleep 0.5; FIND")))
    assert listed(openssh, tmp_path, follow_links=True) == expected


LIES: dict[str, Callable[[Path], str]] = {
    "another tree": lambda root: in_shell("cd / && FIND"),
    "nothing": lambda root: "true",
    "an error at the end": lambda root: in_shell("FIND; exit 1"),
    "a part": lambda root: "printf 'd 1 1.0 755 folder 0\\0\\0f 1 1.0 644 folder 0/file\\0\\0'",
    "what is in no folder": lambda root: "printf 'f 1 1.0 644 nowhere/file\\0\\0'",
    "no listing": lambda root: "echo hello",
    "no end": lambda root: "cat /dev/zero",
    "one name without end": lambda root: "yes",
    "silence": lambda root: "sleep 60",
    "its own death": lambda root: "sh -c 'kill -9 $$'",
}


@pytest.mark.parametrize("lie", LIES)
def test_find_that_lies_changes_nothing(openssh, tree, expected, over_sftp, monkeypatch, lie):
    over_sftp.clear()
    monkeypatch.setattr(find_ahead, "SILENCE_S", 0.5)
    monkeypatch.setattr(find_ahead, "FIND", Program("find", "true", LIES[lie](tree)))
    assert listed(openssh, tree) == expected
    assert len(over_sftp) > 50


def test_server_without_find_is_asked_once(openssh, tree, expected, monkeypatch):
    monkeypatch.setattr(find_ahead, "FIND", Program("find", "false", "true"))
    opened: list[bytes] = []

    class Noted(find_ahead.ShellChannel):
        async def open(self, connection: Any, folder: bytes) -> None:
            opened.append(folder)
            await super().open(connection, folder)

    monkeypatch.setattr(find_ahead, "ShellChannel", Noted)

    async def go() -> None:
        here = sftp(openssh)(tree)
        async with connected(here):
            for _ in range(2):
                entries: set[Entry] = set()
                async for batch in scan_tree(here, EVERYTHING):
                    entries |= {entry for listing in batch.folders for entry in listing.entries}
                assert entries == expected[0]

    asyncio.run(go())
    assert opened == [os.fsencode(tree)]


def test_second_walk_sees_what_has_changed_since(openssh, tree):
    async def go() -> None:
        here = sftp(openssh)(tree)
        async with connected(here):
            for number in range(3):
                (tree / f"empty/{number}").write_text("new")
                names: set[bytes] = set()
                async for batch in scan_tree(here, EVERYTHING):
                    names |= {entry.path for listing in batch.folders for entry in listing.entries}
                assert b"empty/%d" % number in names

    asyncio.run(go())


def test_walk_that_is_left_ends_find(openssh, tree, monkeypatch):
    monkeypatch.setattr(find_ahead, "FIND", Program("find", "true", "sleep 600"))

    async def go() -> None:
        here = sftp(openssh)(tree)
        async with asyncio.timeout(10), connected(here):
            async for _ in scan_tree(here, EVERYTHING):
                break
            # Nothing of it is left behind for who comes next.
            await asyncio.sleep(0.2)
            assert len(asyncio.all_tasks()) == 1

    asyncio.run(go())


def test_connection_that_breaks_while_find_is_waited_for_ends_the_walk(
    openssh, tree, find_first, monkeypatch
):
    monkeypatch.setattr(find_ahead, "FIND", Program("find", "true", "sleep 600"))

    async def go() -> None:
        here = sftp(openssh)(tree)
        async with asyncio.timeout(10), connected(here):
            asyncio.get_running_loop().call_later(1, here.abort)
            async for _ in scan_tree(here, EVERYTHING):
                pass

    with pytest.raises(ConnectionLost):
        asyncio.run(go())


def test_socket_is_no_file(openssh, tmp_path):
    with socket.socket(socket.AF_UNIX) as one:
        (tmp_path / "a").mkdir()
        one.bind(str(tmp_path / "a/s"))
        entries, _ = listed(openssh, tmp_path)
    assert {entry.path: entry.kind for entry in entries}[b"a/s"] == "other"
