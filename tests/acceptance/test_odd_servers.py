"""Servers that refuse what others do, real ones, through the whole product."""

import os

from tests.acceptance.conftest import local, log_of, sftp_on, submit
from tests.servers.openssh import OpenSshServer
from tests.trees import digest, small_tree

LONG_AGO = 1_500_000_000


def transfer(product, source, destination, *statuses, **options):
    body = {"source_config": source, "dest_config": destination, "verify_after_transfer": True}
    return product.wait_for(submit(product, "/api/transfer", body | options), *statuses)


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
