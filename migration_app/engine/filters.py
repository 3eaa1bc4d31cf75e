"""What is left out of a scan or transfer."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

LONGEST_PATTERN = 1000


class Filter:
    """Patterns and the rule for hidden names, as one question."""

    def __init__(
        self,
        *,
        names: re.Pattern[str] | None = None,
        paths: re.Pattern[str] | None = None,
        regexes: Iterable[re.Pattern[str]] = (),
        include_hidden: bool = True,
    ) -> None:
        self._names = names
        self._paths = paths
        self._regexes = tuple(regexes)
        self._include_hidden = include_hidden
        self._is_empty = names is None and paths is None and not self._regexes and include_hidden

    def excludes(self, path: bytes, is_folder: bool) -> bool:
        """Whether an entry is left out; all below an excluded folder is left out too, without being asked about."""
        if self._is_empty:
            return False
        name = path.rpartition(b"/")[2]
        if not self._include_hidden and name.startswith(b"."):
            return True
        # A folder's text ends in "/", so that a pattern that ends in "/" matches folders only.
        end = "/" if is_folder else ""
        text = path.decode("utf-8", "surrogateescape")
        if self._names is not None and self._names.fullmatch(text.rpartition("/")[2] + end):
            return True
        if self._paths is not None and self._paths.fullmatch(text + end):
            return True
        return any(regex.search(text) for regex in self._regexes)


def parse_filter(exclusions: Iterable[Mapping[str, Any] | str], *, include_hidden: bool) -> Filter:
    """Read exclusions: glob strings, or objects with `pattern`, `type` (glob, regex, exact) and perhaps `enabled`.

    A glob without `/` matches a name anywhere, one with `/` is anchored at the root; a `/` at its end means folders
    only. `*` and `?` stay within a name, `**` crosses names. `exact` is a path below the root. A regex is searched
    for in the path. Raises ValueError with a sentence that names the bad pattern.
    """
    names: list[str] = []
    paths: list[str] = []
    regexes: list[re.Pattern[str]] = []
    for exclusion in exclusions:
        pattern, kind = _pattern_and_type(exclusion)
        if not isinstance(exclusion, str) and exclusion.get("enabled", True) is False:
            continue
        if kind == "regex":
            regexes.append(_compiled(pattern))
        elif kind == "exact":
            paths.append(re.escape(pattern.strip("/")) + "/?")
        else:
            is_anchored = "/" in pattern.rstrip("/")
            (paths if is_anchored else names).append(_glob_to_regex(pattern.lstrip("/")))
    return Filter(names=_any_of(names), paths=_any_of(paths), regexes=regexes, include_hidden=include_hidden)


def _pattern_and_type(exclusion: Mapping[str, Any] | str) -> tuple[str, str]:
    pattern, kind = (exclusion, "glob")
    if not isinstance(exclusion, str):
        pattern, kind = exclusion.get("pattern", ""), exclusion.get("type") or "glob"
    if not isinstance(pattern, str) or not pattern.strip("/"):
        raise ValueError("An exclusion needs a pattern that is not empty.")
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"The exclusion “{pattern[:40]}…” is longer than {LONGEST_PATTERN} characters.")
    if kind not in ("glob", "regex", "exact"):
        raise ValueError(f"The exclusion “{pattern}” has an unknown type; glob, regex and exact are known.")
    return pattern, kind


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"The exclusion “{pattern}” is not a regular expression: {error}.") from error


def _any_of(patterns: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns), re.DOTALL) if patterns else None


def _glob_to_regex(glob: str) -> str:
    """The regular expression of one glob, for a text that ends in `/` when it is a folder."""
    is_folder_only = glob.endswith("/")
    glob = glob.rstrip("/")
    parts: list[str] = []
    at = 0
    while at < len(glob):
        character = glob[at]
        if glob.startswith("**/", at):
            parts.append("(?:.*/)?")
            at += 3
        elif glob.startswith("**", at):
            parts.append(".*")
            at += 2
        elif character == "*":
            parts.append("[^/]*")
            at += 1
        elif character == "?":
            parts.append("[^/]")
            at += 1
        elif character == "[" and (end := glob.find("]", at + 2)) > 0:
            parts.append(_character_set(glob[at + 1 : end]))
            at = end + 1
        else:
            parts.append(re.escape(character))
            at += 1
    return "".join(parts) + ("/" if is_folder_only else "/?")


def _character_set(inside: str) -> str:
    """`[abc]`, `[a-z]`, `[!abc]`. A range that runs backwards matches nothing special: it is taken letter by letter."""
    negated = inside[:1] in ("!", "^")
    members = inside[1:] if negated else inside
    escaped = re.sub(r"([\\\[\]^&~|])", r"\\\1", members)
    try:
        re.compile(f"[{escaped}]")
    except re.error:
        escaped = re.escape(members)
    return f"[^/{escaped}]" if negated else f"[{escaped}]"
