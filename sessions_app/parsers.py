"""JSON bodies, strictly: bounded size and depth, and only text that the database can hold."""

import json
from collections.abc import Mapping
from typing import IO, Any

from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from sessions_app.problems import BodyTooLarge

MOST_DEPTH = 32


class StrictJSONParser(BaseParser):
    """RFC 8259 JSON in UTF-8; raises ParseError (400) or BodyTooLarge (413)."""

    media_type = "application/json"

    def parse(
        self,
        stream: IO[bytes],
        media_type: str | None = None,
        parser_context: Mapping[str, Any] | None = None,
    ) -> Any:
        """The decoded body."""
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raw = stream.read(limit + 1)
        if len(raw) > limit:
            raise BodyTooLarge
        try:
            value = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
        except RecursionError:
            raise ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:
            raise ParseError(f"The body is not valid JSON: {error}") from None
        _check(value, MOST_DEPTH)
        return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _check(value: Any, depth: int) -> None:
    if depth == 0:
        raise ParseError("The JSON is nested too deeply.")
    if isinstance(value, dict):
        for name, inner in value.items():
            _check(name, depth - 1)
            _check(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth - 1)
    elif isinstance(value, str):
        # Neither SQLite's text nor Postgres's takes these.
        if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
            raise ParseError("The JSON holds text with a NUL or an unpaired surrogate.")
    elif isinstance(value, int) and abs(value) > 2**63 - 1:
        raise ParseError("The JSON holds a number that is too large.")
