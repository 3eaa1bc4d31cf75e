"""Many jobs beside each other, over the API: connections that are shared, servers that are away, limits that change."""

import os
import threading
import time

import psutil
import pytest

from tests.acceptance.conftest import local, log_of, sftp_on, submit
from tests.product import Product, until
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree


@pytest.fixture
def few(host: OpenSshServer) -> dict[str, object]:
    """A server that takes one connection at once."""
    return {**sftp_on(host, "/"), "name": "one at once", "max_connections": 1}


class Counter:
    """The most connections that a server had open at the same moment."""

    def __init__(self, port: int) -> None:
        self.most = 0
        self._port = port
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> "Counter":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(0.02):
            found = psutil.net_connections("tcp")
            mine = [one for one in found if one.raddr and one.raddr.port == self._port]
            self.most = max(self.most, sum(one.status == psutil.CONN_ESTABLISHED for one in mine))


def test_two_jobs_share_the_connections_of_a_server_in_turns(own_product, host, few, tmp_path):
    product: Product = own_product
    large, small = tmp_path / "large", small_tree(tmp_path / "small", folders=1, files=10)
    large.mkdir()
    for number in range(20):
        (large / f"{number}.bin").write_bytes(os.urandom(10 * 10**6))
    connection = product.post("/api/connections", few)
    assert (connection.status, connection.body["max_connections"]) == (201, 1)

    def to(name: str) -> dict[str, str]:
        return {"connection": connection.body["id"], "root_path": str(tmp_path / name)}

    with Counter(host.port) as connections:
        body = {"source_config": local(large), "dest_config": to("copy of large"), "bandwidth_limit": 5}
        first = submit(product, "/api/transfer", body)
        until(lambda: product.job(first)["progress"]["bytes_transferred"] > 10**6)
        body = {"source_config": local(small), "dest_config": to("copy of small")}
        second = submit(product, "/api/transfer", body)
        done = product.wait_for(second)
        # It had one slice, and has the rest before it.
        assert product.status(first) == "running"
        changed = product.request("PATCH", f"/api/sessions/{first}", {"bandwidth_limit": 0})
        assert changed.status == 200, changed
        product.wait_for(first, seconds=30)
    assert connections.most == 1
    assert differences(small, tmp_path / "copy of small") == ""
    assert differences(large, tmp_path / "copy of large") == ""
    assert done["transfer_result"]["files_transferred"] == 10
    assert any("bandwidth_limit 0" in line for line in log_of(product, product.job(first)))


def test_job_whose_server_is_away_leaves_its_worker_to_others(own_product, host, tmp_path):
    product: Product = own_product
    site = tmp_path / "site"
    site.mkdir()
    for number in range(60):
        (site / f"{number}.bin").write_bytes(os.urandom(10**6))
    body = {
        "source_config": local(site),
        "dest_config": sftp_on(host, tmp_path / "host"),
        "bandwidth_limit": 10,
    }
    job = submit(product, "/api/transfer", body)
    until(lambda: product.job(job)["progress"]["bytes_transferred"] > 10**6)
    with host.away():
        host.drop_sessions()
        waiting = until(
            lambda: "Waits for the server" in product.job(job)["progress"].get("message", "") and job
        )
        assert product.status(waiting) == "running"
        others = [
            submit(
                product,
                "/api/transfer",
                {"source_config": local(site), "dest_config": local(tmp_path / name)},
            )
            for name in ("one", "two", "three")
        ]
        for other in others:
            product.wait_for(other)
        # Nothing holds it up either.
        asked = time.monotonic()
        assert product.post(f"/api/sessions/{job}/pause").body["status"] == "paused"
        assert time.monotonic() - asked < 1.5
        assert product.post(f"/api/sessions/{job}/resume").body["status"] == "running"
    product.wait_for(job)
    assert differences(site, tmp_path / "host") == ""


def test_side_that_can_never_have_its_connections_says_so(product, host, few, tmp_path):
    site = small_tree(tmp_path / "site", folders=1, files=1)
    name = {"name": "one at once for a relay"}
    connection = product.post("/api/connections", few | name).body["id"]
    sides = [{"connection": connection, "root_path": str(root)} for root in (site, tmp_path / "copy")]
    body = {"source_config": sides[0], "dest_config": sides[1]}
    job = product.wait_for(submit(product, "/api/transfer", body), "failed")
    assert job["error_message"].startswith("This needs 2 connections to ")
    answer = product.request("PATCH", f"/api/connections/{connection}", {"max_connections": 2})
    assert answer.status == 200, answer
    again = product.post(f"/api/sessions/{job['id']}/retry")
    assert again.status == 200
    product.wait_for(job["id"])
    assert differences(site, tmp_path / "copy") == ""


@pytest.mark.parametrize("number", [0, -1, 65, "4", True, 1.5])
def test_number_of_connections_that_makes_no_sense_is_refused(product, few, number):
    answer = product.post("/api/connections", few | {"name": "odd", "max_connections": number})
    assert answer.status == 400
    assert "max_connections" in answer.body["fields"]
