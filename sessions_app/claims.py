"""Two jobs whose destination trees overlap never run at once: the later one waits and says for which."""

from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from sessions_app import transitions
from sessions_app.models import Chore, Job, JobClaim
from sessions_app.runners import Claim
from sessions_app.states import JobStatus

_SCHEDULE = "schedule"
"""The key of a claim on a schedule, where others name a server."""
# One that has not begun holds nothing; one that has holds its tree also while it is paused, or waits to go on.
_HOLDING = Q(job__status=JobStatus.RUNNING) | Q(
    job__status__in=(JobStatus.PAUSED, JobStatus.PENDING), job__started_at__isnull=False
)


def is_overlapping(one: str, other: str) -> bool:
    """Whether one path holds the other; both absolute, the root as the empty text.

    >>> is_overlapping("/srv/a", "/srv/a/b"), is_overlapping("/srv/a", "/srv/ab"), is_overlapping("", "/x")
    (True, False, True)
    """
    return (one + "/").startswith(other + "/") or (other + "/").startswith(one + "/")


def of_schedule(schedule_id: int | None) -> list[Claim]:
    """What keeps two runs of one schedule from going at once, whatever they do."""
    return [Claim(_SCHEDULE, f"/{schedule_id}")] if schedule_id is not None else []


def lock() -> None:
    """Let no other job begin until the caller's transaction has ended."""
    row, _ = Chore.objects.get_or_create(name="claims", defaults={"next_at": timezone.now()})
    Chore.objects.filter(pk=row.pk).update(next_at=timezone.now())


def start(job_id: UUID, *, reason: str = "") -> bool:
    """Move a pending or paused job to running unless another holds an overlapping tree; False when it must wait.

    Runs in the caller's transaction, which holds one lock for all jobs until it ends.
    """
    with transaction.atomic():
        lock()
        held = _held_from(job_id)
        if held is None:
            transitions.move(job_id, JobStatus.RUNNING, reason=reason)
            return True
        _tell(job_id, held)
        return False


def _held_from(job_id: UUID) -> JobClaim | None:
    """The claim of another job that this one has to wait for."""
    for claim in JobClaim.objects.filter(job_id=job_id):
        others = JobClaim.objects.filter(_HOLDING, key=claim.key).exclude(job_id=job_id)
        for other in others.select_related("job"):
            if is_overlapping(claim.path, other.path):
                return other
    return None


def must_wait(job_id: UUID) -> bool:
    """Whether another job holds a tree that overlaps those of this one; then its progress says so."""
    held = _held_from(job_id)
    if held is not None:
        _tell(job_id, held)
    return held is not None


def _tell(job_id: UUID, held: JobClaim) -> None:
    holder = held.job
    owner_id = Job.objects.values_list("owner_id", flat=True).get(pk=job_id)
    # Only the owner of both may know which job it is.
    name = f"session {holder.id}" if holder.owner_id == owner_id else "another job"
    why = (
        "the run before of the same schedule" if held.key == _SCHEDULE else "which writes to the same folder"
    )
    transitions.say_waiting(job_id, f"Waits for {name}, {why}.", is_logged=True)
