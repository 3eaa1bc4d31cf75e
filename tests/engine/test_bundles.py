"""Small files in streams of tar: whatever becomes of a stream, each file is copied right or fails by its own reason."""

import asyncio
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from migration_app.engine import bundling
from migration_app.engine.folders import set_attributes
from migration_app.engine.transfer import Done, Way, transfer_items
from migration_app.storages.base import Kind, Storage
from migration_app.storages.sftp import shell_channel
from migration_app.storages.sftp.archive import file_header, padding, read_header
from tests.engine.trees import Opener, bundled, connected, entries_of, items_of, local, seen, sftp
from tests.servers.openssh import OpenSshServer

pytestmark = pytest.mark.slow
FILES = 300
CHANGED = "It changed after it was listed."

# Stands in for tar, which it finds a step further on the PATH. "$@" are the options, `-c` or `-x` first.
SHIM = """#!/bin/sh
PATH=/usr/bin:/bin
case "$1" in
    --version) exec tar --version ;;
    -c) {pack} ;;
    -x) {unpack} ;;
esac
"""
NORMAL = 'exec tar "$@"'
FAULTS = {
    "refuses": "head -c 1 >/dev/null; echo no >&2; exit 2",
    "ends in the middle": "head -c 60000 | tar {} 2>/dev/null; exit 1",
    "says that it failed": "tar {}; echo something is wrong >&2; exit 2",
    "is killed": "head -c 3000 >/dev/null; kill -9 $$",
    "does nothing": "sleep 30",
    "writes what is no archive": "cat >/dev/null; head -c 200000 /dev/urandom",
    "writes other files": "cat >/dev/null; cd / && tar -c -f - etc/passwd ./etc/hostname",
    "writes half an archive": "tar {} | head -c 100000",
}


def shim(folder: Path, *, pack: str = "", unpack: str = "") -> Path:
    """A folder with a tar that is bad at something."""
    folder.mkdir()
    faults = [FAULTS[name].format('"$@"') if name else NORMAL for name in (pack, unpack)]
    (folder / "tar").write_text(SHIM.format(pack=faults[0], unpack=faults[1]))
    (folder / "tar").chmod(0o755)
    folder.chmod(0o755)
    return folder


def make_files(root: Path, count: int = FILES) -> None:
    root.mkdir()
    for number in range(count):
        folder = root / f"folder{number % 7}"
        folder.mkdir(exist_ok=True)
        (folder / f"file{number}").write_bytes(b"%d " % number * (number % FILES * 3))


class Moved:
    """What became of a transfer."""

    def __init__(self) -> None:
        self.done: list[Done] = []
        self.notes: list[str] = []

    @property
    def errors(self) -> dict[bytes, str]:
        return {one.path: str(one.error) for one in self.done if one.error is not None}

    @property
    def bundled(self) -> int:
        return sum(one.way is Way.BUNDLED for one in self.done)


def move(
    source: Storage,
    destination: Storage,
    *,
    listed: Callable[[], None] = lambda: None,
    at_once: int | None = None,
) -> Moved:
    found = Moved()

    async def go() -> None:
        async with asyncio.timeout(60), connected(source, destination):
            items = items_of(await entries_of(source))
            listed()
            async for batch in transfer_items(source, destination, items, at_once=at_once):
                found.done += batch.done
                found.notes += batch.notes
            folders = [item.entry for item in items if item.entry.kind is Kind.FOLDER]
            async for _ in set_attributes(destination, folders[::-1]):
                pass

    asyncio.run(go())
    return found


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    make_files(tmp_path / "from")
    (tmp_path / "to").mkdir()
    return tmp_path / "from", tmp_path / "to"


@pytest.fixture(autouse=True)
def from_the_first_file_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundling, "WORTH_FROM", 1)


@pytest.fixture(params=["up", "down"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def sides(way: str, there: Opener, folders: tuple[Path, Path]) -> tuple[Storage, Storage]:
    source, destination = folders
    return (local(source), there(destination)) if way == "up" else (there(source), local(destination))


def test_small_files_go_in_bundles_and_large_ones_alone(
    way: str, openssh: OpenSshServer, folders: tuple[Path, Path]
) -> None:
    (folders[0] / "large").write_bytes(os.urandom(bundling.UP_TO + 1))
    found = move(*sides(way, bundled(openssh), folders))
    assert seen(folders[1]) == seen(folders[0])
    assert (found.errors, found.notes) == ({}, [])
    assert [one.path for one in found.done if one.path.count(b"e") and one.way is not Way.BUNDLED][-1:] == [
        b"large"
    ]
    assert found.bundled == FILES


def test_server_without_a_shell_gets_and_gives_them_one_by_one(
    way: str, openssh_without_shell: OpenSshServer, folders: tuple[Path, Path]
) -> None:
    found = move(*sides(way, sftp(openssh_without_shell), folders))
    assert seen(folders[1]) == seen(folders[0])
    assert (found.errors, found.notes, found.bundled) == ({}, [], 0)


def test_number_of_streams_that_somebody_wants_is_kept(
    way: str, openssh: OpenSshServer, folders: tuple[Path, Path]
) -> None:
    found = move(*sides(way, bundled(openssh), folders), at_once=4)
    assert seen(folders[1]) == seen(folders[0])
    assert found.bundled == 0


@pytest.fixture
def few_sessions() -> Iterator[OpenSshServer]:
    with OpenSshServer(most_sessions=2) as server:
        yield server


def test_server_that_allows_one_more_session_is_not_asked_for_two(
    way: str, few_sessions: OpenSshServer, folders: tuple[Path, Path]
) -> None:
    found = move(*sides(way, sftp(few_sessions), folders))
    assert seen(folders[1]) == seen(folders[0])
    assert (found.errors, found.notes) == ({}, [])


@pytest.mark.parametrize(
    ("way", "fault"),
    [
        *(
            ("up", fault)
            for fault in ("refuses", "ends in the middle", "says that it failed", "is killed", "does nothing")
        ),
        *(
            ("down", fault)
            for fault in (
                *("refuses", "is killed", "does nothing", "writes what is no archive", "writes other files"),
                "writes half an archive",
            )
        ),
    ],
)
def test_files_of_a_bundle_that_fails_go_one_by_one(
    way: str, fault: str, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell_channel, "SILENCE_S", 1.0)
    programs = shim(tmp_path / "programs", **{"pack" if way == "down" else "unpack": fault})
    with OpenSshServer(programs=programs) as server:
        source, destination = sides(way, bundled(server), folders)
        found = move(source, destination)
    assert found.errors == {}
    assert seen(folders[1]) == seen(folders[0])
    if fault != "writes half an archive":
        # Of which some files were right.
        side = "destination" if way == "up" else "source"
        assert [note.partition(". ")[2].partition(":")[0] for note in found.notes] == [
            f"Packing them ended at the {side}"
        ]


LATE = """#!/bin/sh
PATH=/usr/bin:/bin
[ "$1" != --version ] || {{ [ ! -e {0}/begun ] || sleep 0.3; exec tar --version; }}
mkdir {0}/begun 2>/dev/null || exec tar "$@"
head -c 3000 >/dev/null
kill -9 $$
"""
"""Dies of its first bundle; all further runs are ready only a while later."""


def test_run_that_is_ready_after_bundles_were_given_up_gets_none(
    way: str, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    make_files(tmp_path / "many", 3000)
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "tar").write_text(LATE.format(tmp_path))
    (programs / "tar").chmod(0o755)
    with OpenSshServer(programs=programs) as server:
        found = move(*sides(way, sftp(server), (tmp_path / "many", folders[1])))
    assert found.errors == {}
    assert seen(folders[1]) == seen(tmp_path / "many")
    assert len(found.notes) == 1


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def touch(path: Path) -> None:
    os.utime(path, (1, 1))


def become_a_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/passwd")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (grow, CHANGED),
        (touch, CHANGED),
        (Path.unlink, "It is not there any more."),
        (become_a_link, CHANGED),
    ],
)
def test_file_that_has_changed_since_it_was_listed_fails_and_its_neighbours_come(
    change: Callable[[Path], None], error: str, openssh: OpenSshServer, folders: tuple[Path, Path]
) -> None:
    changed = folders[0] / "folder3/file10"
    found = move(*sides("down", bundled(openssh), folders), listed=lambda: change(changed))
    assert found.errors == {b"folder3/file10": error}
    there = seen(folders[1])
    assert b"folder3/file10" not in there
    assert len(there) == len(found.done) - 1


def test_folder_in_the_place_of_a_file_fails_it_alone(
    openssh: OpenSshServer, folders: tuple[Path, Path]
) -> None:
    (folders[1] / "folder3/file10").mkdir(parents=True)
    found = move(*sides("up", bundled(openssh), folders))
    assert set(found.errors) == {b"folder3/file10"}
    assert list(folders[1].rglob(".haulier*")) == []


NAMES = [
    b"a",
    b"a b",
    b"-rf",
    b"--checkpoint=1",
    b"n" * 255,
    b"\xff\xfe",
    "ü☃".encode(),
    b"new\nline",
    b"back\\slash",
    b"*",
]


def test_headers_are_those_of_tar(tmp_path: Path) -> None:
    long = b"d" * 200
    os.mkdir(os.fsencode(tmp_path) + b"/" + long)
    archive = b""
    for number, name in enumerate(NAMES):
        for path in (name, long + b"/" + name):
            content = b"x" * number * 100
            header = file_header(b"./" + path, size=len(content), mode=0o640, mtime=1_500_000_000 + number)
            archive += header + content + bytes(padding(len(content)))
    unpacked = subprocess.run(
        ["tar", "-x", "-p", "-f", "-"],
        input=archive + bytes(1024),
        cwd=tmp_path,
        capture_output=True,
        check=True,
    )
    assert unpacked.stderr == b""
    for number, name in enumerate(NAMES):
        for path in (name, long + b"/" + name):
            found = os.stat(os.fsencode(tmp_path) + b"/" + path)
            assert (found.st_size, found.st_mtime) == (number * 100, 1_500_000_000 + number)
    packed = subprocess.run(
        ["tar", "-c", "-f", "-", "--format=gnu", "--null", "-T", "-"],
        input=b"".join(b"./" + name + b"\0" for name in NAMES[:4]),
        cwd=tmp_path,
        capture_output=True,
        check=True,
    ).stdout
    first = read_header(packed[:512])
    assert first is not None
    assert (first.name, first.size, first.is_file, first.is_long_name) == (b"./a", 0, True, False)
