"""What stands in the product's database, read beside it: the truth that its answers are held against."""

import contextlib
import json
import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OPEN_SHARDS = ("waiting", "queued", "running")
OPEN_MESSAGES = ("READY", "RUNNING")


@dataclass(frozen=True, slots=True)
class Event:
    """A row of a job's log."""

    id: int
    seq: int
    type: str
    data: dict[str, Any]

    @property
    def run(self) -> int:
        """Which run of the job it belongs to."""
        return int(self.data["run"])


@dataclass(frozen=True, slots=True)
class ShardRow:
    """A row of a job's shards."""

    number: int
    kind: str
    state: str
    owner: str
    lease_until: str | None
    payload: dict[str, Any]

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done."""
        return self.state in OPEN_SHARDS

    @property
    def is_leased(self) -> bool:
        """Whether somebody holds it."""
        return self.state == "running" or bool(self.owner) or self.lease_until is not None


class Rows:
    """Reads a SQLite database that others write to."""

    def __init__(self, database: Path) -> None:
        self._database = database

    def _read(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        link = sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=20)
        with contextlib.closing(link):
            return link.execute(statement, values).fetchall()

    def status(self, job_id: str) -> str:
        """Of a job."""
        return str(self._read("SELECT status FROM sessions_app_job WHERE id = ?", _key(job_id))[0][0])

    def runs(self, job_id: str) -> int:
        """How many runs a job had."""
        return int(self._read("SELECT attempt FROM sessions_app_job WHERE id = ?", _key(job_id))[0][0])

    def log(self, job_id: str) -> list[Event]:
        """In the order of its ids."""
        rows = self._read(
            "SELECT id, seq, type, data FROM sessions_app_jobevent WHERE job_id = ? ORDER BY id", _key(job_id)
        )
        return [Event(number, seq, kind, json.loads(data)) for number, seq, kind, data in rows]

    def shards(self, job_id: str) -> list[ShardRow]:
        """In the order of their numbers."""
        rows = self._read(
            "SELECT number, kind, state, owner, lease_until, payload FROM sessions_app_shard WHERE job_id = ? "
            "ORDER BY number",
            _key(job_id),
        )
        return [ShardRow(*row[:-1], json.loads(row[-1])) for row in rows]

    def numbers(self, job_id: str) -> dict[str, int]:
        """Of the manifest, by path."""
        statement = "SELECT path, number FROM migration_app_manifestentry WHERE job_id = ?"
        return {str(path): int(number) for path, number in self._read(statement, _key(job_id))}

    def states(self, job_id: str) -> dict[str, int]:
        """How many rows of the manifest are in which state."""
        statement = "SELECT state, count(*) FROM migration_app_manifestentry WHERE job_id = ? GROUP BY state"
        return {str(state): int(count) for state, count in self._read(statement, _key(job_id))}

    def open_messages(self) -> int:
        """Of the whole queue."""
        statement = "SELECT count(*) FROM django_tasks_database_dbtaskresult WHERE status IN (?, ?)"
        return int(self._read(statement, *OPEN_MESSAGES)[0][0])


def _key(job_id: str) -> str:
    return uuid.UUID(job_id).hex
