"""The curve of a job's rate, as the page draws it. `static/curve.js` draws the same."""

import json
from dataclasses import dataclass
from functools import cached_property

from migration_app.pages.wording import duration_text, rate_text
from sessions_app.curve import Rates

WIDTH, HEIGHT = 1000, 100
LEAST_SPAN = 60
"""Samples that a job at work has room for at first."""
TABLE_ROWS = 12


@dataclass(frozen=True, slots=True)
class CurveRow:
    """A row of the table: from when to when, and the mean rate."""

    start: str
    end: str
    rate: str


@dataclass(frozen=True)
class CurveView:
    """Samples of bytes a second, one for each step since the start; None where nobody was at work."""

    step_s: float
    rates: Rates
    is_over: bool

    @property
    def is_drawn(self) -> bool:
        """Whether there is enough for a line."""
        return len(self._known) > 1 or not self.is_over

    @cached_property
    def _known(self) -> list[int]:
        return [rate for rate in self.rates if rate is not None]

    @property
    def data(self) -> str:
        """The samples for the script."""
        return json.dumps(self.rates, separators=(",", ":"))

    @property
    def path(self) -> str:
        """The line, as a path in a box of WIDTH by HEIGHT; it breaks where nobody was at work.

        >>> CurveView(1.0, [50, 100, None, 0], True).path
        'M0 52L333 4M1000 100h.1'
        """
        span = max(len(self.rates), 0 if self.is_over else LEAST_SPAN) - 1
        top, found, pen = max(self._known, default=0) or 1, [], "M"
        for at, rate in enumerate(self.rates):
            if rate is None:
                pen = "M"
                continue
            x, y = int(WIDTH * at / max(span, 1) + 0.5), int(HEIGHT - (HEIGHT - 4) * rate / top + 0.5)
            is_alone = pen == "M" and (at + 1 == len(self.rates) or self.rates[at + 1] is None)
            found.append(f"{pen}{x} {y}{'h.1' if is_alone else ''}")
            pen = "L"
        return "".join(found)

    @property
    def highest(self) -> str:
        """The highest rate."""
        return rate_text(max(self._known, default=0))

    @property
    def mean(self) -> str:
        """The mean rate while it was at work."""
        return rate_text(sum(self._known) / len(self._known)) if self._known else "–"

    @property
    def table(self) -> list[CurveRow]:
        """The same as means over a few spans of time."""
        size = -(-len(self.rates) // TABLE_ROWS)
        parts = [self.rates[at : at + size] for at in range(0, len(self.rates), size)] if size else []
        found = []
        for number, part in enumerate(parts):
            known = [rate for rate in part if rate is not None]
            start = number * size
            found.append(
                CurveRow(
                    duration_text(start * self.step_s),
                    duration_text((start + len(part)) * self.step_s),
                    rate_text(sum(known) / len(known)) if known else "not at work",
                )
            )
        return found
