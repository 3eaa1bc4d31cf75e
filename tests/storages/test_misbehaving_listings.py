"""SFTP servers whose listings are endless, cut off or not to be believed: each ends in a clear error, nothing hangs."""

from typing import Any

import pytest

from migration_app.storages.base import FolderListing, Kind
from migration_app.storages.errors import (
    ConnectionLost,
    NameRefused,
    OperationFailed,
)
from migration_app.storages.sftp import listing as listing_module
from migration_app.storages.sftp import packets, wire
from tests.servers.misbehaving import (
    FILE_MODE,
    LINK_MODE,
    Session,
    attributes,
    lists,
    run,
    silent,
)
from tests.storages.places import (
    listing,
)

FILE = attributes(FILE_MODE, 10)


def test_names_that_must_not_be_used_are_problems() -> None:
    bad = [b"..\0", b"a/b", b"/etc/passwd", b"../up", b"", b"nul\0", b"x" * 5000]
    names = [(name, FILE) for name in (b".", b"..", b"good", *bad)]
    found: FolderListing = run(listing, lists(names))
    assert [entry.path for entry in found.entries] == [b"good"]
    assert [path for path, _ in found.problems] == bad
    assert all(isinstance(error, NameRefused) and str(error).isprintable() for _, error in found.problems)


def test_name_listed_twice_is_one_entry() -> None:
    found: FolderListing = run(listing, lists([(b"a", FILE), (b"a", FILE)], [(b"a", FILE), (b"b", FILE)]))
    assert [entry.path for entry in found.entries] == [b"a", b"b"]


def test_entries_without_attributes_are_files() -> None:
    found: FolderListing = run(listing, lists([(b"a", packets.number(0))]))
    assert found.entries[0].kind is Kind.FILE


@pytest.mark.parametrize("target", [b"", b"x" * 5000, b"nul\0"])
def test_link_targets_that_cannot_be_are_problems(target: bytes) -> None:
    handlers = lists([(b"link", attributes(LINK_MODE)), (b"file", FILE)])
    handlers[packets.READLINK] = lambda session, number, _: session.names(number, [(target, FILE)])
    found: FolderListing = run(listing, handlers)
    assert [entry.path for entry in found.entries] == [b"file"]
    assert isinstance(found.problems[0][1], NameRefused)


def test_names_that_come_after_the_end_are_taken() -> None:
    """A server may work on two requests at once and answer the later one first."""
    waiting: list[int] = []

    def readdir(session: Session, number: int, _: packets.Cursor) -> None:
        waiting.append(number)
        if len(waiting) == 2:
            session.status(waiting[1], packets.EOF)
            session.names(waiting[0], [(b"late", FILE)])

    found: FolderListing = run(listing, {packets.READDIR: readdir})
    assert [entry.path for entry in found.entries] == [b"late"]


def test_listing_cut_off_after_its_end_was_seen_is_not_taken_for_whole() -> None:
    count = 0

    def readdir(session: Session, number: int, _: packets.Cursor) -> None:
        nonlocal count
        count += 1
        if count == 2:
            session.status(number, packets.EOF)
            session.hang_up()

    with pytest.raises(ConnectionLost):
        run(listing, {packets.READDIR: readdir})


def test_refused_second_readdir_after_the_end_is_no_error() -> None:
    count = 0

    def readdir(session: Session, number: int, _: packets.Cursor) -> None:
        nonlocal count
        count += 1
        if count == 1:
            session.status(number, packets.EOF)
        else:
            session.status(number, packets.FAILURE, b"no such handle")

    assert run(listing, {packets.READDIR: readdir}).entries == []


def test_failure_amid_a_listing_is_an_error() -> None:
    def readdir(session: Session, number: int, _: packets.Cursor) -> None:
        session.status(number, packets.FAILURE, b"disk \x1b[31m on\nfire")

    with pytest.raises(OperationFailed, match=r"The server refused: disk \[31m on fire\."):
        run(listing, {packets.READDIR: readdir})


def test_endless_listing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "MOST_ENTRIES", 5_000)
    count = 0

    def readdir(session: Session, number: int, _: packets.Cursor) -> None:
        nonlocal count
        session.names(number, [(b"name-%d" % (count + more), FILE) for more in range(100)])
        count += 100

    with pytest.raises(OperationFailed, match="more than 5,000 names"):
        run(listing, {packets.READDIR: readdir})
    assert count < 6_000


def test_listing_of_endless_names_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "MOST_BYTES", 2**22)

    def readdir(session: Session, number: int, _: packets.Cursor) -> None:
        session.names(number, [(b"x" * 500_000, FILE)])

    with pytest.raises(OperationFailed, match="endless"):
        run(listing, {packets.READDIR: readdir})


def test_listing_of_endless_dots_or_nothing_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "MOST_ENTRIES", 5_000)
    for names in ([], [(b".", FILE)] * 100):

        def readdir(session: Session, number: int, _: packets.Cursor, names: Any = names) -> None:
            session.names(number, names)

        with pytest.raises(OperationFailed):
            run(listing, {packets.READDIR: readdir})


def test_links_that_are_never_resolved_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing_module, "MOST_LINKS_ASKED", 50)
    monkeypatch.setattr(wire, "SILENCE_S", 0.3)
    count = 0

    def readdir(session: Session, number: int, _: packets.Cursor) -> None:
        nonlocal count
        count += 1
        session.names(number, [(b"%d-%d" % (count, n), attributes(LINK_MODE)) for n in range(40)])

    with pytest.raises(ConnectionLost):
        run(listing, {packets.READDIR: readdir, packets.READLINK: silent})
    assert count < 6
