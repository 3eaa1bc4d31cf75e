"""What a scan proposes to leave out, and that the patterns leave out just what was counted."""

from collections.abc import Iterable

import pytest

from migration_app.cms.exclusions import Suggestion, Suggestions
from migration_app.cms.systems import SYSTEMS
from migration_app.engine.filters import parse_filter

BY_TYPE = {system.type: system for system in SYSTEMS}


def suggest(paths: Iterable[str], kind: str = "", root: bytes = b"") -> list[Suggestion]:
    suggestions = Suggestions((BY_TYPE[kind], root) if kind else None)
    for path in paths:
        suggestions.add(path.replace("\\", "\\\\"), 10)
    return suggestions.found()


def left_out(pattern: str, paths: Iterable[str]) -> set[str]:
    """Of the files, those that a walk with this exclusion does not reach."""
    chosen = parse_filter([pattern], include_hidden=True)
    found = set()
    for path in paths:
        parts = path.split("/")
        above = ["/".join(parts[:n]) for n in range(1, len(parts))]
        if any(chosen.excludes(folder.encode(), True) for folder in above) or chosen.excludes(
            path.encode(), False
        ):
            found.add(path)
    return found


COMMON = {
    ".git/": [".git/HEAD", "themes/x/.git/objects/aa"],
    ".svn/": ["a/.svn/entries"],
    "node_modules/": ["theme/node_modules/left-pad/index.js"],
    ".DS_Store": [".DS_Store", "img/.DS_Store"],
    "Thumbs.db": ["img/Thumbs.db"],
    "*.log": ["debug.log", "a/b/php.log"],
    "error_log": ["a/error_log"],
    "*.bak": ["a/index.php.bak"],
    "/*.zip": ["site.zip"],
    "/*.sql.gz": ["dump.sql.gz"],
    "/*.tar.gz": ["old.tar.gz"],
    "/backup/": ["backup/2026/index.php"],
}
KEPT = [
    *("index.php", ".gitignore", "git/x", "img/backup/x.jpg", "downloads/file.zip", "blog", "a/catalog"),
    *("log", "backup", "node_modules", "cachet/x"),
]


def test_common_leftovers_are_proposed_and_nothing_else():
    paths = [path for group in COMMON.values() for path in group] + KEPT
    found = suggest(paths)
    assert {one.pattern: one.files for one in found} == {name: len(group) for name, group in COMMON.items()}
    for name, group in COMMON.items():
        assert left_out(name, paths) == set(group)


@pytest.mark.parametrize(
    ("kind", "root", "pattern", "inside", "outside"),
    [
        ("wordpress", b"", "/wp-content/cache/", "wp-content/cache/page/a.html", "wp-content/cached/a"),
        ("wordpress", b"blog", "/blog/wp-content/updraft/", "blog/wp-content/updraft/x.gz", "wp-content/updraft/x"),
        ("wordpress", b"a[1]*\\", "/a[[]1][*]\\/wp-content/cache/", "a[1]*\\/wp-content/cache/x", "a1/x"),
        ("joomla", b"", "/administrator/cache/?*", "administrator/cache/x/y.php", "administrator/x"),
        ("drupal", b"web", "/web/sites/default/files/styles/", "web/sites/default/files/styles/a/b.jpg", "web/x"),
        ("magento", b"", "/var/page_cache/", "var/page_cache/mage--a/x", "var/.htaccess"),
        ("prestashop", b"", "/var/cache/", "var/cache/prod/x.php", "var/x"),
        ("typo3", b"", "/public/typo3temp/", "public/typo3temp/assets/x.css", "public/x.css"),
        ("laravel", b"", "/storage/framework/cache/?*", "storage/framework/cache/data/aa/x", "storage/framework/x"),
    ],
)  # fmt: skip
def test_what_a_system_makes_again_is_proposed(kind, root, pattern, inside, outside):
    found = suggest([inside, outside], kind, root)
    assert [(one.pattern, one.files, one.size_bytes) for one in found] == [(pattern, 1, 10)]
    assert left_out(pattern, [inside, outside]) == {inside}


def test_folders_that_a_system_needs_stay_though_empty():
    for kind in ("laravel", "joomla"):
        for folder in BY_TYPE[kind].disposables:
            chosen = parse_filter([f"/{folder}"], include_hidden=True)
            assert not chosen.excludes(folder.removesuffix("/?*").encode(), True)


def test_file_counts_once_for_the_outermost_folder():
    found = suggest(["wp-content/cache/node_modules/x.log", "node_modules/.git/x"], "wordpress")
    assert {one.pattern for one in found} == {"/wp-content/cache/", "node_modules/"}


def test_folder_whose_name_fits_no_pattern_gets_none():
    assert suggest(["\ufffd/wp-content/cache/x"], "wordpress", b"\xff") == []
    assert suggest(["a\nb/wp-content/cache/x"], "wordpress", b"a\nb") == []
