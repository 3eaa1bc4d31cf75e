import asyncio
import hashlib
import os

import asyncssh
import pytest

from migration_app.engine.digests import read_digests
from migration_app.storages.base import Address, Entry, HostKeyPolicy, Kind
from migration_app.storages.errors import ConnectionLost, HungUp, NotFound, SourceChanged
from migration_app.storages.registry import open_storage
from migration_app.storages.sftp.digests import parse_digests
from tests.servers.misbehaving import misbehaving

NAMES = [
    b"plain",
    b"with space",
    b"-dash",
    b"quo'te\"s",
    b"$(touch x)",
    b"caf\xc3\xa9",
    b"\xff\xfe",
    b"*",
    b"~",
    b"%s",
]
UNTELLABLE = [b"new\nline", b"back\\slash"]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "odd 'root'"
    root.mkdir()
    for name in NAMES + UNTELLABLE:
        (root / os.fsdecode(name)).write_bytes(name * 1000)
    (root / "empty").touch()
    (root / "large").write_bytes(os.urandom(3 * 2**20 + 7))
    return root


def entries(root):
    paths = sorted(root.iterdir())
    return [Entry(os.fsencode(path.name), Kind.FILE, path.stat().st_size) for path in paths]


def truth(root):
    return {
        os.fsencode(path.name): hashlib.sha256(path.read_bytes()).digest()
        for path in root.iterdir()
        if path.is_file()
    }


def address_of(server):
    return Address(
        "sftp",
        server.host,
        server.port,
        server.username,
        ssh_key=server.private_key,
        host_keys=HostKeyPolicy(),
    )


async def connected(address, root, use):
    storage = open_storage(address, os.fsencode(root), guard=lambda: True)
    await storage.connect()
    try:
        return await use(storage)
    finally:
        await storage.close()


async def read_all(storage, files):
    found = {}
    async for batch in read_digests(storage, files):
        for number, result in batch:
            found[files[number].path] = result
    return found


def test_server_with_a_shell_hashes_by_itself(openssh, tree):
    paths = [entry.path for entry in entries(tree)]

    async def use(storage):
        return await storage.digests_there([*paths, b"missing"])

    found = asyncio.run(connected(address_of(openssh), tree, use))
    wanted = truth(tree)
    assert found == {path: wanted[path] for path in paths if path not in UNTELLABLE}
    assert not (tree / "x").exists()


def test_server_with_a_shell_hashes_the_beginning_of_a_file(openssh, openssh_without_shell, tree):
    async def use(storage):
        return [
            await storage.beginning_digest_there(name, length)
            for name, length in [
                (b"large", 2**20 + 1),
                (b"-dash", 3),
                (b"quo'te\"s", 10**9),
                (b"new\nline", 5),
            ]
        ]

    large = (tree / "large").read_bytes()
    hashed = [hashlib.sha256(part).digest() for part in (large[: 2**20 + 1], b"-da", b"quo'te\"s" * 1000)]
    assert asyncio.run(connected(address_of(openssh), tree, use)) == [*hashed, None]
    assert asyncio.run(connected(address_of(openssh_without_shell), tree, use)) == [None] * 4


def test_server_without_a_shell_hashes_nothing(openssh_without_shell, tree):
    async def use(storage):
        first = await storage.digests_there([b"plain"])
        return first, await storage.digests_there([b"plain"]), storage.is_connected

    found = asyncio.run(connected(address_of(openssh_without_shell), tree, use))
    assert found == ({}, {}, True)


def test_server_whose_files_cannot_be_read_still_has_a_shell(openssh, openssh_without_shell, tree):
    async def use(storage):
        none = await storage.digests_there([b"missing"])
        return none, len(await storage.digests_there([b"plain"])), await storage.must_be_read_back()

    assert asyncio.run(connected(address_of(openssh), tree, use)) == ({}, 1, False)
    assert asyncio.run(connected(address_of(openssh_without_shell), tree, use)) == ({}, 0, True)


def test_server_that_is_short_of_sessions_for_a_moment_is_asked_again(openssh, tree, monkeypatch):
    async def use(storage):
        first = await storage.digests_there([b"plain"])
        with monkeypatch.context() as patch:

            async def refused(connection, *arguments, **options):
                raise asyncssh.ChannelOpenError(1, "No more sessions")

            patch.setattr(asyncssh.SSHClientConnection, "run", refused)
            meanwhile = await storage.digests_there([b"plain"])
        return len(first), meanwhile, len(await storage.digests_there([b"plain"]))

    assert asyncio.run(connected(address_of(openssh), tree, use)) == (1, {}, 1)


def test_beginning_of_a_longer_file_is_not_taken_for_all_of_it(openssh_without_shell, tree):
    files = [Entry(b"plain", Kind.FILE, 5)]

    async def use(storage):
        parts = [one async for batch in read_digests(storage, files, is_whole=False) for one in batch]
        return await read_all(storage, files), parts

    found, parts = asyncio.run(connected(address_of(openssh_without_shell), tree, use))
    assert isinstance(found[b"plain"], SourceChanged)
    assert parts == [(0, hashlib.sha256(b"plain").digest())]


def test_command_that_leaves_before_it_is_given_the_names_is_no_broken_connection():
    async def use(storage):
        return await storage.digests_there([b"name"] * 500), storage.is_connected

    async def main():
        async with misbehaving() as address:
            return await connected(address, "/root", use)

    assert asyncio.run(main()) == ({}, True)


def test_connection_that_breaks_as_a_session_begins_is_lost(openssh, tree, monkeypatch):
    answered = asyncssh.SSHClientChannel._make_request

    async def answered_and_gone(channel, *arguments):
        result = await answered(channel, *arguments)
        channel.get_connection().abort()
        await asyncio.sleep(0.1)
        return result

    async def use(storage):
        monkeypatch.setattr(asyncssh.SSHClientChannel, "_make_request", answered_and_gone)
        with pytest.raises(ConnectionLost):
            await storage.beginning_digest_there(b"plain", 3)
        # Nor does another one begin.
        with pytest.raises(HungUp):
            await open_storage(address_of(openssh), b"/", guard=lambda: True).connect()

    asyncio.run(connected(address_of(openssh), tree, use))


def test_files_are_read_and_hashed_through_any_storage(openssh_without_shell, tree):
    local = Address("local", local_roots=("/",))
    for address in (local, address_of(openssh_without_shell)):
        assert asyncio.run(
            connected(address, tree, lambda storage: read_all(storage, entries(tree)))
        ) == truth(tree)


def test_file_that_cannot_be_read_fails_alone(openssh_without_shell, tree):
    files = [
        Entry(b"missing", Kind.FILE, 5),
        Entry(b"plain", Kind.FILE, 10**6),
        Entry(b"large", Kind.FILE, 3 * 2**20 + 7),
    ]
    found = asyncio.run(
        connected(address_of(openssh_without_shell), tree, lambda storage: read_all(storage, files))
    )
    assert isinstance(found[b"missing"], NotFound)
    assert isinstance(found[b"plain"], SourceChanged)
    assert found[b"large"] == truth(tree)[b"large"]


def test_only_lines_that_were_asked_for_are_believed():
    digest = "ab" * 32
    output = f"{digest} *./a\n{digest} *./b\nxx{digest[2:]} *./c\n{digest}  ./d\nbash: no\n".encode()
    assert parse_digests(output, {b"a", b"c", b"d"}) == {b"a": bytes.fromhex(digest)}
