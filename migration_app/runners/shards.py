"""Cuts the rows of a manifest into work shards."""

from dataclasses import dataclass, field

from sessions_app.runners import Json

SHARD_ITEMS = 2000
FIRST_ITEMS = 500
"""The first shard has fewer: until it is there all workers but one wait."""
SHARD_BYTES = 256 * 10**6


@dataclass(slots=True)
class Cutter:
    """Takes rows in their order; a shard is full with `SHARD_ITEMS` of them, one of the first with as many as there
    were before it, or with `SHARD_BYTES`."""

    first: int = 0
    last: int = 0
    items: int = 0
    bytes: int = 0
    shards: list[Json] = field(default_factory=list)
    """Payloads of shards that are full: the numbers of their first and last row."""

    def add(self, number: int, size: int) -> None:
        """Put a row into the shard that is being filled."""
        if not self.items:
            self.first = number
        self.last = number
        self.items += 1
        self.bytes += size
        most = min(SHARD_ITEMS, max(FIRST_ITEMS, self.first))
        if self.items >= most or self.bytes >= SHARD_BYTES:
            self.close()

    def close(self) -> None:
        """The shard that is being filled is full, or the last one."""
        if self.items:
            self.shards.append({"first": self.first, "last": self.last})
        self.items = self.bytes = 0

    def as_json(self) -> Json:
        """For a cursor, which goes on from here; full shards are written by themselves."""
        return {"first": self.first, "last": self.last, "items": self.items, "bytes": self.bytes}
