"""What is left out by which pattern, and which patterns are refused."""

import pytest

from migration_app.engine.filters import parse_filter


def excludes(path: bytes, *patterns: object, is_folder: bool = False) -> bool:
    """Whether the patterns leave a path out."""
    return parse_filter(patterns, include_hidden=True).excludes(path, is_folder)  # type: ignore[arg-type]


def regex(pattern: str) -> dict[str, str]:
    """An exclusion by a regular expression."""
    return {"pattern": pattern, "type": "regex"}


@pytest.mark.parametrize(
    ("pattern", "path", "is_out"),
    [
        ("*.log", b"a/b/x.log", True),
        ("*.log", b"x.log.gz", False),
        ("/top", b"top", True),
        ("/top", b"a/top", False),
        ("a/*/c", b"a/b/c", True),
        ("a/*/c", b"a/b/b/c", False),
        ("a/**/c", b"a/c", True),
        ("a/**/c", b"a/b/b/c", True),
        ("a?c", "a\N{EURO SIGN}c".encode(), True),
        ("a?c", b"a\xffc", True),
        ("a?c", b"a\nc", True),
        ("[a-c-]x", b"-x", True),
        ("[z-a]x", b"-x", True),
        ("[z-a]x", b"mx", False),
        ("[!ab]x", b"cx", True),
        ("[!ab]x", b"ax", False),
        ("[]^]x", b"^x", True),
        (r"[\d]x", b"1x", False),
        ("a.b+(c){2}|$", b"a.b+(c){2}|$", True),
        (r"\d", b"1", False),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE}*", "café au lait".encode(), True),
        (regex(r"\.(bak|old)$"), b"a/x.bak", True),
        (regex(r"\.(bak|old)$"), b"a/x.bak/y", False),
        (regex(r"(?i)^THUMBS\.db"), b"thumbs.DB", True),
        (regex(r"(?P<x>a)"), b"\xffa", True),
        ({"pattern": "a*", "type": "exact"}, b"a*", True),
        ({"pattern": "a*", "type": "exact"}, b"ab", False),
    ],
)
def test_pattern_leaves_out_what_it_says(pattern: object, path: bytes, is_out: bool) -> None:
    assert excludes(path, pattern) is is_out


@pytest.mark.parametrize("pattern", ["*a" * 16 + "*c", regex("(a*)*c"), regex("(a|aa)+$"), "**a" * 16 + "c"])
def test_hostile_pattern_costs_no_more_than_another(pattern: object) -> None:
    # An engine that goes back and tries again would not end.
    assert not excludes(b"a" * 200 + b"b", pattern)


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        (regex("(?=a)b"), "look-around and back references are not supported"),
        (regex(r"(a)\1"), "look-around and back references are not supported"),
        (regex("["), "“[” is not a regular expression: missing ]: [."),
        (regex("(" * 900), "is not a regular expression"),
        (regex("((a{999}b){9}"), "is not a regular expression"),
        ("caf\udce9", r"“caf\udce9” is not UTF-8 text."),
    ],
)
def test_what_is_not_supported_is_refused_in_a_sentence(pattern: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=r"\.$") as refused:
        excludes(b"a", pattern)
    assert sentence in str(refused.value)
    assert not isinstance(refused.value, UnicodeError)


@pytest.mark.parametrize(
    "patterns",
    [
        [f"{number}{'*?' * 400}" for number in range(1000)],
        [f"/{number}/**/{'*?' * 400}" for number in range(1000)],
        [regex(f"{number}(a|b){{900}}") for number in range(1000)],
    ],
    ids=["names", "paths", "regexes"],
)
@pytest.mark.slow
def test_patterns_that_are_too_large_together_are_refused(patterns: list[object]) -> None:
    with pytest.raises(ValueError, match=r"too large together; leave some out\.$"):
        excludes(b"a", *patterns)


def test_thousand_usual_patterns_work() -> None:
    patterns = [f"/sites/site-{number}/cache/*.tmp" for number in range(1000)]
    assert excludes(b"sites/site-999/cache/x.tmp", *patterns)
    assert not excludes(b"sites/site-1000/cache/x.tmp", *patterns)
