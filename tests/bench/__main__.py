"""Whole jobs of Haulier, in seconds, next to rsync, rclone and others, against private SSH servers on the loopback.

Everything of the product is on: its real processes, SQLite, the manifest, checkpoints and events. Each run fills an
empty place, and its copy is compared with the source, by content, after the clock has stopped. The tools take turns
within each run, so that a busy moment of the machine hits all of them. Read the ratios (below 1 Haulier is faster);
seconds of one machine say little about another. "SFTP only" are servers that give no shell. MiB are the most that one
worker, or the web process, had in memory. "ETA off" is by how much of the whole time the time that was said to be left
was wrong at most, between 20 % and 90 % of a run of 3 s or more. "yes" and "NO" stand before what a cell must come to.

A cell is a way, a tree and a round trip, as in up-small-0ms:
  up      to a server; down   from one; relay   from one to another; local   between two folders;
  scan    lists a tree at a server, localscan one of this machine
  small   WordPress, four times over; again   the same, of which the copy is there already; sums   again, by content;
  large   two files of random bytes; many, most   tiny files
  0ms     the loopback; 40ms   through a proxy that holds back every byte, where less is moved
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from tests.bench.cells import find_cells
from tests.bench.deletion import deletion_table, measure_deletion
from tests.bench.history import history_table, measure_history
from tests.bench.latency import latency_table, measure_latency
from tests.bench.listeners import listeners_table, measure_listeners
from tests.bench.report import as_json, as_table
from tests.bench.runner import measure

PEERS = ("rsync", "rclone", "lftp", "tar", "cp", "find")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description=__doc__,
        epilog="It ends with 1 if a run made no whole copy.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--cell",
        action="append",
        default=[],
        metavar="CELL",
        help="this cell, or those that a pattern means, as in '*-small-40ms'; may be repeated (default: all)",
    )
    parser.add_argument(
        "--peer",
        action="append",
        choices=PEERS,
        help="next to this tool; may be repeated (default: all)",
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each tool (default: 3)")
    parser.add_argument(
        "--quick", action="store_true", help="one run with very small trees, to see whether all works"
    )
    parser.add_argument("--copies", type=int, default=4, metavar="N", help="copies of WordPress (default: 4)")
    parser.add_argument(
        "--far-files", type=int, default=2500, metavar="N", help="small files at 40 ms (default: 2500)"
    )
    parser.add_argument(
        "--large-mib", type=int, default=512, metavar="N", help="MiB of each large file (default: 512)"
    )
    parser.add_argument(
        "--far-large-mib", type=int, default=64, metavar="N", help="the same at 40 ms (default: 64)"
    )
    parser.add_argument(
        "--many-files", type=int, default=100_000, metavar="N", help="many tiny files (default: 100000)"
    )
    parser.add_argument(
        "--most-files", type=int, default=1_000_000, metavar="N", help="most tiny files (default: 1000000)"
    )
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="worker processes (default: 3)")
    parser.add_argument(
        "--folder", type=Path, metavar="DIR", help="where to work (default: the system's temporary folder)"
    )
    parser.add_argument(
        "--history",
        type=int,
        default=0,
        metavar="N",
        help="measure the lists of jobs instead, with N jobs in the history",
    )
    parser.add_argument(
        "--deletion",
        type=int,
        default=0,
        metavar="N",
        help="measure instead how long others wait while N jobs are deleted, with a hundred rows each",
    )
    parser.add_argument(
        "--latency",
        type=int,
        default=0,
        metavar="N",
        help="measure how soon a job begins and how soon it pauses instead, N times each",
    )
    parser.add_argument(
        "--listeners",
        type=int,
        default=0,
        metavar="N",
        help="measure N event streams and a fifth as many WebSockets over kills of the web process instead",
    )
    parser.add_argument(
        "--accounts", type=int, default=10, metavar="N", help="whose listeners they are (default: 10)"
    )
    parser.add_argument(
        "--steps", type=int, default=75, metavar="N", help="events of a quarter of each job (default: 75)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    found = parser.parse_args()
    found.peer = found.peer or list(PEERS)
    if found.quick:
        found.runs = found.large_mib = found.far_large_mib = 1
    numbers = (found.runs, found.copies, found.far_files, found.large_mib, found.far_large_mib, found.workers)
    if min(*numbers, found.many_files, found.most_files, found.accounts, found.steps) < 1:
        parser.error("numbers must be 1 or more")
    try:
        found.cells = find_cells(found.cell)
    except ValueError as error:
        parser.error(str(error))
    return found


@contextmanager
def _scratch(parent: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="haulier-bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """The command line."""
    options = _options()
    # Stopped, it stops its servers and removes its folder.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    # What the servers printed is no result.
    with redirect_stdout(sys.stderr), _scratch(options.folder) as folder:
        if options.history:
            found, table = measure_history(options, folder), history_table
        elif options.deletion:
            found, table = measure_deletion(options, folder), deletion_table
        elif options.latency:
            found, table = measure_latency(options, folder), latency_table
        elif options.listeners:
            found, table = measure_listeners(options, folder), listeners_table
        else:
            found, table = as_json(measure(options, options.cells, folder), options), as_table
    print(json.dumps(found, indent=2, ensure_ascii=False) if options.json else table(found))
    return 0 if found.get("success", True) else 1


if __name__ == "__main__":
    sys.exit(main())
