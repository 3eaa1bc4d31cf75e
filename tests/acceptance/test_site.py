"""A real site goes to a real server and back, over the API."""

import shutil
import time

import pytest

from tests.acceptance.conftest import local, submit
from tests.product import until
from tests.trees import differences, small_tree


@pytest.fixture
def moved(product, wordpress, sftp, tmp_path):
    """The site on the host, and the job that brought it there."""
    job = submit(
        product,
        "/api/transfer",
        {
            "source_config": local(wordpress),
            "dest_config": sftp(tmp_path / "host/site"),
            "verify_after_transfer": True,
        },
    )
    return tmp_path / "host/site", product.wait_for(job)


def files_of(root):
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink()]


def test_site_goes_up_and_comes_back_identical(product, wordpress, sftp, moved, tmp_path):
    up, job = moved
    assert differences(wordpress, up) == ""
    files = files_of(wordpress)
    size = sum(path.stat().st_size for path in files)
    result = job["transfer_result"]
    assert (result["files_transferred"], result["bytes_transferred"]) == (len(files), size)
    assert (result["success"], result["errors_count"], result["method"]) == (True, 0, "sftp_stream")
    proof = result["verification_result"]
    assert (proof["success"], proof["source_files"], proof["dest_files"]) == (True, len(files), len(files))
    assert proof["evidence"] == {"two_sided_hash": 0, "readback": len(files), "size_only": 0}
    assert (job["progress"]["percent_complete"], job["progress"]["files_transferred"]) == (100.0, len(files))
    down = tmp_path / "down"
    body = {"source_config": sftp(up), "dest_config": local(down)}
    product.wait_for(submit(product, "/api/transfer", body))
    assert differences(wordpress, down) == ""
    assert not list(tmp_path.rglob(".haulier-*"))


def test_second_run_copies_only_what_has_changed(product, wordpress, sftp, tmp_path):
    site = tmp_path / "site"
    shutil.copytree(wordpress, site, symlinks=True)
    body = {"source_config": local(site), "dest_config": sftp(tmp_path / "host")}
    product.wait_for(submit(product, "/api/transfer", body))
    (site / "index.php").write_text("<?php // changed\n")
    (site / "wp-content/new").mkdir()
    (site / "wp-content/new/file.php").write_text("new")
    (site / "wp-login.php").chmod(0o600)
    (site / "dangling").unlink()
    (site / "dangling").symlink_to("/nowhere/else")
    result = product.wait_for(submit(product, "/api/transfer", body))["transfer_result"]
    assert result["files_transferred"] == 3
    assert result["files_skipped"] == len(files_of(site)) - 3
    assert differences(site, tmp_path / "host") == ""


def test_scan_over_ssh_says_what_there_is_and_what_site_it_is(product, wordpress, sftp, moved):
    up, _ = moved
    job = submit(product, "/api/scan", {"server_config": sftp(up), "detect_cms": True})
    result = product.wait_for(job)["scan_result"]
    files = files_of(wordpress)
    found = result["statistics"]
    assert found["total_files"] == len(files)
    assert found["total_size"] == sum(path.stat().st_size for path in files)
    assert found["total_dirs"] == sum(
        path.is_dir() and not path.is_symlink() for path in wordpress.rglob("*")
    )
    assert found["symlinks_count"] == 2
    assert found["files_by_type"]["php"] == sum(path.suffix == ".php" for path in files)
    assert sum(found["files_by_type_size"].values()) == found["total_size"]
    largest = max(files, key=lambda path: path.stat().st_size)
    assert found["largest_files"][0]["path"] == str(largest.relative_to(wordpress))
    cms = result["cms_detection"]
    assert (cms["detected"], cms["type"], cms["root_path"]) == (True, "wordpress", str(up))
    assert cms["version"][0].isdigit()
    assert cms["config_file"] == f"{up}/wp-config.php"
    assert cms["database_config"] | {"host": "localhost", "port": 0} == {
        "host": "localhost",
        "port": 0,
        "database": "shop",
        "username": "web",
        "password": "",
        "prefix": "wp7_",
    }
    assert "hunter2" not in str(result)
    assert (result["success"], result["unreadable"]) == (True, [])


def test_exclusions_and_hidden_files(product, wordpress, sftp, tmp_path):
    body = {
        "source_config": local(wordpress),
        "dest_config": sftp(tmp_path / "host"),
        "exclusions": ["*.css", "wp-admin/", {"pattern": r"\.txt$", "type": "regex"}],
    }
    product.wait_for(submit(product, "/api/transfer", body))
    there = {path.relative_to(tmp_path / "host") for path in (tmp_path / "host").rglob("*")}
    wanted = {
        path.relative_to(wordpress)
        for path in wordpress.rglob("*")
        if path.suffix not in (".css", ".txt") and path.relative_to(wordpress).parts[0] != "wp-admin"
    }
    assert there == wanted
    scan = {"server_config": local(wordpress), "include_hidden": False, "custom_exclusions": ["*.php"]}
    found = product.wait_for(submit(product, "/api/scan", scan))["scan_result"]["statistics"]
    files = files_of(wordpress)
    hidden = [
        path for path in files if any(part.startswith(".") for part in path.relative_to(wordpress).parts)
    ]
    assert hidden
    assert found["total_files"] == sum(path.suffix != ".php" and path not in hidden for path in files)
    assert found["excluded_count"] > 0


def test_line_by_line_client_sees_a_scan_and_a_transfer_from_start_to_end(product, wordpress, sftp, tmp_path):
    requests = {
        "/api/scan/stream": {"server_config": local(wordpress)},
        "/api/transfer/stream": {"source_config": local(wordpress), "dest_config": sftp(tmp_path / "host")},
    }
    for path, body in requests.items():
        with product.read_sse(path, "POST", body) as stream:
            assert stream.status == 200
            assert stream.headers["Content-Type"].startswith("text/event-stream")
            frames = list(stream)
        job_id = stream.headers["X-Job-ID"]
        first, *progress, last = frames
        assert (first.event, first.data["job_id"]) == ("job_created", job_id)
        assert isinstance(first.data["percent_complete"], int | float)
        assert len(progress) >= 2
        assert {frame.event for frame in progress} == {""}
        percents = [frame.data["percent_complete"] for frame in progress]
        assert percents == sorted(percents)
        assert last.event == "complete"
        job = product.job(job_id)
        assert (job["status"], job["id"]) == ("completed", job_id)
        assert last.data == job[f"{job['type']}_result"]


def test_stream_of_a_failing_job_ends_with_its_error(product, sftp, tmp_path):
    body = {"server_config": sftp(tmp_path / "missing")}
    with product.read_sse("/api/scan/stream", "POST", body) as stream:
        *_, last = list(stream)
    assert last.event == "error"
    job = product.job(stream.headers["X-Job-ID"])
    assert (job["status"], job["error_message"]) == ("failed", last.data["error"])
    assert "does not exist" in last.data["error"] or "No such" in last.data["error"]


def test_cancelled_job_ends_its_stream_and_leaves_no_half_file(product, sftp, tmp_path):
    big = tmp_path / "big"
    big.mkdir()
    # No holes, which would take no time.
    (big / "large.bin").write_bytes(b"." * 60_000_000)
    body = {"source_config": local(big), "dest_config": sftp(tmp_path / "host"), "bandwidth_limit": 2}
    with product.read_sse("/api/transfer/stream", "POST", body) as stream:
        job_id = stream.headers["X-Job-ID"]
        for frame in stream:
            if frame.event == "" and frame.data["bytes_transferred"] > 0:
                break
        assert product.delete(f"/api/sessions/{job_id}").body == {"message": "Session cancelled"}
        *_, last = list(stream)
    assert (last.event, last.data) == ("error", {"error": "Cancelled"})
    assert product.status(job_id) == "cancelled"
    deadline = time.monotonic() + 10
    while left := list((tmp_path / "host").iterdir()):
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_cancel_in_the_middle_of_many_files_removes_what_is_half_done(product, sftp, tmp_path):
    site = small_tree(tmp_path / "site", folders=50, files=100, size_bytes=20_000)
    job = submit(
        product, "/api/transfer", {"source_config": local(site), "dest_config": sftp(tmp_path / "host")}
    )
    until(lambda: product.job(job)["progress"]["files_transferred"] > 100)
    product.delete(f"/api/sessions/{job}")
    assert product.status(job) == "cancelled"
    until(lambda: not list((tmp_path / "host").rglob(".haulier-*")))


def test_overlapping_destinations_wait_for_each_other(product, wordpress, sftp, tmp_path):
    first = submit(
        product,
        "/api/transfer",
        {"source_config": local(wordpress), "dest_config": sftp(tmp_path / "host")},
    )
    # Which of two that wait for a worker begins is not fixed.
    product.wait_for(first, "running", "completed")
    second = submit(
        product,
        "/api/transfer",
        {"source_config": local(wordpress), "dest_config": sftp(tmp_path / "host/wp-content")},
    )
    until(lambda: product.status(first) != "running" or "message" in product.job(second)["progress"])
    waiting = product.job(second)
    if product.status(first) == "running":
        assert waiting["status"] == "pending"
        assert first in waiting["progress"]["message"]
    one, two = product.wait_for(first), product.wait_for(second)
    assert two["started_at"] >= one["completed_at"]


def test_site_moves_by_the_name_of_stored_connections(product, wordpress, sftp, tmp_path):
    config = sftp(tmp_path / "host") | {"name": "host"}
    stored = product.post("/api/connections", config).body
    assert product.post(f"/api/connections/{stored['id']}/test").body["success"]
    body = {
        "source_config": local(wordpress),
        "dest_config": {"connection": stored["id"], "root_path": f"{config['root_path']}/site"},
    }
    product.wait_for(submit(product, "/api/transfer", body))
    assert differences(wordpress, tmp_path / "host/site") == ""
    listed = product.get(f"/api/connections/{stored['id']}/browse").body["entries"]
    assert [entry["name"] for entry in listed] == ["site"]
    assert product.delete(f"/api/connections/{stored['id']}").status == 200
