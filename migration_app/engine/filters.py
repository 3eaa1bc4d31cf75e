"""What is left out of a scan or transfer."""

from collections.abc import Iterable, Mapping
from typing import Any

import re2

LONGEST_PATTERN = 1000
MOST_MEMORY = 4 * 1024 * 1024
"""Bytes that the automaton of one kind of pattern may take."""
LARGEST_PROGRAM = 50_000
"""Instructions of all regular expressions together: so much work a character may cost."""
_TOO_LARGE = "The exclusions are too large together; leave some out."

# Names come from servers that nobody trusts and patterns from anybody, so that only an engine that takes linear time
# will do: the one of the standard library would stand still for ever.
_Pattern = Any


class Filter:
    """Patterns and the rule for hidden names, as one question."""

    def __init__(
        self,
        *,
        names: _Pattern | None = None,
        paths: _Pattern | None = None,
        regexes: Iterable[_Pattern] = (),
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
        end = b"/" if is_folder else b""
        # The engine reads UTF-8; what is none of it in a name counts as the replacement character.
        text = path if path.isascii() else path.decode("utf-8", "replace").encode()
        if self._names is not None and self._names.fullmatch(text.rpartition(b"/")[2] + end):
            return True
        if self._paths is not None and self._paths.fullmatch(text + end):
            return True
        return any(regex.search(text) for regex in self._regexes)


def parse_filter(exclusions: Iterable[Mapping[str, Any] | str], *, include_hidden: bool) -> Filter:
    """Read exclusions: glob strings, or objects with `pattern`, `type` (glob, regex, exact) and perhaps `enabled`.

    A glob without `/` matches a name anywhere, one with `/` is anchored at the root; a `/` at its end means folders
    only. `*` and `?` stay within a name, `**` crosses names. `exact` is a path below the root. A regex, in the
    syntax of RE2, is searched for in the path. Raises ValueError with a sentence that names the bad pattern.
    """
    names: list[str] = []
    paths: list[str] = []
    regexes: list[_Pattern] = []
    for exclusion in exclusions:
        pattern, kind = _pattern_and_type(exclusion)
        if not isinstance(exclusion, str) and exclusion.get("enabled", True) is False:
            continue
        if kind == "regex":
            regexes.append(_compiled(pattern))
        elif kind == "exact":
            paths.append(re2.escape(pattern.strip("/")) + "/?")
        else:
            is_anchored = "/" in pattern.rstrip("/")
            (paths if is_anchored else names).append(_glob_to_regex(pattern.lstrip("/")))
    if sum(regex.programsize for regex in regexes) > LARGEST_PROGRAM:
        raise ValueError(_TOO_LARGE)
    found = Filter(names=_any_of(names), paths=_any_of(paths), regexes=regexes, include_hidden=include_hidden)
    # The library would keep the last 128 automata, of megabytes each.
    re2.purge()
    return found


def _pattern_and_type(exclusion: Mapping[str, Any] | str) -> tuple[str, str]:
    pattern, kind = (exclusion, "glob")
    if not isinstance(exclusion, str):
        pattern, kind = exclusion.get("pattern", ""), exclusion.get("type") or "glob"
    if not isinstance(pattern, str) or not pattern.strip("/"):
        raise ValueError("An exclusion needs a pattern that is not empty.")
    if len(pattern) > LONGEST_PATTERN:
        raise ValueError(f"The exclusion “{pattern[:40]}…” is longer than {LONGEST_PATTERN} characters.")
    if not _is_encodable(pattern):
        raise ValueError(f"The exclusion “{ascii(pattern)[1:-1]}” is not UTF-8 text.")
    if kind not in ("glob", "regex", "exact"):
        raise ValueError(f"The exclusion “{pattern}” has an unknown type; glob, regex and exact are known.")
    return pattern, kind


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _options() -> re2.Options:
    options = re2.Options()
    options.max_mem = MOST_MEMORY
    options.never_capture = True
    options.log_errors = False
    return options


def _compiled(pattern: str) -> _Pattern:
    try:
        return re2.compile(pattern, _options())
    except re2.error as error:
        reason = error.args[0].decode("utf-8", "replace")
        if reason.startswith(("invalid perl operator", "invalid escape sequence")):
            reason += " (look-around and back references are not supported)"
        raise ValueError(f"The exclusion “{pattern}” is not a regular expression: {reason}.") from error


def _any_of(patterns: list[str]) -> _Pattern | None:
    if not patterns:
        return None
    options = _options()
    options.dot_nl = True
    try:
        return re2.compile("|".join(f"(?:{pattern})" for pattern in patterns), options)
    except re2.error as error:
        raise ValueError(_TOO_LARGE) from error


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
            parts.append(re2.escape(character))
            at += 1
    return "".join(parts) + ("/" if is_folder_only else "/?")


def _character_set(inside: str) -> str:
    """`[abc]`, `[a-z]`, `[!abc]`. A range that runs backwards matches nothing special: it is taken letter by letter."""
    negated = inside[:1] in ("!", "^")
    members = inside[1:] if negated else inside
    escaped = "".join(character if character == "-" else re2.escape(character) for character in members)
    try:
        re2.compile(f"[{escaped}]", _options())
    except re2.error:
        escaped = re2.escape(members)
    return f"[^/{escaped}]" if negated else f"[{escaped}]"
