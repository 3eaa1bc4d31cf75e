"""Trees that are seldom tested: each row makes one, which is compared, copied and compared again."""

import asyncio
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from migration_app.engine import bundling
from migration_app.engine.folders import set_attributes
from migration_app.engine.plan import Action, compare_trees
from migration_app.engine.transfer import transfer_items
from migration_app.storages.base import Kind, Reader, Writer, ask
from tests.engine.trees import (
    EVERYTHING,
    ROUTES,
    Route,
    connected,
    copy,
    entries_of,
    errors,
    items_of,
    local,
    route_of,
    sftp,
)
from tests.servers.openssh import OpenSshServer
from tests.storages.places import finish

pytestmark = pytest.mark.slow
LONG_AGO = 1_500_000_000
PATH_MAX = 4096
"""Of a path in one call, on Linux."""


@pytest.fixture(params=ROUTES)
def route(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Route:
    """How to open source and destination."""
    monkeypatch.setattr(bundling, "WORTH_FROM", 1)
    return route_of(request)


def moved(route: Route, source_root: Path, destination_root: Path) -> dict[bytes, str]:
    """Do what a job does; gives what was not copied, with the reason. Nothing is left to do afterwards."""
    destination_root.mkdir()

    async def go() -> dict[bytes, str]:
        source, destination = route[0](source_root), route[1](destination_root)
        async with connected(source, destination):
            steps = [s async for b in compare_trees(source, destination, EVERYTHING) for s in b.steps]
            left = {step.entry.path: step.reason for step in steps if step.action is Action.CONFLICT}
            items = items_of(step.entry for step in steps if step.action is not Action.CONFLICT)
            async for batch in transfer_items(source, destination, items):
                left |= {one.path: str(one.error) for one in batch.done if one.error is not None}
            folders = [item.entry for item in items if item.entry.kind is Kind.FOLDER]
            async for done in set_attributes(destination, folders):
                assert [one.error or one.refusal for one in done] == [None] * len(done)
            again = [s async for b in compare_trees(source, destination, EVERYTHING) for s in b.steps]
        todo = {step.entry.path for step in again if step.action is not Action.SKIP}
        assert todo == set(left)
        return left

    return asyncio.run(go())


def levels(root: Path) -> None:
    """100 folders in each other."""
    folder = root.joinpath(*(["level"] * 100))
    folder.mkdir(parents=True)
    (folder / "deepest").write_text("here")


def odd_names(root: Path) -> None:
    """All that a file system takes in a name."""
    names = [
        *(
            b"with space",
            b" ",
            b"quo'te\"s",
            b"new\nline",
            b"tab\t",
            b"-rf",
            b"--",
            b"100%",
            b"%2e%2e",
            b"\x01\x7f",
        ),
        *(b"back\\slash", b"*", b"?[a]", b"$HOME", b"`id`", b"~", b"#", b"a:b", b"...", b".haulier-mine"),
        *("emoji 🚚".encode(), "family 👨‍👩‍👧".encode(), b"\xff\xfe", b"latin-\xe4\xf6", b"cut \xf0\x9f\x9a"),
        # The same letter, composed and decomposed.
        *("NFC é".encode(), "NFC e\N{COMBINING ACUTE ACCENT}".encode()),
    ]
    for name in names:
        folder = os.fsencode(root) + b"/in " + name
        os.mkdir(folder)
        for path in (os.fsencode(root) + b"/" + name, folder + b"/" + name):
            with open(path, "wb") as file:
                file.write(name)
        os.symlink(name, folder + b"/link to " + name)
        os.utime(folder + b"/link to " + name, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def long_names(root: Path) -> None:
    """The longest names, in one byte and in several a letter."""
    (root / ("n" * 255)).write_text("long")
    (root / ("ü" * 127)).mkdir()
    (root / ("ü" * 127) / ("☃" * 85)).write_text("long")


def empty_things(root: Path) -> None:
    """Nothing in files and folders."""
    (root / "file").touch()
    (root / "folder/inside").mkdir(parents=True)


def links(root: Path) -> None:
    """Links to nowhere, to themselves, in circles, and out of the tree."""
    (root / "folder").mkdir()
    for name, target in {
        "dangling": "no/where",
        "self": "self",
        "one": "other",
        "other": "one",
        "outside": "/etc",
        "up": "../../..",
        "folder/above": "..",
        "odd": "back\\slash\nand line",
        "long": "x" * 2000,
    }.items():
        (root / name).symlink_to(target)
        os.utime(root / name, (LONG_AGO, LONG_AGO), follow_symlinks=False)


def times(root: Path) -> None:
    """The ends of what both protocols can hold, and fractions of seconds."""
    for number, mtime in enumerate((0, 1, 2**31 - 1, 2**31, 2**32 - 2)):
        (root / f"file{number}").write_text("x")
        os.utime(root / f"file{number}", (mtime, mtime))
    (root / "fraction").write_text("x")
    os.utime(root / "fraction", ns=(LONG_AGO * 10**9 + 750_000_000, LONG_AGO * 10**9 + 750_000_000))


def read_only_folders(root: Path) -> None:
    """Folders that nobody may write to, with something in them."""
    inner = root / "closed/inner"
    inner.mkdir(parents=True)
    (inner / "file").write_text("x")
    (inner / "file").chmod(0o400)
    inner.chmod(0o555)
    (root / "closed").chmod(0o500)


@pytest.mark.parametrize(
    "make", [levels, odd_names, long_names, empty_things, links, times, read_only_folders]
)
def test_tree_arrives_as_it_is(route: Route, make: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    make(tmp_path / "from")
    assert moved(route, tmp_path / "from", tmp_path / "to") == {}
    assert route.seen(tmp_path / "to") == route.seen(tmp_path / "from")


def test_paths_as_long_as_the_system_takes_arrive_and_longer_ones_fail_by_name(
    route: Route, tmp_path: Path
) -> None:
    (tmp_path / "from").mkdir()
    folder, path = os.open(tmp_path / "from", os.O_DIRECTORY), b""
    # Made step by step: at the end the absolute path is longer than a call takes.
    while len(path) < 4096 - 250:
        name = b"d" * 200
        path = path + b"/" + name if path else name
        os.mkdir(name, dir_fd=folder)
        inner = os.open(name, os.O_DIRECTORY, dir_fd=folder)
        os.close(folder)
        folder = inner
        os.close(os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    left = moved_as_far_as_it_goes(route, tmp_path)
    while path:
        # Until it is whole a file has a name of 33 letters.
        fits = len(os.fsencode(tmp_path / "to") + b"/" + path + b"/") + 37 < PATH_MAX
        is_told = path + b"/file" in left or path in left
        # OpenSSH leaves out of a listing what it cannot look at, so nobody hears of it.
        is_hidden = len(os.fsencode(tmp_path / "from") + b"/" + path) >= PATH_MAX
        has_arrived = is_there(tmp_path / "to", path + b"/file")
        # A folder may be told of for something else in it.
        assert is_hidden or is_told or has_arrived
        assert not (has_arrived and path + b"/file" in left)
        assert not (fits and is_told)
        path = path.rpartition(b"/")[0]
    assert all(left.values())


def is_there(root: Path, path: bytes) -> bool:
    """Whether a file has a name below a folder; step by step, as whole the name may be too long to ask for."""
    *above, name = path.split(b"/")
    folder = os.open(root, os.O_DIRECTORY)
    try:
        for part in above:
            inner = os.open(part, os.O_DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = inner
        return stat.S_ISREG(os.stat(name, dir_fd=folder).st_mode)
    except FileNotFoundError:
        return False
    finally:
        os.close(folder)


def moved_as_far_as_it_goes(route: Route, tmp_path: Path) -> dict[bytes, str]:
    """Like `moved`, for a tree that cannot be listed to its end by everybody."""
    (tmp_path / "to").mkdir()

    async def go() -> dict[bytes, str]:
        source, destination = route[0](tmp_path / "from"), route[1](tmp_path / "to")
        left: dict[bytes, str] = {}
        steps = []
        async with connected(source, destination):
            async for batch in compare_trees(source, destination, EVERYTHING):
                steps += batch.steps
                left |= {path: str(error) for path, error in batch.unreadable}
            async for copied in transfer_items(source, destination, items_of(step.entry for step in steps)):
                left |= {one.path: str(one.error) for one in copied.done if one.error is not None}
        return left

    return asyncio.run(go())


def test_bits_that_give_rights_are_dropped(route: Route, tmp_path: Path) -> None:
    (tmp_path / "from/folder").mkdir(parents=True)
    (tmp_path / "from/program").write_text("#!/bin/sh\n")
    (tmp_path / "from/program").chmod(0o6755)
    (tmp_path / "from/folder").chmod(0o3777)
    assert moved(route, tmp_path / "from", tmp_path / "to") == {}
    assert stat.S_IMODE((tmp_path / "to/program").stat().st_mode) == 0o755
    assert stat.S_IMODE((tmp_path / "to/folder").stat().st_mode) == 0o777


def test_pipes_and_sockets_are_named_and_left_out(route: Route, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/file").write_text("x")
    os.mkfifo(tmp_path / "from/pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        above = os.open(tmp_path / "from", os.O_DIRECTORY)
        # By a short way, as the name of a socket may not be long.
        listener.bind(f"/proc/self/fd/{above}/socket")
        os.close(above)
        left = moved(route, tmp_path / "from", tmp_path / "to")
    assert left == dict.fromkeys((b"pipe", b"socket"), "Not a regular file, folder or link; it is left out.")
    assert os.listdir(tmp_path / "to") == ["file"]


@pytest.mark.parametrize("mtime", [-1, -(2**31), 2**32, 2**33])
def test_times_that_sftp_cannot_hold_become_the_nearest_one_once(
    mtime: int, tmp_path: Path, openssh: OpenSshServer
) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/file").write_text("x")
    os.utime(tmp_path / "from/file", (mtime, mtime))
    assert moved(Route(local, sftp(openssh)), tmp_path / "from", tmp_path / "to") == {}
    assert (tmp_path / "to/file").stat().st_mtime == min(max(mtime, 0), 2**32 - 1)
    assert moved(Route(local, local), tmp_path / "from", tmp_path / "exact") == {}
    assert (tmp_path / "exact/file").stat().st_mtime == mtime


def test_file_of_more_than_four_gigabytes_is_written_and_read_at_its_end(
    route: Route, tmp_path: Path
) -> None:
    """Only its last bytes: a hole takes no place, and no time."""

    async def go() -> tuple[bytes, int]:
        storage = route[0](tmp_path)
        async with connected(storage):
            writer: Writer = await ask(partial(storage.open_writer, b"file"))
            await ask(partial(writer.write, 5 * 2**30, b"end"))
            await finish(writer, mode=0o644, mtime=LONG_AGO, size=5 * 2**30 + 3)
            reader: Reader = await ask(partial(storage.open_reader, b"file"))
            end = await ask(partial(reader.read, 5 * 2**30 - 1, 10))
            size, _ = await ask(partial(reader.measure))
            reader.close()
        return end, size

    assert asyncio.run(go()) == (b"\0end", 5 * 2**30 + 3)


@pytest.mark.parametrize("side", ["local", "sftp"])
def test_link_as_long_as_the_system_takes_arrives(side: str, tmp_path: Path, openssh: OpenSshServer) -> None:
    opener = local if side == "local" else sftp(openssh)
    (tmp_path / "from").mkdir()
    (tmp_path / "from/link").symlink_to("x" * (PATH_MAX - 1))
    assert moved(Route(opener, opener), tmp_path / "from", tmp_path / "to") == {}
    assert os.readlink(tmp_path / "to/link") == "x" * (PATH_MAX - 1)


@pytest.mark.parametrize("destination", ["local", "sftp"])
def test_five_gigabytes_of_holes_arrive_as_holes(
    destination: str, tmp_path: Path, openssh: OpenSshServer
) -> None:
    size = 5 * 2**30
    # At the start, over the border of 32 bits, and none at the end.
    pieces = {0: b"start", 2**32 - 100_000: os.urandom(200_000), size - 2**20: b"near the end"}
    (tmp_path / "from").mkdir()
    with (tmp_path / "from/file").open("wb") as file:
        for offset, piece in pieces.items():
            file.seek(offset)
            file.write(piece)
        file.truncate(size)
    there = local if destination == "local" else sftp(openssh)
    assert moved(Route(local, there), tmp_path / "from", tmp_path / "to") == {}
    status = (tmp_path / "to/file").stat()
    assert status.st_size == size
    # What takes no place on the disk reads as zeros.
    assert status.st_blocks * 512 < 10 * 2**20
    with (tmp_path / "to/file").open("rb") as file:
        for offset, piece in pieces.items():
            file.seek(offset)
            assert file.read(len(piece)) == piece
            assert file.read(1000) == bytes(1000)


def test_hole_in_a_file_that_goes_on_is_written_over_what_is_there(tmp_path: Path) -> None:
    size = 3 * 2**20
    for name in ("from", "to"):
        (tmp_path / name).mkdir()
    (tmp_path / "from/file").write_bytes(b"start")
    os.truncate(tmp_path / "from/file", size)

    async def go() -> dict[bytes, str]:
        source, destination = local(tmp_path / "from"), local(tmp_path / "to")
        async with connected(source, destination):
            (item,) = items_of(await entries_of(source))
            (tmp_path / "to" / os.fsdecode(item.temp_name)).write_bytes(b"start" + b"old" * 500_000)
            return errors(await copy(source, destination, [replace(item, start=5)]))

    assert asyncio.run(go()) == {}
    assert (tmp_path / "to/file").read_bytes() == (tmp_path / "from/file").read_bytes()


def test_fifty_thousand_files_in_one_folder_arrive(tmp_path: Path) -> None:
    (tmp_path / "from/many").mkdir(parents=True)
    for number in range(50_000):
        os.close(os.open(tmp_path / f"from/many/{number}", os.O_CREAT | os.O_WRONLY))
    assert moved(Route(local, local), tmp_path / "from", tmp_path / "to") == {}
    assert len(os.listdir(tmp_path / "to/many")) == 50_000
