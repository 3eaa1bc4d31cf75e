"""Which module serves which protocol."""

from migration_app.storages.base import Address, Guard, Storage
from migration_app.storages.local import LocalStorage
from migration_app.storages.sftp import SftpStorage

STORAGES: dict[str, type[Storage]] = {"local": LocalStorage, "sftp": SftpStorage}


def open_storage(address: Address, root: bytes, *, guard: Guard) -> Storage:
    """A storage that is not connected yet. Raises ValueError for an unknown protocol."""
    try:
        storage = STORAGES[address.protocol]
    except KeyError:
        raise ValueError(f"The protocol {address.protocol!r} is not known.") from None
    return storage(address, root, guard=guard)
