"""Between two servers, straight through memory: by the API and by `move`, with shells and without."""

import contextlib
import os
import sqlite3

import psutil
import pytest

from tests.acceptance.conftest import local, sftp_on, submit
from tests.acceptance.test_move import move
from tests.product import until
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree


@pytest.fixture(scope="module")
def with_shell():
    with OpenSshServer() as found:
        yield found


@pytest.fixture(scope="module")
def without_shell():
    with OpenSshServer(has_shell=False) as found:
        yield found


@pytest.fixture
def place(with_shell, without_shell):
    """The Conn object of a folder at one of three places."""
    hosts = {"with shell": with_shell, "without shell": without_shell}
    return lambda name, root: sftp_on(hosts[name], root) if name in hosts else local(root)


@pytest.fixture(scope="module")
def little_site(tmp_path_factory):
    """What is hard about a site, in few files; that the whole of one arrives is asked of the WordPress tree."""
    root = small_tree(tmp_path_factory.mktemp("site") / "little", folders=2, files=3)
    (root / ".htaccess").write_text("RewriteEngine On\n")
    (root / "ünïcode 'quoted' $(name)").write_bytes(os.urandom(300_000))
    (root / "empty").touch()
    (root / "closed").mkdir(mode=0o500)
    (root / "current").symlink_to("folder 0")
    (root / "dangling").symlink_to("/nowhere/at/all")
    os.utime(root / "empty", (1, 1))
    return root


def number_of_files(root):
    return sum(path.is_file() and not path.is_symlink() for path in root.rglob("*"))


def transfer(product, source, destination):
    body = {"source_config": source, "dest_config": destination, "verify_after_transfer": True}
    return product.wait_for(submit(product, "/api/transfer", body))


def evidence_of(product, job):
    """How a later verification proves the copy."""
    answer = product.post(f"/api/sessions/{job['id']}/verify")
    assert answer.status == 202, answer
    result = product.wait_for(answer.body["id"])["verify_result"]
    assert result["success"], result
    return {name: count for name, count in result["evidence"].items() if count}


@pytest.mark.parametrize(
    ("source", "destination", "evidence"),
    [
        ("with shell", "without shell", "readback"),
        ("here", "here", "two_sided_hash"),
    ],
)
def test_whole_site_arrives_and_is_proved_by_content(
    product, place, wordpress, tmp_path, source, destination, evidence
):
    copy = tmp_path / "copy"
    job = transfer(product, place(source, wordpress), place(destination, copy))
    assert differences(wordpress, copy) == ""
    files = number_of_files(wordpress)
    result = job["transfer_result"]
    assert (result["files_transferred"], result["errors_count"]) == (files, 0)
    assert result["verification_result"]["success"]
    assert evidence_of(product, job) == {evidence: files}
    assert not list(copy.rglob(".haulier-*"))


@pytest.mark.parametrize(
    ("source", "destination", "evidence"),
    [
        ("with shell", "with shell", "two_sided_hash"),
        ("without shell", "with shell", "readback"),
        ("without shell", "without shell", "readback"),
        ("here", "with shell", "two_sided_hash"),
        ("here", "without shell", "readback"),
        ("with shell", "here", "two_sided_hash"),
        ("without shell", "here", "readback"),
    ],
)
def test_every_pair_of_places_gives_an_equal_copy_and_its_evidence(
    product, place, little_site, tmp_path, source, destination, evidence
):
    copy = tmp_path / "copy"
    job = transfer(product, place(source, little_site), place(destination, copy))
    assert differences(little_site, copy) == ""
    assert evidence_of(product, job) == {evidence: number_of_files(little_site)}


def test_move_goes_between_stored_connections(product, place, wordpress, tmp_path):
    for name, side in (("old", "without shell"), ("new", "with shell")):
        stored = product.post("/api/connections", {"name": name, **place(side, tmp_path)})
        assert stored.status == 201, stored
    done = move(product, f"old:{wordpress}", f"new:{tmp_path}/copy", "--accept-new-host-key")
    assert (done.returncode, done.stderr) == (0, "")
    assert "are there and equal by content" in done.stdout.splitlines()[-1]
    assert differences(wordpress, tmp_path / "copy") == ""
    again = move(product, f"old:{wordpress}", f"new:{tmp_path}/copy", "--dry-run")
    assert "Only compared: 0 to create, 0 to change" in again.stdout


def test_shards_run_on_several_workers_at_once_and_outlive_one_of_them(product, place, tmp_path):
    # Three shards for two workers.
    site = small_tree(tmp_path / "site", folders=45, files=100, size_bytes=2000)
    body = {
        "source_config": place("with shell", site),
        "dest_config": place("without shell", tmp_path / "copy"),
    }
    job = submit(product, "/api/transfer", body)

    def pids_at_work():
        with contextlib.closing(sqlite3.connect(product.folder / "data/haulier.sqlite3")) as database:
            rows = database.execute(
                "SELECT DISTINCT worker.pid FROM sessions_app_shard AS shard "
                "JOIN sessions_app_worker AS worker ON worker.id = shard.owner "
                "WHERE shard.job_id = ? AND shard.kind = 'work' AND shard.state = 'running'",
                [job.replace("-", "")],
            )
            return [pid for (pid,) in rows]

    one, _ = until(lambda: found if len(found := pids_at_work()) > 1 else None)
    psutil.Process(one).kill()
    assert product.status(job) == "running"
    result = product.wait_for(job)["transfer_result"]
    assert (result["files_transferred"], result["errors_count"]) == (4500, 0)
    assert differences(site, tmp_path / "copy") == ""
    assert not list((tmp_path / "copy").rglob(".haulier-*"))
