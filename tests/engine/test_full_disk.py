"""A disk that is really full: the file that has no room fails by name, and what fits is there."""

import asyncio
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engine.sites import files_in, moved
from tests.engine.trees import local, sftp
from tests.servers.openssh import OpenSshServer

pytestmark = pytest.mark.slow
FULL = "The disk is full or the quota used up."


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"This test mounts a small disk, which is not permitted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.parametrize("destination", ["local", "sftp"])
def test_file_that_has_no_room_fails_by_name_and_all_else_arrives(
    destination: str, disk: Path, tmp_path: Path, openssh: OpenSshServer
) -> None:
    (tmp_path / "from/folder").mkdir(parents=True)
    (tmp_path / "from/folder/large").write_bytes(b"l" * 20_000_000)
    # They come to a full disk, as the large one is sent beside them, and have room when it has failed.
    for number in range(300):
        (tmp_path / f"from/folder/small{number}").write_bytes(b"%d" % number * 1000)
    (disk / "folder").mkdir()
    (disk / "folder/large").write_bytes(b"as it was")
    there = local if destination == "local" else sftp(openssh)
    assert asyncio.run(moved(local(tmp_path / "from"), there(disk))) == {b"folder/large": FULL}
    assert files_in(disk) == files_in(tmp_path / "from") | {"folder/large": b"as it was"}


@pytest.mark.parametrize("destination", ["local", "sftp"])
def test_disk_that_stays_full_fails_each_file_by_name(
    destination: str, disk: Path, tmp_path: Path, openssh: OpenSshServer
) -> None:
    (tmp_path / "from").mkdir()
    for number in range(100):
        (tmp_path / f"from/file{number}").write_bytes(b"x" * 100_000)
    (tmp_path / "from/empty").touch()
    there = local if destination == "local" else sftp(openssh)
    failed = asyncio.run(moved(local(tmp_path / "from"), there(disk)))
    # What the others leave behind, when they fail too, may be room again when the server is asked about it.
    assert FULL in failed.values()
    assert set(failed.values()) <= {FULL, "The server refused: Failure."}
    expected = files_in(tmp_path / "from")
    assert files_in(disk) == {path: expected[path] for path in expected if path.encode() not in failed}
    # As many as have room on the disk, but for the blocks that are not used to their ends.
    assert len(failed) <= 70
