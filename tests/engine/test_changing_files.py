"""Files that change while they are read: right as they were, or failed by name, never a mixture."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from tests.engine.sites import BIG, at_server, failures, files_in, make_site, up
from tests.engine.trees import LONG_AGO, Opener, local, sftp
from tests.servers.openssh import OpenSshServer

CHANGED = "It changed after it was listed."
SHORTER = "It became shorter while it was read."


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def truncate(path: Path) -> None:
    os.truncate(path, 1000)


def write_over(path: Path) -> None:
    """As long as before."""
    with path.open("r+b") as file:
        file.seek(200_000)
        file.write(b"n" * 400_000)


def replace(path: Path) -> None:
    path.with_name("new").write_bytes(b"n" * 600_000)
    path.with_name("new").rename(path)


def vanish(path: Path) -> None:
    path.unlink()


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.fixture(params=["local", "sftp"])
def opener(request: pytest.FixtureRequest, openssh: OpenSshServer) -> Opener:
    """How to open the source."""
    return local if request.param == "local" else sftp(openssh)


@pytest.mark.parametrize(
    ("change", "errors"),
    [
        (grow, {CHANGED}),
        (truncate, {CHANGED, SHORTER}),
        (write_over, {CHANGED}),
        (replace, set()),
        (vanish, set()),
        (become_a_link, set()),
    ],
)
def test_file_that_changes_while_it_is_read_is_right_or_fails_by_name(
    opener: Opener, change: Callable[[Path], None], errors: set[str], tmp_path: Path
) -> None:
    class Changes(asyncssh.SFTPServer):
        """Takes the first piece of the large file, and sees to it that the source changes then."""

        left = 1

        def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
            if Changes.left and offset == 0 and data[:1] == b"b":
                Changes.left = 0
                change(tmp_path / "from/folder/big")
            return super().write(file_obj, offset, data)

    make_site(tmp_path / "from")
    # More than is read ahead, so that it changes before it was read to its end.
    size = 20 * 2**20
    os.truncate(tmp_path / "from/folder/big", size)
    with (tmp_path / "from/folder/big").open("r+b") as file:
        file.write(b"b" * size)
    os.utime(tmp_path / "from/folder/big", (LONG_AGO, LONG_AGO))
    before = files_in(tmp_path / "from")
    (tmp_path / "to").mkdir()

    failed = at_server(tmp_path / "to", Changes, lambda there: failures(opener(tmp_path / "from"), there))
    assert Changes.left == 0
    if errors:
        assert failed.keys() == {b"folder/big"}
        assert set(failed.values()) <= errors
        del before["folder/big"]
    else:
        assert failed == {}
    assert files_in(tmp_path / "to") == before


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (grow, CHANGED),
        (truncate, SHORTER),
        (replace, CHANGED),
        (vanish, "It is not there any more."),
        (become_a_link, None),
    ],
)
def test_file_that_changes_after_it_was_listed_fails_by_name(
    opener: Opener, change: Callable[[Path], None], error: str | None, tmp_path: Path
) -> None:
    make_site(tmp_path / "from")
    os.utime(tmp_path / "from/folder/big", (LONG_AGO, LONG_AGO))
    before = files_in(tmp_path / "from")
    del before["folder/big"]
    (tmp_path / "to").mkdir()

    async def go() -> dict[bytes, str]:
        source, destination = opener(tmp_path / "from"), local(tmp_path / "to")
        return await failures(source, destination, listed=lambda: change(tmp_path / "from/folder/big"))

    failed = asyncio.run(go())
    assert failed.keys() == {b"folder/big"}
    assert error is None or failed[b"folder/big"] == error
    assert files_in(tmp_path / "to") == before


def test_file_that_is_written_over_within_the_second_of_its_listing_is_no_mixture(tmp_path: Path) -> None:
    class Changes(asyncssh.SFTPServer):
        """Sees to it that the source is written over, and its time is set back to the same second."""

        left = 1

        def write(self, file_obj: Any, offset: int, data: bytes) -> Any:
            if Changes.left and offset == 0 and data[:1] == b"b":
                Changes.left = 0
                write_over(tmp_path / "from/folder/big")
                os.utime(tmp_path / "from/folder/big", ns=(0, LONG_AGO * 10**9 + 500_000_000))
            return super().write(file_obj, offset, data)

    make_site(tmp_path / "from")
    (tmp_path / "from/folder/big").write_bytes(BIG * 40)
    os.utime(tmp_path / "from/folder/big", (LONG_AGO, LONG_AGO))
    (tmp_path / "to").mkdir()

    assert up(tmp_path / "from", tmp_path / "to", Changes) == {b"folder/big": "It changed while it was read."}
    assert "folder/big" not in files_in(tmp_path / "to")
