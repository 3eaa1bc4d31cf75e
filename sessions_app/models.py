"""The rows of the durable job engine. They know nothing of migrations."""

import uuid
from collections.abc import Collection
from typing import Any

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.utils import timezone

from sessions_app.states import ACTIVE, FINISHED, Desired, JobStatus, ShardKind, ShardState


class Role(models.TextChoices):
    """What a person may do: an owner everything, an operator their own jobs."""

    OWNER = "owner"
    OPERATOR = "operator"


class User(AbstractUser):
    """A person who signs in."""

    role = models.CharField(max_length=16, choices=Role, default=Role.OPERATOR)
    most_running = models.PositiveSmallIntegerField("most running sessions", default=10)
    """So many of their jobs run at once; the next ones wait for their turn."""

    @property
    def is_owner(self) -> bool:
        """Whether this account may do everything, the host's own folders included."""
        return self.role == Role.OWNER


class ApiToken(models.Model):
    """A bearer token; only its SHA-256 is stored."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_tokens")
    label = models.CharField(max_length=100, blank=True)
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.label or f"token {self.pk}"


class SignInLink(models.Model):
    """A one-time token behind a printed link; only its SHA-256 is stored. It does not expire unused."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="sign_in_links")
    digest = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField(auto_now_add=True)
    used_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return f"sign-in link {self.pk}"


LOWEST_PRIORITY, HIGHEST_PRIORITY = -100, 100


class JobQuerySet(models.QuerySet["Job"]):
    def active(self) -> "JobQuerySet":
        return self.in_states(ACTIVE)

    def finished(self) -> "JobQuerySet":
        return self.filter(status__in=FINISHED)

    def in_states(self, states: Collection[str]) -> "JobQuerySet":
        if len(states) == 1:
            return self.filter(status=next(iter(states)))
        if JobStatus.COMPLETED in states:
            return self.filter(status__in=states)
        # By the index of states: in a long history most jobs are completed and few are not.
        return self.filter(pk__in=Job.objects.filter(status__in=states).order_by().values("pk"))

    def due(self) -> "JobQuerySet":
        """Those that need not wait for a time that is still to come."""
        return self.filter(models.Q(due_at=None) | models.Q(due_at__lte=timezone.now()))

    def owned_by(self, user: User) -> "JobQuerySet":
        return self.filter(owner=user)


class Overlap(models.TextChoices):
    """What a schedule does when the run before still goes: leave one out, or have one wait."""

    SKIP = "skip"
    QUEUE = "queue"


class Missed(models.TextChoices):
    """What a schedule does about a time at which no worker ran: nothing, or one run as soon as one is there."""

    SKIP = "skip"
    RUN_ONCE = "run_once"


class Schedule(models.Model):
    """A request that is submitted again and again. Whoever wins the conditional UPDATE of `next_run_at` submits it."""

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="schedules")
    name = models.CharField(max_length=200)
    cron = models.CharField(max_length=200)
    timezone = models.CharField(max_length=100)
    type = models.CharField(max_length=16)
    """Of its jobs."""
    request = models.JSONField(default=dict)
    """What is submitted, without secrets; its form belongs to the submitter of the type."""
    sealed = models.TextField(blank=True)
    """The secrets of the request; how they are sealed is the submitter's business."""
    on_overlap = models.CharField(max_length=16, choices=Overlap, default=Overlap.SKIP)
    on_missed = models.CharField(max_length=16, choices=Missed, default=Missed.RUN_ONCE)
    next_run_at = models.DateTimeField(null=True, blank=True, db_index=True)
    """Null while it is paused, and where no such day is to come."""
    is_paused = models.BooleanField(default=False)
    last_error = models.TextField(blank=True)
    """Why the last run could not be submitted; empty since one was."""
    last_error_at = models.DateTimeField(null=True, blank=True)
    last_skipped_reason = models.TextField(blank=True)
    last_skipped_at = models.DateTimeField(null=True, blank=True)
    # Null, not empty, when there is none: the key is unique for its owner.
    form_key = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001
    """Of the form that made it: pressed twice it makes one."""
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["name", "id"]
        constraints = [
            models.UniqueConstraint(fields=["owner", "form_key"], name="one_schedule_per_form_key")
        ]

    def __str__(self) -> str:
        return self.name


_AnyJobManager = models.Manager.from_queryset(JobQuerySet)


class JobManager(_AnyJobManager["Job"]):
    """The jobs that were not deleted."""

    def get_queryset(self) -> JobQuerySet:
        """Them."""
        return JobQuerySet(self.model, using=self._db).filter(deleted_at=None)


class Job(models.Model):
    """A durable session. `status` moves only through `transitions.move`."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    type = models.CharField(max_length=16)
    status = models.CharField(max_length=16, choices=JobStatus, default=JobStatus.PENDING)
    desired = models.CharField(max_length=16, choices=Desired, default=Desired.RUN)
    # Without an index of its own, which a database would take for that of the list.
    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="jobs", db_index=False)
    title = models.CharField(max_length=500, blank=True)
    search_text = models.TextField(blank=True)
    """Servers and title in lower case; see `searched`."""
    attempt = models.PositiveIntegerField(default=1)
    """Number of the run: 1 at first, one more after each retry; events carry it as `run`."""
    parent = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL)
    schedule = models.ForeignKey(
        Schedule, null=True, blank=True, on_delete=models.SET_NULL, related_name="jobs"
    )
    """What submitted it, where that was no person."""
    params = models.JSONField(default=dict)
    """What the runner needs: ids, roots and options, never a secret."""
    public = models.JSONField(default=dict)
    """What the answer shows of the request: source_config and dest_config, without secrets."""
    progress = models.JSONField(null=True, blank=True)
    """As its runner words it. What begins with an underscore is the runner's own, and not told: `told_progress`."""
    progress_at = models.DateTimeField(null=True, blank=True)
    result = models.JSONField(null=True, blank=True)
    error_message = models.TextField(blank=True)
    priority = models.SmallIntegerField(default=0)
    """Jobs with a higher one come first, from LOWEST_PRIORITY to HIGHEST_PRIORITY."""
    keep = models.BooleanField(default=False)
    """Whether it stays when its time is over."""
    run_at = models.DateTimeField(null=True, blank=True)
    """When its owner wants it to start; null: at once."""
    due_at = models.DateTimeField(null=True, blank=True)
    """Nothing of it is given to a worker before; null: it may go on."""
    served_at = models.DateTimeField(null=True, blank=True)
    """When work of this run was last given to a worker: of equal jobs the one that has waited longest is next."""
    open_shards = models.PositiveIntegerField(default=0)
    """Prepare and work shards that have not ended; at 0 the finish shard is queued."""
    event_seq = models.PositiveIntegerField(default=0)
    """`seq` of the job's last event."""
    # Null, not empty, when there is none: the key is unique for its owner.
    executor = models.CharField(max_length=64, blank=True)
    """Id of the one worker that does this job in its own process; empty when any worker may."""
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001
    request_digest = models.CharField(max_length=64, blank=True)
    user_agent = models.CharField(max_length=500, blank=True)
    client_ip = models.CharField(max_length=64, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    started_at = models.DateTimeField(null=True, blank=True)
    completed_at = models.DateTimeField(null=True, blank=True)
    deleted_at = models.DateTimeField(null=True, blank=True)
    """When it was deleted: nobody sees it any more, and its rows are removed bit by bit."""

    objects = JobManager()
    everything = JobQuerySet.as_manager()
    """Deleted ones too."""

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(
                fields=["owner", "-created_at", "-id"],
                condition=models.Q(deleted_at=None),
                name="job_by_owner",
            ),
            models.Index(
                fields=["owner", "status", "-created_at", "-id"],
                condition=models.Q(deleted_at=None),
                name="job_by_state",
            ),
            models.Index(
                fields=["status", "completed_at"], condition=models.Q(deleted_at=None), name="job_by_status"
            ),
            # All that a search reads of jobs that it does not find.
            models.Index(
                fields=["owner", "search_text", "id"], condition=models.Q(deleted_at=None), name="job_by_text"
            ),
            models.Index(
                fields=["deleted_at"], condition=models.Q(deleted_at__isnull=False), name="job_deleted"
            ),
        ]
        constraints = [
            models.UniqueConstraint(fields=["owner", "idempotency_key"], name="one_job_per_idempotency_key")
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"

    @property
    def searched(self) -> str:
        """What its `search_text` is to be; as much as every database takes into an index."""
        sides = (self.public.get(name) or {} for name in ("source_config", "dest_config"))
        name = " ".join([*(str(side.get("host", "")) for side in sides), self.title])
        return f"{name[:400]} {self.error_message}".strip().lower()[:600]

    @property
    def told_progress(self) -> dict[str, Any] | None:
        """The progress without what is nobody else's business."""
        if self.progress is None:
            return None
        return {name: value for name, value in self.progress.items() if not name.startswith("_")}

    @property
    def is_active(self) -> bool:
        return self.status in ACTIVE

    @property
    def is_finished(self) -> bool:
        return self.status in FINISHED


class JobCurve(models.Model):
    """How fast a job went, for a picture; see `curve`."""

    job = models.OneToOneField(Job, primary_key=True, on_delete=models.CASCADE, related_name="curve")
    step_s = models.FloatField(default=1.0)
    rates = models.JSONField(default=list)
    """Bytes a second, a number for each step since the job started; null where nobody was at work."""

    def __str__(self) -> str:
        return f"curve of {self.job_id}"


class JobClaim(models.Model):
    """A tree that a job writes to; two jobs whose claims overlap never run at once."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="claims")
    key = models.CharField(max_length=500, db_index=True)
    """Which server, as in `sftp://user@host:22`."""
    path = models.CharField(max_length=4096 * 4)
    """Absolute path without a trailing slash; the empty text is the server's root."""

    def __str__(self) -> str:
        return f"{self.key}{self.path}"


class Shard(models.Model):
    """A piece of a job that one worker does under a lease. `attempt` is the fencing token."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="shards")
    number = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=ShardKind)
    state = models.CharField(max_length=16, choices=ShardState, default=ShardState.WAITING)
    attempt = models.PositiveIntegerField(default=0)
    deaths = models.PositiveIntegerField(default=0)
    """Leases that expired without a checkpoint since the last one."""
    owner = models.CharField(max_length=64, blank=True)
    """Id of the worker that holds the lease."""
    lease_until = models.DateTimeField(null=True, blank=True)
    message = models.CharField(max_length=64, blank=True)
    """The queue's id of the message that delivers this shard."""
    cursor = models.JSONField(null=True, blank=True)
    """Where the next attempt goes on; its form belongs to the runner."""
    counters = models.JSONField(default=dict)
    """Whole numbers by name; the job's progress is their sum over all shards."""
    note = models.JSONField(null=True, blank=True)
    """What an attempt that could not go on leaves to the next one; its form belongs to the runner."""
    payload = models.JSONField(default=dict)
    """What the shard is to do; its form belongs to the runner."""

    class Meta:
        ordering = ["job", "number"]
        indexes = [models.Index(fields=["state", "lease_until"], name="shard_by_state")]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="shard_number_within_job")]

    def __str__(self) -> str:
        return f"{self.kind} {self.number} of {self.job_id}"


class JobEvent(models.Model):
    """One line of the append-only log: audit trail, replay log and outbox in one."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="events")
    seq = models.PositiveIntegerField()
    """1, 2, 3 … within the job, without a hole."""
    type = models.CharField(max_length=32)
    data = models.JSONField(default=dict)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(fields=["job", "seq"], name="seq_within_job")]

    def __str__(self) -> str:
        return f"{self.type} {self.seq} of {self.job_id}"


class Worker(models.Model):
    """A worker process that was heard of."""

    id = models.CharField(primary_key=True, max_length=64)
    host = models.CharField(max_length=255)
    pid = models.PositiveIntegerField()
    queues = models.CharField(max_length=100)
    processors = models.PositiveIntegerField(default=1)
    """Of its host, those that it may use."""
    started_at = models.DateTimeField(auto_now_add=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"worker {self.pid} on {self.host}"


class RetentionRule(models.Model):
    """How long finished jobs stay, as an owner has set it, instead of what HAULIER_RETENTION says."""

    name = models.CharField(primary_key=True, max_length=16)
    """A type of job, or `failed`: jobs of all types that failed."""
    stays = models.DurationField()
    most = models.PositiveIntegerField(null=True, blank=True)
    """Of one person's jobs of the type so many stay, the newest; null: however many there are."""

    def __str__(self) -> str:
        return f"{self.name} {self.stays}"


class Chore(models.Model):
    """A periodic task of the engine; whoever wins the conditional UPDATE of `next_at` does it."""

    name = models.CharField(primary_key=True, max_length=32)
    next_at = models.DateTimeField()

    def __str__(self) -> str:
        return self.name
