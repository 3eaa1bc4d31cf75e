"""Answers are JSON, or a stream where a view grants one, whatever the client's Accept header asks for."""

from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request


class OneFormat(DefaultContentNegotiation):
    """The first renderer: a browser's EventSource asks for text/event-stream and must not get a 406."""

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> Any:
        """The first renderer and its media type."""
        first = next(iter(renderers))
        return first, first.media_type
