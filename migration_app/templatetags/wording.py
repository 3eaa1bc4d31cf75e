"""The wording of the pages as template filters."""

from datetime import UTC, datetime
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from migration_app.pages import wording
from migration_app.sizes import size_text

register = template.Library()

register.filter("size", size_text)
register.filter("count", wording.count_text)
register.filter("duration", wording.duration_text)
register.filter("plain", wording.plain_text)


@register.filter
def marked(text: Any) -> SafeString:
    """A name from outside: isolated from the text around it, its hidden characters as marked code points."""
    pieces = format_html_join(
        "",
        "{}",
        (
            (
                format_html(
                    '<span class="codepoint" title="{}">{}</span>',
                    wording.character_name(part),
                    wording.code_point(part),
                )
                if hidden
                else part,
            )
            for part, hidden in wording.split_hidden(str(text))
        ),
    )
    return format_html("<bdi>{}</bdi>", pieces)


_STAGES = {
    "name": "Name resolved",
    "jump": "Let in at the jump host",
    "port": "Port open",
    "handshake": "SSH spoken",
    "host_key": "Host key taken",
    "login": "Logged in",
    "session": "SFTP started",
    "list": "Folder listed",
    "write": "File written",
    "read": "File read",
}


_METHODS = {
    "local_copy": "By this machine, from folder to folder",
    "server_copy": "By the server itself, from folder to folder",
    "sftp_stream": "SFTP, many files at a time",
    "tar_stream": "Small files in streams of tar, large ones over SFTP",
}


@register.filter
def method(name: str) -> str:
    """The way that a transfer took, for people."""
    return _METHODS.get(name, name)


@register.filter
def stage(name: str) -> str:
    """A stage of a probe for people."""
    return _STAGES.get(name, name)


@register.filter
def ago(value: datetime | None) -> str:
    """How long ago an instant was, no finer than anybody wants to know."""
    if value is None:
        return ""
    minutes = int((datetime.now(UTC) - value).total_seconds() // 60)
    if minutes < 1:
        return "just now"
    if minutes < 60:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 48 * 60 else f"{minutes // (24 * 60)} days ago"


@register.filter
def plural(number: float, nouns: str) -> str:
    """`{{ n|plural:"entry,entries" }}` → `3 entries`."""
    one, _, many = nouns.partition(",")
    return wording.plural(number, one, many)


_EVIDENCE = {
    "two_sided_hash": "hashed on both sides",
    "readback": "read back and compared",
    "size_only": "size compared",
}


@register.filter
def evidence(numbers: dict[str, int]) -> str:
    """How the files of a copy were proved, strongest first; what proved none is left out."""
    found = [
        f"{wording.plural(numbers[name], 'file')} {word}"
        for name, word in _EVIDENCE.items()
        if numbers.get(name)
    ]
    return ", ".join(found) or "no file"


@register.simple_tag
def icon(name: str) -> SafeString:
    """A shape of the sprite; the word beside it says what it means."""
    return format_html(
        '<svg class="icon" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        static("icons.svg"),
        name,
    )


_FORMS = {"clock": "%H:%M:%S", "day": "%a %Y-%m-%d %H:%M UTC"}


@register.filter
def instant(value: datetime | None, form: str = "full") -> SafeString:
    """An instant in UTC, which the script rewrites in the reader's zone; `form` is full, clock or day."""
    if value is None:
        return SafeString("–")
    at = value.astimezone(UTC)
    text = at.strftime(_FORMS.get(form, "%Y-%m-%d %H:%M:%S UTC"))
    return format_html(
        '<time datetime="{}" data-form="{}" title="{}">{}</time>',
        at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        form,
        at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        text,
    )
