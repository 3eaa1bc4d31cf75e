"""A process that does one job by itself, with the same rows and leases as the workers: for the terminal."""

import threading
from types import TracebackType
from typing import Self
from uuid import UUID

from django.db import transaction
from django.db.models import F

from sessions_app import claims, events, execution, leases, presence, retries, transitions
from sessions_app.models import Job, Shard, Worker
from sessions_app.presence import WORK_QUEUE, Presence
from sessions_app.states import FINISHED, Desired, JobStatus, ShardKind, ShardState
from sessions_app.transitions import IllegalMove
from sessions_app.watch import watcher

LOOK_S = 0.1


class NotToBeAdopted(Exception):
    """Why a job cannot go on in this process, as one sentence."""


class InlineWorker:
    """The worker of one job. Should this process die, the workers of a server take the job over."""

    def __init__(self) -> None:
        self._presence = Presence(["inline"])
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._presence.leave()

    @property
    def id(self) -> str:
        """What `Job.executor` holds meanwhile."""
        return self._presence.id

    def stop(self) -> None:
        """Pause the job at its next safe point; from any thread, but not from a signal handler."""
        self._stopping.set()
        watcher.drain()

    def adopt(self, job_id: UUID) -> None:
        """Take a job that is paused, that failed, or that nobody does any more. Raises NotToBeAdopted."""
        presence.bury_dead()
        job = Job.objects.get(pk=job_id)
        if job.status == JobStatus.FAILED:
            self._begin_again(job_id)
            return
        alive = [worker for worker in Worker.objects.all() if presence.is_alive(worker)]
        if job.status in FINISHED:
            raise NotToBeAdopted(f"The session is {job.status}; there is nothing to go on with.")
        if job.executor in {worker.pk for worker in alive}:
            raise NotToBeAdopted("The session goes on in another process.")
        has_workers = any(WORK_QUEUE in worker.queues.split(",") for worker in alive)
        if job.status != JobStatus.PAUSED and has_workers:
            raise NotToBeAdopted("The session goes on in the server's workers; its page shows it live.")
        if (
            Job.objects.filter(pk=job_id, executor=job.executor).update(executor=self.id, desired=Desired.RUN)
            != 1
        ):
            raise NotToBeAdopted("Another process has just taken the session.")
        for shard in leases.expired():
            if shard.job_id == job_id:
                leases.take_back(shard)
        # Messages of an earlier time find another attempt and do nothing.
        Shard.objects.filter(job_id=job_id, state=ShardState.QUEUED).update(
            state=ShardState.WAITING, attempt=F("attempt") + 1
        )
        if job.status == JobStatus.PAUSED and not claims.start(job_id, reason="Resumed in the terminal."):
            Job.objects.filter(pk=job_id).update(executor="")
            raise NotToBeAdopted("Another session writes to the same folder; go on when that one has ended.")

    def _begin_again(self, job_id: UUID) -> None:
        try:
            with transaction.atomic():
                retries.begin(job_id)
                Job.objects.filter(pk=job_id).update(executor=self.id)
                owner = Job.objects.values_list("owner__username", flat=True).get(pk=job_id)
                events.tell_who(job_id, "Retry", f"{owner} in the terminal")
        except IllegalMove as error:
            raise NotToBeAdopted(
                f"Another process has just taken the session: it is {error.status}."
            ) from None

    def work_off(self, job_id: UUID) -> None:
        """Do the job until it ends, or until `stop`: then it is paused."""
        while not self._stopping.is_set():
            job = Job.objects.filter(pk=job_id).first()
            if job is None or job.status in FINISHED:
                self._clean(job_id)
                return
            if job.status == JobStatus.PAUSED:
                self._leave(job_id)
                return
            shard = self._next_shard(job_id)
            if shard is None or not self._run(shard):
                execution.settle(job_id, _nothing_to_queue)
                self._presence.announce()
                self._stopping.wait(LOOK_S)
        self._pause(job_id)

    def _clean(self, job_id: UUID) -> None:
        """Clean up at once: there may be no server that would."""
        for shard in leases.cleanable().filter(job_id=job_id):
            self._run(shard)

    def _next_shard(self, job_id: UUID) -> Shard | None:
        if not Job.objects.due().filter(pk=job_id).exists():
            return None
        waiting = Shard.objects.filter(job_id=job_id, state=ShardState.WAITING).order_by("number")
        return waiting.exclude(kind=ShardKind.WORK).first() or waiting.first()

    def _run(self, shard: Shard) -> bool:
        """Whether the shard got anywhere; not so while its job waits for another."""
        execution.run(
            shard.pk,
            shard.attempt,
            worker_id=self.id,
            queue_waiting=_nothing_to_queue,
            state=ShardState.WAITING,
        )
        return not Job.objects.filter(pk=shard.job_id, status=JobStatus.PENDING, desired=Desired.RUN).exists()

    def _pause(self, job_id: UUID) -> None:
        try:
            transitions.move(job_id, JobStatus.PAUSED, reason="Interrupted in the terminal.")
        except IllegalMove:
            return  # It ended in the same moment, which is better.
        self._leave(job_id)

    def _leave(self, job_id: UUID) -> None:
        Job.objects.filter(pk=job_id, executor=self.id).update(executor="")


def _nothing_to_queue(job_id: UUID) -> None:
    """Nobody else is to do this job's shards."""
