"""A verification after the fact: what a transfer copied is compared by content, each side hashed where it is."""

from collections.abc import Mapping
from functools import partial
from uuid import UUID

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


class VerifyRunner(Runner):
    """params: those of the transfer that is verified, and `transfer`, its id."""

    type = "verify"
    links = ("files", "report")

    def prepare(self, context: ShardContext) -> None:
        """Take over the transfer's manifest, compare sizes, and cut the files that have the right one into shards."""
        if context.cursor == "cut":
            return
        transfer = Job.objects.filter(pk=context.params["transfer"]).first()
        if transfer is None:
            raise JobFailed("The transfer to be verified was deleted.")
        context.counters["verifying"] = 1
        if context.cursor is None:
            context.checkpoint(
                cursor="copied",
                events=[NewEvent("phase", {"phase": "connecting"})],
                write=partial(manifest.copy, transfer.pk, context.job_id),
            )
        compare_sizes(context)
        shards, files, size = _cut(context)
        wrong = problems(context.job_id)
        context.counters |= {
            "prepared": 1,
            "total_files": files,
            "total_bytes": size,
            "failed": wrong.count(),
        }
        events = [NewEvent("phase", {"phase": "verifying"}), *map(_told, wrong[:MOST_PROBLEMS])]
        context.checkpoint(
            cursor="cut", shards=shards, events=events, write=partial(_settle_listed, context.job_id)
        )

    def work(self, context: ShardContext) -> None:
        """Hash both sides of the files from payload `first` to `last`."""
        rows = manifest.rows_of(context.job_id).filter(
            number__gte=context.payload["first"],
            number__lte=context.payload["last"],
            evidence=Evidence.SIZE_ONLY,
            kind=EntryKind.FILE,
            state=EntryState.PENDING,
        )
        counters = context.counters
        for proofs in prove(context, rows):
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
    def begin_again(cls, job_id: UUID, counters: Mapping[str, int]) -> dict[str, int]:
        """From the start: nothing that it has found is kept."""
        manifest.rows_of(job_id).delete()
        return {}

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


def _settle_listed(job_id: UUID) -> None:
    """Mark what the listing alone has decided: what is missing or of another kind or size, and links and folders."""
    problems(job_id).filter(evidence="").update(state=EntryState.FAILED, error=MISSING)
    problems(job_id).update(state=EntryState.FAILED)
    others = manifest.rows_of(job_id).filter(state=EntryState.PENDING).exclude(kind=EntryKind.FILE)
    others.update(state=EntryState.DONE)


def _cut(context: ShardContext) -> tuple[list[Json], int, int]:
    """Payloads of shards, and how many files and bytes they have."""
    rows = manifest.rows_of(context.job_id).filter(
        kind=EntryKind.FILE, state=EntryState.PENDING, evidence=Evidence.SIZE_ONLY
    )
    cutter = Cutter()
    files = size = 0
    for number, length in rows.order_by("number").values_list("number", "size").iterator(chunk_size=5000):
        cutter.add(number, length)
        files, size = files + 1, size + length
    cutter.close()
    return cutter.shards, files, size


def _save(context: ShardContext, proofs: list[Proof]) -> None:
    manifest.mark(
        context.job_id, [(proof.file.number, "" if proof.is_equal else proof.reason, 1) for proof in proofs]
    )
    # Afterwards: it says of files whose content could not be compared why that was so.
    save_evidence(context, proofs)
