"""Copies of real trees, from local folders and OpenSSH to local folders and OpenSSH."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.engine.trees import Opener, connected, copy_tree, errors, local, make_tree, seen, sftp
from tests.servers.openssh import OpenSshServer

ROUTES = ["local to local", "local to sftp", "sftp to local", "sftp to sftp"]


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest, openssh: OpenSshServer) -> tuple[Opener, Opener]:
    """How to open source and destination."""
    openers = {"local": local, "sftp": sftp(openssh)}
    source, _, destination = str(request.param).partition(" to ")
    return openers[source], openers[destination]


def copied(route: tuple[Opener, Opener], source_root: Path, destination_root: Path) -> dict[bytes, str]:
    """Copy a whole tree; gives what failed."""
    source, destination = route[0](source_root), route[1](destination_root)

    async def run() -> dict[bytes, str]:
        async with connected(source, destination):
            return errors(await copy_tree(source, destination))

    destination_root.mkdir(exist_ok=True)
    return asyncio.run(run())


def test_copy_has_everything_that_the_tree_has(route: tuple[Opener, Opener], tmp_path: Path) -> None:
    make_tree(tmp_path / "from")
    assert copied(route, tmp_path / "from", tmp_path / "to") == {}
    assert seen(tmp_path / "to") == seen(tmp_path / "from")


def test_large_file_arrives_whole(route: tuple[Opener, Opener], tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from" / "large").write_bytes(os.urandom(20_000_123))
    assert copied(route, tmp_path / "from", tmp_path / "to") == {}
    assert seen(tmp_path / "to") == seen(tmp_path / "from")


def test_thousands_of_small_files_arrive(route: tuple[Opener, Opener], tmp_path: Path) -> None:
    for number in range(5000):
        path = tmp_path / "from" / f"{number % 20}" / f"{number % 400}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d\n" % number * (number % 300))
    assert copied(route, tmp_path / "from", tmp_path / "to") == {}
    assert seen(tmp_path / "to") == seen(tmp_path / "from")
