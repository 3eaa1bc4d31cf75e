"""The systems that are known, and how one is chosen: the one that lies nearest to the root of the tree."""

from collections.abc import Container, Mapping

from migration_app.cms import drupal, joomla, laravel, magento, prestashop, static, typo3, wordpress
from migration_app.cms.base import Cms, System

SYSTEMS: tuple[System, ...] = tuple(
    module.SYSTEM for module in (wordpress, joomla, drupal, magento, prestashop, typo3, laravel, static)
)
"""Of two in one folder the first one here counts."""

NAMES: dict[str, str] = {system.type: system.name for system in SYSTEMS}
MOST_MARKS = 20_000
"""So many marked paths of a tree are looked at; folders near the root come first."""
_PATHS = {path.decode() for system in SYSTEMS for path in system.paths}
_LAST_NAMES = {path.rpartition("/")[2] for path in _PATHS}
_ENDS = tuple(f"/{path}" for path in _PATHS)


def is_mark(path: str) -> bool:
    """Whether `find_system` and `describe` want to know of a path."""
    # Nearly all paths end here, and there may be a million.
    if path.rpartition("/")[2] not in _LAST_NAMES:
        return False
    return path in _PATHS or path.endswith(_ENDS)


def find_system(marks: set[bytes], types: Container[str]) -> tuple[System, bytes] | None:
    """The system and its folder, given the marked paths of a tree and its types of files; None if there is none."""
    found = [
        (_depth(root), number, root)
        for number, system in enumerate(SYSTEMS)
        if not any(rival in types for rival in system.rivals)
        for root in _roots(system, marks)
        if _depth(root) <= system.deepest
    ]
    if not found:
        return None
    _, number, root = min(found)
    return SYSTEMS[number], root


def _depth(root: bytes) -> int:
    return root.count(b"/") + bool(root)


def _roots(system: System, marks: set[bytes]) -> set[bytes]:
    return {
        root
        for sign in system.signs
        for path in marks
        if path == sign[0] or path.endswith(b"/" + sign[0])
        for root in (path[: -len(sign[0])].rstrip(b"/"),)
        if all(below(root, other) in marks for other in sign)
    }


def below(root: bytes, name: bytes) -> bytes:
    """The path of a name in the system's folder."""
    return root + b"/" + name if root else name


def files_to_read(system: System, root: bytes, marks: set[bytes]) -> list[bytes]:
    """The few files that say more, as far as they are there."""
    return [path for name in (*system.versions, *system.configs) if (path := below(root, name)) in marks]


def describe(system: System, root: bytes, marks: set[bytes], contents: Mapping[bytes, bytes]) -> Cms:
    """What is known of a system, given the contents of its files as far as they could be read."""

    def content(name: bytes) -> bytes:
        return contents.get(below(root, name), b"")

    version = next((text for name, read in system.versions.items() if (text := read(content(name)))), "")
    databases = (read(content(name)) for name, read in system.configs.items())
    telling = {path for sign in system.signs for path in sign} | {*system.hints}
    seen = [path for path in sorted(telling) if below(root, path) in marks]
    hints = sum(path in seen for path in system.hints)
    return Cms(
        type=system.type,
        version=version,
        root=root,
        config_file=next((below(root, name) for name in system.configs if below(root, name) in marks), None),
        database=next((database for database in databases if database is not None), None),
        confidence=round(0.3 + 0.3 * bool(version) + 0.4 * min(hints, 3) / 3, 2),
        indicators=[path.decode() for path in seen],
    )
