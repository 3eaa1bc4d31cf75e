"""Where the bytes of a tree are: by size of file, and by the folders that hold most. Pure."""

from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field

from sessions_app.runners import Json

BOUNDS = (0, 2**10, 10 * 2**10, 100 * 2**10, 2**20, 10 * 2**20, 100 * 2**20, 2**30)
"""The largest size of each class; the last class has no end."""
DEPTH = 3
MOST_FOLDERS = 10
_DOMINANT = 0.3
"""A folder with more of all bytes than this is shown by what it holds."""


@dataclass(slots=True)
class Space:
    """Files and bytes by class of size, and by folder down to DEPTH."""

    class_files: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    class_bytes: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS) + 1))
    folder_files: Counter[str] = field(default_factory=Counter)
    folder_bytes: Counter[str] = field(default_factory=Counter)

    def add(self, path: str, size: int) -> None:
        """Count a file in."""
        place = bisect_left(BOUNDS, size)
        self.class_files[place] += 1
        self.class_bytes[place] += size
        parts = path.split("/", DEPTH + 1)[:-1][:DEPTH]
        for depth in range(len(parts) + 1):
            folder = "/".join(parts[:depth])
            self.folder_files[folder] += 1
            self.folder_bytes[folder] += size

    def classes(self) -> list[Json]:
        """The classes of size from the first to the last that has files; `up_to` is None for the one without end."""
        rows = [
            {"up_to": bound, "files": files, "size": size}
            for bound, files, size in zip((*BOUNDS, None), self.class_files, self.class_bytes, strict=True)
        ]
        held = [number for number, row in enumerate(rows) if row["files"]]
        return rows[held[0] : held[-1] + 1] if held else []

    def folders(self) -> list[Json]:
        """What holds the bytes, largest first; together these are all files. `is_own`: without the folders in it;
        `more`: how many folders a last row sums up."""
        below = defaultdict(list)
        for folder in self.folder_bytes:
            if folder:
                below[folder.rpartition("/")[0]].append(folder)
        shown = self._opened("", below)
        while True:
            whole = [row for row in shown if not row["is_own"] and below[row["path"]]]
            biggest = max(whole, key=lambda row: row["size"], default=None)
            if biggest is None or biggest["size"] <= _DOMINANT * self.folder_bytes[""]:
                break
            inner = self._opened(biggest["path"], below)
            if len(shown) + len(inner) - 1 > MOST_FOLDERS and len(shown) > 1:
                break
            shown.remove(biggest)
            shown += inner
        shown.sort(key=lambda row: (-row["size"], -row["files"], row["path"]))
        rest = shown[MOST_FOLDERS:]
        if len(rest) < 2:
            return shown
        total = {name: sum(row[name] for row in rest) for name in ("files", "size")}
        return [*shown[:MOST_FOLDERS], {"path": "", "is_own": False, "more": len(rest), **total}]

    def _opened(self, folder: str, below: dict[str, list[str]]) -> list[Json]:
        """The folders in a folder, and the files that are in none of them."""
        found: list[Json] = [
            {
                "path": one,
                "is_own": False,
                "files": self.folder_files[one],
                "size": self.folder_bytes[one],
            }
            for one in below[folder]
        ]
        files = self.folder_files[folder] - sum(row["files"] for row in found)
        size = self.folder_bytes[folder] - sum(row["size"] for row in found)
        return [*found, {"path": folder, "is_own": True, "files": files, "size": size}] if files else found
