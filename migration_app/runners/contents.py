"""The part of a transfer that compares files of equal size by content, and what it says of it."""

from collections.abc import AsyncGenerator, Mapping

from migration_app import manifest
from migration_app.engine.contents import Compared, compare_contents
from migration_app.paths import path_shown
from migration_app.runners.connections import Route, both_sides
from migration_app.runners.shares import Bandwidth
from migration_app.sizes import size_text
from migration_app.storages.base import Storage
from sessions_app.runners import Json, NewEvent, ShardContext, log_warning

KEPT_COUNTERS = (
    *("compared", "compared_bytes", "equal", "mended", "unmended", "read_back_files", "read_back_bytes"),
)
"""What another run of a job goes on counting from."""


async def tell_read_back(source: Storage, destination: Storage) -> list[NewEvent]:
    """A line of the log for each side that cannot hash by itself. Raises ConnectionLost."""
    return [
        log_warning(
            f"The {name} gives no shell to hash files in: those that are compared there are read over the network, "
            "which takes as long as to download them."
        )
        for name, side in (("source", source), ("destination", destination))
        if await side.must_be_read_back()
    ]


def decide_by_content(context: ShardContext, first: int, last: int) -> None:
    """Compare what of the rows from `first` to `last` is to be compared; those that differ are then to be copied.

    Each batch is saved with its decisions, so a second try goes on after the last one. Raises JobFailed.
    """
    left = {pair.number: pair for pair in manifest.to_compare(context.job_id, first, last)}
    if not left:
        return
    bandwidth = Bandwidth(context)
    mends = not context.params["dry_run"]

    def compared(source: Storage, destination: Storage) -> AsyncGenerator[list[Compared], None]:
        return compare_contents(source, destination, list(left.values()), pace=bandwidth.pace, mends=mends)

    for lists in Route(context, both_sides(context), compared).lists(weight=len):
        bandwidth.refresh()
        found = [one for batch in lists for one in batch]
        for one in found:
            del left[one.pair.number]
        _save(context, found)


def _save(context: ShardContext, found: list[Compared]) -> None:
    if not found:
        context.checkpoint()
        return
    context.counters["connected"] = 1
    copied = [one.pair.entry for one in found if not one.is_equal and not one.pair.reason]
    more = {
        "compared": len(found),
        "compared_bytes": sum(one.pair.entry.size for one in found),
        "equal": sum(one.is_equal for one in found),
        "mended": sum(one.is_mended for one in found),
        "unmended": sum(one.refusal is not None for one in found),
        "read_back_files": sum(one.read_back > 0 for one in found),
        "read_back_bytes": sum(one.read_back for one in found),
        "skipped": len(found) - len(copied),
        "total_files": len(copied),
        "total_bytes": sum(entry.size for entry in copied),
    }
    for name, amount in more.items():
        context.counters[name] = context.counters.get(name, 0) + amount

    def write() -> None:
        manifest.decide(context.job_id, found)
        # What is put beside or in place of something changes its folder, however right that was before.
        manifest.unsettle(context.job_id, {entry.path.rpartition(b"/")[0] for entry in copied})

    context.checkpoint(current={"path": path_shown(found[-1].pair.entry.path)}, write=write)


def comparison_result(counters: Mapping[str, int]) -> Json:
    """The `comparison` of a TransferResult: what a comparison by content has found."""
    count = {name: counters.get(name, 0) for name in KEPT_COUNTERS}
    different = count["compared"] - count["equal"]
    compared = f"Compared {count['compared']:,} files of equal size by content (SHA-256)"
    message = f"{compared}: {different:,} {'differs' if different == 1 else 'differ'}."
    if count["read_back_files"]:
        message += (
            f" {size_text(count['read_back_bytes'])} of {count['read_back_files']:,} files were read over the network "
            "for it, as their server does not hash them."
        )
    return {
        "files_compared": count["compared"],
        "bytes_compared": count["compared_bytes"],
        "files_equal": count["equal"],
        "files_different": different,
        "attributes_set": count["mended"],
        "files_read_back": count["read_back_files"],
        "bytes_read_back": count["read_back_bytes"],
        "message": message,
    }
