"""Milliseconds of the list of jobs, as a page and over the API, with a long history; part of script/bench."""

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

from tests.product import Product

ADDRESSES = (
    "/",
    "/jobs",
    "/jobs?status=failed",
    "/jobs?q=host77.example",
    "/jobs?q=nowhere",
    "/jobs?q=srv",
    "/api/sessions",
    "/api/sessions?status=failed&type=scan",
    "/api/sessions?q=host77.example",
    "/api/sessions/active",
)
RUNS = 20
FILLED_AT_ONCE = 10_000

_FILL = """
import django, sys
django.setup()
from datetime import timedelta
from django.utils import timezone
from sessions_app import accounts
from sessions_app.models import Job
owner, now = accounts.owner(), timezone.now()
first, last = int(sys.argv[1]), int(sys.argv[2])
# They are made as of earlier times.
Job._meta.get_field("created_at").auto_now_add = False
local = {"protocol": "local", "host": "", "root_path": "/srv/copy"}
copied = {"success": True, "errors_count": 0, "bytes_transferred": 63_241_118, "files_transferred": 2514,
          "skipped_files": [f"wp-includes/file {n}.php" for n in range(100)]}
scanned = {"success": True, "unreadable": [], "statistics": {"total_files": 2514, "total_size": 63_241_118,
           "files_by_type": {f"t{n}": n for n in range(60)}, "files_by_type_size": {f"t{n}": n for n in range(60)}}}

def job(n):
    config = {"protocol": "sftp", "host": f"host{n % 500}.example.org", "port": 22, "username": "web",
              "root_path": f"/srv/site{n}"}
    kind, result = ("scan", scanned) if n % 2 else ("transfer", copied)
    found = Job(type=kind, status="failed" if n % 10 == 0 else "completed", owner=owner, result=result,
               title=f"{config['host']}:/srv/site{n} → /srv/copy", started_at=now, completed_at=now,
               created_at=now - timedelta(minutes=n),
               error_message="The server hung up." if n % 10 == 0 else "",
               public={"source_config": config, "dest_config": local})
    found.search_text = found.searched
    return found

Job.objects.bulk_create([job(n) for n in range(first, last)], batch_size=500)
"""


def measure_history(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The median and the slowest of some answers, each after one that nobody counts."""
    with Product(folder / "history") as product:
        product.migrate()
        fill_history(product, options.history)
        product.start(workers=1)
        return {"jobs": options.history, "answers": [_timed(product, address) for address in ADDRESSES]}


def fill_history(product: Product, jobs: int) -> None:
    """Write finished jobs of its owner into the database of a product that is not started yet."""
    for first in range(0, jobs, FILLED_AT_ONCE):
        product.python("-c", _FILL, str(first), str(min(jobs, first + FILLED_AT_ONCE)))


def _timed(product: Product, address: str) -> dict[str, Any]:
    taken_ms = []
    for _ in range(RUNS + 1):
        started = time.perf_counter()
        answer = product.get(address)
        taken_ms.append((time.perf_counter() - started) * 1000)
        if answer.status != 200:
            raise RuntimeError(f"{address} answered {answer.status}")
    counted = taken_ms[1:]
    return {
        "address": address,
        "median_ms": round(statistics.median(counted), 1),
        "slowest_ms": round(max(counted), 1),
    }


def history_table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [f"{found['jobs']:,} jobs in the history", f"{'':44}{'median':>10}{'slowest':>10}"]
    lines += [
        f"{row['address']:44}{row['median_ms']:7.1f} ms{row['slowest_ms']:7.1f} ms"
        for row in found["answers"]
    ]
    return "\n".join(lines)
