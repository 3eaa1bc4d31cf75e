"""What is measured: which way it goes, a tree, and how far away the server is."""

import os
from argparse import Namespace
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.trees import has_wordpress, small_tree, wordpress_tree

MIB = 2**20
FAR_MS = 40
SCANS = ("scan", "localscan")
_PER_FOLDER = 100
_QUICK_FILES = {"many": 300, "most": 600}


@dataclass(frozen=True)
class Cell:
    """One line of the table; `up-small-40ms` is the small files on their way to a server 40 ms away."""

    way: str
    tree: str
    rtt_ms: int

    @property
    def name(self) -> str:
        """How it is asked for."""
        return f"{self.way}-{self.tree}-{self.rtt_ms}ms"

    @property
    def folder(self) -> str:
        """The tree that is moved: over a long way it is mostly a smaller one."""
        if self.is_again:
            return "small"
        return f"{self.tree} far" if self.rtt_ms else self.tree

    @property
    def is_scan(self) -> bool:
        """Whether a tree is only listed."""
        return self.way in SCANS

    @property
    def is_again(self) -> bool:
        """Whether the copy is there already."""
        return self.tree in ("again", "sums")

    @property
    def is_by_content(self) -> bool:
        """Whether what both sides hold is compared, whatever their times."""
        return self.tree == "sums"


CELLS = [
    *(Cell(way, "small", 0) for way in ("up", "down", "relay", "local")),
    *(Cell(way, "small", FAR_MS) for way in ("up", "down", "relay")),
    *(
        Cell(way, tree, rtt_ms)
        for tree in ("again", "sums")
        for rtt_ms in (0, FAR_MS)
        for way in ("up", "down")
    ),
    *(Cell(way, "large", 0) for way in ("up", "down", "relay", "local")),
    *(Cell(way, "large", FAR_MS) for way in ("up", "down", "relay")),
    *(Cell(way, tree, 0) for way in (*SCANS, "up") for tree in ("many", "most")),
]


def find_cells(patterns: list[str]) -> list[Cell]:
    """Those that one of the patterns means, all where there is none. Raises ValueError for one that means nothing."""
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in CELLS):
            raise ValueError(
                f"There is no cell {pattern}; they are {', '.join(cell.name for cell in CELLS)}."
            )
    wanted = patterns or ["*"]
    return [cell for cell in CELLS if any(fnmatchcase(cell.name, pattern) for pattern in wanted)]


def make_tree(root: Path, cell: Cell, options: Namespace) -> Path:
    """The tree of a cell; made once, for all cells that move it."""
    tree = root / cell.folder
    if tree.exists():
        return tree
    if cell.tree == "large":
        _large_files(tree, options.far_large_mib if cell.rtt_ms else options.large_mib)
    elif cell.tree in _QUICK_FILES:
        counts = _QUICK_FILES if options.quick else {"many": options.many_files, "most": options.most_files}
        _tiny_files(tree, counts[cell.tree])
    elif options.quick:
        small_tree(tree)
    elif cell.folder == "small":
        _small_files(tree, options.copies)
    else:
        _small_files(tree, 1)
        _thin_out(tree, options.far_files)
    _remove_empty_folders(tree)
    return tree


def census(root: Path) -> tuple[int, int]:
    """How many files a tree has, and bytes."""
    count = size = 0
    for folder, _, names in os.walk(root):
        count += len(names)
        size += sum(os.stat(f"{folder}/{name}").st_size for name in names)
    return count, size


def _large_files(tree: Path, mib: int) -> None:
    tree.mkdir(parents=True)
    for number in (1, 2):
        with (tree / f"large {number}").open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))


def _tiny_files(tree: Path, count: int) -> None:
    """A hundred to a folder, a hundred such folders to a folder, as a NAS may have them."""
    for first in range(0, count, _PER_FOLDER):
        folder = tree / f"{first // _PER_FOLDER**2:03}" / f"{first // _PER_FOLDER % _PER_FOLDER:02}"
        folder.mkdir(parents=True)
        for number in range(first, min(first + _PER_FOLDER, count)):
            (folder / f"{number}.txt").write_bytes(b"%063d\n" % number)


def _small_files(tree: Path, copies: int) -> None:
    tree.mkdir(parents=True)
    for number in range(1, copies + 1):
        site = tree / f"site {number}"
        if has_wordpress():
            wordpress_tree(site)
        else:
            # script/test-data has said so.
            small_tree(site, folders=50, files=50, size_bytes=8000)


def _thin_out(tree: Path, count: int) -> None:
    """Keep `count` files, evenly chosen, so that kinds, sizes and folders stay those of a whole site."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    if len(files) <= count:
        return
    kept = {files[number * len(files) // count] for number in range(count)}
    for path in files:
        if path not in kept:
            path.unlink()


def _remove_empty_folders(tree: Path) -> None:
    """rclone leaves them out unless asked: no reason to call its copy a failed one."""
    for folder, _, _ in os.walk(tree, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)
