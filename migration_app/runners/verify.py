"""A verification after the fact: what a transfer copied is compared by content, each side hashed where it is."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from migration_app import manifest
from migration_app.engine.digests import read_digests
from migration_app.models import EntryKind, EntryState, Evidence
from migration_app.paths import path_text
from migration_app.runners.connections import Route, side_of
from migration_app.runners.progress import rate_of, transfer_progress
from migration_app.runners.shards import Cutter
from migration_app.runners.verification import compare_sizes, verification_result
from migration_app.storages.base import Entry, Storage
from migration_app.storages.errors import StorageError
from sessions_app.models import Job
from sessions_app.runners import JobFailed, Json, NewEvent, Outcome, Runner, ShardContext, Snapshot

BATCH_BYTES = 64 * 10**6
BATCH_FILES = 500

Proof = tuple[int, Evidence, str]


@dataclass(frozen=True, slots=True)
class File:
    """A file to be compared: `place` is its path at the destination where that is another one."""

    number: int
    entry: Entry
    place: bytes

    @property
    def there(self) -> Entry:
        """The same at the destination."""
        return replace(self.entry, path=self.place or self.entry.path, real=b"")


class VerifyRunner(Runner):
    """params: those of the transfer that is verified, and `transfer`, its id."""

    type = "verify"
    links = ("files",)

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
        context.counters |= {"prepared": 1, "total_files": files, "total_bytes": size}
        context.checkpoint(cursor="cut", shards=shards, events=[NewEvent("phase", {"phase": "verifying"})])

    def work(self, context: ShardContext) -> None:
        """Hash both sides of the files from payload `first` to `last`."""
        rows = manifest.rows_of(context.job_id).filter(
            number__gte=context.payload["first"],
            number__lte=context.payload["last"],
            evidence=Evidence.SIZE_ONLY,
            kind=EntryKind.FILE,
            state=EntryState.PENDING,
        )
        left = [
            File(row.number, manifest.entry_of(row), manifest.place_of(row))
            for row in rows.order_by("number")
        ]
        while left:
            batch, left = _split(left)
            _prove(context, batch)

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


def _split(files: list[File]) -> tuple[list[File], list[File]]:
    """The next batch, and the rest: one command at the server must not take for ever."""
    size = 0
    for count, file in enumerate(files[:BATCH_FILES], 1):
        size += file.entry.size
        if size >= BATCH_BYTES:
            return files[:count], files[count:]
    return files[:BATCH_FILES], files[BATCH_FILES:]


def _prove(context: ShardContext, batch: Sequence[File]) -> None:
    async def hashed(source: Storage, destination: Storage) -> AsyncGenerator[list[Proof], None]:
        here, there = await asyncio.gather(
            _digests(source, [file.entry for file in batch]),
            _digests(destination, [file.there for file in batch]),
        )
        yield [(file.number, *_proof(here[file.entry.path], there[file.there.path])) for file in batch]

    sides = [side_of(context, "source", "source_root"), side_of(context, "destination", "destination_root")]
    for lists in Route(context, sides, hashed).lists():
        current: Json = {"path": path_text(batch[0].entry.path)}
        if not lists:
            context.checkpoint(current=current)
            continue
        proofs = [proof for found in lists for proof in found]
        counters = context.counters
        bad = [error for _, evidence, error in proofs if evidence is Evidence.MISMATCH]
        counters["connected"] = 1
        counters["files"] = counters.get("files", 0) + len(proofs)
        counters["bytes"] = counters.get("bytes", 0) + sum(file.entry.size for file in batch)
        counters["failed"] = counters.get("failed", 0) + len(bad)
        paths = {file.number: file.entry.path for file in batch}
        events = [
            NewEvent("file_failed", {"path": path_text(paths[number]), "error": error})
            for number, evidence, error in proofs
            if evidence is Evidence.MISMATCH
        ]
        context.checkpoint(current=current, events=events, write=partial(_save, context, proofs))


def _save(context: ShardContext, proofs: list[Proof]) -> None:
    manifest.set_evidence(context.job_id, proofs)
    manifest.mark(
        context.job_id,
        [(number, error if evidence is Evidence.MISMATCH else "") for number, evidence, error in proofs],
    )


Found = tuple[bytes | StorageError, bool]
"""A digest or why there is none, and whether the file went over the wire for it."""


async def _digests(storage: Storage, entries: Sequence[Entry]) -> dict[bytes, Found]:
    there = await storage.digests_there(list({entry.read_path: None for entry in entries}))
    found: dict[bytes, Found] = {
        entry.path: (there[entry.read_path], False) for entry in entries if entry.read_path in there
    }
    rest = [entry for entry in entries if entry.path not in found]
    is_remote = storage.address.protocol != "local"
    async for batch in read_digests(storage, rest):
        for number, result in batch:
            found[rest[number].path] = (result, is_remote)
    return found


def _proof(here: Found, there: Found) -> tuple[Evidence, str]:
    """What two digests say; a side that cannot be read proves no more than the size did."""
    for name, (digest, _) in (("source", here), ("destination", there)):
        if isinstance(digest, StorageError):
            return Evidence.SIZE_ONLY, f"Only the size was compared: at the {name}: {digest}"
    if here[0] != there[0]:
        return Evidence.MISMATCH, "The contents differ (SHA-256)."
    return (Evidence.READBACK if here[1] or there[1] else Evidence.TWO_SIDED_HASH), ""
