"""Processes that were stopped (SIGSTOP) inside a transaction: SQLite has one writer, so they shut all others out."""

from pathlib import Path

_WRITE_LOCK = 120
"""Offset of the write lock in the index of SQLite's write-ahead log (sqlite.org/walformat.html, section 2.3.1)."""


def is_blocking_all(pid: int, database: Path) -> bool:
    """Whether a process stands still and holds a SQLite database's write lock meanwhile."""
    return _is_stopped(pid) and _holds_write_lock(pid, database)


def _is_stopped(pid: int) -> bool:
    try:
        # The name in parentheses may hold anything.
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "T"


def _holds_write_lock(pid: int, database: Path) -> bool:
    # Read from the system's list: opening SQLite's file and closing it would drop locks of this process.
    try:
        inode = Path(f"{database}-shm").stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return False
    return any(_is_write_lock(line.split(), pid, inode) for line in lines)


def _is_write_lock(words: list[str], pid: int, inode: int) -> bool:
    """Of `7: POSIX  ADVISORY  WRITE 4711 fe:00:123456 120 120`; an arrow follows the number of who only waits."""
    if words[1] != "POSIX" or words[3:5] != ["WRITE", str(pid)] or words[5].rpartition(":")[2] != str(inode):
        return False
    first, last = int(words[6]), words[7]
    return first <= _WRITE_LOCK and (last == "EOF" or int(last) >= _WRITE_LOCK)
