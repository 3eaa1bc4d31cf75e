"""The progress objects of the HTTP contract, worded from counters; pure functions."""

from typing import Any

from migration_app.runners.time_left import UNIT_BYTES, Amount, Pace
from sessions_app.runners import Json, Snapshot
from sessions_app.serializers import instant

MOST_IN_FLIGHT = 8
_ENDED = ("paused", "completed", "failed", "cancelled")
_SMOOTHING_S = 3.0
_COMPARED = "Compared by content: "
"""How a message begins that says how far it is, not what it waits for."""
_PACE = "_pace"
"""What is remembered for the time left."""


def scan_progress(snapshot: Snapshot) -> Json:
    """ScanProgress. Nobody knows the total of a tree before it is listed, so it stands at 0 until the end."""
    count = snapshot.counters.get
    is_done = snapshot.status == "completed"
    found: Json = {
        "status": _phase(snapshot, "scanning"),
        "current_path": str(snapshot.current.get("path", "")),
        "files_scanned": count("files", 0),
        "dirs_scanned": count("folders", 0),
        "total_size": count("bytes", 0),
        "percent_complete": 100.0 if is_done else 0.0,
        "errors_encountered": count("failed", 0),
    }
    return found | _message(snapshot)


def transfer_progress(snapshot: Snapshot) -> Json:
    """TransferProgress."""
    count = snapshot.counters.get
    done_bytes = count("bytes", 0) + max(0, count("in_flight", 0))
    total_bytes = max(count("total_bytes", 0), done_bytes)
    elapsed = (snapshot.now - snapshot.started_at).total_seconds() if snapshot.started_at else 0.0
    ended = count("files", 0) + count("failed_files", 0)
    share = _share(snapshot, done_bytes, ended, total_bytes)
    is_undecided = count("compared", 0) < count("to_compare", 0)
    is_over = snapshot.status in _ENDED
    new_bytes = done_bytes - count("earlier_bytes", 0)
    speed = _average(new_bytes, elapsed) if is_over else _speed(snapshot, done_bytes, elapsed)
    errors = count("failed", 0)
    is_copying = count("prepared") and not snapshot.params.get("dry_run")
    phase = _phase(snapshot, "transferring" if is_copying else "scanning")
    pace, eta = _time_left(snapshot, phase, elapsed, Amount(ended, done_bytes), total_bytes)
    found: Json = {
        "status": phase,
        "files_transferred": count("files", 0),
        "total_files": count("total_files", 0),
        "bytes_transferred": done_bytes,
        "total_bytes": total_bytes,
        # Files are copied while others are still being compared.
        "totals_grow": (not count("prepared") or is_undecided)
        and (not is_over or snapshot.status == "paused"),
        "current_file": ""
        if is_over
        else str(snapshot.current.get("path", _previous(snapshot, "current_file", ""))),
        "files_in_flight": _in_flight(snapshot) if phase == "transferring" else [],
        "speed": round(speed, 3),
        "eta": eta,
        "percent_complete": 100.0 if snapshot.status == "completed" else round(min(99.9, 100 * share), 1),
        "errors_count": errors,
        "start_time": instant(snapshot.started_at or snapshot.now),
        "elapsed_seconds": round(elapsed, 3),
        "files_skipped": count("skipped", 0),
        "bytes_resumed": count("resumed", 0),
    }
    last_error = snapshot.current.get("last_error") or _previous(snapshot, "last_error", "")
    if errors and last_error:
        found["last_error"] = last_error
    if pace is not None:
        found[_PACE] = pace.as_json()
    return found | _message(snapshot)


def _time_left(
    snapshot: Snapshot, phase: str, elapsed_s: float, done: Amount, total_bytes: int
) -> tuple[Pace | None, float]:
    """What is known of the pace, and how many seconds are left; 0 where nobody can know."""
    count = snapshot.counters.get
    known = _previous(snapshot, _PACE, None)
    pace = Pace.read(known) if known else None
    if phase not in ("transferring", "verifying") or not count("prepared"):
        return pace, 0.0
    # Bytes of files that failed will not come. To compare a file by content is work like copying one.
    done = Amount(done.files + count("compared", 0), done.bytes + count("compared_bytes", 0))
    total = Amount(
        count("total_files", 0) + count("to_compare", 0),
        total_bytes + count("to_compare_bytes", 0) - count("failed_bytes", 0),
    )
    if count("to_verify"):
        done, total = Amount(count("verified", 0), 0), Amount(count("to_verify", 0), 0)
    before = _previous(snapshot, "status", "")
    if pace is None or {phase, before} == {"transferring", "verifying"}:
        # To compare takes another time than to copy.
        return Pace(elapsed_s, *done), 0.0
    # Neither a pause nor the wait for a server says how fast it goes.
    said = str(_previous(snapshot, "message", ""))
    is_waiting = snapshot.waiting_for or (said and not said.startswith(_COMPARED))
    is_going = before == phase and not is_waiting
    pace = pace.seen(elapsed_s, done) if is_going else pace.paused(elapsed_s, done)
    left = Amount(max(0, total.files - done.files), max(0, total.bytes - done.bytes))
    seconds = pace.seconds_for(left) or 0.0
    return pace, max(0.1, round(seconds, 1)) if seconds else 0.0


def _in_flight(snapshot: Snapshot) -> list[Json]:
    """Files under way, of each shard what its last checkpoint said; nothing of one that has ended."""
    known: list[Json] = _previous(snapshot, "files_in_flight", [])
    shard = snapshot.current.get("shard")
    if shard is None:
        return known
    others = [one for one in known if one["shard"] != shard]
    mine = [one | {"shard": shard} for one in snapshot.current.get("under_way", ())]
    return sorted([*others, *mine], key=lambda one: one["shard"])[:MOST_IN_FLIGHT]


def rate_of(progress: Json) -> float | None:
    """Bytes a second while a transfer copies or a verification compares."""
    return progress["speed"] * 1e6 if progress["status"] in ("transferring", "verifying") else None


def _phase(snapshot: Snapshot, working: str) -> str:
    if snapshot.status == "pending":
        return "initializing"
    if snapshot.status != "running":
        return snapshot.status
    if not snapshot.counters.get("connected"):
        return "connecting"
    return "verifying" if snapshot.counters.get("verifying") else working


def _share(snapshot: Snapshot, done_bytes: int, ended: int, total_bytes: int) -> float:
    """How much of the work is done with so many bytes and files, from 0 to 1."""
    count = snapshot.counters.get
    # With bytes alone a bar of many small files stands still.
    total_bytes += count("to_compare_bytes", 0) - count("failed_bytes", 0)
    total = total_bytes + UNIT_BYTES * (count("total_files", 0) + count("to_compare", 0))
    done = done_bytes + count("compared_bytes", 0) + UNIT_BYTES * (ended + count("compared", 0))
    return min(1.0, done / total) if total and count("prepared") else 0.0


def _average(done_bytes: int, elapsed_s: float) -> float:
    return done_bytes / 1e6 / elapsed_s if elapsed_s > 0 else 0.0


def _speed(snapshot: Snapshot, done_bytes: int, elapsed_s: float) -> float:
    """MB/s, smoothed over some seconds."""
    before = float(_previous(snapshot, "speed", 0.0))
    passed_s = elapsed_s - float(_previous(snapshot, "elapsed_seconds", 0.0))
    if passed_s < 0.05:
        return before
    now = max(0, done_bytes - int(_previous(snapshot, "bytes_transferred", 0))) / 1e6 / passed_s
    weight = 1.0 if before == 0.0 else min(1.0, passed_s / _SMOOTHING_S)
    return before + (now - before) * weight


def _previous(snapshot: Snapshot, name: str, default: Any) -> Any:
    return (snapshot.previous or {}).get(name, default)


def _message(snapshot: Snapshot) -> Json:
    count = snapshot.counters.get
    text = snapshot.waiting_for or snapshot.error_message
    done, total = count("verified", 0), count("to_verify", 0)
    if not total and (undecided := count("to_compare", 0)) > count("compared", 0):
        done, total = count("compared", 0), undecided
    if not text and snapshot.status == "running" and total:
        text = f"{_COMPARED}{done:,} of {total:,} files."
    return {"message": text} if text else {}
