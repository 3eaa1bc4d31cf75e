"""What an account without rights may not do: each file or folder fails by name, and its neighbours are copied."""

import asyncio
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from migration_app.engine import bundling
from migration_app.engine.choices import Choices, Conflict
from tests.engine.sites import BIG, files_in, make_site, moved
from tests.engine.trees import LONG_AGO, Opener, bundled, local, seen, sftp
from tests.servers.accounts import Account
from tests.servers.openssh import OpenSshServer

pytestmark = pytest.mark.slow
DENIED = "Permission denied."
ROUTES = ["local to local", "local to sftp", "sftp to local", "local to bundles", "bundles to local"]
Route = tuple[Opener, Opener]


@pytest.fixture(params=ROUTES)
def route(
    request: pytest.FixtureRequest,
    openssh: OpenSshServer,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> Route:
    """How to open source and destination, as the account."""
    monkeypatch.setattr(bundling, "WORTH_FROM", 1)
    openers = {
        "local": local,
        "sftp": sftp(openssh, account.name),
        "bundles": bundled(openssh, account.name),
    }
    source, _, destination = str(request.param).partition(" to ")
    return openers[source], openers[destination]


@pytest.fixture
def yard(account: Account) -> Iterator[Path]:
    """A folder with a site to move, and an empty one to move it to."""
    folder = account.folder / "yard"
    folder.mkdir()
    make_site(folder / "from")
    (folder / "to").mkdir()
    yield folder
    shutil.rmtree(folder)


def move(
    route: Route, account: Account, yard: Path, conflict: Conflict = Conflict.OVERWRITE
) -> dict[bytes, str]:
    """Give the account what is its own, and move the site as that account."""
    source, destination = route[0](yard / "from"), route[1](yard / "to")
    with account.acting():
        return asyncio.run(moved(source, destination, Choices(conflict=conflict)))


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# The source


def test_unreadable_file_fails_by_name(route: Route, account: Account, yard: Path) -> None:
    (yard / "from/folder/big").chmod(0o000)
    account.own(yard)
    assert move(route, account, yard) == {b"folder/big": f"It cannot be read: {DENIED}"}
    expected = files_in(yard / "from")
    del expected["folder/big"]
    assert files_in(yard / "to") == expected


def test_unreadable_folder_fails_by_name(route: Route, account: Account, yard: Path) -> None:
    (yard / "from/closed").mkdir()
    (yard / "from/closed/file").write_text("x")
    account.own(yard)
    (yard / "from/closed").chmod(0o000)
    assert move(route, account, yard) == {b"closed": DENIED}
    assert files_in(yard / "to").keys() == {p for p in files_in(yard / "from") if "closed" not in p}


def test_folder_that_may_be_listed_but_not_entered_is_told(
    route: Route, account: Account, yard: Path
) -> None:
    (yard / "from/listed").mkdir()
    (yard / "from/listed/file").write_text("x")
    account.own(yard)
    (yard / "from/listed").chmod(0o444)
    # OpenSSH does not even give the names.
    named = b"listed/file" if route[0] is local else b"listed"
    assert move(route, account, yard) == {named: DENIED}
    assert files_in(yard / "to").keys() == {p for p in files_in(yard / "from") if "listed" not in p}


# The destination


def test_folder_of_somebody_else_takes_nothing_and_is_told(
    route: Route, account: Account, yard: Path
) -> None:
    account.own(yard)
    make_site(yard / "to")
    (yard / "from/folder/new").mkdir()
    (yard / "from/folder/new/file").write_text("x")
    (yard / "from/above").write_text("x")
    (yard / "from/folder/small3").write_text("changed")
    before = files_in(yard / "to")
    failed = move(route, account, yard)
    assert failed == {
        b"folder/small3": DENIED,
        b"folder/new": DENIED,
        b"folder/new/file": f"The folder folder/new could not be made: {DENIED}",
    }
    assert files_in(yard / "to") == before | {"above": b"x"}


@pytest.mark.parametrize("conflict", [Conflict.OVERWRITE, Conflict.SKIP])
def test_own_folder_that_is_read_only_is_filled_and_set_back(
    conflict: Conflict, route: Route, account: Account, yard: Path
) -> None:
    (yard / "from/folder/inside").mkdir()
    (yard / "from/folder/inside/file").write_text("x")
    (yard / "from/folder/link").symlink_to("big")
    (yard / "to/folder").mkdir()
    (yard / "to/folder/small3").write_text("older")
    os.utime(yard / "to/folder/small3", (LONG_AGO, LONG_AGO))
    os.utime(yard / "to/folder", (LONG_AGO, LONG_AGO))
    account.own(yard)
    (yard / "to/folder").chmod(0o555)
    (yard / "to").chmod(0o555)
    if conflict is Conflict.OVERWRITE:
        (yard / "from/folder").chmod(0o555)
        (yard / "from").chmod(0o555)
    assert move(route, account, yard, conflict) == {}
    assert (mode_of(yard / "to"), mode_of(yard / "to/folder")) == (0o555, 0o555)
    if conflict is Conflict.OVERWRITE:
        assert seen(yard / "to") == seen(yard / "from")
    else:
        expected = files_in(yard / "from") | {"folder/small3": b"older"}
        assert files_in(yard / "to") == expected
        assert (yard / "to/folder").stat().st_mtime == LONG_AGO


def test_new_folders_that_are_read_only_are_filled_and_then_set(
    route: Route, account: Account, yard: Path
) -> None:
    (yard / "from/folder/inside").mkdir()
    (yard / "from/folder/inside/file").write_text("x")
    account.own(yard)
    (yard / "from/folder/inside").chmod(0o500)
    (yard / "from/folder").chmod(0o555)
    assert move(route, account, yard) == {}
    assert seen(yard / "to") == seen(yard / "from")


def sticky(account: Account, yard: Path) -> None:
    """A folder in which everybody may write, and nobody may replace what another one has."""
    account.own(yard)
    (yard / "to/folder").mkdir(mode=0o777)
    (yard / "to/folder").chmod(0o1777)
    (yard / "to/folder/big").write_bytes(b"as it was")


def test_file_in_place_that_may_not_be_replaced_stays(route: Route, account: Account, yard: Path) -> None:
    sticky(account, yard)
    assert move(route, account, yard) == {b"folder/big": DENIED}
    assert files_in(yard / "to") == files_in(yard / "from") | {"folder/big": b"as it was"}


def test_file_in_place_stays_also_where_a_rename_replaces_nothing(account: Account, yard: Path) -> None:
    sticky(account, yard)
    with OpenSshServer(has_shell=False, sftp_options=["-P", "posix-rename"]) as server:
        assert set(move((local, sftp(server, account.name)), account, yard)) == {b"folder/big"}
    assert files_in(yard / "to") == files_in(yard / "from") | {"folder/big": b"as it was"}
    assert (yard / "from/folder/big").read_bytes() == BIG
