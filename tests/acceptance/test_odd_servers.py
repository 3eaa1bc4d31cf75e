"""Servers that refuse what others do, real ones, through the whole product."""

import asyncio
import os
from typing import ClassVar

import asyncssh

from tests.acceptance.conftest import local, log_of, sftp_on, submit
from tests.product import Product
from tests.servers.faulty import LetsEverybodyIn, beside, faulty
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, digest, small_tree

LONG_AGO = 1_500_000_000


def transfer(product, source, destination, *statuses, **options):
    body = {"source_config": source, "dest_config": destination, "verify_after_transfer": True}
    return product.wait_for(submit(product, "/api/transfer", body | options), *statuses, seconds=240)


def test_server_that_sets_no_attributes_gets_the_files_and_one_warning(product, tmp_path):
    tree = small_tree(tmp_path / "tree")
    for path in tree.rglob("*.txt"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    to = tmp_path / "host/site"
    with OpenSshServer(has_shell=False, sftp_options=["-P", "setstat,fsetstat,lsetstat"]) as host:
        job = transfer(product, local(tree), sftp_on(host, to))
        assert digest(to) == digest(tree)
        assert job["transfer_result"]["files_transferred"] == 15
        warning = "The destination refused to set mode and time of 15 files and 3 folders."
        assert [text for text in log_of(product, job) if "refused" in text or "mode" in text] == [warning]
        # The times differ now: what is known of the destination keeps everything from being copied again.
        (tree / "folder 0/file 0.txt").write_bytes(b"changed")
        os.utime(tree / "folder 0/file 0.txt", (LONG_AGO, LONG_AGO))
        job = transfer(product, local(tree), sftp_on(host, to))
        assert job["transfer_result"]["files_transferred"] == 1
        assert digest(to) == digest(tree)
        assert "The destination keeps no times: files of the same size are taken for the same." in log_of(
            product, job
        )
    with OpenSshServer(has_shell=False) as host:
        # Another server, and the same folder: times count there, and are set.
        job = transfer(product, local(tree), sftp_on(host, to))
        assert job["transfer_result"]["files_transferred"] == 15


def test_account_without_rights_fills_what_is_its_own_and_fails_elsewhere_by_name(product, account):
    yard = account.folder / "job"
    tree, to = small_tree(yard / "from"), yard / "to"
    for name in ("folder 0", "folder 1"):
        (to / name).mkdir(parents=True)
        os.utime(to / name, (LONG_AGO, LONG_AGO))
    account.own(to)
    os.chown(to / "folder 1", 0, 0)
    (to / "folder 0").chmod(0o555)
    with OpenSshServer(has_shell=False) as host:
        there = sftp_on(host, to) | {"username": account.name}
        job = transfer(product, local(tree), there, "completed", "failed", conflict="skip")
    lost = {path for path in digest(tree) if path.startswith("folder 1/")}
    assert lost
    failures = {one["path"]: one["error"] for one in job["transfer_result"]["failures"]}
    assert failures == dict.fromkeys(lost, "Permission denied.")
    assert digest(to) == {path: found for path, found in digest(tree).items() if path not in lost}
    status = (to / "folder 0").stat()
    assert (status.st_mode & 0o777, status.st_mtime) == (0o555, LONG_AGO)


class TwoConnections(LetsEverybodyIn):
    """Hangs up on the third client."""

    clients: ClassVar[set["TwoConnections"]] = set()
    most = 0
    refused = 0

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        if len(self.clients) >= 2:
            TwoConnections.refused += 1
            asyncio.get_running_loop().call_soon(conn.abort)
            return
        self.clients.add(self)
        TwoConnections.most = max(self.most, len(self.clients))

    def connection_lost(self, exc: Exception | None) -> None:
        self.clients.discard(self)


def test_server_of_two_connections_serves_more_workers(tmp_path):
    tree = small_tree(tmp_path / "tree", folders=41, files=100)
    (tmp_path / "host").mkdir()
    with (
        beside(faulty(tmp_path / "host", ssh_class=TwoConnections)) as address,
        Product(tmp_path / "product") as product,
    ):
        product.start(workers=4)
        there = {"protocol": "sftp", "host": address.host, "port": address.port, "username": "web"}
        there["password"] = "x"
        # One job alone may have no more workers than this machine has processors.
        ends = [
            {"source_config": local(tree), "dest_config": there | {"root_path": path}}
            for path in ("/site", "/other")
        ]
        jobs = [submit(product, "/api/transfer", body) for body in ends]
        for job, name in zip(jobs, ("site", "other"), strict=True):
            product.wait_for(job, seconds=240)
            assert differences(tree, tmp_path / "host" / name) == ""
        logs = [text for job in jobs for text in log_of(product, {"id": job})]
        told = [text for text in logs if "takes no more connections now. " in text]
        assert any(text.endswith(" 2 are open, and no more are opened for a while.") for text in told)
        refused = TwoConnections.refused
        assert refused == len(told)
        # It is remembered for the next job.
        transfer(product, local(tree), there | {"root_path": "/again"})
        assert TwoConnections.refused == refused
        # One that needs both, while those of the last one may still be open.
        transfer(product, there | {"root_path": "/site/folder 0"}, there | {"root_path": "/copy"})
        assert differences(tree / "folder 0", tmp_path / "host/copy") == ""
    assert TwoConnections.refused > 0
    assert TwoConnections.most == 2
