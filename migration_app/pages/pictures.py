"""Pictures of what a scan found, as rows of a table with a bar each: the table says in words what the bars show."""

from dataclasses import dataclass
from typing import Any

from migration_app.pages.wording import plural
from migration_app.sizes import size_text

Json = dict[str, Any]

TYPE_ROWS = 12


@dataclass(frozen=True, slots=True)
class Bar:
    """A row: its share of all bytes and of all files, in percent."""

    name: str
    size: int
    files: int
    size_share: float
    files_share: float
    is_path: bool = False


@dataclass(frozen=True, slots=True)
class Picture:
    """One table with its heading; `word` names the column of names, and the picture in addresses of the page."""

    title: str
    word: str
    caption: str
    bars: list[Bar]


def pictures_of(statistics: Json) -> list[Picture]:
    """All that there is something to draw for."""
    found = [
        Picture(
            "What takes the space", "Folder", "Folders, those with most bytes first", _folders(statistics)
        ),
        Picture("By type", "Type", "Files by type, those with most bytes first", _types(statistics)),
        Picture("By size", "Size of a file", "Files by their size, the smallest first", _sizes(statistics)),
    ]
    return [picture for picture in found if picture.bars]


def _bars(rows: list[Json]) -> list[Bar]:
    all_bytes = sum(row["size"] for row in rows) or 1
    all_files = sum(row["files"] for row in rows) or 1
    return [
        Bar(
            row["name"],
            row["size"],
            row["files"],
            100 * row["size"] / all_bytes,
            100 * row["files"] / all_files,
            row.get("is_path", False),
        )
        for row in rows
    ]


def _types(statistics: Json) -> list[Bar]:
    files = statistics.get("files_by_type") or {}
    sizes = statistics.get("files_by_type_size") or {}
    rows = [
        {"name": name or "none", "size": size, "files": files.get(name, 0)} for name, size in sizes.items()
    ]
    rows.sort(key=lambda row: (-row["size"], -row["files"]))
    rest = rows[TYPE_ROWS:]
    if len(rest) > 1:
        total = {name: sum(row[name] for row in rest) for name in ("size", "files")}
        rows = [*rows[:TYPE_ROWS], {"name": plural(len(rest), "more type"), **total}]
    return _bars(rows)


def _sizes(statistics: Json) -> list[Bar]:
    rows: list[Json] = []
    before: int | None = 2**30
    for row in statistics.get("files_by_size") or []:
        up_to = row["up_to"]
        # A class's end is a whole number of its unit.
        end = size_text(up_to if up_to is not None else before or 0).replace(".0 ", " ")
        name = "empty" if up_to == 0 else f"up to {end}" if up_to is not None else f"over {end}"
        rows.append({"name": name, "size": row["size"], "files": row["files"]})
        before = up_to
    return _bars(rows)


def _folders(statistics: Json) -> list[Bar]:
    rows = []
    for row in statistics.get("folders") or []:
        path = row["path"]
        name, is_path = f"{path}/", True
        if row.get("more"):
            name, is_path = plural(row["more"], "more folder"), False
        elif row["is_own"]:
            name, is_path = (f"{path}/*", True) if path else ("files in no folder", False)
        rows.append({"name": name, "size": row["size"], "files": row["files"], "is_path": is_path})
    return _bars(rows)
