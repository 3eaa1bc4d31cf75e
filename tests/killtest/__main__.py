"""Kills processes of a working Haulier at random instants, and looks whether anything was lost or done twice.

It starts the product (supervisor, web, 3+1 workers, SQLite, leases of 3 s) and two OpenSSH servers of its own. In each
round a tree of 5,045 files (20 MB of small ones, three of 32 MiB) is moved to one of them through the HTTP API, while
workers, the web process, the supervisor and the processes of sshd are killed, 8 to 16 times; now and then a worker is
stopped past its lease. In some rounds somebody also pauses and resumes the job, cancels it, or retries it. All this is
drawn from the seed.

Then it must hold:
  the tree is identical: contents, modes, times, links; no unfinished file is left
  no file ever stood under its own name before it was whole, or was written to there (inotify, and the server's log)
  every run of the job ended once; seq is 1 to n; a listener, cut off again and again, heard each event once, in order
  no lease is left, no open shard, no open row of the queue
  what was done twice for a kill is no more than a checkpoint holds; results and progress say what is so

With --load nothing is killed: four workers and two web processes (a second `serve --only web`) share one SQLite file,
while four people transfer, two scan, four list and ten listen, half of them at either port. No answer may be a 5xx,
every job must complete with a whole copy, and "database is locked" must stand nowhere.
"""

import argparse
import io
import json
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, redirect_stdout
from pathlib import Path
from typing import Any

from tests.killtest.load import load
from tests.killtest.plan import Kind
from tests.killtest.rounds import Arena, Round


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/killtest",
        description=__doc__,
        epilog="It ends with 1 if anything did not hold, and keeps the log and the database then.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--seed", type=int, default=1, metavar="N", help="what chance begins with (default: 1)"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="R", help="how many rounds (default: 5)")
    parser.add_argument(
        "--round", type=int, default=0, metavar="K", help="the K-th round of this seed alone, to repeat it"
    )
    parser.add_argument(
        "--load", type=float, default=0, metavar="SECONDS", help="a full load for so long, in place of rounds"
    )
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to work (default: the system's temporary folder)"
    )
    parser.add_argument("--json", action="store_true", help="print the sum as JSON")
    found = parser.parse_args()
    if found.rounds < 1 or found.round < 0 or found.load < 0:
        parser.error("numbers must be 1 or more")
    return found


def main() -> int:
    """The command line."""
    options = _options()
    # Stopped, it stops its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if options.load:
        return _load(options)
    numbers = [options.round] if options.round else range(1, options.rounds + 1)
    folder = Path(tempfile.mkdtemp(prefix="haulier-killtest-", dir=options.folder))
    out = sys.stderr if options.json else sys.stdout
    started, played = time.monotonic(), list[Round]()
    is_kept = True
    try:
        # What the servers printed stays in their log.
        with redirect_stdout(io.StringIO()), ExitStack() as stack:
            arena = Arena(folder, stack)
            for number in numbers:
                played.append(arena.play(options.seed, number))
                for line in _lines(played[-1], options.seed):
                    print(line, file=out, flush=True)
        is_kept = any(one.violations for one in played)
    finally:
        for path in folder.glob("copy *"):
            shutil.rmtree(path, ignore_errors=True)
        shutil.rmtree(folder / "source" if is_kept else folder, ignore_errors=True)
    found = _sum(played, options.seed, time.monotonic() - started)
    if is_kept:
        found["kept"] = str(folder)
    print(json.dumps(found, indent=2) if options.json else _sentence(found))
    return 1 if is_kept else 0


def _load(options: argparse.Namespace) -> int:
    with (
        tempfile.TemporaryDirectory(prefix="haulier-load-", dir=options.folder) as folder,
        redirect_stdout(io.StringIO()),
    ):
        found = load(Path(folder), options.load).as_json()
    if options.json:
        print(json.dumps(found, indent=2))
        return 1 if found["violations"] else 0
    for name, value in found.items():
        if name != "violations":
            print(f"{name}: {value}")
    print(f"violations: {len(found['violations'])}", *found["violations"], sep="\n  ")
    return 1 if found["violations"] else 0


def _lines(one: Round, seed: int) -> list[str]:
    again = one.again
    lines = [
        f"round {one.number} ({one.plan.mode}, {one.plan.way}{', deleting' if one.plan.deletes else ''}): "
        f"{one.kills.total()} kills ({_kinds(one.kills)}), {one.took_s:.1f} s, "
        f"{one.events} events over {one.connections} connections; done twice: {again.files} files "
        f"(at most {again.worst} of a shard, the oldest {again.oldest_s:.1f} s), {one.bytes_again / 1e6:.0f} MB of "
        f"large ones; leases lost: {one.lost_leases}; {'ok' if not one.violations else 'VIOLATIONS'}",
        *(f"  {violation}" for violation in one.violations),
    ]
    if one.violations:
        lines.append(f"  again: script/killtest --seed {seed} --round {one.number}")
    return lines


def _kinds(kills: Counter[Kind]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in sorted(kills.items())) or "none"


def _sum(played: list[Round], seed: int, took_s: float) -> dict[str, Any]:
    kills: Counter[Kind] = sum((one.kills for one in played), Counter())
    return {
        "seed": seed,
        "rounds": len(played),
        "kills": kills.total(),
        "kills_by_kind": {str(kind): count for kind, count in sorted(kills.items())},
        "files_twice": sum(one.again.files for one in played),
        "violations": sum(len(one.violations) for one in played),
        "rounds_with_violations": [one.number for one in played if one.violations],
        "duration_s": round(took_s),
    }


def _sentence(found: dict[str, Any]) -> str:
    kinds = ", ".join(f"{kind} {count}" for kind, count in found["kills_by_kind"].items())
    text = (
        f"{found['rounds']} rounds of seed {found['seed']} in {found['duration_s']} s, {found['kills']} kills "
        f"({kinds}), {found['files_twice']} files done twice, violations: {found['violations']}"
    )
    return f"{text}\nLog and database are in {found['kept']}." if "kept" in found else text


if __name__ == "__main__":
    sys.exit(main())
