"""What is measured: a tree, which way it goes, and how far away the server is."""

import os
from argparse import Namespace
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from tests.trees import has_wordpress, small_tree, wordpress_tree

MIB = 2**20
FAR_MS = 40
WAYS = ("up", "down", "relay", "local")


@dataclass(frozen=True)
class Cell:
    """One line of the table; `small/up/40` is the small files on their way to a server 40 ms away."""

    tree: str
    way: str
    rtt_ms: int

    @property
    def name(self) -> str:
        """How it is asked for."""
        return f"{self.tree}/{self.way}/{self.rtt_ms}"

    @property
    def folder(self) -> str:
        """The tree that is moved: over a long way it is a smaller one."""
        return f"{self.tree} far" if self.rtt_ms else self.tree


CELLS = [
    Cell(tree, way, rtt_ms)
    for tree in ("small", "large")
    for rtt_ms in (0, FAR_MS)
    for way in WAYS
    if not (rtt_ms and way == "local")
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
    elif options.quick:
        small_tree(tree)
    else:
        _small_files(tree, options.copies)
        if cell.rtt_ms:
            _thin_out(tree, options.far_files)
    _remove_empty_folders(tree)
    return tree


def census(root: Path) -> tuple[int, int]:
    """How many files a tree has, and bytes."""
    files = [path for path in root.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


def _large_files(tree: Path, mib: int) -> None:
    tree.mkdir(parents=True)
    for number in (1, 2):
        with (tree / f"large {number}").open("wb") as file:
            for _ in range(mib):
                file.write(os.urandom(MIB))


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
    kept = {files[number * len(files) // count] for number in range(count)}
    for path in files:
        if path not in kept:
            path.unlink()


def _remove_empty_folders(tree: Path) -> None:
    """rclone leaves them out unless asked: no reason to call its copy a failed one."""
    for folder in sorted((path for path in tree.rglob("*") if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()
