"""Making symbolic links, whichever of its two names a server takes first.

The draft has the link first (6.10), OpenSSH the target (its PROTOCOL, 4.1); most servers follow OpenSSH, and some the
draft, or whom they take the client for. A server that has them the other way round would make links wherever the
targets lead to. So one that is not OpenSSH is shown two names that are ours before its first link.
"""

from collections.abc import Callable
from dataclasses import dataclass

from migration_app.storages.errors import ConnectionLost, OperationFailed, StorageError
from migration_app.storages.sftp import packets
from migration_app.storages.sftp.wire import SftpWire

LSETSTAT = b"lsetstat@openssh.com"
Answered = Callable[[StorageError | None], None]


@dataclass(frozen=True, slots=True)
class NewLink:
    """A symbolic link to be made."""

    target: bytes
    mtime: int

    def make(self, wire: SftpWire, path: bytes, answered: Answered) -> None:
        """Make it."""
        if wire.takes_target_first is None:
            _Trial(
                wire, path, lambda error: answered(error) if error else self._make(wire, path, answered)
            ).start()
        else:
            self._make(wire, path, answered)

    def _make(self, wire: SftpWire, path: bytes, answered: Answered) -> None:
        def done(error: StorageError | None) -> None:
            if error is not None or LSETSTAT not in wire.extensions:
                answered(error)
                return
            body = packets.text(LSETSTAT) + packets.text(path) + packets.attributes(mtime=self.mtime)
            # A link whose time could not be set is still the link.
            wire.command(packets.EXTENDED, body, lambda _: answered(None) if waits else None)
            if not waits:
                answered(None)

        # Where a link stays where it is made, nobody asks for anything that comes after its time.
        waits = wire.may_follow_links
        names = [packets.text(self.target), packets.text(path)]
        wire.command(packets.SYMLINK, b"".join(names if wire.takes_target_first else reversed(names)), done)


class _Trial:
    """A link with `path` and a name beside it, and a look at which of them it has. It goes before the answer."""

    def __init__(self, wire: SftpWire, path: bytes, answered: Answered) -> None:
        self._wire = wire
        self._names = (packets.text(path + b"-"), packets.text(path))
        self._answered = answered
        self._unanswered = len(self._names)
        self._lost: ConnectionLost | None = None

    def start(self) -> None:
        """Make the link."""
        self._wire.command(packets.SYMLINK, b"".join(self._names), self._made)

    def _made(self, error: StorageError | None) -> None:
        if error is not None:
            self._answered(error)
            return
        for name in self._names:
            self._ask(name, is_target_first=name == self._names[1])

    def _ask(self, name: bytes, *, is_target_first: bool) -> None:
        def told(kind: int, data: bytes, error: StorageError | None) -> None:
            if isinstance(error, ConnectionLost):
                self._lost = error
            if kind == packets.NAME:
                self._wire.takes_target_first = is_target_first
                self._wire.command(packets.REMOVE, name, self._removed)
            else:
                self._removed(None)

        self._wire.request(packets.READLINK, name, told)

    def _removed(self, error: StorageError | None) -> None:
        if isinstance(error, ConnectionLost):
            self._lost = error
        self._unanswered -= 1
        if self._unanswered:
            return
        is_known = self._wire.takes_target_first is not None
        self._answered(self._lost or (None if is_known else OperationFailed("The server made no link.")))
