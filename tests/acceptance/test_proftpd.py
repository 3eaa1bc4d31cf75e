"""Whole jobs to, from and within a ProFTPD, which gives SFTP by its mod_sftp and no shell."""

import os
import time

from tests.acceptance.conftest import local, log_of, sftp_on, submit
from tests.product import until
from tests.servers.proftpd import ProftpdServer
from tests.trees import digest, small_tree


def transfer(product, source, destination, **options):
    body = {"source_config": source, "dest_config": destination, "verify_after_transfer": True}
    return product.wait_for(submit(product, "/api/transfer", body | options), seconds=240)


def kept(root):
    """What a copy has to keep: all but the times of links, which ProFTPD cannot set."""
    found = {}
    for path in root.rglob("*"):
        status = path.lstat()
        is_link = path.is_symlink()
        found[path.relative_to(root)] = is_link or (status.st_mode, status.st_mtime_ns // 10**9)
    return digest(root), found


def test_site_goes_there_and_back_and_a_second_run_finds_nothing_to_do(product, proftpd, wordpress, tmp_path):
    there, back = sftp_on(proftpd, tmp_path / "host/site"), local(tmp_path / "back")
    files = sum(path.is_file() and not path.is_symlink() for path in wordpress.rglob("*"))
    up = transfer(product, local(wordpress), there)
    assert kept(tmp_path / "host/site") == kept(wordpress)
    assert up["transfer_result"]["method"] == "sftp_stream"
    assert up["transfer_result"]["verification_result"]["success"]
    down = transfer(product, there, back)
    assert kept(tmp_path / "back") == kept(wordpress)
    assert down["transfer_result"]["files_transferred"] >= files
    for source, destination in ((local(wordpress), there), (there, back)):
        again = transfer(product, source, destination)["transfer_result"]
        assert (again["files_transferred"], again["errors_count"]) == (0, 0)
    # From the server to itself, through this machine.
    transfer(product, there, sftp_on(proftpd, tmp_path / "host/copy"))
    assert kept(tmp_path / "host/copy") == kept(wordpress)


def test_sessions_that_are_killed_cost_a_moment(product, tmp_path):
    tree = small_tree(tmp_path / "tree", folders=40, files=100)
    (tree / "large").write_bytes(os.urandom(2**20) * 40)
    with ProftpdServer() as host:
        there = sftp_on(host, tmp_path / "host")
        for source, destination, copy in (
            (local(tree), there, tmp_path / "host"),
            (there, local(tmp_path / "back"), tmp_path / "back"),
        ):
            request = {"source_config": source, "dest_config": destination}
            job = submit(product, "/api/transfer", request)
            until(lambda job=job: product.job(job)["progress"]["files_transferred"] > 200)
            host.drop_sessions()
            time.sleep(0.5)
            host.drop_sessions()
            product.wait_for(job, seconds=240)
            assert kept(copy) == kept(tree)
            assert not list(copy.rglob(".haulier-*"))


def test_server_that_only_says_that_it_sets_times_is_found_out(product, tmp_path):
    tree = small_tree(tmp_path / "tree")
    for path in tree.rglob("*.txt"):
        os.utime(path, (1_500_000_000, 1_500_000_000))
    with ProftpdServer(config=["SFTPOptions IgnoreSFTPSetTimes"]) as host:
        there = sftp_on(host, tmp_path / "host")
        job = transfer(product, local(tree), there)
        assert digest(tmp_path / "host") == digest(tree)
        assert any("refused to set mode and time of 15 files" in text for text in log_of(product, job))
        again = transfer(product, local(tree), there)
        assert again["transfer_result"]["files_transferred"] == 0
        assert any("keeps no times" in text for text in log_of(product, again))
