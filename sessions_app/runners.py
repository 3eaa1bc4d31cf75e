"""What a type of job does, as the engine sees it.

`settings.JOB_RUNNERS` names a `Runner` subclass for each type of job; it is imported on first use.
A runner never writes a Job, Shard or JobEvent row: it hands what it found to its context, which
writes it in one fenced transaction.
"""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string
from rest_framework.serializers import Field

Json = dict[str, Any]
T = TypeVar("T")


class JobFailed(Exception):
    """The whole job fails with this sentence; people read it, so it holds no secret."""


class StopRequested(Exception):
    """The shard must stop here: it was told to drain or the job is being cancelled."""


class ComeLater(Exception):
    """The shard cannot go on now: it is given back, and nothing of its job is given to a worker for `wait_s` seconds.

    `sentence` says in the job's progress what it waits for, unless others of its shards get on meanwhile; `note` is
    left to the next attempt.
    """

    def __init__(self, wait_s: float, sentence: str, *, note: Any = None) -> None:
        super().__init__(sentence)
        self.wait_s = wait_s
        self.sentence = sentence
        self.note = note


class LeaseLost(Exception):
    """Another worker has the shard now; nothing more may be written."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A tree that a job is going to write to: which server, and the absolute path on it."""

    key: str
    path: str


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to be appended: `phase`, `file_failed` or `log`, with its data."""

    type: str
    data: Json


def log_info(text: str) -> NewEvent:
    """A line of the job's log."""
    return NewEvent("log", {"level": "info", "message": text})


def log_warning(text: str) -> NewEvent:
    """A line of the job's log that somebody should look at."""
    return NewEvent("log", {"level": "warning", "message": text})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that a runner may use to word the progress of a job."""

    status: str
    """The job's state, one of `states.JobStatus`."""
    params: Json
    counters: Mapping[str, int]
    """Summed over all shards."""
    current: Json
    """What the last checkpoint said is going on, as the runner words it; `shard` alone: that one has just ended."""
    previous: Json | None
    """The progress before this one."""
    now: datetime
    started_at: datetime | None
    error_message: str = ""
    waiting_for: str = ""
    """A sentence that says which job this one waits for."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: its result, and why it failed if it did."""

    result: Json
    error: str = ""


class ShardContext(Protocol):
    """What a runner may do while it holds a shard's lease. All methods are for the task's thread."""

    job_id: UUID
    owner_id: int
    worker_id: str
    """Of the worker that holds the shard."""
    params: Json
    number: int
    payload: Json
    cursor: Any
    note: Any
    """What the attempt before left that raised ComeLater; the next checkpoint saves it when it was set anew."""
    counters: dict[str, int]
    """This shard's counters; change them in place, the next checkpoint saves them."""

    def checkpoint(
        self,
        *,
        cursor: Any = ...,
        current: Json | None = None,
        events: Sequence[NewEvent] = (),
        write: Callable[[], None] | None = None,
        shards: Sequence[Json] = (),
        waiting_for: str = "",
    ) -> None:
        """Save in one transaction: the shard (fenced), what `write` writes, new shards, progress, events.

        `write` runs after the fenced UPDATE. `cursor` is left alone when not given. `shards` are payloads
        of new work shards. `waiting_for` is a sentence for the job's progress. Renews the lease.
        Raises LeaseLost; raises StopRequested after saving when the shard must stop.
        """

    def stream(
        self, source: AsyncIterator[T], *, most: int = 1000, weight: Callable[[T], int] | None = None
    ) -> Iterator[list[T]]:
        """Run an async iterator in the process's event-loop thread and give what it yields, in lists.

        A list comes when 0.5 s have passed (0.2 s for the first) or items that weigh `most` have come
        (each weighs 1 without `weight`), and may be empty: the caller checkpoints each time, which
        renews the lease. What the iterator raises is raised here, after what it had yielded. When the
        shard must stop, the iterator is cancelled, what it had yielded is still given, and the
        caller's next checkpoint raises StopRequested.
        """

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the event-loop thread and wait for it, renewing the lease meanwhile."""

    def is_lease_valid(self) -> bool:
        """Whether this process may still send anything; cheap, and safe to call from any thread."""

    def is_cancelled(self) -> bool:
        """Whether the shard must stop because nobody wants its job any more; safe to call from any thread."""

    def on_end(self, callback: Callable[[], None]) -> None:
        """Have `callback` called in the task's thread when the runner is done with the shard, however; once."""

    def has_had_its_turn(self) -> bool:
        """Whether the shard has got on for so long that others who wait for what it holds should have it."""

    def give_way(self) -> None:
        """Stop at the next safe point and let another job have what this one holds; the shard goes on later."""

    def on_abort(self, abort: Callable[[], None]) -> None:
        """Have `abort` called in the event-loop thread as soon as the lease is lost; the latest one counts."""


class Runner(ABC):
    """One type of job. A new instance serves each shard."""

    type: ClassVar[str]
    links: ClassVar[tuple[str, ...]] = ()
    """What there is below the address of such a job, beside its events."""
    leaves_traces: ClassVar[bool] = False
    """Whether work that is interrupted for good leaves something behind, which `clean` removes."""

    changeable: ClassVar[Mapping[str, Callable[..., Field[Any, Any, Any, Any]]]] = {}
    """Options among the params that may be changed while the job is active, with what makes the field that a request is
    checked by. The runner reads them anew as it goes on."""

    is_waited_for: ClassVar[bool] = False
    """Whether people sit and wait for such a job: a worker is kept for it, and no limit holds it up."""

    keeps_work: ClassVar[bool] = False
    """Whether a job that is tried again goes on with what it has; else it starts over."""

    @abstractmethod
    def prepare(self, context: ShardContext) -> None:
        """Find the work: fill the rows, add work shards. Payload `run` is there from the second run on: then what
        failed before is found again. Raises JobFailed."""

    def work(self, context: ShardContext) -> None:
        """Do one work shard. Raises JobFailed."""
        raise TypeError(f"A {self.type} job has no work shards.")

    @abstractmethod
    def finish(self, context: ShardContext) -> Outcome:
        """Run once after all other shards ended. Raises JobFailed."""

    def clean(self, context: ShardContext, interrupted: list[Json]) -> None:
        """Remove what interrupted work left, given by the payloads of its shards. The job has ended: what cannot be
        removed is told in an event, and it must not take for ever."""
        raise TypeError(f"A {self.type} job leaves nothing behind.")

    @classmethod
    def begin_again(cls, job_id: UUID, counters: Mapping[str, int]) -> dict[str, int]:
        """The counters that another run of a failed job starts with; `counters` are those of all shards until now. A
        request waits for it, in a transaction: what is to be done to many rows, `prepare` does."""
        return {}

    @classmethod
    def claims(cls, params: Json) -> list[Claim]:
        """The trees that the job writes to."""
        return []

    @classmethod
    def tie(cls, job_id: UUID, params: Json) -> str:
        """Why only the process that took a job on can do it, and how to go on with it; empty when any worker can."""
        return ""

    @classmethod
    @abstractmethod
    def progress(cls, snapshot: Snapshot) -> Json:
        """The progress object of the HTTP contract; a pure function. Names that begin with an underscore are not told:
        the runner finds them in `Snapshot.previous`."""

    @classmethod
    def rate(cls, progress: Json) -> float | None:
        """Bytes a second of a job at work, for its curve; None where there is nothing to draw."""
        return None


def runner_class(job_type: str) -> type[Runner]:
    """The class that runs a type of job; raises KeyError for an unknown type."""
    found = import_string(settings.JOB_RUNNERS[job_type])
    if not (isinstance(found, type) and issubclass(found, Runner)):
        raise TypeError(f"{settings.JOB_RUNNERS[job_type]} is not a Runner.")
    return found


def links_of(job_type: str) -> tuple[str, ...]:
    """What there is below the address of a job; nothing for a type that no code runs any more."""
    return runner_class(job_type).links if job_type in settings.JOB_RUNNERS else ()


def sum_counters(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Counters added up by name."""
    total: dict[str, int] = {}
    for part in parts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


@dataclass(slots=True)
class Submission:
    """A job to be, as the code that validated a request hands it to `jobs.submit`."""

    type: str
    owner_id: int
    title: str
    params: Json
    public: Json
    idempotency_key: str | None = None
    request_digest: str = ""
    user_agent: str = ""
    client_ip: str = ""
    parent_id: UUID | None = None
    executor: str = ""
    """Id of the one worker that does the job; no message is sent then."""
    run_at: datetime | None = None
    """Nothing of the job happens before; None: at once."""
    schedule_id: int | None = None
    origin: str = ""
    """A sentence for the job's log that says where it comes from, when no person asked for it."""
    id: UUID | None = field(default=None)
