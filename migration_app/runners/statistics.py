"""What a scan found, summed up from the manifest."""

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from uuid import UUID

from migration_app import manifest
from migration_app.cms import systems
from migration_app.cms.base import System
from migration_app.cms.exclusions import Suggestions
from migration_app.models import EntryKind, EntryState
from migration_app.paths import path_bytes, text_shown
from migration_app.runners.space import Space
from migration_app.sizes import size_text
from sessions_app.models import Shard
from sessions_app.runners import Json, ShardContext, sum_counters

LARGEST = 20
MOST_TYPES = 200
MOST_KNOWN_TYPES = 10_000
"""A cache may give each file an extension of its own: what comes after so many is counted together."""
MOST_UNREADABLE = 1000
LONGEST_TYPE = 16


@dataclass(slots=True)
class Statistics:
    """Sums over a tree; sizes in bytes."""

    files: int = 0
    folders: int = 0
    links: int = 0
    size: int = 0
    depth: int = 0
    excluded: int = 0
    excluded_size: int = 0
    by_type: Counter[str] = field(default_factory=Counter)
    by_type_size: Counter[str] = field(default_factory=Counter)
    largest: list[tuple[int, str]] = field(default_factory=list)
    marks: set[bytes] = field(default_factory=set)
    """Paths by which a content management system is recognised."""
    space: Space = field(default_factory=Space)

    def add(self, path: str, kind: str, size: int) -> None:
        """Count one entry in."""
        if kind == EntryKind.FOLDER:
            self.folders += 1
            self.depth = max(self.depth, path.count("/") + 1)
        elif kind == EntryKind.LINK:
            self.links += 1
        elif kind == EntryKind.FILE:
            path = text_shown(path)
            self.files += 1
            self.size += size
            extension = type_of(path)
            if extension not in self.by_type and len(self.by_type) >= MOST_KNOWN_TYPES:
                extension = "other"
            self.by_type[extension] += 1
            self.by_type_size[extension] += size
            self.space.add(path, size)
            if len(self.largest) < LARGEST:
                heapq.heappush(self.largest, (size, path))
            elif (size, path) > self.largest[0]:
                heapq.heapreplace(self.largest, (size, path))

    def as_json(self) -> Json:
        """The `statistics` of the HTTP contract."""
        types = [name for name, _ in self.by_type.most_common(MOST_TYPES)]
        return {
            "total_files": self.files,
            "total_dirs": self.folders,
            "total_size": self.size,
            "total_size_human": size_text(self.size),
            "largest_files": [
                {"path": path, "size": size} for size, path in sorted(self.largest, reverse=True)
            ],
            "files_by_type": {name: self.by_type[name] for name in types},
            "files_by_type_size": {name: self.by_type_size[name] for name in types},
            "files_by_size": self.space.classes(),
            "folders": self.space.folders(),
            "directory_depth": self.depth,
            "symlinks_count": self.links,
            "excluded_count": self.excluded,
            "excluded_size": self.excluded_size,
        }


def type_of(path: str) -> str:
    """A file's extension in lower case; `none` without one or with one that is too long to be one.

    >>> [type_of(path) for path in ("a/b.PHP", ".htaccess", "README", "x.tar.gz")]
    ['php', 'none', 'none', 'gz']
    """
    name = path.rpartition("/")[2]
    stem, dot, extension = name.rpartition(".")
    return extension.lower() if dot and stem and 0 < len(extension) <= LONGEST_TYPE else "none"


def read_statistics(context: ShardContext) -> Statistics:
    """Read the whole manifest once."""
    found = Statistics()
    for rows in _chunks(context):
        for path, kind, size in rows:
            found.add(path, kind, size)
            if systems.is_mark(path) and len(found.marks) < systems.MOST_MARKS:
                found.marks.add(path_bytes(path))
    counters = sum_counters(
        list(Shard.objects.filter(job_id=context.job_id).values_list("counters", flat=True))
    )
    found.excluded = counters.get("excluded", 0)
    found.excluded_size = counters.get("excluded_bytes", 0)
    return found


def read_suggestions(context: ShardContext, site: tuple[System, bytes] | None) -> list[Json]:
    """What could be left out, as exclusions that do not hold yet. Reads the manifest once more, as it takes
    all of it to know what kind of site it is."""
    suggestions = Suggestions(site)
    for rows in _chunks(context):
        for path, kind, size in rows:
            if kind == EntryKind.FILE:
                suggestions.add(path, size)
    return [
        {
            "pattern": found.pattern,
            "type": "glob",
            "reason": f"{found.reason}: {found.files:,} {'file' if found.files == 1 else 'files'},"
            f" {size_text(found.size_bytes)}.",
            "is_automatic": True,
            "enabled": False,
        }
        for found in suggestions.found()
    ]


def _chunks(context: ShardContext) -> Iterator[Iterable[tuple[str, str, int]]]:
    """Path, kind and size of all rows, in chunks, renewing the lease in between."""
    for numbers in manifest.ranges(context.job_id):
        yield manifest.rows_of(context.job_id, numbers).values_list("path", "kind", "size")
        context.checkpoint()


def unreadable(job_id: UUID) -> list[Json]:
    """Entries that could not be listed, and why."""
    rows = manifest.rows_of(job_id).filter(state=EntryState.FAILED).order_by("number")
    return [
        {"path": text_shown(path), "error": error}
        for path, error in rows.values_list("path", "error")[:MOST_UNREADABLE]
    ]
