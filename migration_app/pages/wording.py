"""Numbers and names as people read them. `static/wording.js` says the same things in the browser."""

import re
import unicodedata

from migration_app.sizes import size_text

# What a name from outside may hold to look like another name: C0 and C1 controls, soft hyphen, fillers,
# zero-width characters, directional marks, embeddings and isolates (UAX #9), line separators, tags.
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def count_text(number: float) -> str:
    """A whole number with separators.

    >>> count_text(2514)
    '2,514'
    """
    return f"{round(number):,}"


def duration_text(seconds: float) -> str:
    """How long something took.

    >>> [duration_text(s) for s in (0.2, 42, 200, 3900, 180000)]
    ['under a second', '42 s', '3 min 20 s', '1 h 5 min', '2 d 2 h']
    """
    if seconds < 1:
        return "under a second"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, rest_min = divmod(minutes, 60)
    days, rest_h = divmod(hours, 24)
    if days:
        return f"{days} d {rest_h} h"
    if hours:
        return f"{hours} h {rest_min} min"
    return f"{minutes} min {rest_s} s" if minutes else f"{rest_s} s"


def time_left_text(seconds: float) -> str:
    """How long something will take, no finer than anybody can know.

    >>> [time_left_text(s) for s in (20, 700, 9000, 30000)]
    ['under a minute', 'about 12 min', 'about 2 h 30 min', 'about 8.5 h']
    """
    if seconds < 60:
        return "under a minute"
    if seconds < 3600:
        return f"about {round(seconds / 60)} min"
    if seconds < 6 * 3600:
        hours, minutes = divmod(round(seconds / 300) * 5, 60)
        return f"about {hours} h {minutes} min" if minutes else f"about {hours} h"
    return f"about {round(seconds / 1800) / 2:g} h"


def rate_text(bytes_per_s: float) -> str:
    """A speed, `–` for none."""
    return f"{size_text(bytes_per_s)}/s" if bytes_per_s > 0 else "–"


def plural(number: float, one: str, many: str = "") -> str:
    """A number with its noun.

    >>> plural(1, "file"), plural(3, "entry", "entries")
    ('1 file', '3 entries')
    """
    return f"{count_text(number)} {one if round(number) == 1 else many or one + 's'}"


def code_point(character: str) -> str:
    """`U+202E`."""
    return f"U+{ord(character):04X}"


def character_name(character: str) -> str:
    """What Unicode calls a character."""
    return unicodedata.name(character, "control character").capitalize()


def split_hidden(text: str) -> list[tuple[str, bool]]:
    """A text in pieces; True marks a single character that must be shown as its code point."""
    pieces: list[tuple[str, bool]] = []
    start = 0
    for match in _HIDDEN.finditer(text):
        if match.start() > start:
            pieces.append((text[start : match.start()], False))
        pieces.append((match.group(), True))
        start = match.end()
    if start < len(text):
        pieces.append((text[start:], False))
    return pieces


def plain_text(text: str) -> str:
    """A text with hidden characters as `‹U+202E›`, for titles and attributes."""
    return "".join(f"‹{code_point(part)}›" if hidden else part for part, hidden in split_hidden(text))
