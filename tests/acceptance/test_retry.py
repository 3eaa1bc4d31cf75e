"""A failed job tried again, over the API: what failed is done anew, what was copied is left alone."""

import shutil
from concurrent.futures import ThreadPoolExecutor

from tests.acceptance.conftest import local, sftp_on, submit
from tests.product import until
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree


def retried(product, job_id, *statuses):
    answer = product.post(f"/api/sessions/{job_id}/retry")
    assert answer.status == 200, answer
    assert (answer.body["attempt"], answer.body["status"]) == (2, "pending")
    assert "transfer_result" not in answer.body
    assert "error_message" not in answer.body
    return product.wait_for(job_id, *statuses)


def events_of(product, job_id):
    answer = product.get(f"/api/sessions/{job_id}/log")
    assert answer.status == 200
    assert [event["seq"] for event in answer.body] == [*range(1, len(answer.body) + 1)]
    return answer.body


def test_only_what_failed_is_copied_again(product, sftp, tmp_path):
    site = small_tree(tmp_path / "site", folders=3, files=5)
    copy = tmp_path / "host"
    # In the way of a file, and of a whole folder.
    (copy / "folder 0/file 1.txt").mkdir(parents=True)
    (copy / "folder 2").touch()
    body = {"source_config": local(site), "dest_config": sftp(copy), "verify_after_transfer": True}
    job = product.wait_for(submit(product, "/api/transfer", body), "failed")
    result = job["transfer_result"]
    assert (result["files_transferred"], result["errors_count"]) == (9, 7)
    before = {path: path.stat() for path in copy.rglob("*.txt") if path.is_file()}
    (copy / "folder 0/file 1.txt").rmdir()
    (copy / "folder 2").unlink()

    again = retried(product, job["id"])
    result = again["transfer_result"]
    assert (result["success"], result["files_transferred"], result["errors_count"]) == (True, 15, 0)
    assert sum(result["verification_result"]["evidence"].values()) == 15
    assert differences(site, copy) == ""
    assert {path: path.stat() for path in before} == before
    progress = again["progress"]
    assert (progress["files_transferred"], progress["total_files"], progress["errors_count"]) == (15, 15, 0)
    assert progress["bytes_transferred"] == progress["total_bytes"] == result["bytes_transferred"]
    events = events_of(product, job["id"])
    ends = [(event["type"], event["run"]) for event in events if event["type"] in ("failed", "complete")]
    assert ends == [("failed", 1), ("complete", 2)]
    assert product.get(f"/api/sessions/{job['id']}/files?state=failed").body == []
    assert product.post(f"/api/sessions/{job['id']}/retry").status == 409


def test_what_still_fails_is_told_again_and_what_has_gone_is_not(product, tmp_path):
    site = small_tree(tmp_path / "site", folders=2, files=3)
    copy = tmp_path / "copy"
    for name in ("file 0.txt", "file 1.txt"):
        (copy / "folder 0" / name).mkdir(parents=True)
    body = {"source_config": local(site), "dest_config": local(copy)}
    job_id = submit(product, "/api/transfer", body)
    assert product.wait_for(job_id, "failed")["transfer_result"]["errors_count"] == 2
    (site / "folder 0/file 0.txt").unlink()
    again = retried(product, job_id, "failed")
    assert again["transfer_result"]["failed_files"] == ["folder 0/file 1.txt"]
    assert again["error_message"] == "1 of 5 files failed."
    events = events_of(product, job_id)
    said = [event["data"]["message"] for event in events if event["type"] == "log"]
    assert said == [
        "Retry asked for by owner from 127.0.0.1.",
        "No longer at the source: folder 0/file 0.txt",
    ]
    failed = [(event["data"]["path"], event["run"]) for event in events if event["type"] == "file_failed"]
    assert failed[2:] == [("folder 0/file 1.txt", 2)]


def test_retry_copies_no_more_than_was_wanted(product, tmp_path):
    site = small_tree(tmp_path / "site", folders=2, files=3)
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "folder 0").touch()
    body = {"source_config": local(site), "dest_config": local(copy), "files": ["folder 0/file 0.txt"]}
    job_id = submit(product, "/api/transfer", body)
    assert product.wait_for(job_id, "failed")["transfer_result"]["errors_count"] == 2
    (copy / "folder 0").unlink()
    assert retried(product, job_id)["transfer_result"]["files_transferred"] == 1
    assert [path.name for path in copy.rglob("*.txt")] == ["file 0.txt"]


def test_what_differs_by_content_is_copied_again(product, tmp_path):
    site = small_tree(tmp_path / "site", folders=1, files=3)
    here, there = site / "folder 0/file 0.txt", tmp_path / "copy/folder 0/file 0.txt"
    there.parent.mkdir(parents=True)
    # Equal by size, mode and time.
    there.write_bytes(b"!" * here.stat().st_size)
    shutil.copystat(here, there)
    body = {"source_config": local(site), "dest_config": local(tmp_path / "copy")}
    body["verify_after_transfer"] = True
    job_id = submit(product, "/api/transfer", body)
    assert product.wait_for(job_id, "failed")["transfer_result"]["files_skipped"] == 1
    again = retried(product, job_id)
    assert (again["transfer_result"]["files_skipped"], again["transfer_result"]["files_transferred"]) == (
        0,
        3,
    )
    assert again["progress"]["files_skipped"] == 0
    assert there.read_bytes() == here.read_bytes()


def test_job_whose_server_could_not_be_reached_is_done_when_it_is_back(product, tmp_path):
    site = small_tree(tmp_path / "site", folders=1, files=3)
    with OpenSshServer() as host:
        there = sftp_on(host, tmp_path / "host")
        with host.away():
            jobs = [
                submit(product, "/api/transfer", {"source_config": local(site), "dest_config": there}),
                submit(product, "/api/scan", {"server_config": there | {"root_path": str(site)}}),
            ]
            for job_id in jobs:
                assert product.wait_for(job_id, "failed")["error_message"]
        transfer, scan = [retried(product, job_id) for job_id in jobs]
    assert differences(site, tmp_path / "host") == ""
    assert transfer["transfer_result"]["files_transferred"] == 3
    assert scan["scan_result"]["statistics"]["total_files"] == 3
    assert scan["progress"]["percent_complete"] == 100


def test_verification_is_done_again_from_the_start(product, tmp_path):
    site = small_tree(tmp_path / "site", folders=1, files=3)
    body = {"source_config": local(site), "dest_config": local(tmp_path / "copy")}
    transfer = submit(product, "/api/transfer", body)
    product.wait_for(transfer)
    changed = tmp_path / "copy/folder 0/file 0.txt"
    kept = changed.read_bytes()
    changed.write_bytes(b"!" * len(kept))
    check = product.post(f"/api/sessions/{transfer}/verify").body["id"]
    assert product.wait_for(check, "failed")["verify_result"]["mismatched_files"] == 1
    changed.write_bytes(kept)
    assert retried(product, check)["verify_result"]["evidence"]["two_sided_hash"] == 3


def test_one_of_many_retries_at_once_counts(product, tmp_path):
    job_id = submit(product, "/api/scan", {"server_config": local(tmp_path / "nowhere")})
    product.wait_for(job_id, "failed")
    small_tree(tmp_path / "nowhere")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: product.post(f"/api/sessions/{job_id}/retry"), range(8)))
    assert sorted(answer.status for answer in answers) == [200] + [409] * 7
    assert all(answer.body["status"] for answer in answers)
    assert product.wait_for(job_id)["attempt"] == 2


def test_retry_survives_killed_workers(own_product, tmp_path):
    site = small_tree(tmp_path / "site", folders=30, files=100)
    copy = tmp_path / "copy"
    copy.mkdir()
    for number in range(20):
        (copy / f"folder {number}").touch()
    body = {"source_config": local(site), "dest_config": local(copy), "verify_after_transfer": True}
    job_id = submit(own_product, "/api/transfer", body)
    assert own_product.wait_for(job_id, "failed")["transfer_result"]["errors_count"] == 2020
    for number in range(20):
        (copy / f"folder {number}").unlink()
    assert own_product.post(f"/api/sessions/{job_id}/retry").status == 200
    until(lambda: own_product.status(job_id) == "running")
    for worker in own_product.children("worker"):
        worker.kill()
    done = own_product.wait_for(job_id)
    assert (done["attempt"], done["transfer_result"]["files_transferred"]) == (2, 3000)
    assert done["progress"]["files_transferred"] == done["progress"]["total_files"] == 3000
    assert differences(site, copy) == ""
    events_of(own_product, job_id)


def test_only_failed_jobs_are_retried_and_only_active_ones_cancelled(product, tmp_path):
    small_tree(tmp_path / "site")
    body = {"source_config": local(tmp_path / "site"), "dest_config": local(tmp_path / "copy")}
    completed = submit(product, "/api/transfer", body)
    product.wait_for(completed)
    slow = submit(
        product, "/api/transfer", body | {"bandwidth_limit": 0.001, "dest_config": local(tmp_path / "b")}
    )
    until(lambda: product.status(slow) == "running")
    assert product.post(f"/api/sessions/{slow}/retry").status == 409
    answer = product.post(f"/api/sessions/{slow}/cancel")
    assert (answer.status, answer.body["id"], answer.body["status"]) == (200, slow, "cancelled")
    for job_id, status in ((completed, "completed"), (slow, "cancelled")):
        for move in ("retry", "cancel", "pause", "resume"):
            answer = product.post(f"/api/sessions/{job_id}/{move}")
            assert (answer.status, answer.body["status"]) == (409, status)
        assert product.status(job_id) == status


def test_log_comes_in_pages(product, tmp_path):
    small_tree(tmp_path / "site")
    job_id = submit(product, "/api/scan", {"server_config": local(tmp_path / "site")})
    product.wait_for(job_id)
    events = events_of(product, job_id)
    assert (events[0]["type"], events[-1]["type"]) == ("job_created", "complete")
    assert all(event["job_id"] == job_id and event["at"] and event["id"] for event in events)
    assert events[0]["data"]["type"] == "scan"
    first = product.get(f"/api/sessions/{job_id}/log?limit=2")
    assert (first.body, first.headers["X-Total-Count"]) == (events[:2], str(len(events)))
    link = first.headers["Link"]
    assert link == f'</api/sessions/{job_id}/log?limit=2&after=2>; rel="next"'
    rest = product.get(f"/api/sessions/{job_id}/log?after=2")
    assert (rest.body, rest.headers.get("Link")) == (events[2:], None)
    for query, name in (("after=x", "after"), ("limit=0", "limit"), ("type=log", "type")):
        answer = product.get(f"/api/sessions/{job_id}/log?{query}")
        assert (answer.status, name in answer.body["fields"]) == (400, True), answer
