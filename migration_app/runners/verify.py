"""A verification after the fact: what a transfer copied is compared by content, each side hashed where it is."""

from functools import partial
from uuid import UUID

from django.db.models import QuerySet

from migration_app import manifest
from migration_app.models import EntryKind, EntryState, Evidence, ManifestEntry
from migration_app.paths import path_shown, text_shown
from migration_app.runners.progress import rate_of, transfer_progress
from migration_app.runners.proof import Proof, differences, prove, save_evidence
from migration_app.runners.shards import Cutter
from migration_app.runners.verification import (
    MISSING,
    MOST_PROBLEMS,
    compare_sizes,
    problem_of,
    problems,
    verification_result,
)
from sessions_app.models import Job
from sessions_app.runners import JobFailed, Json, NewEvent, Outcome, Runner, ShardContext, Snapshot

TRIED_AGAIN = "The transfer was tried again meanwhile. Verify it when it has ended."


class VerifyRunner(Runner):
    """params: those of the transfer that is verified, and `transfer`, its id."""

    type = "verify"
    links = ("files", "report")

    def prepare(self, context: ShardContext) -> None:
        """Take over the transfer's manifest, compare sizes, and cut the files that have the right one into shards.

        The cursor says at which step that is, and from which row on it is still to be done.
        """
        context.counters["verifying"] = 1
        if context.cursor is None:
            # What a run before this one has found.
            manifest.in_ranges(context, manifest.drop)
            cursor = {"step": "copy", "next": 0, "run": _transfer(context).attempt}
            context.checkpoint(cursor=cursor, events=[NewEvent("phase", {"phase": "connecting"})])
        if context.cursor["step"] == "copy":
            _copy(context)
        if context.cursor["step"] == "list":
            compare_sizes(context)
            cursor = {"step": "cut", "next": 0, "cutter": Cutter().as_json()}
            context.checkpoint(cursor=cursor, events=[NewEvent("phase", {"phase": "verifying"})])
        _cut(context)

    def work(self, context: ShardContext) -> None:
        """Hash both sides of the files from payload `first` to `last`."""
        rows = _of_right_size(context.job_id).filter(number__lte=context.payload["last"])
        counters = context.counters
        for proofs in prove(context, rows, after=context.payload["first"] - 1):
            counters["files"] = counters.get("files", 0) + len(proofs)
            counters["bytes"] = counters.get("bytes", 0) + sum(proof.file.entry.size for proof in proofs)
            counters["failed"] = counters.get("failed", 0) + sum(not proof.is_equal for proof in proofs)
            context.checkpoint(
                current={"path": path_shown(proofs[-1].file.entry.path)},
                events=differences(proofs),
                write=partial(_save, context, proofs),
            )

    def finish(self, context: ShardContext) -> Outcome:
        """Sum up."""
        result = verification_result(context.job_id)
        return Outcome(
            result, "" if result["success"] else f"The copy is not what the source is: {result['message']}"
        )

    @classmethod
    def progress(cls, snapshot: Snapshot) -> Json:
        """As of a transfer: files and bytes that were compared."""
        return transfer_progress(snapshot)

    @classmethod
    def rate(cls, progress: Json) -> float | None:
        """The speed of its progress."""
        return rate_of(progress)


def _told(row: ManifestEntry) -> NewEvent:
    return NewEvent("file_failed", {"path": text_shown(row.path), "error": problem_of(row)})


def _transfer(context: ShardContext) -> Job:
    """The transfer that is verified. Raises JobFailed for one that does not stand still."""
    transfer = Job.objects.filter(pk=context.params["transfer"]).first()
    if transfer is None:
        raise JobFailed("The transfer to be verified was deleted.")
    if transfer.is_active:
        raise JobFailed(TRIED_AGAIN)
    return transfer


def _copy(context: ShardContext) -> None:
    """Take over the rows of the transfer."""
    transfer = _transfer(context)
    for numbers in manifest.ranges(transfer.pk, first=context.cursor["next"]):
        context.checkpoint(
            cursor=context.cursor | {"next": numbers.stop},
            write=partial(manifest.copy, transfer.pk, context.job_id, numbers),
        )
    # Only then were its rows the same all the time.
    if _transfer(context).attempt != context.cursor["run"]:
        raise JobFailed(TRIED_AGAIN)
    context.checkpoint(cursor={"step": "list"})


def _cut(context: ShardContext) -> None:
    """Settle what the listing has decided, and cut what is still to be hashed into shards."""
    counters = context.counters
    cutter = Cutter(**context.cursor["cutter"])
    for numbers in manifest.ranges(context.job_id, first=context.cursor["next"]):
        wrong, failed = problems(context.job_id, numbers), counters.get("failed", 0)
        events = [_told(row) for row in wrong[: max(0, MOST_PROBLEMS - failed)]]
        counters["failed"] = failed + wrong.count()
        sizes = _of_right_size(context.job_id, numbers)
        for number, size in sizes.order_by("number").values_list("number", "size"):
            cutter.add(number, size)
            counters["total_files"] = counters.get("total_files", 0) + 1
            counters["total_bytes"] = counters.get("total_bytes", 0) + size
        shards, cutter.shards = cutter.shards, []
        context.checkpoint(
            cursor={"step": "cut", "next": numbers.stop, "cutter": cutter.as_json()},
            shards=shards,
            events=events,
            write=partial(_settle_listed, context.job_id, numbers),
        )
    cutter.close()
    counters["prepared"] = 1
    cursor = context.cursor | {"cutter": cutter.as_json()}
    context.checkpoint(cursor=cursor, shards=cutter.shards)


def _of_right_size(job_id: UUID, numbers: range | None = None) -> "QuerySet[ManifestEntry]":
    return manifest.rows_of(job_id, numbers).filter(
        kind=EntryKind.FILE, state=EntryState.PENDING, evidence=Evidence.SIZE_ONLY
    )


def _settle_listed(job_id: UUID, numbers: range) -> None:
    """Mark what the listing alone has decided: what is missing or of another kind or size, and links and folders."""
    problems(job_id, numbers).filter(evidence="").update(state=EntryState.FAILED, error=MISSING)
    problems(job_id, numbers).update(state=EntryState.FAILED)
    others = manifest.rows_of(job_id, numbers).filter(state=EntryState.PENDING).exclude(kind=EntryKind.FILE)
    others.update(state=EntryState.DONE)


def _save(context: ShardContext, proofs: list[Proof]) -> None:
    manifest.mark(
        context.job_id, [(proof.file.number, "" if proof.is_equal else proof.reason, 1) for proof in proofs]
    )
    # Afterwards: it says of files whose content could not be compared why that was so.
    save_evidence(context, proofs)
