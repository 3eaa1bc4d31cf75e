"""A static site: pages, and no program that a server would run."""

import re

from migration_app.cms.base import LONGEST_VALUE, System

_GENERATOR = re.compile(rb"""<meta\b[^>]{0,200}?\bname=["']?generator\b[^>]{0,200}""", re.IGNORECASE)
_CONTENT = re.compile(rb"""\bcontent=(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)


def _generator(html: bytes) -> str:
    """What the page says it was made with, as in `Hugo 0.123.7`."""
    meta = _GENERATOR.search(html)
    content = _CONTENT.search(meta.group()) if meta else None
    return (content[1] or content[2] or b"").decode("utf-8", "replace")[:LONGEST_VALUE] if content else ""


SYSTEM = System(
    type="static",
    name="Static site",
    signs=((b"index.html",), (b"index.htm",)),
    hints=(b"robots.txt", b"sitemap.xml", b"404.html", b"favicon.ico"),
    versions={b"index.html": _generator, b"index.htm": _generator},
    deepest=1,
    rivals=("php", "phtml", "asp", "aspx", "jsp", "cgi", "pl", "py", "rb", "cfm"),
)
