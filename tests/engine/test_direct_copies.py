"""Files that a server copies by itself, and what happens where it does not do so after all."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from migration_app.engine.transfer import Way, transfer_items
from migration_app.storages.registry import open_storage
from tests.engine.sites import BIG, files_in, make_site
from tests.engine.trees import connected, entries_of, is_allowed, items_of
from tests.servers.faulty import faulty

pytestmark = pytest.mark.slow


class Counting(asyncssh.SFTPServer):
    """Notes what is read over the wire."""

    read_bytes = 0

    def read(self, file_obj: Any, offset: int, size: int) -> Any:
        Counting.read_bytes += size
        return super().read(file_obj, offset, size)


def moved(
    root: Path, *, listed: Callable[[], None] = lambda: None
) -> tuple[dict[bytes, str], list[str], set[Way]]:
    """Copy `from` to `to` on a server that answers in any order; what failed, what was noted, and the ways taken."""
    (root / "to").mkdir()
    errors: dict[bytes, str] = {}
    notes: list[str] = []
    ways: set[Way] = set()

    async def go() -> None:
        async with asyncio.timeout(30), faulty(root, Counting) as address:
            source, destination = (
                open_storage(address, name, guard=is_allowed) for name in (b"/from", b"/to")
            )
            async with connected(source, destination):
                items = items_of(await entries_of(source))
                listed()
                async for batch in transfer_items(source, destination, items):
                    notes.extend(batch.notes)
                    errors.update({one.path: str(one.error) for one in batch.done if one.error is not None})
                    ways.update(one.way for one in batch.done if one.path.startswith(b"folder/"))

    Counting.read_bytes = 0
    asyncio.run(go())
    return errors, notes, ways


def test_server_copies_what_it_has_itself(tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    assert moved(tmp_path) == ({}, [], {Way.DIRECT})
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")


def test_what_changed_since_it_was_listed_is_not_published(tmp_path: Path) -> None:
    make_site(tmp_path / "from")
    big = tmp_path / "from/folder/big"

    def change() -> None:
        big.write_bytes(b"n" * len(BIG))
        os.utime(big, (1, 1))

    errors, _, _ = moved(tmp_path, listed=change)
    assert errors == {b"folder/big": "It changed after it was listed."}
    assert set(files_in(tmp_path / "to")) == set(files_in(tmp_path / "from")) - {"folder/big"}


def test_files_go_through_this_machine_where_the_server_only_says_that_it_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any) -> None:
        raise asyncssh.SFTPFailure("not today")

    monkeypatch.setitem(asyncssh.sftp.SFTPServerHandler._packet_handlers, b"copy-data", refuse)
    make_site(tmp_path / "from")
    errors, notes, ways = moved(tmp_path)
    assert (errors, len(notes)) == ({}, 1)
    assert "The server did not copy them itself: The server refused: not today" in notes[0]
    assert ways == {Way.ALONE}
    assert files_in(tmp_path / "to") == files_in(tmp_path / "from")
