"""ProFTPD's mod_sftp, which answers otherwise than OpenSSH, set up as hosts have it.

Whole trees to, from and within one are among the routes of test_transfer.py and test_odd_trees.py.
"""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.engine.sites import failures, moved
from tests.engine.trees import LONG_AGO, Opener, Route, connected, entries_of, local, make_tree, sftp
from tests.servers.proftpd import ProftpdServer

pytestmark = pytest.mark.slow


def move(source: Opener, destination: Opener, source_root: Path, destination_root: Path) -> dict[bytes, str]:
    """Do what a job does, in good time; gives what was not copied."""
    if destination is local:
        destination_root.mkdir(exist_ok=True)

    async def go() -> dict[bytes, str]:
        async with asyncio.timeout(60):
            return await moved(source(source_root), destination(destination_root))

    return asyncio.run(go())


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """All that can be copied, small files and a larger one."""
    make_tree(tmp_path / "from")
    for number in range(1000):
        path = tmp_path / f"from/many{number % 20}/{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % number * (number % 300))
    (tmp_path / "from/larger").write_bytes(os.urandom(12_000_000))
    (tmp_path / "banner").write_text("Welcome!\n" * 50)
    (tmp_path / "to").mkdir()
    return tmp_path / "from"


@pytest.mark.parametrize(
    "config",
    [
        ["SFTPRekey required 600 1"],
        ["SFTPDisplayBanner {banner}", "DisplayLogin {banner}"],
        ["RLimitOpenFiles session 24 24"],
        ["AllowOverwrite off", "Umask 077 077"],
        ["HiddenStores on"],
    ],
    ids=["new keys after each megabyte", "banners", "few files", "nothing overwritten", "hidden stores"],
)
def test_tree_goes_there_and_back_whatever_the_server_is_set_up_for(
    config: Sequence[str], site: Path, tmp_path: Path
) -> None:
    lines = [line.format(banner=tmp_path / "banner") for line in config]
    with ProftpdServer(config=lines) as server:
        assert move(local, sftp(server), site, tmp_path / "to") == {}
        assert move(sftp(server), local, tmp_path / "to", tmp_path / "back") == {}
        if "SFTPRekey" in lines[0]:
            # Two of them are those of the connections.
            assert server.log.count("Session key exchange") > 5
    seen = Route(local, sftp(server), keeps_link_times=False).seen
    assert seen(tmp_path / "to") == seen(site)
    assert seen(tmp_path / "back") == seen(site)


def test_tree_goes_there_and_back_where_the_account_is_locked_up_in_its_folder(
    site: Path, tmp_path: Path
) -> None:
    with ProftpdServer(jail=tmp_path) as server:
        assert move(local, sftp(server), site, Path("/to")) == {}
        assert move(sftp(server), local, Path("/to"), tmp_path / "back") == {}
        assert move(sftp(server), local, Path("/from"), tmp_path / "back") == {}
    seen = Route(local, sftp(server), keeps_link_times=False).seen
    assert seen(tmp_path / "to") == seen(site)
    assert seen(tmp_path / "back") == seen(site)


def test_links_in_place_are_replaced_and_what_they_lead_to_is_left_alone(
    proftpd: ProftpdServer, tmp_path: Path
) -> None:
    (tmp_path / "from/folder").mkdir(parents=True)
    for name in ("file for a link", "file for a link to a file", "file for a dangling link"):
        (tmp_path / "from" / name).write_text("new")
    for name in ("link for a link", "link for a file", "link to a file for a link to a file"):
        (tmp_path / "from" / name).symlink_to("file for a link" if "to a file" in name else "folder")
    (tmp_path / "to/folder").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/file").write_text("untouched")
    for name, target in {
        "file for a link": "../elsewhere",
        "file for a link to a file": "../elsewhere/file",
        "file for a dangling link": "no/where",
        "link for a link": "../elsewhere",
        "link to a file for a link to a file": "../elsewhere/file",
    }.items():
        (tmp_path / "to" / name).symlink_to(target)
    (tmp_path / "to/link for a file").write_text("older")
    os.utime(tmp_path / "to/link for a file", (LONG_AGO, LONG_AGO))
    assert move(local, sftp(proftpd), tmp_path / "from", tmp_path / "to") == {}
    seen = Route(local, sftp(proftpd), keeps_link_times=False).seen
    assert seen(tmp_path / "to") == seen(tmp_path / "from")
    assert (tmp_path / "elsewhere/file").read_text() == "untouched"
    assert os.listdir(tmp_path / "elsewhere") == ["file"]


def test_folder_in_the_way_of_a_link_stays_and_is_told(proftpd: ProftpdServer, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/link").symlink_to("nowhere")
    (tmp_path / "to/link/inside").mkdir(parents=True)

    async def go() -> dict[bytes, str]:
        return await failures(local(tmp_path / "from"), sftp(proftpd)(tmp_path / "to"))

    assert asyncio.run(go()) == {b"link": "A folder is where a file should be."}
    assert [str(path.relative_to(tmp_path / "to")) for path in (tmp_path / "to").rglob("*")] == [
        "link",
        "link/inside",
    ]


def test_links_are_read_as_they_were_made(proftpd: ProftpdServer, tmp_path: Path) -> None:
    targets = {
        *("file", "../file", "no/where", "..", ".", "../../up", "/etc/passwd", str(tmp_path)),
        *("./file", "a//b", f"{tmp_path}/folder/../file", "/"),
    }
    (tmp_path / "folder").mkdir()
    for number, target in enumerate(sorted(targets)):
        (tmp_path / f"folder/{number}").symlink_to(target)

    async def go() -> set[str]:
        storage = sftp(proftpd)(tmp_path)
        async with connected(storage):
            return {os.fsdecode(entry.target) for entry in await entries_of(storage) if entry.target}

    # Nothing tells of steps that lead nowhere: these lead to the same place.
    same = {"./file": "file", "a//b": "a/b"}
    assert asyncio.run(go()) == {same.get(target, target) for target in targets}


def test_link_that_the_server_would_die_of_is_named(proftpd: ProftpdServer, tmp_path: Path) -> None:
    (tmp_path / "from").mkdir()
    (tmp_path / "from/file").write_text("x")
    (tmp_path / "from/link").symlink_to("x" * 4000)
    left = move(sftp(proftpd), local, tmp_path / "from", tmp_path / "to")
    assert left == {b"link": "The link is longer than this server can be asked about."}
    assert os.listdir(tmp_path / "to") == ["file"]
