"""Files under way, as the progress of a transfer tells them."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from migration_app.runners.progress import MOST_IN_FLIGHT, transfer_progress
from sessions_app.runners import Snapshot

Json = dict[str, Any]


def said(previous: Json | None, current: Json, *, status: str = "running") -> Json:
    """The progress after a checkpoint that said `current`."""
    counters = {"connected": 1, "prepared": 1}
    return transfer_progress(
        Snapshot(status, {}, counters, current, previous, timezone.now(), timezone.now())
    )


def shard(number: int, *paths: str) -> Json:
    """What a checkpoint says of a shard that has these files under way."""
    files = [{"path": path, "size_bytes": 10, "done_bytes": 5} for path in paths]
    return {"shard": number, "under_way": files}


def paths(progress: Json) -> list[str]:
    """Paths of the files in flight."""
    return [one["path"] for one in progress["files_in_flight"]]


def test_files_of_all_shards_are_in_flight_until_their_shard_has_ended() -> None:
    one = said(None, shard(2, "a", "b"))
    two = said(one, shard(3, "c"))
    assert paths(two) == ["a", "b", "c"]
    assert paths(said(two, shard(2, "d"))) == ["d", "c"]
    assert paths(said(two, {})) == ["a", "b", "c"]
    assert paths(said(two, {"shard": 2})) == ["c"]
    assert paths(said(two, {}, status="paused")) == paths(said(two, {}, status="completed")) == []


def test_files_in_flight_are_few() -> None:
    many = said(None, shard(2, *"abcdef"))
    assert len(paths(said(many, shard(3, *"ghijkl")))) == MOST_IN_FLIGHT


def test_totals_grow_until_all_is_compared() -> None:
    def grows(status: str, **counters: int) -> Any:
        now = timezone.now()
        return transfer_progress(Snapshot(status, {}, counters, {}, None, now, now))["totals_grow"]

    assert [grows(status, total_files=90) for status in ("running", "paused", "failed")] == [
        True,
        True,
        False,
    ]
    assert not grows("running", total_files=90, prepared=1)


def test_comparison_by_content_counts_as_work_and_says_how_far_it_is() -> None:
    start = timezone.now()
    progress: Json | None = None
    for second in range(9):
        compared = 100 * second
        counters = {"connected": 1, "prepared": 1, "to_compare": 1600, "to_compare_bytes": 1_600_000}
        counters |= {"compared": compared, "compared_bytes": 1000 * compared}
        now = start + timedelta(seconds=second)
        progress = transfer_progress(Snapshot("running", {}, counters, {}, progress, now, start))
    assert progress is not None
    assert (progress["status"], progress["totals_grow"]) == ("transferring", True)
    assert progress["message"] == "Compared by content: 800 of 1,600 files."
    assert progress["percent_complete"] == 50.0
    assert 6 < progress["eta"] < 10
    counters |= {"compared": 1600, "compared_bytes": 1_600_000, "total_files": 1, "total_bytes": 1000}
    later = transfer_progress(Snapshot("running", {}, counters, {}, progress, now, start))
    assert (later["totals_grow"], "message" in later) == (False, False)
    dry = transfer_progress(Snapshot("running", {"dry_run": True}, counters, {}, None, now, start))
    assert dry["status"] == "scanning"
