"""How long what is left of a job takes: what a file costs and what a byte costs, fitted as it goes. Pure.

A far server makes files dear and bytes cheap, a slow line the other way round, and a tree has its large files where it
likes. So both costs are fitted to what was done in each second or so (least squares), and then scaled so that together
they explain the time that it took. Older seconds count less: a limit may have been changed, a line be better now.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple, Self

UNIT_BYTES = 64 * 1024
"""As long as nothing else is known a file costs as much as so many bytes do."""
_SAMPLE_S = 1.0
_FIRST_SAMPLE_S = 0.5
"""Checkpoints are uneven within a shorter time; the first says something soon."""
_ENOUGH_S = 1.2
"""Nothing is said before so much was seen: not all workers may have begun."""
_HALF_S = 60.0
"""What was so long ago counts half."""
_SUMS = 8
_DOUBT = 0.01
"""How much of what was seen it takes to speak against UNIT_BYTES, where files and bytes always went together."""


class Amount(NamedTuple):
    """Files, and bytes of files."""

    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Pace:
    """What was seen so far. Sums over samples: `t` seconds, `f` files, `u` units of bytes, and of their products."""

    at_s: float
    """When the sample under way began, as seconds since the job did, with what was done by then."""
    files: int
    bytes: int
    has_begun: bool = False
    """Whether anything has come since the sample began. What has was counted a while ago, and after a connection was
    made: only from the first news to the next ones does as much come as a time takes."""
    t: float = 0.0
    f: float = 0.0
    u: float = 0.0
    ff: float = 0.0
    fu: float = 0.0
    uu: float = 0.0
    ft: float = 0.0
    ut: float = 0.0

    @classmethod
    def read(cls, numbers: list[float]) -> Self:
        """The inverse of `as_json`."""
        at_s, files, size, *sums = numbers
        # What an older release has left does not tell.
        has_begun = len(sums) > _SUMS and bool(sums.pop(0))
        return cls(at_s, int(files), int(size), has_begun, *sums)

    def as_json(self) -> list[float]:
        """For the next time."""
        sums = (self.t, self.f, self.u, self.ff, self.fu, self.uu, self.ft, self.ut)
        told = (float(f"{number:.6g}") for number in sums)
        return [round(self.at_s, 3), self.files, self.bytes, self.has_begun, *told]

    def paused(self, at_s: float, done: Amount) -> "Pace":
        """Go on from here: the time since the sample began means nothing."""
        return replace(self, at_s=at_s, files=done.files, bytes=done.bytes, has_begun=False)

    def seen(self, at_s: float, done: Amount) -> "Pace":
        """So much is done by now."""
        t = at_s - self.at_s
        if t < 0:
            return self.paused(at_s, done)
        if not self.has_begun:
            return replace(self.paused(at_s, done), has_begun=done != (self.files, self.bytes))
        if t < (_SAMPLE_S if self.t else _FIRST_SAMPLE_S):
            return self
        # What is copied again was undone: that is no work that was done backwards.
        f, u = max(0, done.files - self.files), max(0, done.bytes - self.bytes) / UNIT_BYTES
        sums = (t, f, u, f * f, f * u, u * u, f * t, u * t)
        older = (self.t, self.f, self.u, self.ff, self.fu, self.uu, self.ft, self.ut)
        weight = 0.5 ** (t / _HALF_S)
        summed = (weight * old + new for old, new in zip(older, sums, strict=True))
        return Pace(at_s, *done, True, *summed)

    def seconds_for(self, left: Amount) -> float | None:
        """How long so much takes; None where nobody can know yet."""
        if self.t < _ENOUGH_S:
            return None
        file, unit = self._costs()
        explained = file * self.f + unit * self.u
        if explained <= 0:
            return None
        return self.t / explained * (file * left.files + unit * left.bytes / UNIT_BYTES)

    def _costs(self) -> tuple[float, float]:
        """Of a file and of a unit; only their ratio means something."""
        doubt = _DOUBT * (self.ff + self.uu) / 2
        ff, fu, uu = self.ff + doubt, self.fu - doubt, self.uu + doubt
        determinant = ff * uu - fu * fu
        if determinant <= 0:
            return 1.0, 1.0
        file = (self.ft * uu - self.ut * fu) / determinant
        unit = (self.ut * ff - self.ft * fu) / determinant
        # Neither gives time back.
        if file <= 0:
            return 0.0, 1.0
        return (file, unit) if unit > 0 else (1.0, 0.0)
