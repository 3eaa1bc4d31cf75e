"""Reads values that PHP files hold as plain text. Nothing is run, and what is no plain value is not guessed."""

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from migration_app.cms.base import LONGEST_VALUE

MOST_READ = 256 * 1024
"""No more is read of a file: such files have a few kilobytes."""
DEEPEST = 20
MOST_ARRAYS = 10

# What does not end reaches to the end of the file, so that a hostile one costs no more than another.
_STRING = r"""'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)"""
# One pass over PHP: comments go, strings stay, so that a `//` in a string is no comment.
_COMMENT = re.compile(rf"(?P<string>{_STRING})|/\*.*?(?:\*/|\Z)|(?://|\#)[^\n]*", re.DOTALL)
_TOKEN = re.compile(
    rf"\s+|(?P<string>{_STRING})|(?P<number>\d+)|(?P<arrow>=>)|(?P<array>\barray\s*\(|\[)|(?P<call>\()"
    r"|(?P<close>[)\]])|(?P<comma>,)|(?P<end>;)|(?P<other>\w+|.)",
    re.DOTALL,
)


def source(php: bytes) -> str:
    """The text without its comments."""
    text = php[:MOST_READ].decode("utf-8", "replace")
    return _COMMENT.sub(lambda match: match["string"] or " ", text)


def variable(text: str, name: str) -> str:
    """The value of `$name = 'value';`, in a class as well; empty where there is none."""
    return _first(rf"\${name}\s*=\s*({_STRING}|\d+)\s*;", text)


def constant(text: str, name: str) -> str:
    """The value of `define('NAME', 'value')`."""
    return _first(rf"""\bdefine\s*\(\s*['"]{name}['"]\s*,\s*({_STRING}|\d+)\s*[,)]""", text)


def class_constant(text: str, name: str) -> str:
    """The value of `const NAME = 'value';`."""
    return _first(rf"\bconst\s+(?:\w+\s+)?{name}\s*=\s*({_STRING}|\d+)\s*[;,]", text)


def _first(pattern: str, text: str) -> str:
    match = re.search(pattern, text, re.DOTALL)
    return _value(match[1])[:LONGEST_VALUE] if match else ""


def _value(literal: str) -> str:
    """The text of a string literal or number; empty for a string into which PHP would put variables."""
    if literal.startswith("'"):
        return re.sub(r"\\([\\'])", r"\1", literal[1:-1])
    if literal.startswith('"'):
        if re.search(r"(?<!\\)(?:\\\\)*\$[\w{]|\{\$", literal):
            return ""
        return re.sub(r"\\(.)", r"\1", literal[1:-1], flags=re.DOTALL)
    return literal


def arrays(text: str, start: str) -> list[dict[str, Any]]:
    """The arrays that follow a pattern, in the order of the file: `array('a' => 'b')` as {"a": "b"}.

    Values are texts and arrays; what else there is, such as a call, is left out.
    """
    found = []
    for match in islice(re.finditer(start, text), MOST_ARRAYS):
        tokens = _tokens(text, match.end())
        if next(tokens, ("", ""))[0] == "array":
            found.append(_array(tokens))
    return found


def _tokens(text: str, at: int) -> Iterator[tuple[str, str]]:
    for match in _TOKEN.finditer(text, at):
        if match.lastgroup is not None:
            yield match.lastgroup, match.group()


def _array(tokens: Iterator[tuple[str, str]], depth: int = 0) -> dict[str, Any]:
    """What stands between an opening bracket, which has been read, and its closing one."""
    found: dict[str, Any] = {}
    key: str | None = None
    parts: list[Any] = []
    for kind, text in tokens:
        if kind in ("array", "call"):
            inner = _array(tokens, depth + 1) if depth < DEEPEST else {}
            parts.append(inner if kind == "array" else None)
        elif kind in ("string", "number"):
            parts.append(_value(text))
        elif kind == "arrow":
            key, parts = (parts[0] if len(parts) == 1 and isinstance(parts[0], str) else None), []
        elif kind in ("comma", "close", "end"):
            if len(parts) == 1 and parts[0] is not None and key is not None:
                found[key] = parts[0]
            key, parts = None, []
            if kind != "comma":
                break
        else:
            parts.append(None)
    return found


def inside(values: dict[str, Any], *keys: str) -> dict[str, Any]:
    """The array within arrays that the keys lead to; an empty one where there is none."""
    for key in keys:
        inner = values.get(key)
        values = inner if isinstance(inner, dict) else {}
    return values
