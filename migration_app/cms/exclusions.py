"""What of a tree a move may leave behind: patterns with a reason, counted over the tree's files."""

import re
from dataclasses import dataclass

from migration_app.cms.base import System

_VCS = "History of a version control system"
_SYSTEM = "Left by the file manager of a desktop"
_FETCHED = "Packages that npm fetches again"
_COMPILED = "Made again when it is missing"
_LOG = "Logs"
_BACKUP = "Backup"

FOLDERS = {
    **dict.fromkeys((".git", ".svn", ".hg", ".bzr", "CVS"), _VCS),
    "node_modules": _FETCHED,
    **dict.fromkeys(("__pycache__", ".sass-cache"), _COMPILED),
    "__MACOSX": _SYSTEM,
}
"""Names of folders, wherever they are."""
FILES = {
    **dict.fromkeys((".DS_Store", "Thumbs.db", "desktop.ini"), _SYSTEM),
    **dict.fromkeys(("error_log", "access_log"), _LOG),
}
"""Names of files, wherever they are."""
ENDS = {".log": _LOG, ".bak": _BACKUP, "~": _BACKUP, ".swp": "Left by an editor"}
"""Ends of the names of files, wherever they are."""
TOP_FOLDERS = dict.fromkeys(("backup", "backups"), "Backups at the top of the site")
TOP_ENDS = dict.fromkeys(
    (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".7z", ".rar", ".sql", ".sql.gz"),
    "Archive or dump at the top of the site, where visitors can fetch it",
)


@dataclass(slots=True)
class Suggestion:
    """A glob as exclusions take it, why, and what it would save."""

    pattern: str
    reason: str
    files: int = 0
    size_bytes: int = 0


class Suggestions:
    """Counts the files of a tree; each counts for one pattern, that of the outermost folder first."""

    def __init__(self, site: tuple[System, bytes] | None) -> None:
        self._by_place: dict[str, Suggestion] = {}
        self._ends = tuple(ENDS)
        self._top_ends = tuple(TOP_ENDS)
        self._names = {name: Suggestion(f"{name}/", reason) for name, reason in FOLDERS.items()}
        self._files = {name: Suggestion(name, reason) for name, reason in FILES.items()}
        self._by_end = {end: Suggestion(f"*{end}", reason) for end, reason in ENDS.items()}
        self._by_top_end = {end: Suggestion(f"/*{end}", reason) for end, reason in TOP_ENDS.items()}
        for name, reason in TOP_FOLDERS.items():
            self._by_place[f"{name}/"] = Suggestion(f"/{name}/", reason)
        root = _printable(site[1]) if site is not None else None
        if site is not None and root is not None:
            for name, reason in site[0].disposables.items():
                is_inside = name.endswith("/?*")
                folder = f"{root}{name.removesuffix('/?*')}/"
                pattern = f"/{_escaped(folder)}{'?*' if is_inside else ''}"
                # A backslash is doubled in the paths of the manifest.
                self._by_place[folder.replace("\\", "\\\\")] = Suggestion(pattern, reason)
        self._places = tuple(self._by_place)

    def add(self, path: str, size_bytes: int) -> None:
        """Count a file in, by its path in the form of `path_text`."""
        found = self._find(path)
        if found is not None:
            found.files += 1
            found.size_bytes += size_bytes

    def _find(self, path: str) -> Suggestion | None:
        if path.startswith(self._places):
            return next(self._by_place[place] for place in self._places if path.startswith(place))
        *folders, name = path.split("/")
        for folder in folders:
            if folder in self._names:
                return self._names[folder]
        if name in self._files:
            return self._files[name]
        if not folders and name.endswith(self._top_ends):
            return next(self._by_top_end[end] for end in self._top_ends if name.endswith(end))
        if name.endswith(self._ends):
            return next(self._by_end[end] for end in self._ends if name.endswith(end))
        return None

    def found(self) -> list[Suggestion]:
        """Those that match something, what saves most first."""
        every = (self._by_place, self._names, self._files, self._by_end, self._by_top_end)
        used = [one for group in every for one in group.values() if one.files]
        return sorted(used, key=lambda one: (-one.size_bytes, one.pattern))


def _printable(root: bytes) -> str | None:
    """The folder of a system with its slash; None where its name cannot stand in a pattern."""
    try:
        text = root.decode()
    except UnicodeDecodeError:
        return None
    return (f"{text}/" if text else "") if text.isprintable() else None


def _escaped(folder: str) -> str:
    return re.sub(r"([*?\[])", r"[\1]", folder)
