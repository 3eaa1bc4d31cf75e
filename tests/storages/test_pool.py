"""Connections that are kept for the next shard."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from migration_app.storages import pool as pool_module
from migration_app.storages.base import Address, HostKeyPolicy, Storage, ask
from migration_app.storages.errors import ConnectFailed, ConnectionLost
from migration_app.storages.pool import StoragePool
from tests.servers.openssh import OpenSshServer
from tests.storages.places import listing, open_reader, sftp_address


def held() -> bool:
    return True


def pinned(server: OpenSshServer) -> Address:
    return replace(sftp_address(server), host_keys=HostKeyPolicy(pinned=server.fingerprint))


def run(test: Callable[[StoragePool], Awaitable[None]]) -> None:
    async def main() -> None:
        pool = StoragePool()
        try:
            await test(pool)
        finally:
            await pool.close()

    asyncio.run(main())


async def until_closed(storage: Storage) -> None:
    async with asyncio.timeout(10):
        while storage.is_connected:  # noqa: ASYNC110 - a storage tells nobody
            await asyncio.sleep(0.005)


def test_released_connection_serves_the_next_with_its_own_root_and_guard(
    openssh: OpenSshServer, tmp_path: Path
) -> None:
    address = pinned(openssh)
    asked: list[str] = []

    def guard(name: str) -> bool:
        asked.append(name)
        return True

    async def test(pool: StoragePool) -> None:
        first = await pool.acquire(address, b"/", guard=partial(guard, "first"))
        pool.release(first, reuse=True)
        await asyncio.sleep(0)
        asked.clear()
        second = await pool.acquire(address, os.fsencode(tmp_path), guard=partial(guard, "second"))
        assert second is first
        await ask(partial(second.make_folder, b"new"))
        assert set(asked) == {"second"}
        pool.release(second, reuse=True)

    run(test)
    assert (tmp_path / "new").is_dir()


def test_connection_that_learned_the_host_key_serves_those_who_know_it(openssh: OpenSshServer) -> None:
    async def test(pool: StoragePool) -> None:
        first = await pool.acquire(sftp_address(openssh), b"/", guard=held)
        pool.release(first, reuse=True)
        assert await pool.acquire(pinned(openssh), b"/", guard=held) is first
        pool.release(first, reuse=True)
        second = await pool.acquire(sftp_address(openssh), b"/", guard=held)
        assert second is not first
        pool.release(second, reuse=False)

    run(test)


def test_two_at_once_get_two_connections(openssh: OpenSshServer) -> None:
    address = pinned(openssh)

    async def test(pool: StoragePool) -> None:
        first = await pool.acquire(address, b"/", guard=held)
        second = await pool.acquire(address, b"/", guard=held)
        assert first is not second
        pool.release(first, reuse=True)
        pool.release(second, reuse=True)
        again = {id(await pool.acquire(address, b"/", guard=held)) for _ in range(2)}
        assert again == {id(first), id(second)}
        await first.close()
        await second.close()

    run(test)


@pytest.mark.parametrize(
    "change",
    [
        {"username": "nobody"},
        {"password": "another"},
        {"passphrase": "another"},
        {"host": "localhost"},
        {"host_keys": HostKeyPolicy(is_strict=True)},
        {"host_keys": HostKeyPolicy(pinned="SHA256:x")},
        {"host_keys": HostKeyPolicy(demanded="SHA256:x")},
    ],
    ids=str,
)
def test_connection_never_serves_other_credentials_or_host_key_policies(
    openssh: OpenSshServer, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    address = pinned(openssh)
    opened: list[Address] = []

    def refuse(address: Address, root: bytes, *, guard: object) -> Storage:
        opened.append(address)
        raise ConnectFailed("A connection of its own is wanted.")

    async def test(pool: StoragePool) -> None:
        pool.release(await pool.acquire(address, b"/", guard=held), reuse=True)
        monkeypatch.setattr(pool_module, "open_storage", refuse)
        other = replace(address, **change)  # type: ignore[arg-type]
        with pytest.raises(ConnectFailed):
            await pool.acquire(other, b"/", guard=held)
        assert opened == [other]

    run(test)


def test_idle_connection_is_closed_after_a_while(
    openssh: OpenSshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "IDLE_S", 0.05)
    address = pinned(openssh)

    async def test(pool: StoragePool) -> None:
        first = await pool.acquire(address, b"/", guard=held)
        pool.release(first, reuse=True)
        await until_closed(first)
        second = await pool.acquire(address, b"/", guard=held)
        assert second is not first
        await listing(second)
        pool.release(second, reuse=False)

    run(test)


def test_connection_that_is_in_use_again_does_not_expire(
    openssh: OpenSshServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_module, "IDLE_S", 0.05)
    address = pinned(openssh)

    async def test(pool: StoragePool) -> None:
        storage = await pool.acquire(address, b"/", guard=held)
        pool.release(storage, reuse=True)
        assert await pool.acquire(address, b"/", guard=held) is storage
        await asyncio.sleep(0.15)
        await listing(storage)
        pool.release(storage, reuse=False)

    run(test)


def test_connection_that_is_not_to_be_reused_is_closed(openssh: OpenSshServer) -> None:
    address = pinned(openssh)

    async def test(pool: StoragePool) -> None:
        storage = await pool.acquire(address, b"/", guard=held)
        pool.release(storage, reuse=False)
        await until_closed(storage)

    run(test)


def test_broken_connection_is_not_given_out(openssh: OpenSshServer) -> None:
    address = pinned(openssh)

    async def test(pool: StoragePool) -> None:
        first = await pool.acquire(address, b"/", guard=held)
        pool.release(first, reuse=True)
        first.abort()
        second = await pool.acquire(address, b"/", guard=held)
        assert second is not first
        await listing(second)
        second.abort()
        pool.release(second, reuse=True)
        assert not second.is_connected

    run(test)


def test_what_was_asked_just_before_the_release_does_not_end_the_connection(
    openssh: OpenSshServer, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x")
    address = pinned(openssh)

    async def test(pool: StoragePool) -> None:
        storage = await pool.acquire(address, os.fsencode(tmp_path), guard=held)
        reader = await open_reader(storage, b"file")
        reader.close()
        pool.release(storage, reuse=True)
        await asyncio.sleep(0.05)
        assert storage.is_connected
        assert await pool.acquire(storage.address, b"/", guard=held) is storage
        pool.release(storage, reuse=False)

    run(test)


def test_local_storage_is_not_kept(tmp_path: Path) -> None:
    address = Address("local", local_roots=(str(tmp_path),))

    async def test(pool: StoragePool) -> None:
        storage = await pool.acquire(address, os.fsencode(tmp_path), guard=held)
        pool.release(storage, reuse=True)
        await until_closed(storage)

    run(test)


def test_pool_forgets_addresses_that_have_no_connection(openssh: OpenSshServer) -> None:
    address = pinned(openssh)

    async def test(pool: StoragePool) -> None:
        storage = await pool.acquire(address, b"/", guard=held)
        pool.release(storage, reuse=True)
        assert address in pool._idle
        await pool.acquire(address, b"/", guard=held)
        assert pool._idle == {}, "the address holds the password"
        await storage.close()

    run(test)


def test_closed_pool_closes_what_is_idle_and_keeps_nothing_more(openssh: OpenSshServer) -> None:
    address = pinned(openssh)

    async def test(pool: StoragePool) -> None:
        idle = await pool.acquire(address, b"/", guard=held)
        busy = await pool.acquire(address, b"/", guard=held)
        pool.release(idle, reuse=True)
        await pool.close()
        assert not idle.is_connected
        await listing(busy)
        pool.release(busy, reuse=True)
        await until_closed(busy)
        with pytest.raises(ConnectionLost):
            await listing(busy)

    run(test)


def test_unknown_protocol_is_a_value_error() -> None:
    async def test(pool: StoragePool) -> None:
        with pytest.raises(ValueError, match="'gopher' is not known"):
            await pool.acquire(Address("gopher"), b"/", guard=held)

    run(test)
