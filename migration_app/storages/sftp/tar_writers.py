"""Small files on their way to a server in bundles that tar unpacks there."""

import asyncio
from collections import deque
from typing import Any

from migration_app.storages.base import Answer, BundledWriters, Path, Writer
from migration_app.storages.errors import OperationFailed, StorageError
from migration_app.storages.sftp.archive import END, file_header, padding
from migration_app.storages.sftp.bundles import BUNDLE_FILES, TarBundles
from migration_app.storages.sftp.packets import LATEST_MTIME
from migration_app.storages.sftp.shell_channel import ShellChannel
from migration_app.storages.sftp.tar_programs import UNPACK

BUNDLE_BYTES = 4 * 2**20
_FAILED = "The server could not take a bundle of files."


class TarWriters(TarBundles, BundledWriters):
    """Files of which tar has said that all went well are there; all others of its bundle may be, or parts of them."""

    def __init__(self, *arguments: Any) -> None:
        self._finished: deque[_TarWriter] = deque()
        """Those that are to leave."""
        self._bundles: dict[ShellChannel, list[_TarWriter]] = {}
        self._filling: ShellChannel | None = None
        self._size = 0
        super().__init__(*arguments)

    def open_writer(self, path: Path, answer: Answer[Writer]) -> None:
        """See BundledWriters."""
        answer(_TarWriter(self, path))

    def finished(self, writer: "_TarWriter") -> None:
        """A file can leave."""
        self._finished.append(writer)
        self._go_on()

    def hurry(self) -> None:
        """Somebody does not want to wait for more."""
        self._is_quiet()

    def _new_channel(self) -> ShellChannel:
        channel = ShellChannel(self._guard, UNPACK, changed=lambda: self._changed(channel))
        return channel

    def _go_on(self) -> None:
        while self._finished:
            if (error := self._loss()) is not None or not self.is_ready:
                self._finished.popleft().end(error or OperationFailed(_FAILED))
                continue
            if self._filling is None:
                self._filling = self._take_spare()
            channel = self._filling
            if channel is None or not channel.has_room:
                return
            writer = self._finished.popleft()
            bundle = self._bundles.setdefault(channel, [])
            bundle.append(writer)
            self._size += writer.leave(channel)
            if len(bundle) >= BUNDLE_FILES or self._size >= BUNDLE_BYTES:
                self._seal()
        if self._filling is not None:
            self._wait_for_more()

    def _is_quiet(self) -> None:
        # What waits for room goes on when there is some, and then there is another moment of quiet.
        if not self._finished:
            self._seal()

    def _seal(self) -> None:
        if self._filling is not None:
            self._filling.send(END)
            self._filling.end()
        self._filling, self._size = None, 0

    def _ended(self, channel: ShellChannel) -> None:
        if channel not in self._bundles:
            return
        is_sealed = channel is not self._filling
        if not is_sealed:
            self._filling, self._size = None, 0
        error: StorageError | None = self._loss()
        if error is None and not (channel.has_succeeded and is_sealed):
            self._give_up(channel)
            error = OperationFailed(_FAILED)
        for writer in self._bundles.pop(channel, ()):
            writer.end(error)


class _TarWriter(Writer):
    """A small file that is kept until it is whole, as its header tells its size."""

    __slots__ = ("_bundles", "_finish", "_header", "_path", "_pieces", "_size")

    def __init__(self, bundles: TarWriters, path: Path) -> None:
        self._bundles: TarWriters | None = bundles
        self._path = path
        self._pieces: list[tuple[int, bytes, Answer[None]]] = []
        self._finish: Answer[None] | None = None
        self._header = b""
        self._size = 0

    def write(self, offset: int, data: bytes, answer: Answer[None]) -> None:
        """See Writer: answered when it leaves."""
        if self._bundles is None or self._finish is not None:
            answer(OperationFailed("The file is closed."))
        else:
            self._pieces.append((offset, data, answer))

    def finish(self, *, mode: int, mtime: int, size: int, answer: Answer[None]) -> None:
        """See Writer."""
        if self._bundles is None or self._finish is not None:
            answer(OperationFailed("The file is closed."))
            return
        self._header = file_header(
            b"./" + self._path,
            size=size,
            mode=mode & 0o777,
            # As SFTP would have it, so that it does not matter which way a file took.
            mtime=min(max(mtime, 0), LATEST_MTIME),
        )
        self._finish, self._size = answer, size
        self._bundles.finished(self)

    def leave(self, channel: ShellChannel) -> int:
        """Go into a bundle; gives how many bytes that were."""
        pieces, self._pieces = self._pieces, []
        pieces.sort(key=lambda piece: piece[0])
        channel.send(self._header, *(data for _, data, _ in pieces), bytes(padding(self._size)))
        for _, _, answer in pieces:
            answer(None)
        return len(self._header) + self._size

    def end(self, error: StorageError | None) -> None:
        """Its bundle is there, or not."""
        pieces, self._pieces = self._pieces, []
        for _, _, answer in pieces:
            answer(error)
        finish, self._finish = self._finish, None
        self._bundles = None
        if finish is not None:
            finish(error)

    def close(self) -> None:
        """See Writer: what has left is answered with its bundle, which is not waited for any longer."""
        bundles, self._bundles = self._bundles, None
        if bundles is None:
            return
        if self._finish is not None:
            bundles.hurry()
            return
        pieces, self._pieces = self._pieces, []
        for _, _, answer in pieces:
            asyncio.get_running_loop().call_soon(answer, OperationFailed("The file is closed."))
