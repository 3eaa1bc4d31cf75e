"""Whatever dies while a site is on its way: the job goes on, and the copy is the source."""

import collections
import contextlib
import os
import re
import signal
import sqlite3
import threading
import time

import psutil
import pytest

from tests.acceptance.conftest import local, submit
from tests.killtest.rows import Rows
from tests.product import Product, until
from tests.servers.openssh import LoggingServer
from tests.trees import differences

CHECKPOINT_FILES = 1000
"""The most files of a shard between two checkpoints."""
FILES_IN_FLIGHT = 600


@pytest.fixture
def product(own_product):
    return own_product


@pytest.fixture
def host():
    with LoggingServer() as found:
        yield found


@pytest.fixture
def slow_site(tmp_path):
    """Enough for a kill in the middle: 6,000 files."""
    root = tmp_path / "site"
    for folder in range(60):
        (root / f"folder{folder}").mkdir(parents=True)
        for file in range(100):
            (root / f"folder{folder}/file{file}").write_bytes(os.urandom(2000))
    with (root / "large.bin").open("wb") as large:
        large.write(os.urandom(2**20) * 64)
    return root


def renames(host):
    """How often each final name was given, as the server logged it."""
    return collections.Counter(re.findall(r'rename old ".*" new "(.*)"', "".join(host.operations().values())))


def in_the_middle(product, job):
    def is_there():
        progress = product.job(job)["progress"]
        return progress["files_transferred"] > 500 or progress["status"] in ("completed", "failed")

    until(is_there)
    assert product.status(job) == "running"


def busy_worker(product):
    """The worker with an open SSH connection that has used most processor time."""
    return max(product.children("worker"), key=lambda worker: sum(worker.cpu_times()[:2]))


def suspend(product, process):
    """Stop a process, but not in the middle of a transaction: SQLite's one writer would stop everybody."""
    while True:
        process.suspend()
        database = sqlite3.connect(product.folder / "data/haulier.sqlite3", timeout=1)
        try:
            with contextlib.closing(database):
                database.execute("BEGIN IMMEDIATE")
                database.rollback()
            return
        except sqlite3.OperationalError:
            process.resume()
            time.sleep(0.05)


def test_killed_worker_sends_at_most_a_checkpoint_again(product, host, sftp, slow_site, tmp_path):
    job = submit(
        product,
        "/api/transfer",
        {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")},
    )
    in_the_middle(product, job)
    busy_worker(product).kill()
    result = product.wait_for(job)["transfer_result"]
    assert differences(slow_site, tmp_path / "host") == ""
    assert result["files_transferred"] == 6001
    again = {path: count for path, count in renames(host).items() if count > 1}
    assert len(renames(host)) == 6001
    assert max(again.values(), default=1) <= 2
    assert len(again) <= CHECKPOINT_FILES + FILES_IN_FLIGHT
    assert not list((tmp_path / "host").rglob(".haulier-*"))


def test_every_worker_killed_again_and_again(product, host, sftp, slow_site, tmp_path):
    job = submit(
        product,
        "/api/transfer",
        {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")},
    )
    for _ in range(3):
        time.sleep(0.8)
        for worker in product.children("worker"):
            worker.kill()
    product.wait_for(job)
    assert differences(slow_site, tmp_path / "host") == ""
    events = product.get(f"/api/sessions/{job}").body
    assert events["transfer_result"]["files_transferred"] == 6001


def test_dropped_connections_are_made_again(product, host, sftp, slow_site, tmp_path):
    job = submit(
        product,
        "/api/transfer",
        {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")},
    )
    in_the_middle(product, job)
    host.drop_sessions()
    product.wait_for(job)
    assert differences(slow_site, tmp_path / "host") == ""


def test_server_that_is_away_while_workers_die_is_waited_for(product, host, sftp, slow_site, tmp_path):
    body = {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")}
    job = submit(product, "/api/transfer", body)
    in_the_middle(product, job)
    with host.away():
        for worker in product.children("worker"):
            worker.kill()
        time.sleep(3)
        assert product.status(job) == "running"
    product.wait_for(job)
    assert differences(slow_site, tmp_path / "host") == ""


def test_killed_supervisor_leaves_nothing_behind_and_a_new_server_finishes(
    product, host, sftp, slow_site, tmp_path
):
    job = submit(
        product,
        "/api/transfer",
        {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")},
    )
    in_the_middle(product, job)
    family = [product.process.pid, *(child.pid for child in product.children())]
    product.process.kill()
    product.process.wait()
    until(lambda: not any(psutil.pid_exists(pid) for pid in family), seconds=15)
    product.start(script=True)
    product.wait_for(job)
    assert differences(slow_site, tmp_path / "host") == ""


def test_web_process_may_die_while_a_client_listens(product: Product, sftp, slow_site, tmp_path):
    job = submit(
        product,
        "/api/transfer",
        {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")},
    )
    seen, last, kills = [], "0", 0
    while not seen or seen[-1].event not in ("complete", "failed"):
        timer = None
        if kills < 2:
            kills += 1
            timer = threading.Timer(1.0, product.children("web")[0].kill)
            timer.start()
        try:
            with product.read_sse(f"/api/sessions/{job}/events", headers={"Last-Event-ID": last}) as stream:
                for frame in stream:
                    if frame.id:
                        seen.append(frame)
                        last = frame.id
                    if frame.event in ("complete", "failed"):
                        break
        except OSError:
            time.sleep(0.05)  # That is what a kill looks like from here.
        if timer is not None:
            timer.join()
            until(lambda: product.children("web"))
    assert seen[-1].event == "complete"
    assert [frame.data["seq"] for frame in seen] == list(range(1, len(seen) + 1))
    product.wait_for(job)


CHANGES = re.compile(
    r'^(?:open ".*" flags [A-Z,]*(?:WRITE|CREATE)|mkdir|set|posix-rename|rename|remove|symlink)', re.MULTILINE
)
"""What changes something at the server, in its log."""


def test_zombie_writes_nothing_more(product, host, sftp, slow_site, tmp_path):
    """A worker that is stopped past its lease, and goes on when another has done its work, changes nothing any more:
    no row of ours, and no file at the server.

    What had left for the server before it was stopped cannot be taken back, and takes effect after the stop: that is
    answered to nobody, and may be renames of as many files as are under way at once. Each of them was whole.
    """
    job = submit(
        product,
        "/api/transfer",
        {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")},
    )
    in_the_middle(product, job)
    zombie = busy_worker(product)
    suspend(product, zombie)
    before = host.operations()
    ports = {
        link.laddr.port for link in zombie.net_connections() if link.raddr and link.raddr.port == host.port
    }
    assert ports
    try:
        product.wait_for(job)
        assert differences(slow_site, tmp_path / "host") == ""
        after = host.operations()
        had_left = "".join(after[port][len(before.get(port, "")) :] for port in ports)
        assert len(re.findall("rename old", had_left)) <= FILES_IN_FLIGHT
        rows = Rows(product.folder / "data/haulier.sqlite3")
        written = rows.log(job), rows.shards(job), rows.states(job)
        zombie.resume()
        # It says so itself once it has found out.
        until(lambda: "was lost to another worker" in product.printed())
        time.sleep(1)
        for port, text in host.operations().items():
            told = text[len(after.get(port, "")) :]
            assert not CHANGES.search(told), told
        assert (rows.log(job), rows.shards(job), rows.states(job)) == written
        assert differences(slow_site, tmp_path / "host") == ""
        assert zombie.is_running()
    finally:
        if zombie.is_running():
            zombie.send_signal(signal.SIGCONT)


def test_killed_workers_unfinished_files_are_removed_though_the_job_is_cancelled_at_once(
    product, sftp, slow_site, tmp_path
):
    body = {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")}
    job = submit(product, "/api/transfer", body)
    in_the_middle(product, job)
    for worker in product.children("worker"):
        worker.kill()
    assert product.delete(f"/api/sessions/{job}").body == {"message": "Session cancelled"}
    progress = product.job(job)["progress"]
    until(lambda: "Removed unfinished files" in log_page(product, job))
    assert not list((tmp_path / "host").rglob(".haulier-*"))
    assert product.job(job)["progress"] == progress
    assert product.status(job) == "cancelled"


def test_unfinished_files_at_a_server_that_is_away_are_told_of(product, host, sftp, slow_site, tmp_path):
    body = {"source_config": local(slow_site), "dest_config": sftp(tmp_path / "host")}
    job = submit(product, "/api/transfer", body)
    in_the_middle(product, job)
    with host.away():
        for worker in product.children("worker"):
            worker.kill()
        product.delete(f"/api/sessions/{job}")
        until(lambda: "Unfinished files may be left" in log_page(product, job), seconds=90)
    assert product.status(job) == "cancelled"


def log_page(product, job):
    return product.get(f"/jobs/{job}/log", {"Accept": "text/html"}).body
