"""Small files on their way from a server in bundles that tar packs there."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from migration_app.storages.base import Answer, BundledReaders, Path, Reader
from migration_app.storages.errors import OperationFailed, SourceChanged, StorageError
from migration_app.storages.sftp.archive import BLOCK, MalformedArchive, read_header
from migration_app.storages.sftp.bundles import BUNDLE_FILES, TarBundles
from migration_app.storages.sftp.shell_channel import ShellChannel
from migration_app.storages.sftp.tar_programs import PACK

MOST_STORED = 2 * 2**20
"""Bytes of files that came before somebody asked for them."""
MOST_SKIPPED = 8 * 2**20
"""Of a file that is not what was listed: for a larger one the rest of its bundle is not waited for."""


class TarReaders(TarBundles, BundledReaders):
    """Files that are asked for are packed by the server, and looked at again when they have come."""

    def __init__(
        self,
        *arguments: Any,
        open_reader: Callable[[Path, Answer[Reader]], None],
        measure: Callable[[Path, Answer[tuple[int, int]]], None],
    ) -> None:
        self.open_alone = open_reader
        self.measure = measure
        self._asked: list[_TarReader] = []
        """Those that are in no bundle yet."""
        self._streams: dict[ShellChannel, _Stream] = {}
        self._stored = 0
        super().__init__(*arguments)

    def open_reader(self, path: Path, size: int, answer: Answer[Reader]) -> None:
        """See BundledReaders."""
        reader = _TarReader(self, path, size)
        self._asked.append(reader)
        if len(self._asked) >= BUNDLE_FILES:
            self._go_on()
        self._wait_for_more()
        answer(reader)

    def store(self, size: int) -> None:
        """So many bytes came before they were asked for, or were asked for (less than 0)."""
        self._stored += size
        is_full = self._stored >= MOST_STORED
        for channel in self._streams:
            if is_full:
                channel.pause_reading()
            elif self._stored < MOST_STORED // 2:
                # Not in the middle of what somebody else does: what was held back comes at once.
                self._loop.call_soon(channel.resume_reading)

    def _new_channel(self) -> ShellChannel:
        stream = _Stream(lambda: channel.abort())  # noqa: PLW0108 - it is made in the next line
        channel = ShellChannel(self._guard, PACK, changed=lambda: self._changed(channel), came=stream.take)
        self._streams[channel] = stream
        return channel

    def _go_on(self, *, is_all: bool = False) -> None:
        while self._asked and (is_all or len(self._asked) >= BUNDLE_FILES):
            if not self.is_ready:
                asked, self._asked = self._asked, []
                for reader in asked:
                    reader.go_alone()
                return
            if (channel := self._take_spare()) is None:
                # It goes on when the next one is ready.
                return
            bundle, self._asked = self._asked[:BUNDLE_FILES], self._asked[BUNDLE_FILES:]
            names = self._streams[channel].expect(bundle)
            channel.send(b"".join(b"./" + name + b"\0" for name in names))
            channel.end()

    def _is_quiet(self) -> None:
        self._go_on(is_all=True)
        if self._asked:
            self._wait_for_more()

    def _ended(self, channel: ShellChannel) -> None:
        stream = self._streams.pop(channel)
        if stream.is_useless:
            self._give_up(channel)
        # Tar leaves out what it cannot read; why, is known when it is asked for alone.
        for reader in stream.left():
            reader.go_alone()


class _TarReader(Reader):
    """A small file that comes in a bundle, or alone where that did not bring it."""

    __slots__ = (
        "_alone",
        "_bundles",
        "_found",
        "_is_closed",
        "_is_stored",
        "_measures",
        "_reads",
        "path",
        "size",
    )

    def __init__(self, bundles: TarReaders, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._bundles = bundles
        self._found: bytes | StorageError | None = None
        self._alone: Reader | None = None
        self._reads: list[tuple[int, int, Answer[bytes]]] = []
        self._measures: list[Answer[tuple[int, int]]] = []
        self._is_closed = False
        self._is_stored = False

    def came(self, found: bytes | StorageError) -> None:
        """What was in the bundle, or why nothing is going to come."""
        if self._is_closed:
            return
        self._found = found
        if isinstance(found, bytes) and not self._reads and self.size:
            self._is_stored = True
            self._bundles.store(self.size)
        self._answer()

    def go_alone(self) -> None:
        """It was in no bundle."""
        if not self._is_closed:
            self._bundles.open_alone(self.path, self._opened)

    def _opened(self, reader: Reader | StorageError) -> None:
        if isinstance(reader, StorageError):
            self.came(reader)
        elif self._is_closed:
            reader.close()
        else:
            self._alone = reader
            self._answer()

    def _answer(self) -> None:
        reads, self._reads = self._reads, []
        measures, self._measures = self._measures, []
        for offset, size, answer in reads:
            self.read(offset, size, answer)
        for measured in measures:
            self.measure(measured)

    def read(self, offset: int, size: int, answer: Answer[bytes]) -> None:
        """See Reader."""
        if self._is_closed:
            answer(OperationFailed("The file is closed."))
        elif self._alone is not None:
            self._alone.read(offset, size, answer)
        elif isinstance(self._found, bytes):
            self._unstore()
            answer(self._found[offset : offset + size])
        elif self._found is not None:
            answer(self._found)
        else:
            self._reads.append((offset, size, answer))

    def measure(self, answer: Answer[tuple[int, int]]) -> None:
        """See Reader: it is looked at after it was packed."""
        if self._is_closed:
            answer(OperationFailed("The file is closed."))
        elif self._alone is not None:
            self._alone.measure(answer)
        elif isinstance(self._found, bytes):
            self._bundles.measure(self.path, answer)
        elif self._found is not None:
            answer(self._found)
        else:
            self._measures.append(answer)

    def _unstore(self) -> None:
        if self._is_stored:
            self._is_stored = False
            self._bundles.store(-self.size)

    def close(self) -> None:
        """See Reader."""
        if self._is_closed:
            return
        self._is_closed = True
        self._unstore()
        if self._alone is not None:
            self._alone.close()
        # Not at once: who closes does not expect an answer in the middle of it.
        asyncio.get_running_loop().call_soon(self._answer)


class _Stream:
    """Takes an archive apart as it comes."""

    def __init__(self, abort: Callable[[], None]) -> None:
        self._abort = abort
        self._readers: dict[bytes, _TarReader] = {}
        self._doubles: list[_TarReader] = []
        self._buffer = bytearray()
        self._skipped = 0
        """Bytes of what comes next that nobody wants."""
        self._name = b""
        """Of the next entry, where it is too long for its header."""
        self._has_given = False

    @property
    def is_useless(self) -> bool:
        """Whether nothing has come of it."""
        return bool(self._readers) and not self._has_given

    def expect(self, readers: Sequence[_TarReader]) -> list[bytes]:
        """What is to come; gives its names."""
        for reader in readers:
            # Through links two of them may be one file.
            if self._readers.setdefault(reader.path, reader) is not reader:
                self._doubles.append(reader)
        return list(self._readers)

    def left(self) -> list[_TarReader]:
        """What has not come."""
        return [*self._readers.values(), *self._doubles]

    def take(self, data: bytes) -> None:
        """Bytes of the archive."""
        buffer = self._buffer
        buffer += data
        start = 0
        try:
            while (length := self._take_entry(start)) is not None:
                start += length
        except MalformedArchive:
            start = len(buffer)
            self._abort()
        del buffer[:start]

    def _take_entry(self, start: int) -> int | None:
        """Take what begins there; how long that was, None when not enough of it has come yet."""
        have = len(self._buffer) - start
        if self._skipped:
            length = min(self._skipped, have)
            self._skipped -= length
            return length or None
        if have < BLOCK:
            return None
        header = read_header(bytes(self._buffer[start : start + BLOCK]))
        if header is None:
            return BLOCK
        if header.size > MOST_SKIPPED:
            raise MalformedArchive
        begin, end = start + BLOCK, start + BLOCK + header.size
        length = BLOCK + header.following
        if header.is_long_name:
            if have < length:
                return None
            self._name = bytes(self._buffer[begin:end]).rstrip(b"\0")
            return length
        reader = self._readers.get((self._name or header.name).removeprefix(b"./"))
        is_right = reader is not None and header.is_file and header.size == reader.size
        if is_right and have < length:
            return None
        self._name = b""
        if reader is not None:
            del self._readers[reader.path]
            self._has_given = True
            if is_right:
                reader.came(bytes(self._buffer[begin:end]))
                return length
            reader.came(SourceChanged("It changed after it was listed."))
        self._skipped = length - BLOCK
        return BLOCK
