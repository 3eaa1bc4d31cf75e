"""Looks at the destination of a transfer once more and compares what is there with the manifest."""

from collections.abc import AsyncGenerator
from functools import partial
from uuid import UUID

from django.db.models import Count, Q, QuerySet, Sum

from migration_app import manifest
from migration_app.engine.filters import Filter
from migration_app.engine.scan import ScanBatch, scan_tree
from migration_app.models import EntryKind, EntryState, Evidence, ManifestEntry
from migration_app.paths import PathSet, path_bytes, path_shown, text_shown
from migration_app.runners.connections import Route, side_of
from migration_app.runners.proof import differences, prove, save_evidence
from migration_app.storages.base import Entry, Storage
from sessions_app.runners import Json, NewEvent, ShardContext

MOST_PROBLEMS = 100
MISSING = "Missing at the destination."
_EXPECTED = (EntryKind.FILE, EntryKind.LINK, EntryKind.FOLDER)


class _OnlyFolders(Filter):
    """Keeps a scan to the folders of the manifest: what else lies at the destination is nobody's business."""

    def __init__(self, folders: PathSet) -> None:
        super().__init__()
        self._folders = folders

    def excludes(self, path: bytes, is_folder: bool) -> bool:
        return is_folder and path not in self._folders


def verify(context: ShardContext) -> Json:
    """Compare by size, then by content what has the right size; the `verification_result` of the HTTP contract.

    The shard's cursor is the number up to which contents were compared: a second try after a crash goes on there.
    """
    if context.cursor is None:
        context.counters["verifying"] = 1
        context.checkpoint(events=[NewEvent("phase", {"phase": "verifying"})])
        compare_sizes(context)
        context.counters["to_verify"] = _of_right_size(context).count()
        context.checkpoint(cursor=0)
    for proofs in prove(context, _of_right_size(context), after=context.cursor):
        context.counters["verified"] = context.counters.get("verified", 0) + len(proofs)
        last = proofs[-1].file
        context.checkpoint(
            cursor=last.number,
            current={"path": path_shown(last.entry.path)},
            events=differences(proofs),
            write=partial(save_evidence, context, proofs),
        )
    return verification_result(context.job_id)


def _of_right_size(context: ShardContext) -> "QuerySet[ManifestEntry]":
    # A file that failed keeps its reason.
    rows = manifest.rows_of(context.job_id).exclude(state=EntryState.FAILED)
    return rows.filter(kind=EntryKind.FILE, evidence=Evidence.SIZE_ONLY)


def compare_sizes(context: ShardContext) -> None:
    """List the destination and note for each row what is there."""
    folders = manifest.folders(context.job_id)
    # A second try after a crash starts over.
    manifest.in_ranges(context, manifest.forget_evidence)
    has_renamed = manifest.has_renamed(context.job_id)

    async def listed(destination: Storage) -> AsyncGenerator[ScanBatch, None]:
        async for batch in scan_tree(destination, _OnlyFolders(folders)):
            yield batch

    route = Route(context, [side_of(context, "destination", "destination_root")], listed)
    for batches in route.lists(weight=lambda batch: sum(1 + len(folder.entries) for folder in batch.folders)):
        context.counters["connected"] = 1
        entries = [entry for batch in batches for folder in batch.folders for entry in folder.entries]
        found = _compare(context.job_id, entries, has_renamed=has_renamed)
        current = {"path": path_shown(entries[-1].path)} if entries else None
        context.checkpoint(current=current, write=partial(manifest.set_evidence, context.job_id, found))


def _compare(job_id: UUID, entries: list[Entry], *, has_renamed: bool) -> list[tuple[int, Evidence, str]]:
    there = manifest.find(job_id, [entry.path for entry in entries])
    renamed = {}
    if has_renamed:
        # Beside the name that the source's file could not get.
        renamed = manifest.renamed(job_id, {entry.path.rpartition(b"/")[0] for entry in entries})
    found = []
    for entry in entries:
        row = there.get(entry.path)
        if row is None or manifest.place_of(row):
            row = renamed.get(entry.path)
        if row is not None and not _is_left_out(row):
            difference = _difference(row, entry)
            found.append((row.number, Evidence.MISMATCH if difference else Evidence.SIZE_ONLY, difference))
    return found


def _is_left_out(row: ManifestEntry) -> bool:
    """Whether an option of the transfer says that the destination need not be what the source is."""
    return row.state == EntryState.SKIPPED and bool(row.error)


def _difference(row: ManifestEntry, entry: Entry) -> str:
    if row.kind != entry.kind.value:
        return f"Here a {row.kind}, at the destination a {entry.kind.value}."
    if row.kind == EntryKind.LINK and path_bytes(row.target) != entry.target:
        return "The link at the destination leads elsewhere."
    if row.kind == EntryKind.FILE and row.size != entry.size:
        return f"{row.size} bytes here, {entry.size} at the destination."
    return ""


def _expected(job_id: UUID, numbers: range | None = None) -> "QuerySet[ManifestEntry]":
    """What should be at the destination, without the root."""
    left_out = Q(state=EntryState.SKIPPED, evidence="") & ~Q(error="")
    return manifest.rows_of(job_id, numbers).filter(kind__in=_EXPECTED).exclude(left_out | Q(number=0))


def problems(job_id: UUID, numbers: range | None = None) -> "QuerySet[ManifestEntry]":
    """What is missing at the destination or is not what it should be, of all rows or of those with such numbers."""
    return _expected(job_id, numbers).filter(evidence__in=("", Evidence.MISMATCH)).order_by("number")


def verification_result(job_id: UUID) -> Json:
    """The `verification_result` of the HTTP contract, from the rows' evidence."""
    sums = _expected(job_id).order_by().values_list("kind", "evidence").annotate(Count("pk"), Sum("size"))
    # The rows are gone through once: there may be a million.
    found = {(kind, evidence): (count, size) for kind, evidence, count, size in sums}
    files = {evidence: both for (kind, evidence), both in found.items() if kind == EntryKind.FILE}
    equal = {evidence: both for evidence, both in files.items() if evidence not in ("", Evidence.MISMATCH)}
    evidence = {name: files.get(name, (0, 0))[0] for name in ("two_sided_hash", "readback", "size_only")}
    missing_count = sum(count for (_, evidence), (count, _) in found.items() if not evidence)
    mismatched_count = sum(
        count for (_, evidence), (count, _) in found.items() if evidence == Evidence.MISMATCH
    )
    is_right = missing_count == mismatched_count == 0
    wrong = problems(job_id).none() if is_right else problems(job_id)
    return {
        "success": is_right,
        "source_files": sum(count for count, _ in files.values()),
        "dest_files": sum(count for evidence, (count, _) in files.items() if evidence),
        "source_size": int(sum(size for _, size in files.values())),
        "dest_size": int(sum(size for _, size in equal.values())),
        "missing_files": missing_count,
        "mismatched_files": mismatched_count,
        "problems": [
            {"path": text_shown(row.path), "error": problem_of(row)} for row in wrong[:MOST_PROBLEMS]
        ],
        "message": _message(evidence, missing_count, mismatched_count),
        "evidence": evidence,
    }


def problem_of(row: ManifestEntry) -> str:
    """Why a row is a problem."""
    if row.error:
        return row.error
    return MISSING if not row.evidence else "Different at the destination."


def _message(evidence: dict[str, int], missing: int, mismatched: int) -> str:
    if missing or mismatched:
        return f"{missing:,} missing and {mismatched:,} different at the destination."
    equal, by_size = sum(evidence.values()), evidence["size_only"]
    if not equal:
        return "There is no file to compare."
    if by_size == equal:
        return f"All {equal:,} files are there with the right size; contents were not compared."
    if by_size:
        return (
            f"All {equal:,} files are there; {equal - by_size:,} are equal by content, {by_size:,} by size."
        )
    return f"All {equal:,} files are there and equal by content (SHA-256)."
