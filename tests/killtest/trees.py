"""The tree that is moved again and again: small files, some large ones, links, odd modes and empty folders."""

import os
import random
from dataclasses import dataclass
from pathlib import Path

MIB = 2**20
LARGE_MIB = (32, 32, 32, 3, 3)
FOLDERS, FILES_EACH = 84, 60
LONG_AGO = 1_500_000_000


@dataclass(frozen=True, slots=True)
class Tree:
    """A tree and what is in it."""

    root: Path
    files: int
    entries: int
    """Files, folders and links below the root."""
    size_bytes: int


CLUTTER_EACH = 40


def add_clutter(copy: Path, root: Path) -> None:
    """Put what the tree at `root` does not have where its copy will be: in its folders and beside them."""
    for number, folder in enumerate([root, *root.rglob("folder *")]):
        inside = copy / folder.relative_to(root)
        gone = inside / f"gone {number}" / "deep"
        gone.mkdir(parents=True)
        for name in range(CLUTTER_EACH):
            (inside / f"old {name}").write_text("old")
            (gone / f"old {name}").write_text("old")
        (gone.parent / "link").symlink_to(inside)


def make_tree(root: Path) -> Tree:
    """Make it; the same each time."""
    draw = random.Random(1)
    folders: list[Path] = [root]
    for number in range(FOLDERS):
        # Some deep, some beside each other.
        folders.append(draw.choice(folders[-8:]) / f"folder {number:02}")
        folders[-1].mkdir(parents=True)
    files: list[Path] = []
    for folder in folders[1:]:
        for number in range(FILES_EACH):
            files.append(folder / f"file {number:02}.txt")
            files[-1].write_bytes(draw.randbytes(draw.randint(0, 8000)))
    for number, mib in enumerate(LARGE_MIB):
        files.append(folders[(number + 1) * 15] / f"large {number}.bin")
        with files[-1].open("wb") as large:
            for _ in range(mib):
                large.write(draw.randbytes(MIB))
    for number, path in enumerate(files):
        path.chmod((0o644, 0o600, 0o755, 0o444)[number % 4])
        os.utime(path, (LONG_AGO + number, LONG_AGO + number))
    links = [folder / "link" for folder in folders[1::4]]
    for link in links:
        link.symlink_to(draw.choice(("file 00.txt", "nowhere", "..")))
        os.utime(link, (LONG_AGO, LONG_AGO), follow_symlinks=False)
    empty = [folder / "empty" for folder in folders[1::8]]
    for folder in empty:
        folder.mkdir(mode=0o700)
    for number, folder in enumerate(reversed([*folders, *empty])):
        os.utime(folder, (LONG_AGO + number, LONG_AGO + number))
    entries = len(files) + len(links) + len(folders) - 1 + len(empty)
    return Tree(root, len(files), entries, sum(path.stat().st_size for path in files))
