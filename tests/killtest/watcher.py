"""Watches a tree that is being filled: what appears under its own name must be whole then, and stay as it is.

Linux' inotify (man 7 inotify), through ctypes. A folder can be watched only once it is there: what a file in it was in
the moment between is told by the server's own log (`written_under_final_names`), in which nothing is missing.
"""

import ctypes
import os
import re
import select
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

TEMPORARY = b".haulier-"
_MODIFY, _MOVED_TO, _CREATE, _DELETE = 0x2, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _IS_FOLDER = 0x4000, 0x8000, 0x40000000
_ONLY_FOLDERS = 0x01000000
_MASK = _MODIFY | _MOVED_TO | _CREATE | _DELETE | _ONLY_FOLDERS
_EVENT = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file or link was given its own name."""

    at: float
    """On time.monotonic."""
    path: bytes
    """Relative to the root."""


class TreeWatcher:
    """Watches `root`, whose parent must be there, while it is filled with what is in `source`."""

    def __init__(self, root: Path, source: Path) -> None:
        self.arrivals: list[Arrival] = []
        self.violations: list[str] = []
        self._root, self._source = os.fsencode(root), os.fsencode(source)
        self._folders: dict[int, bytes] = {}
        self._found: set[bytes] = set()
        """Seen when its folder's watch began; an event may follow that tells the same."""
        self._is_over = False
        self._descriptor = int(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK))
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        os.makedirs(self._root, exist_ok=True)
        self._add(b"")
        self._thread = threading.Thread(target=self._run, name="watcher")
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Read what is left, then stop; harmless when repeated."""
        if not self._is_over:
            self._is_over = True
            self._thread.join()
            os.close(self._descriptor)

    def _run(self) -> None:
        while True:
            # Read before the end is looked at: what happened before `close` is not missed.
            is_last = self._is_over
            ready, _, _ = select.select([self._descriptor], [], [], 0 if is_last else 0.1)
            if ready:
                data = os.read(self._descriptor, 2**20)
                for event in _events(data):
                    self._take(*event)
            elif is_last:
                return

    def _add(self, folder: bytes) -> None:
        path = os.path.join(self._root, folder)
        number = int(_libc.inotify_add_watch(self._descriptor, path, _MASK))
        if number < 0:
            self._tell(f"cannot be watched ({os.strerror(ctypes.get_errno())})", folder)
            return
        self._folders[number] = folder
        # What came before the watch did.
        for entry in os.scandir(path):
            inner = os.path.join(folder, entry.name)
            if entry.is_dir(follow_symlinks=False):
                self._add(inner)
            elif not entry.name.startswith(TEMPORARY) and self._is_of_source(inner):
                self._found.add(inner)
                self._arrive(inner)

    def _take(self, watch: int, mask: int, name: bytes) -> None:
        if mask & _OVERFLOW:
            self.violations.append("the watcher was too slow: nobody knows what it missed")
        if mask & (_OVERFLOW | _IGNORED) or name.startswith(TEMPORARY) or watch not in self._folders:
            return
        path = os.path.join(self._folders[watch], name)
        if mask & _IS_FOLDER:
            if mask & (_CREATE | _MOVED_TO):
                self._add(path)
        elif mask & _MOVED_TO:
            if path in self._found:
                self._found.discard(path)
            else:
                self._arrive(path)
        elif mask & _CREATE:
            self._tell("was made under its own name", path)
        elif mask & _MODIFY:
            self._tell("was written to under its own name", path)
        elif mask & _DELETE and self._is_of_source(path):
            self._tell("was removed under its own name", path)

    def _is_of_source(self, path: bytes) -> bool:
        """Not so of what is there alone, which may be deleted."""
        return os.path.lexists(os.path.join(self._source, path))

    def _arrive(self, path: bytes) -> None:
        self.arrivals.append(Arrival(time.monotonic(), path))
        copy, original = os.path.join(self._root, path), os.path.join(self._source, path)
        try:
            if os.path.islink(copy):
                is_whole = os.readlink(copy) == os.readlink(original)
            else:
                is_whole = _content(copy) == _content(original)
        except OSError as error:
            self._tell(f"appeared and could not be read ({error.strerror})", path)
            return
        if not is_whole:
            self._tell("appeared under its own name and was not whole", path)

    def _tell(self, what: str, path: bytes) -> None:
        self.violations.append(f"{os.fsdecode(path)} {what}")


def _content(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _events(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    at = 0
    while at < len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield watch, mask, data[at : at + length].rstrip(b"\0")
        at += length


def written_under_final_names(log: str) -> list[str]:
    """Of sftp-server's log: paths that were opened for writing, or linked, under another name than a temporary one."""
    opened = re.findall(r'^open "(.*)" flags [A-Z,]*(?:WRITE|CREATE|TRUNCATE|APPEND)', log, re.MULTILINE)
    linked = re.findall(r'^symlink old ".*" new "(.*)"', log, re.MULTILINE)
    linked += re.findall(r'^hardlink old ".*" new "(.*)"', log, re.MULTILINE)
    temporary = TEMPORARY.decode()
    return [path for path in (*opened, *linked) if not path.rpartition("/")[2].startswith(temporary)]


def bytes_written(log: str) -> dict[str, int]:
    """Of the same log: by final name, how many bytes were written until the file had it, in all attempts.

    What a killed server's process had taken it could not log any more.
    """
    found: dict[str, int] = {}
    for path, size in re.findall(
        r'^(?:forced )?close "(.*)" bytes read \d+ written (\d+)', log, re.MULTILINE
    ):
        found[path] = found.get(path, 0) + int(size)
    renamed = dict(re.findall(r'^(?:posix-)?rename old "(.*)" new "(.*)"', log, re.MULTILINE))
    return {final: found[temporary] for temporary, final in renamed.items() if temporary in found}
