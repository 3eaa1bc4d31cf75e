"""Compares files by content: each side hashed where it is, else read back."""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass, replace

from django.db.models import QuerySet

from migration_app import manifest
from migration_app.engine.digests import Found, find_digests
from migration_app.models import Evidence, ManifestEntry
from migration_app.paths import path_shown
from migration_app.runners.connections import Route, side_of
from migration_app.storages.base import Entry, Storage
from migration_app.storages.errors import StorageError
from sessions_app.runners import NewEvent, ShardContext

BATCH_BYTES = 64 * 10**6
BATCH_FILES = 500


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


@dataclass(frozen=True, slots=True)
class Proof:
    """What two digests of a file say; `reason` is empty where they are equal."""

    file: File
    evidence: Evidence
    reason: str

    @property
    def is_equal(self) -> bool:
        """Whether nothing speaks against it."""
        return self.evidence is not Evidence.MISMATCH


def prove(
    context: ShardContext, rows: "QuerySet[ManifestEntry]", *, after: int = -1
) -> Iterator[list[Proof]]:
    """Hash both sides of files, those with a number above `after`, in batches: the caller saves each with a checkpoint.

    Raises JobFailed.
    """
    sides = [side_of(context, "source", "source_root"), side_of(context, "destination", "destination_root")]
    for batch in _batches(rows, after):

        async def hashed(
            source: Storage, destination: Storage, batch: Sequence[File] = batch
        ) -> AsyncGenerator[list[Proof], None]:
            here, there = await asyncio.gather(
                find_digests(source, [file.entry for file in batch]),
                find_digests(destination, [file.there for file in batch]),
            )
            yield [_proof(file, here[file.entry.path], there[file.there.path]) for file in batch]

        for lists in Route(context, sides, hashed).lists():
            if not lists:
                context.checkpoint(current={"path": path_shown(batch[0].entry.path)})
                continue
            context.counters["connected"] = 1
            yield [proof for found in lists for proof in found]


def differences(proofs: Sequence[Proof]) -> list[NewEvent]:
    """An event for each file that is not the same on both sides."""
    return [
        NewEvent("file_failed", {"path": path_shown(proof.file.entry.path), "error": proof.reason})
        for proof in proofs
        if not proof.is_equal
    ]


def save_evidence(context: ShardContext, proofs: Sequence[Proof]) -> None:
    """Note what was found, inside the caller's transaction."""
    manifest.set_evidence(
        context.job_id, [(proof.file.number, proof.evidence, proof.reason) for proof in proofs]
    )


def _batches(rows: "QuerySet[ManifestEntry]", last: int = -1) -> Iterator[list[File]]:
    """All rows, a few at a time: one command at the server must not take for ever, and there may be a million."""
    # The only lower bound of their numbers: of two SQLite takes the wrong one, and then reads all of them each time.
    while found := list(rows.filter(number__gt=last).order_by("number")[:BATCH_FILES]):
        batch: list[File] = []
        size = 0
        for row in found:
            batch.append(File(row.number, manifest.entry_of(row), manifest.place_of(row)))
            size += row.size
            if size >= BATCH_BYTES:
                break
        last = batch[-1].number
        yield batch


def _proof(file: File, here: Found, there: Found) -> Proof:
    # A side that cannot be read proves no more than the size did.
    for name, (digest, _) in (("source", here), ("destination", there)):
        if isinstance(digest, StorageError):
            return Proof(file, Evidence.SIZE_ONLY, f"Only the size was compared: at the {name}: {digest}")
    if here[0] != there[0]:
        return Proof(file, Evidence.MISMATCH, "The contents differ (SHA-256).")
    return Proof(file, Evidence.READBACK if here[1] or there[1] else Evidence.TWO_SIDED_HASH, "")
