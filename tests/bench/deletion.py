"""Whether others wait while a long history is deleted, and how long its rows take; part of script/bench."""

import argparse
import sqlite3
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from tests.bench.history import fill_history
from tests.product import Product

ROWS_A_JOB = 100
TRIES_BEFORE = 100
LONGEST_S = 7200.0

_FILL = f"""
WITH RECURSIVE counted(n) AS (VALUES(1) UNION ALL SELECT n + 1 FROM counted WHERE n < {ROWS_A_JOB})
INSERT INTO migration_app_manifestentry (job_id, number, path, path_hash, kind, size, mtime, mode, target, real_path,
                                         "action", state, attempts, error, evidence, is_settled)
SELECT id, n, 'wp-content/uploads/2026/' || (n / 10) || '/picture-' || n || '.webp', random(), 'file', 20480,
       1790000000, 33188, '', '', 'create', 'done', 1, '', '', false
FROM sessions_app_job CROSS JOIN counted
"""


def measure_deletion(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Deletes all over the API, while somebody else submits scans and asks for the list."""
    small = folder / "small"
    small.mkdir()
    (small / "index.html").write_text("<h1>It works</h1>")
    with Product(folder / "deletion") as product:
        product.migrate()
        fill_history(product, options.deletion)
        file = product.folder / "data/haulier.sqlite3"
        with closing(sqlite3.connect(file)) as database, database:
            database.execute(_FILL)
        mib_before = file.stat().st_size / 2**20
        product.start(workers=options.workers)
        body = {"server_config": {"protocol": "local", "root_path": str(small)}}
        before = [_ask(product, body) for _ in range(TRIES_BEFORE)]
        started = time.monotonic()
        deleted = product.delete("/api/sessions").body["deleted"]
        answered_s = time.monotonic() - started
        meanwhile = []
        while _rows(file) > 0:
            meanwhile.append(_ask(product, body))
            if time.monotonic() - started > LONGEST_S:
                raise RuntimeError(f"after {LONGEST_S:.0f} s {_rows(file)} rows are left")
            time.sleep(0.1)
        return {
            "jobs": deleted,
            "rows": ROWS_A_JOB * options.deletion,
            "answered_s": round(answered_s, 2),
            "gone_s": round(time.monotonic() - started, 1),
            "file_mib": round(mib_before),
            "file_mib_after": round(file.stat().st_size / 2**20),
            "free_mib": round(_free_mib(file)),
            "answers": [_figures("before", before), _figures("meanwhile", meanwhile)],
        }


def _ask(product: Product, body: dict[str, Any]) -> tuple[float, float]:
    """How long submitting took, and the list, in ms."""
    started = time.perf_counter()
    status = product.post("/api/scan", body).status
    submitted = time.perf_counter()
    listed_status = product.get("/api/sessions").status
    listed = time.perf_counter()
    if status != 202 or listed_status != 200:
        raise RuntimeError(f"answered {status} and {listed_status}")
    return (submitted - started) * 1000, (listed - submitted) * 1000


def _rows(file: Path) -> int:
    """How many of the rows that were filled in are left, counted up to one."""
    with closing(sqlite3.connect(file, timeout=60)) as database:
        query = "SELECT count(*) FROM (SELECT 1 FROM sessions_app_job WHERE deleted_at IS NOT NULL LIMIT 1)"
        return int(database.execute(query).fetchone()[0])


def _free_mib(file: Path) -> float:
    with closing(sqlite3.connect(file)) as database:
        pages = database.execute("PRAGMA freelist_count").fetchone()[0]
        return float(pages * database.execute("PRAGMA page_size").fetchone()[0] / 2**20)


def _figures(when: str, taken_ms: list[tuple[float, float]]) -> dict[str, Any]:
    submits, lists = zip(*taken_ms, strict=True) if taken_ms else ((0.0,), (0.0,))
    return {
        "when": when,
        "times": len(taken_ms),
        "submit_median_ms": round(statistics.median(submits), 1),
        "submit_slowest_ms": round(max(submits), 1),
        "list_median_ms": round(statistics.median(lists), 1),
        "list_slowest_ms": round(max(lists), 1),
    }


def deletion_table(found: dict[str, Any]) -> str:
    """For people."""
    lines = [
        f"{found['jobs']:,} jobs with {found['rows']:,} rows: deletion answered after {found['answered_s']} s, "
        f"rows gone after {found['gone_s']} s",
        f"database file {found['file_mib']:,} MiB before and {found['file_mib_after']:,} MiB after, "
        f"{found['free_mib']:,} MiB of it free for new rows",
        f"{'':12}{'times':>7}{'submit':>10}{'slowest':>10}{'list':>10}{'slowest':>10}",
    ]
    lines += [
        f"{row['when']:12}{row['times']:7}{row['submit_median_ms']:7.0f} ms{row['submit_slowest_ms']:7.0f} ms"
        f"{row['list_median_ms']:7.0f} ms{row['list_slowest_ms']:7.0f} ms"
        for row in found["answers"]
    ]
    return "\n".join(lines)
