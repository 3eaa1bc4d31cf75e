"""Milliseconds from asking to happening: a job that begins, a transfer that pauses; part of script/bench."""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.product import Product

Json = dict[str, Any]

LOOK_S = 0.002
LONGEST_S = 60.0
SMALL_FILES = 1000


def measure_latency(options: argparse.Namespace, folder: Path) -> Json:
    """p50 and p99 of each, over so many times, with nothing else to do."""
    trees = {"1,000 small files": folder / "small", "one large file": folder / "large"}
    for root in trees.values():
        root.mkdir()
    for number in range(SMALL_FILES):
        (trees["1,000 small files"] / f"{number}.txt").write_bytes(b"x" * 1000)
    with (trees["one large file"] / "large.bin").open("wb") as file:
        for _ in range(options.large_mib):
            file.write(os.urandom(2**20))
    with Product(folder / "latency") as product:
        product.start(workers=options.workers)
        rows = [_row("submit → running", _starts(product, folder, options.latency))]
        for name, root in trees.items():
            rows.append(_row(f"pause, {name}", _pauses(product, root, folder / "copy", options.latency)))
        return {"times": options.latency, "latencies": rows}


def _starts(product: Product, folder: Path, times: int) -> list[float]:
    """Of scans of an empty folder: from before the request to the `started_at` of its job."""
    empty = folder / "empty"
    empty.mkdir()
    taken = []
    for _ in range(times):
        asked = time.time()
        answer = product.post("/api/scan", {"server_config": {"protocol": "local", "root_path": str(empty)}})
        job = product.wait_for(answer.body["id"], seconds=LONGEST_S)
        taken.append((_instant(job["started_at"]) - asked) * 1000)
    return taken


def _pauses(product: Product, source: Path, copy: Path, times: int) -> list[float]:
    """Of one transfer that is kept slow: from before the request to the answer that says it is paused."""
    body = {
        "source_config": {"protocol": "local", "root_path": str(source)},
        "dest_config": {"protocol": "local", "root_path": str(copy)},
        # Slow enough to last through all the pauses.
        "bandwidth_limit": max(0.002, _size(source) / 1e6 / (10 * times)),
    }
    job = product.post("/api/transfer", body).body["id"]
    taken = []
    for _ in range(times):
        _until(lambda: product.job(job)["progress"]["status"] == "transferring")
        time.sleep(0.3)
        asked = time.perf_counter()
        answer = product.post(f"/api/sessions/{job}/pause")
        taken.append((time.perf_counter() - asked) * 1000)
        if answer.status != 200 or answer.body["status"] != "paused":
            raise RuntimeError(f"The pause was answered with {answer.status}: {answer.body}")
        product.post(f"/api/sessions/{job}/resume")
    product.post(f"/api/sessions/{job}/cancel")
    return taken


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + LONGEST_S
    while not is_so():
        if time.monotonic() > until:
            raise RuntimeError("The transfer does not move.")
        time.sleep(LOOK_S)


def _size(root: Path) -> int:
    return sum(path.stat().st_size for path in root.iterdir())


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _row(name: str, taken_ms: list[float]) -> Json:
    ordered = sorted(taken_ms)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return {"what": name, "p50_ms": round(statistics.median(ordered), 1), "p99_ms": round(p99, 1)}


def latency_table(found: Json) -> str:
    """For people."""
    lines = [f"{found['times']} times each", f"{'':32}{'p50':>10}{'p99':>10}"]
    lines += [f"{row['what']:32}{row['p50_ms']:7.1f} ms{row['p99_ms']:7.1f} ms" for row in found["latencies"]]
    return "\n".join(lines)
