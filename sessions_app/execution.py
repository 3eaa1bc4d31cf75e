"""Running one shard: claim it, hand it to its runner, write what came of it. All under the fencing token."""

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from django.db import OperationalError, transaction
from django.utils import timezone

from sessions_app import events, leases, transitions, turns
from sessions_app.ioloop import loop_thread
from sessions_app.leases import Lease
from sessions_app.models import Job, Shard
from sessions_app.runners import (
    ComeLater,
    JobFailed,
    Json,
    LeaseLost,
    NewEvent,
    Outcome,
    StopRequested,
    runner_class,
)
from sessions_app.states import FINISHED, Desired, JobStatus, ShardKind, ShardState
from sessions_app.streaming import Pump
from sessions_app.transitions import IllegalMove
from sessions_app.watch import StopSign, watcher

logger = logging.getLogger(__name__)
T = TypeVar("T")

FIRST_CHECKPOINT_S = 0.2
CHECKPOINT_S = 0.5
PROGRESS_S = 0.25
_UNCHANGED: Any = object()

QueueWaiting = Callable[[UUID], None]


class LeasedShard:
    """The `runners.ShardContext` of a shard that this process holds."""

    def __init__(self, lease: Lease, queue_waiting: QueueWaiting) -> None:
        shard = Shard.objects.select_related("job").get(pk=lease.shard_id)
        self.lease = lease
        self.kind = shard.kind
        self.job_id = lease.job_id
        self.job_type = shard.job.type
        self.owner_id = shard.job.owner_id
        self.worker_id = shard.owner
        self.params: Json = shard.job.params
        self.number = shard.number
        self.payload: Json = shard.payload
        self.cursor = shard.cursor
        self.note = self._saved_note = shard.note
        self.counters: dict[str, int] = dict(shard.counters)
        self.sign = StopSign(lease, self._stop, outlives_job=self.kind == ShardKind.CLEAN)
        self._queue_waiting = queue_waiting
        self._cancel: Callable[[], None] | None = None
        self._abort: Callable[[], None] | None = None
        self._at_end: dict[Callable[[], None], None] = {}
        self._progress_due = 0.0
        self._current: Json = {}
        """What is going on, as far as no progress has told it yet."""
        self._saved_once = False

    def checkpoint(
        self,
        *,
        cursor: Any = _UNCHANGED,
        current: Json | None = None,
        events: Sequence[NewEvent] = (),
        write: Callable[[], None] | None = None,
        shards: Sequence[Json] = (),
        waiting_for: str = "",
    ) -> None:
        """See `runners.ShardContext`."""
        save: Json = {} if cursor is _UNCHANGED else {"cursor": cursor}
        if self.note is not self._saved_note:
            save["note"] = self.note
        with transaction.atomic():
            # The checkpoint of a shard that was only just claimed proves nothing yet.
            self.lease.flush(counters=self.counters, keeps_deaths=not self._saved_once, **save)
            self._write(current, events, write, shards)
            if waiting_for:
                transitions.say_waiting(self.job_id, waiting_for)
        self._saved_once = True
        self._saved_note = self.note
        if write is not None and self.kind == ShardKind.WORK:
            self.sign.note_progress()
        if cursor is not _UNCHANGED:
            if cursor != self.cursor:
                self.sign.note_progress()
            self.cursor = cursor
        if shards:
            self._queue_waiting(self.job_id)
        if self.sign.reason:
            raise StopRequested(self.sign.reason)

    def _write(
        self,
        current: Json | None,
        new_events: Sequence[NewEvent],
        write: Callable[[], None] | None,
        shards: Sequence[Json],
    ) -> None:
        if write is not None:
            write()
        leases.add_work(self.job_id, shards)
        now = time.monotonic()
        # What is not told now is told the next time.
        self._current |= current or {}
        # The progress of a job that has ended stays as it was.
        is_due = now >= self._progress_due and self.kind != ShardKind.CLEAN
        pause = timedelta(seconds=PROGRESS_S)
        # Other shards of the job word it too.
        if is_due and transitions.refresh_progress(self.job_id, current=self._current, not_within=pause):
            self._progress_due = now + PROGRESS_S
            self._current = {}
        events.append(self.job_id, new_events)

    def stream(
        self, source: AsyncIterator[T], *, most: int = 1000, weight: Callable[[T], int] | None = None
    ) -> Iterator[list[T]]:
        """See `runners.ShardContext`."""
        pump = Pump(loop_thread(), source, most=most, weight=weight or (lambda _: 1))
        self._cancel = pump.cancel
        if self.sign.reason:
            pump.cancel()
        try:
            for items in pump.lists(first_s=FIRST_CHECKPOINT_S, interval_s=CHECKPOINT_S):
                if self.sign.reason == "lost":
                    raise LeaseLost(f"shard {self.lease.shard_id}")
                yield items
            if self.sign.reason:
                yield []
                raise StopRequested(self.sign.reason)
        finally:
            self._cancel = None
            pump.close()

    def call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """See `runners.ShardContext`."""

        async def once() -> AsyncIterator[T]:
            yield await coroutine

        result: list[T] = []
        with contextlib.closing(self.stream(once(), most=1)) as lists:  # type: ignore[type-var]
            for items in lists:
                result += items
                if not items:
                    self.checkpoint()
        return result[0]

    def is_lease_valid(self) -> bool:
        """See `runners.ShardContext`."""
        return self.lease.is_valid() and self.sign.reason != "lost"

    def is_cancelled(self) -> bool:
        """See `runners.ShardContext`."""
        return self.sign.reason == "cancel"

    def has_had_its_turn(self) -> bool:
        """See `runners.ShardContext`."""
        return self.sign.seconds_getting_on() >= turns.SLICE_S

    def give_way(self) -> None:
        """See `runners.ShardContext`."""
        self.sign.raise_for("turn")

    def on_abort(self, abort: Callable[[], None]) -> None:
        """See `runners.ShardContext`."""
        self._abort = abort

    def on_end(self, callback: Callable[[], None]) -> None:
        """See `runners.ShardContext`."""
        self._at_end[callback] = None

    def end(self) -> None:
        """The runner does nothing more."""
        for callback in self._at_end:
            callback()

    def _stop(self, reason: str) -> None:
        logger.info("Shard %s stops: %s", self.lease.shard_id, reason)
        if reason == "lost" and self._abort is not None:
            loop_thread().call_soon(self._abort)
        if self._cancel is not None:
            self._cancel()


def run(
    shard_id: int,
    attempt: int,
    *,
    worker_id: str,
    queue_waiting: QueueWaiting,
    at_end: QueueWaiting | None = None,
    state: ShardState = ShardState.QUEUED,
) -> bool:
    """Run a shard if it is still in `state` under this attempt; True when its job ended with it.

    `at_end` takes the place of `queue_waiting` when it is done.
    """
    lease = _claim(shard_id, attempt, worker_id, state)
    if lease is None:
        return Job.objects.filter(shards__pk=shard_id, status__in=FINISHED).exists()
    try:
        context = LeasedShard(lease, queue_waiting)
    except Shard.DoesNotExist:
        return True  # deleted with its job, which had ended
    watcher.watch(context.sign)
    try:
        try:
            _run_claimed(context)
        finally:
            context.end()
    except LeaseLost:
        logger.warning("Shard %s was lost to another worker; stopped.", shard_id)
        return False
    except StopRequested:
        _release(context)
    except ComeLater as later:
        _put_off(context, later)
    except JobFailed as error:
        _fail(context, str(error))
    except OperationalError:
        logger.warning("The database did not answer; shard %s is given back.", shard_id, exc_info=True)
        if not _give_back(lease):
            return False
    except Exception as error:
        logger.exception("Shard %s failed unexpectedly", shard_id)
        _fail(
            context,
            f"Haulier itself failed ({type(error).__name__}); the server's log has the details under {context.job_id}.",
        )
    finally:
        watcher.forget(context.sign)
    return settle(context.job_id, at_end or queue_waiting)


def _claim(shard_id: int, attempt: int, worker_id: str, state: ShardState) -> Lease | None:
    with transaction.atomic():
        lease = leases.claim(shard_id, attempt, worker_id, state=state)
        if lease is None:
            return None
        shard = Shard.objects.values_list("kind", "job__status", "job__desired")
        kind, status, desired = shard.get(pk=shard_id)
        if kind == ShardKind.CLEAN:
            return lease
        if desired == Desired.CANCEL or status in FINISHED:
            lease.flush(state=ShardState.CANCELLED)
            return None
        if status == JobStatus.PAUSED or desired == Desired.PAUSE:
            lease.flush(state=ShardState.WAITING, keeps_deaths=True)
            return None
        if status == JobStatus.PENDING and not turns.begin(lease.job_id):
            lease.flush(state=ShardState.WAITING)
            return None
    return lease


def _run_claimed(context: LeasedShard) -> None:
    runner = runner_class(context.job_type)()
    if context.kind == ShardKind.FINISH:
        outcome = runner.finish(context)
        with transaction.atomic():
            context.lease.flush(state=ShardState.DONE, counters=context.counters)
            _end(context.job_id, outcome)
        return
    if context.kind == ShardKind.CLEAN:
        runner.clean(context, leases.interrupted(context.job_id))
        with transaction.atomic():
            context.lease.flush(state=ShardState.DONE, counters=context.counters)
            leases.forget_interrupted(context.job_id)
        return
    if context.kind == ShardKind.PREPARE:
        runner.prepare(context)
    else:
        runner.work(context)
    with transaction.atomic():
        context.lease.flush(state=ShardState.DONE, counters=context.counters)
        transitions.refresh_progress(context.job_id, current={"shard": context.number})
        leases.close_work(context.job_id)


def _end(job_id: UUID, outcome: Outcome) -> None:
    target = JobStatus.FAILED if outcome.error else JobStatus.COMPLETED
    try:
        transitions.move(job_id, target, outcome=outcome)
    except IllegalMove as error:
        # A cancel that came first has won; the log says so.
        logger.info("Job %s is %s already.", job_id, error.status)


def _release(context: LeasedShard) -> None:
    """Give up a shard that was told to stop: cancelled with its job, else back to waiting for the next worker."""
    state = ShardState.CANCELLED if context.sign.reason == "cancel" else ShardState.WAITING
    try:
        with transaction.atomic():
            context.lease.flush(state=state, counters=context.counters)
    except LeaseLost:
        logger.warning("Shard %s was taken over while it stopped.", context.lease.shard_id)


def _put_off(context: LeasedShard, later: ComeLater) -> None:
    """Give up a shard that cannot go on now; its job comes again in a while."""
    try:
        with transaction.atomic():
            context.lease.flush(state=ShardState.WAITING, counters=context.counters, note=later.note)
            wait_until = timezone.now() + timedelta(seconds=later.wait_s)
            Job.objects.active().filter(pk=context.job_id).update(due_at=wait_until)
            if not Shard.objects.filter(job=context.job_id, state=ShardState.RUNNING).exists():
                transitions.say_waiting(context.job_id, later.sentence)
    except LeaseLost:
        logger.warning("Shard %s was taken over before it was put off.", context.lease.shard_id)


def _give_back(lease: Lease) -> bool:
    """Put a shard back as it was last saved: what kept it from being saved is no fault of its job.

    False when that fails too; its lease then runs out.
    """
    try:
        with transaction.atomic():
            lease.flush(state=ShardState.WAITING, keeps_deaths=True)
    except (OperationalError, LeaseLost):
        logger.warning("Shard %s is left to the end of its lease.", lease.shard_id, exc_info=True)
        return False
    return True


def _fail(context: LeasedShard, error: str) -> None:
    """Fail the shard and with it the job."""
    try:
        with transaction.atomic():
            context.lease.flush(state=ShardState.FAILED, counters=context.counters)
            if context.kind != ShardKind.CLEAN:
                transitions.move(context.job_id, JobStatus.FAILED, reason=error)
    except LeaseLost:
        logger.warning("Shard %s was taken over before it could fail.", context.lease.shard_id)
    except IllegalMove as move:
        logger.info("Job %s is %s already.", context.job_id, move.status)


def settle(job_id: UUID, queue_waiting: QueueWaiting) -> bool:
    """Bring a job's shards in line with its state after one of them ended; True when the job has ended.

    Harmless at any time and when run twice; the reconciler calls it as well.
    """
    found = Job.objects.filter(pk=job_id).values_list("status", "desired").first()
    if found is None:
        return True
    status, desired = found
    if status in FINISHED:
        leases.fence_off(job_id)
        return True
    if desired == Desired.CANCEL:
        return settle_cancel(job_id)
    if desired == Desired.PAUSE:
        settle_pause(job_id)
        return False
    if not watcher.is_draining:
        queue_waiting(job_id)
    return False


def settle_within(settle: Callable[..., bool], job_id: UUID, wait_s: float) -> None:
    """Wait until `settle_pause` or `settle_cancel` has what it wants, and force it after `wait_s`."""
    deadline = time.monotonic() + wait_s
    while not settle(job_id):
        if time.monotonic() > deadline:
            settle(job_id, by_force=True)
            return
        time.sleep(0.05)


def settle_pause(job_id: UUID, *, by_force: bool = False) -> bool:
    """Pause a job whose owner wants it so: at once when nothing of it runs, or `by_force`; True when nothing does."""
    states = [ShardState.QUEUED]
    if by_force:
        states.append(ShardState.RUNNING)
    leases.put_back(job_id, states=states)
    if Shard.objects.filter(job_id=job_id, state=ShardState.RUNNING).exists():
        return False
    try:
        with transaction.atomic():
            if Job.objects.filter(
                pk=job_id, desired=Desired.PAUSE, status__in=(JobStatus.PENDING, JobStatus.RUNNING)
            ):
                transitions.move(job_id, JobStatus.PAUSED)
    except IllegalMove as error:
        logger.info("Job %s is %s already.", job_id, error.status)
    return True


def settle_cancel(job_id: UUID, *, by_force: bool = False) -> bool:
    """Cancel a job whose owner wants it so: at once when nothing of it runs, or `by_force`; True when it ended."""
    states = [ShardState.WAITING, ShardState.QUEUED]
    if by_force:
        states.append(ShardState.RUNNING)
    leases.fence_off(job_id, states=states)
    if Shard.objects.filter(job_id=job_id, state=ShardState.RUNNING).exists():
        return False
    with contextlib.suppress(IllegalMove), transaction.atomic():
        # It may have been retried since.
        if Job.objects.select_for_update().filter(pk=job_id, desired=Desired.CANCEL).exists():
            transitions.move(job_id, JobStatus.CANCELLED)
    # What was taken back from a dead worker meanwhile.
    leases.fence_off(job_id)
    return True
