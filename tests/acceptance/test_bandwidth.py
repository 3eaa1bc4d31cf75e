"""Limits of bandwidth, as the other side sees them: the bytes that are there."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import local, log_of, submit
from tests.product import Product, until

MB = 10**6
WINDOW_S = 10.0
SETTLES_S = 1.0
WINDOWS = 3
FILES = 3500
SIZE = 60_000


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with Product(tmp_path_factory.mktemp("product")) as found:
        # One for each part of two jobs: where one gives way to another, less than the limit comes for a moment.
        found.start(workers=4)
        yield found


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some shards of small files, and large ones among them."""
    root = tmp_path_factory.mktemp("site")
    for number in range(FILES):
        path = root / f"folder {number // 100:02}" / f"{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(number.to_bytes(4, "big") * (SIZE // 4))
    for number in range(0, 35, 5):
        (root / f"folder {number:02}" / "large.bin").write_bytes(bytes([number]) * 20 * MB)
    return root


def there(root: Path) -> int:
    """Bytes of all files below a folder, those that are not finished too."""
    size, folders = 0, [str(root)]
    while folders:
        for entry in os.scandir(folders.pop()):
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.path)
            else:
                try:
                    size += entry.stat(follow_symlinks=False).st_size
                except FileNotFoundError:
                    continue  # It has its own name now, and may be counted under it.
    return size


def rate_at(*roots: Path) -> float:
    """MB/s that come to some folders, over a window."""
    time.sleep(SETTLES_S)
    began, before = time.monotonic(), sum(map(there, roots))
    time.sleep(WINDOW_S)
    return (sum(map(there, roots)) - before) / (time.monotonic() - began) / MB


def check_rate(limit: float, *roots: Path) -> None:
    """What comes is never more than the limit, and as much in one of a few windows: the machine may be busy in some."""
    found: list[float] = []
    while len(found) < WINDOWS and not (found and found[-1] > 0.95 * limit):
        found.append(rate_at(*roots))
        assert found[-1] < 1.1 * limit, found
    assert found[-1] > 0.95 * limit, found


def change(product: Product, job: str, **values: object) -> None:
    answer = product.request("PATCH", f"/api/sessions/{job}", values)
    assert answer.status == 200, answer


def begun(product: Product, body: dict[str, object], root: Path) -> str:
    job = submit(product, "/api/transfer", body)
    until(lambda: root.exists() and there(root) > 0)
    return job


def cancelled(product: Product, *jobs: str) -> list[str]:
    """Cancel jobs; gives the log of the last one."""
    for job in jobs:
        assert product.post(f"/api/sessions/{job}/cancel").status == 200
    return log_of(product, product.wait_for(jobs[-1], "cancelled"))


@pytest.mark.parametrize("goes", ["up", "down", "relay"])
def test_limit_that_is_changed_in_mid_job_holds_for_all_workers_together(product, sftp, site, tmp_path, goes):
    source = local(site) if goes == "up" else sftp(site)
    to = local(tmp_path / "copy") if goes == "down" else sftp(tmp_path / "copy")
    body = {"source_config": source, "dest_config": to, "bandwidth_limit": 6}
    job = begun(product, body, tmp_path / "copy")
    check_rate(6, tmp_path / "copy")
    change(product, job, bandwidth_limit=2)
    check_rate(2, tmp_path / "copy")
    change(product, job, bandwidth_timetable=[{"from": "00:00", "to": "00:00", "limit": 4}])
    check_rate(4, tmp_path / "copy")
    change(product, job, bandwidth_timetable=[], bandwidth_limit=0)
    product.wait_for(job)


def test_limit_of_a_connection_is_shared_by_its_jobs(product, sftp, site, tmp_path):
    limited = sftp(tmp_path) | {"name": "limited", "bandwidth_limit": 4, "max_connections": 8}
    connection = product.post("/api/connections", limited)
    assert (connection.status, connection.body["bandwidth_limit"]) == (201, 4)
    number = connection.body["id"]
    roots = [tmp_path / "first", tmp_path / "second"]
    jobs = [
        begun(
            product,
            {
                "source_config": local(site),
                "dest_config": {"connection": number, "root_path": str(root)},
                "bandwidth_limit": limit,
            },
            root,
        )
        for root, limit in zip(roots, (0, 1), strict=True)
    ]
    time.sleep(2)
    check_rate(4, *roots)
    answer = product.request("PATCH", f"/api/connections/{number}", {"bandwidth_limit": 7})
    assert answer.status == 200, answer
    check_rate(7, *roots)
    cancelled(product, *jobs)
