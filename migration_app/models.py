"""Where a job reads and writes, the host keys seen there, and the files it is about."""

from django.conf import settings
from django.db import models


class EndpointQuerySet(models.QuerySet["Endpoint"]):
    """Endpoints by what they are."""

    def stored(self) -> "EndpointQuerySet":
        """Stored connections, not the sides of jobs."""
        return self.exclude(name="")


class Endpoint(models.Model):
    """A server, who we are there, and the sealed secrets for it: one side of a job, or a stored connection.

    A transfer has two sides, a scan one; they go when their job goes. `Job.params` holds their ids and roots. A stored
    connection has a name and no job; a side that was made from one refers to it and holds no secret of its own.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="endpoints")
    job = models.ForeignKey(
        "sessions_app.Job", null=True, blank=True, on_delete=models.CASCADE, related_name="endpoints"
    )
    name = models.CharField(max_length=100, blank=True)
    """Of a stored connection."""
    connection = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.SET_NULL, related_name="uses"
    )
    """Of a side: the stored connection that has its secrets."""
    protocol = models.CharField(max_length=16)
    host = models.CharField(max_length=255, blank=True)
    port = models.PositiveIntegerField(default=0)
    username = models.CharField(max_length=255, blank=True)
    options = models.JSONField(default=dict)
    """What the protocol knows besides; of sftp: `host_key`, the fingerprint that the request demands, and `jump`, the
    server to go through (host, port, username, host_key, or the id of a stored `connection`). `max_connections`: how
    many all jobs together may have open, where that is not the usual number. Of a stored connection:
    `bandwidth_limit`, `bandwidth_timetable` and `bandwidth_timezone`, as those of a transfer.
    Of a destination where no mtimes can be set: `keeps_no_times_in`, the folder."""
    sealed = models.TextField(blank=True)
    """The secrets as one token of `secrets.seal`; empty when there are none."""
    root_path = models.TextField(blank=True)
    """Of a stored connection: where it begins unless a request says otherwise."""
    last_test = models.JSONField(null=True, blank=True)
    """Of a stored connection: the ProbeResult of its last test."""
    tested_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = EndpointQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["owner", "name"], condition=~models.Q(name=""), name="one_connection_of_a_name"
            )
        ]

    def __str__(self) -> str:
        return self.name or self.where

    @property
    def where(self) -> str:
        """The server for people, as in `sftp://user@host:2222`; `local` for this machine."""
        if self.protocol == "local":
            return "local"
        user = f"{self.username}@" if self.username else ""
        return f"{self.protocol}://{user}{self.server}"

    @property
    def server(self) -> str:
        """Host and port for people; the port is left out where it is the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port in (0, 22) else f"{host}:{self.port}"


class ServerLoad(models.Model):
    """Who has connections open to a server, and who waits for one; see `runners.slots`."""

    key = models.CharField(primary_key=True, max_length=600)
    """As in `sftp://host:22`."""
    holders = models.JSONField(default=dict)
    """How many connections each worker has, by its id."""
    waiting = models.JSONField(default=dict)
    """Jobs that wait, by their id: since when, and when they asked last, in seconds since 1970."""
    served = models.JSONField(default=dict)
    """Jobs whose turn it is: since when they had waited, and when it began."""
    most = models.PositiveSmallIntegerField(null=True)
    """So many connections were open when the server refused another one."""
    most_at = models.FloatField(default=0)
    """When that was, in seconds since 1970."""

    def __str__(self) -> str:
        return self.key


class BandwidthUse(models.Model):
    """Who uses a limit of bandwidth now; see `runners.shares`. It is there while somebody does."""

    key = models.CharField(primary_key=True, max_length=60)
    """`job` or `connection`, and its id."""
    shares = models.JSONField(default=dict)
    """By job and shard: the bytes a second that count as its own, whether it would take more, and when it said so, in
    seconds since 1970 by the database's clock."""

    def __str__(self) -> str:
        return self.key


class HostKey(models.Model):
    """A server's key as a person's jobs first saw it; a server that shows another one is refused."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="host_keys")
    host = models.CharField(max_length=255)
    """In lower case."""
    port = models.PositiveIntegerField()
    algorithm = models.CharField(max_length=64)
    fingerprint = models.CharField(max_length=100)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["owner", "host", "port"], name="one_host_key_per_server")
        ]

    def __str__(self) -> str:
        return f"{self.host}:{self.port} {self.algorithm} {self.fingerprint}"


class EntryKind(models.TextChoices):
    """What an entry of a tree is; sockets, fifos and devices are `other`."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"
    OTHER = "other"


class EntryAction(models.TextChoices):
    """What is to be done with an entry; a scan only lists it."""

    LIST = "list"
    CREATE = "create"
    UPDATE = "update"
    SKIP = "skip"
    CONFLICT = "conflict"
    COMPARE = "compare"
    """Until what both sides hold has decided."""
    DELETE = "delete"
    """It is at the destination alone."""


class EntryState(models.TextChoices):
    """How far an entry is; skipped: it was there already, equal, or is left out for the reason in `error`."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"


class Evidence(models.TextChoices):
    """What was found when the destination was looked at again.

    two_sided_hash: each side hashed where it is; readback: a file was read over the wire to be hashed.
    """

    TWO_SIDED_HASH = "two_sided_hash"
    READBACK = "readback"
    SIZE_ONLY = "size_only"
    MISMATCH = "mismatch"


class ManifestEntry(models.Model):
    """One entry of a job's tree. Written and read in batches by `manifest`, never one by one.

    `number` counts in the order of the walk, so a folder always has a lower one than what it holds.
    """

    job = models.ForeignKey(
        "sessions_app.Job", on_delete=models.CASCADE, related_name="manifest", db_index=False
    )
    number = models.PositiveBigIntegerField()
    path = models.TextField()
    """Relative to the root, in the form of `path_text`."""
    path_hash = models.BigIntegerField()
    """Of the path's bytes, to find it by: a path may be longer than Postgres takes into an index."""
    kind = models.CharField(max_length=8, choices=EntryKind)
    size = models.BigIntegerField(default=0)
    mtime = models.BigIntegerField(default=0)
    """Whole seconds since 1970."""
    mode = models.PositiveIntegerField(default=0)
    target = models.TextField(blank=True)
    """Of a link: what it holds; of a file: its path at the destination where that is another one; as `path_text`."""
    real_path = models.TextField(blank=True)
    """Of what was reached through a followed link: its path at the source on a way without links; as `path_text`."""
    action = models.CharField(max_length=8, choices=EntryAction)
    state = models.CharField(max_length=8, choices=EntryState)
    is_settled = models.BooleanField(default=False)
    """Of a folder that was at the destination: its mode and mtime there were what they should be, and nothing is put
    into it, so it is left alone at the end. Of a file that is to be compared: the one there keeps its own if equal."""
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.TextField(blank=True)
    evidence = models.CharField(max_length=16, blank=True, choices=Evidence)

    class Meta:
        verbose_name_plural = "manifest entries"
        indexes = [models.Index(fields=["job", "path_hash"], name="manifest_by_path")]
        constraints = [models.UniqueConstraint(fields=["job", "number"], name="number_within_job")]

    def __str__(self) -> str:
        return self.path
