"""SFTP servers that break the protocol, by accident or on purpose: each ends in a clear error, nothing hangs."""

import asyncio
import struct
import tracemalloc
from functools import partial

import pytest

from migration_app.storages.base import Storage, ask
from migration_app.storages.errors import (
    AttributesRefused,
    ConnectFailed,
    ConnectionLost,
    HungUp,
    NoSpace,
    OperationFailed,
    StorageError,
)
from migration_app.storages.registry import open_storage
from migration_app.storages.sftp import packets, wire
from tests.servers.misbehaving import (
    FILE_MODE,
    FOLDER_MODE,
    LINK_MODE,
    Handler,
    Session,
    attributes,
    lists,
    misbehaving,
    run,
    silent,
)
from tests.storages.places import (
    Answers,
    finish,
    listing,
    open_reader,
    open_writer,
    set_attributes,
    write_all,
)

FILE = attributes(FILE_MODE, 10)


def raw(data: bytes) -> Handler:
    return lambda session, number, _: session.raw(data)


# Packets

BROKEN_PACKETS = {
    "text": b"Welcome to our server!\r\n",
    "huge length": struct.pack(">I", 2**32 - 1) + b"x" * 100,
    "length of 0": struct.pack(">I", 0) * 4,
    "too short for an id": struct.pack(">IB", 1, packets.STATUS),
    "unknown id": struct.pack(">IBII", 9, packets.STATUS, 4_000_000_000, 0),
    "unknown kind": struct.pack(">IBI", 5, 99, 1),
    "second version": struct.pack(">IBI", 5, packets.VERSION, 3),
}


@pytest.mark.parametrize("sent", BROKEN_PACKETS.values(), ids=BROKEN_PACKETS.keys())
def test_broken_packet_is_a_lost_connection(sent: bytes) -> None:
    async def test(storage: Storage) -> None:
        answers = Answers()
        storage.list_folder(b"", answers.to("list"))
        storage.open_reader(b"file", answers.to("read"))
        storage.make_folder(b"new", answers.to("make folder"))
        storage.open_writer(b"new", answers.to("write"))
        await answers.wait()
        assert answers.are_all_once()
        assert {type(given[0]) for given in answers.by_name.values()} == {ConnectionLost}
        assert not storage.is_connected

    run(test, dict.fromkeys((packets.OPEN, packets.MKDIR, packets.OPENDIR), raw(sent)))


SHORT_BODIES = {
    "HANDLE": (packets.HANDLE, b"\0\0\0\xff"),
    "STATUS": (packets.STATUS, b"\0"),
    "ATTRS": (packets.ATTRS, struct.pack(">I", 0xFFFFFFFF)),
    "NAME of many": (packets.NAME, struct.pack(">I", 2**32 - 1)),
    "NAME of two": (packets.NAME, struct.pack(">I", 2) + (packets.text(b"a") + packets.text(b"") + FILE)),
    "DATA": (packets.DATA, b"\0\0\xff\xff"),
    "nothing": (packets.STATUS, b""),
    "endless extensions": (packets.ATTRS, struct.pack(">II", 0x80000000, 2**32 - 1)),
}


@pytest.mark.parametrize("answer", SHORT_BODIES.values(), ids=SHORT_BODIES.keys())
@pytest.mark.parametrize(
    "kind",
    [
        packets.OPEN,
        packets.OPENDIR,
        packets.READDIR,
        packets.LSTAT,
        packets.READLINK,
        packets.READ,
        packets.FSTAT,
        packets.WRITE,
        packets.MKDIR,
        packets.RENAME,
        packets.CLOSE,
    ],
)
def test_answers_that_are_too_short_or_wrong_end_every_operation(
    kind: int, answer: tuple[int, bytes]
) -> None:
    def handler(session: Session, number: int, _: packets.Cursor) -> None:
        session.packet(answer[0], number, answer[1])

    async def test(storage: Storage) -> None:
        outcomes = await asyncio.gather(
            listing(storage, b"folder"),
            _read(storage),
            write_all(storage, b"new", b"x" * 100),
            ask(partial(storage.make_folder, b"new")),
            ask(partial(storage.rename, b"a", b"b")),
            set_attributes(storage, b"folder", mode=0o700, mtime=0),
            return_exceptions=True,
        )
        unexpected = [
            outcome
            for outcome in outcomes
            if isinstance(outcome, BaseException) and not isinstance(outcome, StorageError | AssertionError)
        ]
        assert unexpected == []

    run(test, {**lists([(b"link", attributes(LINK_MODE))]), kind: handler})


async def _read(storage: Storage) -> None:
    reader = await open_reader(storage, b"file")
    await ask(partial(reader.read, 0, 10))
    await ask(reader.measure)
    reader.close()


def test_packet_that_never_ends_takes_bounded_memory() -> None:
    def flood(session: Session, number: int, _: packets.Cursor) -> None:
        session.raw(struct.pack(">IBI", 900_000, packets.STATUS, 12345) + b"x" * 2_000_000)

    async def test(storage: Storage) -> None:
        with pytest.raises(ConnectionLost):
            await ask(partial(storage.make_folder, b"new"))

    tracemalloc.start()
    try:
        run(test, {packets.MKDIR: flood})
        assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
    finally:
        tracemalloc.stop()


# Files


@pytest.mark.parametrize("most", [1, 7, 99])
def test_short_reads_are_asked_for_again(most: int) -> None:
    content = bytes(range(100))

    def read(session: Session, number: int, cursor: packets.Cursor) -> None:
        cursor.text()
        offset = cursor.long()
        piece = content[offset : offset + min(most, cursor.number())]
        if piece:
            session.data(number, piece)
        else:
            session.status(number, packets.EOF)

    async def test(storage: Storage) -> None:
        reader = await open_reader(storage, b"file")
        assert await ask(partial(reader.read, 0, 100)) == content
        assert await ask(partial(reader.read, 50, 1000)) == content[50:]

    run(test, {packets.READ: read})


@pytest.mark.parametrize("size", [0, 11])
def test_read_of_the_wrong_length_is_an_error(size: int) -> None:
    async def test(storage: Storage) -> None:
        reader = await open_reader(storage, b"file")
        with pytest.raises(OperationFailed, match="wrong length"):
            await ask(partial(reader.read, 0, 10))

    run(test, {packets.READ: lambda session, number, _: session.data(number, b"x" * size)})


def test_hanging_up_in_mid_file_is_a_lost_connection() -> None:
    count = 0

    def write(session: Session, number: int, _: packets.Cursor) -> None:
        nonlocal count
        count += 1
        if count == 3:
            session.hang_up()
        else:
            session.status(number, packets.OK)

    async def test(storage: Storage) -> None:
        writer = await open_writer(storage, b"file")
        answers = Answers()
        for number in range(5):
            writer.write(number * 10, b"x" * 10, answers.to(f"write {number}"))
        with pytest.raises(ConnectionLost):
            await finish(writer, mode=0o600, mtime=0, size=50)
        assert answers.are_all_once()
        assert answers.by_name["write 0"] == answers.by_name["write 1"] == [None]
        assert isinstance(answers.by_name["write 4"][0], ConnectionLost)

    run(test, {packets.WRITE: write})


@pytest.mark.parametrize("failing", [packets.WRITE, packets.CLOSE])
def test_file_is_not_finished_unless_all_was_answered_ok(failing: int) -> None:
    async def test(storage: Storage) -> None:
        writer = await open_writer(storage, b"file")
        writer.write(0, b"x", lambda _: None)
        with pytest.raises(OperationFailed, match="quota"):
            await finish(writer, mode=0o600, mtime=0, size=1)

    run(test, {failing: lambda session, number, _: session.status(number, packets.FAILURE, b"quota")})


def test_refused_attributes_are_told_apart_from_a_file_that_is_not_whole() -> None:
    async def test(storage: Storage) -> None:
        writer = await open_writer(storage, b"file")
        writer.write(0, b"x", lambda _: None)
        with pytest.raises(AttributesRefused, match="does not support"):
            await finish(writer, mode=0o600, mtime=0, size=1)
        with pytest.raises(AttributesRefused, match="Permission denied"):
            await set_attributes(storage, b"folder", mode=0o700, mtime=0)

    def unsupported(session: Session, number: int, _: packets.Cursor) -> None:
        session.status(number, packets.OP_UNSUPPORTED)

    def denied(session: Session, number: int, _: packets.Cursor) -> None:
        session.status(number, packets.PERMISSION_DENIED)

    run(test, {packets.FSETSTAT: unsupported, packets.SETSTAT: denied})


def statvfs(*, blocks_free: int, files_free: int) -> Handler:
    """An answer to statvfs of a disk of 4 KiB blocks and a million files."""
    fields = (4096, 4096, 10**6, blocks_free, blocks_free, 10**6, files_free, files_free, 0, 0, 255)
    return lambda session, number, _: session.packet(
        packets.EXTENDED_REPLY, number, struct.pack(">11Q", *fields)
    )


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (statvfs(blocks_free=3, files_free=5), NoSpace),
        (statvfs(blocks_free=10**5, files_free=0), NoSpace),
        (statvfs(blocks_free=10**5, files_free=5), OperationFailed),
        (lambda session, number, _: session.packet(packets.EXTENDED_REPLY, number, b"short"), ConnectionLost),
        (lambda session, number, _: session.status(number, packets.FAILURE), OperationFailed),
    ],
)
def test_full_disk_is_told_though_the_server_has_no_word_for_it(
    answer: Handler, error: type[StorageError]
) -> None:
    version = packets.text(b"statvfs@openssh.com") + packets.text(b"2")
    version = struct.pack(">IBI", 5 + len(version), packets.VERSION, packets.SFTP_VERSION) + version

    def refused(session: Session, number: int, _: packets.Cursor) -> None:
        session.status(number, packets.FAILURE, b"Failure")

    def missing(session: Session, number: int, _: packets.Cursor) -> None:
        session.status(number, packets.NO_SUCH_FILE)

    async def test(storage: Storage) -> None:
        with pytest.raises(StorageError) as raised:
            await written(storage)
        assert type(raised.value) is error

    async def written(storage: Storage) -> None:
        writer = await open_writer(storage, b"file")
        writer.write(0, b"x", lambda _: None)
        await finish(writer, mode=0o600, mtime=0, size=1)

    for kind in (packets.WRITE, packets.OPEN):
        run(test, {kind: refused, packets.EXTENDED: answer, packets.LSTAT: missing}, version=version)


def test_rename_without_extension_keeps_the_old_file_when_there_is_no_new_one() -> None:
    sessions: list[Session] = []

    def lstat(session: Session, number: int, cursor: packets.Cursor) -> None:
        if cursor.text() == b"/root/new":
            session.status(number, packets.NO_SUCH_FILE)
        else:
            session.attributes(number, FILE_MODE)

    async def test(storage: Storage) -> None:
        with pytest.raises(StorageError):
            await ask(partial(storage.rename, b"new", b"old"))

    refuse: Handler = lambda session, number, _: session.status(number, packets.FAILURE)  # noqa: E731
    run(test, {packets.RENAME: refuse, packets.LSTAT: lstat}, sessions=sessions)
    assert packets.REMOVE not in sessions[0].requests


# Silence, slowness, starts


@pytest.mark.parametrize("kind", [packets.OPENDIR, packets.READDIR, packets.MKDIR, packets.OPEN])
def test_silence_is_a_lost_connection(kind: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "SILENCE_S", 0.2)

    async def test(storage: Storage) -> None:
        answers = Answers()
        storage.list_folder(b"", answers.to("list"))
        storage.make_folder(b"new", answers.to("make folder"))
        storage.open_reader(b"file", answers.to("read"))
        await answers.wait()
        assert answers.are_all_once()
        lost = [given[0] for given in answers.by_name.values() if isinstance(given[0], ConnectionLost)]
        assert lost
        assert "has not answered for" in str(lost[0])

    run(test, {kind: silent})


def test_what_the_server_does_not_take_stays_under_the_guard() -> None:
    """A server that stops to read: what waits for it is held back, and is not sent after the lease."""
    received: list[int] = []

    sessions: list[Session] = []

    async def main() -> None:
        lease = [True]

        def write(session: Session, number: int, _: packets.Cursor) -> None:
            received.append(number)
            if len(received) == 1:
                session.stop_reading()

        async with asyncio.timeout(20), misbehaving({packets.WRITE: write}, sessions=sessions) as address:
            storage = open_storage(address, b"/root", guard=lambda: lease[0])
            await storage.connect()
            writer = await open_writer(storage, b"file")
            answers = Answers()
            for number in range(1000):
                writer.write(number * 30_000, b"x" * 30_000, answers.to(str(number)))
            while not received:  # noqa: ASYNC110 - the server is not told of us
                await asyncio.sleep(0.005)
            lease[0] = False
            sessions[0].go_on_reading()
            await answers.wait()
            assert answers.are_all_once()
            assert str(answers.by_name["999"][0]) == "The lease is over."
            await storage.close()

    asyncio.run(main())
    assert len(received) < 900


STARTS = {
    "text": (b"Last login: today, from a shell that talks\r\n", "no SFTP"),
    "version 2": (struct.pack(">IBI", 5, packets.VERSION, 2), "version 2 of SFTP, not 3"),
    "version 6": (struct.pack(">IBI", 5, packets.VERSION, 6), "version 6 of SFTP, not 3"),
    "broken extensions": (struct.pack(">IBI", 6, packets.VERSION, 3) + b"x", "too short"),
    "something else": (struct.pack(">IBII", 9, packets.STATUS, 1, 0), "not asked"),
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_server_that_starts_wrong_is_told_in_one_sentence(start: tuple[bytes, str]) -> None:
    with pytest.raises(ConnectFailed) as caught:
        run(listing, version=start[0])
    # It would start so again.
    assert not isinstance(caught.value, HungUp)
    assert start[1] in str(caught.value)
    assert str(caught.value).startswith("127.0.0.1:")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("told", "chunk"),
    [((0, 0), 32768), ((1, 1), 1024), ((2**63, 2**63), 261_120), ((65_536, 99_999), 65_536)],
)
def test_limits_of_the_server_are_kept_within_reason(told: tuple[int, int], chunk: int) -> None:
    version = packets.text(b"limits@openssh.com") + packets.text(b"1")
    version = struct.pack(">IBI", len(version) + 5, packets.VERSION, 3) + version

    def limits(session: Session, number: int, _: packets.Cursor) -> None:
        session.packet(packets.EXTENDED_REPLY, number, struct.pack(">QQQQ", 0, *told, 0))

    async def test(storage: Storage) -> int:
        return storage.capabilities.chunk_size

    assert run(test, {packets.EXTENDED: limits}, version=version) == chunk


@pytest.mark.parametrize(("told", "most"), [(0, 64), (1, 1), (20, 10), (2**63, 256)])
def test_server_is_asked_for_half_of_the_files_that_it_may_have_open(told: int, most: int) -> None:
    version = packets.text(b"limits@openssh.com") + packets.text(b"1")
    version = struct.pack(">IBI", len(version) + 5, packets.VERSION, 3) + version

    def limits(session: Session, number: int, _: packets.Cursor) -> None:
        session.packet(packets.EXTENDED_REPLY, number, struct.pack(">QQQQ", 0, 0, 0, told))

    async def test(storage: Storage) -> int:
        return storage.capabilities.most_files

    assert run(test, {packets.EXTENDED: limits}, version=version) == most


def test_more_files_are_under_way_to_a_server_that_is_further_away() -> None:
    version = packets.text(b"limits@openssh.com") + packets.text(b"1")
    version = struct.pack(">IBI", len(version) + 5, packets.VERSION, 3) + version

    def limits(session: Session, number: int, _: packets.Cursor) -> None:
        answer = struct.pack(">QQQQ", 0, 0, 0, 1000)
        asyncio.get_running_loop().call_later(0.1, session.packet, packets.EXTENDED_REPLY, number, answer)

    async def test(storage: Storage) -> int:
        return storage.capabilities.files_at_once

    assert run(test, {packets.EXTENDED: limits}, version=version) >= 64 + 480


def test_limits_that_are_too_short_are_a_failed_connection() -> None:
    version = packets.text(b"limits@openssh.com") + packets.text(b"1")
    version = struct.pack(">IBI", len(version) + 5, packets.VERSION, 3) + version
    with pytest.raises(ConnectFailed, match="too short"):
        run(
            listing,
            {
                packets.EXTENDED: lambda session, number, _: session.packet(
                    packets.EXTENDED_REPLY, number, b"x"
                )
            },
            version=version,
        )


def test_swapped_folder_is_noticed_whichever_answer_comes_first() -> None:
    waiting: list[tuple[int, int]] = []

    def hold(kind: int) -> Handler:
        def handler(session: Session, number: int, _: packets.Cursor) -> None:
            waiting.append((kind, number))
            if len(waiting) == 2:
                for held, held_number in reversed(waiting):
                    if held == packets.LSTAT:
                        session.attributes(held_number, LINK_MODE)
                    else:
                        session.handle(held_number)

        return handler

    sessions: list[Session] = []

    async def test(storage: Storage) -> None:
        with pytest.raises(StorageError, match="symbolic link"):
            await listing(storage, b"folder")
        await ask(partial(storage.make_folder, b"after"))

    run(
        test,
        {packets.LSTAT: hold(packets.LSTAT), packets.OPENDIR: hold(packets.OPENDIR)},
        sessions=sessions,
    )
    assert packets.READDIR not in sessions[0].requests
    assert packets.CLOSE in sessions[0].requests


def test_root_that_is_a_file_is_told() -> None:
    async def test(storage: Storage) -> None:
        with pytest.raises(StorageError, match="/root is a file"):
            await storage.root_entry()

    run(test, {packets.STAT: lambda session, number, _: session.attributes(number, FILE_MODE)})


def test_relative_root_is_made_where_the_account_begins() -> None:
    made: list[bytes] = []

    def mkdir(session: Session, number: int, cursor: packets.Cursor) -> None:
        made.append(cursor.text())
        session.status(number, packets.OK)

    def stat(session: Session, number: int, cursor: packets.Cursor) -> None:
        if cursor.text() in made:
            session.attributes(number, FOLDER_MODE)
        else:
            session.status(number, packets.NO_SUCH_FILE)

    async def main() -> None:
        async with misbehaving({packets.STAT: stat, packets.MKDIR: mkdir}) as address:
            storage = open_storage(address, b"htdocs/new", guard=lambda: True)
            await storage.connect()
            await storage.make_root()
            await storage.close()

    asyncio.run(main())
    assert made == [b"htdocs", b"htdocs/new"]


def test_server_without_sftp_is_told() -> None:
    with pytest.raises(ConnectFailed, match="offers it no SFTP"):
        run(listing, has_sftp=False)
