"""What must hold after a round; each function gives what does not, a sentence each."""

import collections
import itertools
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.killtest.plan import Kind
from tests.killtest.rows import Event, Rows, ShardRow
from tests.killtest.watcher import Arrival

ENDINGS = ("complete", "failed", "cancelled")
CHECKPOINT_FILES = 1000
"""The most files of a shard between two checkpoints."""
FILES_IN_FLIGHT = 600
_SHOWN = 5


@dataclass(slots=True)
class Blow:
    """Something that may cost work: a kill, or what else makes somebody else go on."""

    kind: Kind
    since: float
    """On time.monotonic."""
    until: float
    """When the last of what was cut off by it may have arrived."""


def check_log(log: Sequence[Event], *, runs: int) -> list[str]:
    """`seq` counts without a hole, each run ends once, and each state follows from the one before."""
    found = []
    seqs = [event.seq for event in log]
    if seqs != list(range(1, len(seqs) + 1)):
        found.append(f"seq is not 1 to {len(seqs)}: {_differing(seqs)}")
    for run in range(1, runs + 1):
        endings = [event.type for event in log if event.run == run and event.type in ENDINGS]
        if len(endings) != 1:
            found.append(f"run {run} ended {len(endings)} times: {', '.join(endings) or 'never'}")
    if log and max(event.run for event in log) > runs:
        found.append(f"the log knows more than {runs} runs")
    state = "pending"
    for event in log:
        if event.type == "state":
            if event.data["from"] != state:
                found.append(f"event {event.seq} moves from {event.data['from']}, but it was {state}")
            state = event.data["to"]
    return found


def _differing(seqs: list[int]) -> str:
    at = next(index for index, seq in enumerate(seqs) if seq != index + 1)
    return f"… {', '.join(map(str, seqs[max(0, at - 2) : at + 3]))} …"


def check_heard(log: Sequence[Event], heard: Sequence[tuple[int, int]]) -> list[str]:
    """A listener has heard every event once, in order."""
    written = [(event.id, event.seq) for event in log]
    if list(heard) == written:
        return []
    doubled = [seq for (_, seq), count in collections.Counter(heard).items() if count > 1]
    lost = sorted({seq for _, seq in written} - {seq for _, seq in heard})
    return [
        f"the listener heard {len(heard)} of {len(written)} events; lost: {_some(lost)}; twice: {_some(doubled)}"
    ]


def check_rest(shards: Iterable[ShardRow], *, open_messages: int) -> list[str]:
    """Nobody holds anything, and nothing is left to be done."""
    found = [
        f"shard {shard.number} ({shard.kind}) is {shard.state}, held by {shard.owner or 'nobody'}"
        for shard in shards
        if shard.is_leased or shard.is_open
    ]
    if open_messages:
        found.append(f"{open_messages} rows of the queue are open")
    return found


def check_no_temporary(root: Path) -> list[str]:
    """No file that is not whole is left."""
    left = [path.relative_to(root).as_posix() for path in root.rglob(".haulier-*")]
    return [f"{len(left)} unfinished files are left: {_some(left)}"] if left else []


@dataclass(frozen=True, slots=True)
class Again:
    """What was done twice."""

    files: int = 0
    worst: int = 0
    """The most of one shard for one blow."""
    oldest_s: float = 0.0
    """The longest that something was done before the blow that it was lost with."""


def count_again(
    arrivals: Sequence[Arrival], blows: Sequence[Blow], shard_of: "ShardOf"
) -> tuple[Again, list[str]]:
    """How many files were given their names twice: at most a checkpoint's worth of a shard for a blow."""
    by_path: dict[bytes, list[float]] = {}
    for arrival in arrivals:
        by_path.setdefault(arrival.path, []).append(arrival.at)
    lost: collections.Counter[tuple[int, int]] = collections.Counter()
    without = []
    oldest_s = 0.0
    for path, arrived in by_path.items():
        for before, after in itertools.pairwise(arrived):
            index = _reason(blows, before, after)
            if index is None:
                without.append(path.decode())
                continue
            lost[index, shard_of(path.decode())] += 1
            oldest_s = max(oldest_s, blows[index].since - before)
    found = [f"{_some(without)} copied twice, and nothing had been killed"] if without else []
    most = CHECKPOINT_FILES + FILES_IN_FLIGHT
    found += [
        f"{count} files of shard {shard} were copied again after blow {index + 1} ({blows[index].kind})"
        for (index, shard), count in lost.items()
        if count > most
    ]
    return Again(sum(lost.values()), max(lost.values(), default=0), oldest_s), found


def _reason(blows: Sequence[Blow], before: float, after: float) -> int | None:
    """The first blow between the two arrivals of a file."""
    return next(
        (index for index, blow in enumerate(blows) if before <= blow.until and blow.since <= after), None
    )


class ShardOf:
    """Which shard a file belongs to; 0 where that is not known."""

    def __init__(self, rows: Rows, job_ids: Collection[str]) -> None:
        self._ranges: list[tuple[dict[str, int], list[ShardRow]]] = []
        for job_id in job_ids:
            shards = [shard for shard in rows.shards(job_id) if shard.kind == "work"]
            self._ranges.append((rows.numbers(job_id), shards))

    def __call__(self, path: str) -> int:
        for numbers, shards in self._ranges:
            number = numbers.get(path, -1)
            for shard in shards:
                if shard.payload["first"] <= number <= shard.payload["last"]:
                    return shard.number
        return 0


def check_counters(job: dict[str, object], *, files: int, size_bytes: int | None) -> list[str]:
    """The result and the last progress of a completed transfer say what is so."""
    result, progress = job["transfer_result"], job["progress"]
    assert isinstance(result, dict)
    assert isinstance(progress, dict)
    is_so = {
        "success": (result["success"], True),
        "files of the result": (result["files_transferred"] + result["files_skipped"], files),
        "errors of the result": (result["errors_count"], 0),
        "files of the progress": (progress["files_transferred"] + progress["files_skipped"], files),
        "files to do": (progress["total_files"], result["files_transferred"]),
        "bytes of the progress": (progress["bytes_transferred"], result["bytes_transferred"]),
        "bytes to do": (progress["total_bytes"], result["bytes_transferred"]),
        "errors of the progress": (progress["errors_count"], 0),
        "per cent": (progress["percent_complete"], 100.0),
    }
    if size_bytes is not None:
        is_so["bytes of the result"] = (result["bytes_transferred"], size_bytes)
    return [f"{what}: {said}, and not {true}" for what, (said, true) in is_so.items() if said != true]


def check_printed(text: str) -> list[str]:
    """What the processes printed tells of no failure that nobody expects."""
    lines = [
        line for line in text.splitlines() if re.search(r"failed unexpectedly|Housekeeping failed", line)
    ]
    return [f"printed: {line}" for line in lines[:_SHOWN]]


def _some(items: Sequence[object]) -> str:
    shown = ", ".join(map(str, items[:_SHOWN]))
    return (f"{shown} and {len(items) - _SHOWN} more" if len(items) > _SHOWN else shown) or "none"
