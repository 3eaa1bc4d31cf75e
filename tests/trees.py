"""Trees of files to move: a real WordPress, and made ones."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
_UNPACKED = ROOT / ".cache" / "wordpress"
_MOST_LINKS = 40


def has_wordpress() -> bool:
    """Whether script/test-data has fetched it."""
    return (_UNPACKED / "usr/share/wordpress").is_dir()


def wordpress_tree(destination: Path) -> Path:
    """Make a real WordPress of about 2,500 files at `destination`, which must not exist.

    Debian's package is partly links to other packages; the tree made here has the files themselves.
    """
    if not has_wordpress():
        pytest.skip("There is no WordPress in .cache: script/test-data fetches it where apt-get is.")
    _copy_folder(_UNPACKED / "usr/share/wordpress", destination)
    return destination


def lived_in_site(root: Path) -> Path:
    """Make a real site with what sites also have: hidden files, empty folders, links, odd modes, an error log."""
    wordpress_tree(root)
    (root / ".htaccess").write_text("RewriteEngine On\n")
    (root / "wp-config.php").write_text(
        "<?php\ndefine( 'DB_NAME', 'shop' );\ndefine( 'DB_USER', 'web' );\n"
        "define( 'DB_PASSWORD', 'hunter2' );\ndefine( 'DB_HOST', 'localhost' );\n$table_prefix = 'wp7_';\n"
    )
    (root / "wp-config.php").chmod(0o640)
    (root / "wp-content/uploads/2026/11").mkdir(parents=True)
    (root / "wp-content/cache").mkdir(mode=0o700)
    (root / "current").symlink_to("wp-content/themes")
    (root / "dangling").symlink_to("/nowhere/at/all")
    (root / "wp-content/empty.txt").touch()
    return root


def small_tree(destination: Path, *, folders: int = 3, files: int = 5, size_bytes: int = 1000) -> Path:
    """Make `folders` folders of `files` files each, every content its own."""
    for folder in range(folders):
        parent = destination / f"folder {folder}"
        parent.mkdir(parents=True)
        for file in range(files):
            content = f"{folder}/{file} ".encode()
            (parent / f"file {file}.txt").write_bytes((content * size_bytes)[:size_bytes])
    return destination


def digest(root: Path) -> dict[str, bytes | str | None]:
    """What a tree holds, to compare two: path → content, target of a link, or None for a folder."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = None if path.is_dir() else path.read_bytes()
    return found


def differences(source: Path, destination: Path) -> str:
    """What rsync would have to do to make them equal, by content, mode, mtime and links, of folders too."""
    command = ["rsync", "-rlptniH", "--checksum", "--delete", f"{source}/", f"{destination}/"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _copy_folder(source: Path, destination: Path) -> None:
    destination.mkdir(parents=True)
    for entry in os.scandir(source):
        found = _followed(Path(entry.path))
        target = destination / entry.name
        if found is None:
            # Made on installation, from what no package holds, such as /etc/ssl/certs.
            target.write_text(f"A file in place of {entry.name}.\n")
        elif found.is_dir():
            _copy_folder(found, target)
        else:
            shutil.copy2(found, target)
    shutil.copystat(source, destination)


def _followed(path: Path) -> Path | None:
    """Where a link leads when the unpacked packages are the root of the world; None for nowhere."""
    for _ in range(_MOST_LINKS):
        if not path.is_symlink():
            return path if path.exists() else None
        target = os.readlink(path)
        path = _UNPACKED / target.lstrip("/") if target.startswith("/") else path.parent / target
        path = Path(os.path.normpath(path))
        if not path.is_relative_to(_UNPACKED):
            return None
    return None
