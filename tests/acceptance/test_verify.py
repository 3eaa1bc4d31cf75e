"""Verification by content, after the fact, on servers with a shell and without."""

import os

import pytest

from tests.acceptance.conftest import local, submit
from tests.servers.openssh import OpenSshServer
from tests.trees import small_tree


@pytest.fixture(params=[True, False], ids=["shell", "no shell"])
def has_shell(request):
    return request.param


@pytest.fixture
def host(has_shell):
    with OpenSshServer(has_shell=has_shell) as found:
        yield found


@pytest.fixture
def transfer(product, sftp, tmp_path):
    site = small_tree(tmp_path / "site", folders=5, files=20)
    (site / "new\nline").write_text("x")
    (site / "empty").touch()
    (site / "link").symlink_to("empty")
    body = {"source_config": local(site), "dest_config": sftp(tmp_path / "host")}
    job = submit(product, "/api/transfer", body)
    product.wait_for(job)
    return job


def verify(product, transfer, status="completed"):
    answer = product.post(f"/api/sessions/{transfer}/verify")
    assert answer.status == 202, answer
    assert (answer.body["type"], answer.body["parent"]) == ("verify", transfer)
    return product.wait_for(answer.body["id"], status)


def test_equal_copies_are_proved_by_content(product, has_shell, transfer):
    job = verify(product, transfer)
    result = job["verify_result"]
    assert (result["success"], result["source_files"], result["dest_files"]) == (True, 102, 102)
    # A name with a line break cannot be told apart in what the server's command prints: it is read back.
    by_command = 101 if has_shell else 0
    assert result["evidence"] == {
        "two_sided_hash": by_command,
        "readback": 102 - by_command,
        "size_only": 0,
    }
    assert "equal by content" in result["message"]
    assert job["progress"]["files_transferred"] == 102


def test_a_changed_byte_and_a_missing_file_are_found(product, transfer, tmp_path):
    (tmp_path / "host/folder 1/file 3.txt").write_bytes(b"!" * 1000)
    (tmp_path / "host/folder 2/file 5.txt").unlink()
    (tmp_path / "host/folder 2/file 6.txt").write_bytes(b"short")
    (tmp_path / "host/link").unlink()
    (tmp_path / "host/link").symlink_to("elsewhere")
    job = verify(product, transfer, "failed")
    result = job["verify_result"]
    assert (result["success"], result["missing_files"], result["mismatched_files"]) == (False, 1, 3)
    problems = {problem["path"]: problem["error"] for problem in result["problems"]}
    assert problems["folder 1/file 3.txt"] == "The contents differ (SHA-256)."
    assert problems["folder 2/file 5.txt"] == "Missing at the destination."
    assert "5 at the destination" in problems["folder 2/file 6.txt"]
    assert job["error_message"].startswith("The copy is not what the source is")
    files = product.get(f"/api/sessions/{job['id']}/files?state=failed").body
    assert {file["path"]: file["error"] for file in files} == problems
    assert job["progress"]["errors_count"] == len(problems) == 4
    done = product.get(f"/api/sessions/{job['id']}/files?state=done&limit=1")
    assert done.headers["X-Total-Count"] == str(103 - 4)
    with product.read_sse(f"/api/sessions/{job['id']}/events") as stream:
        told = []
        for frame in stream:
            told += [frame.data["path"]] if frame.event == "file_failed" else []
            if frame.event == "failed":
                break
    assert sorted(told) == sorted(problems)


def test_file_whose_content_cannot_be_compared_says_why(product, transfer, tmp_path):
    (tmp_path / "site/folder 1/file 3.txt").unlink()
    job = verify(product, transfer)
    assert job["verify_result"]["evidence"]["size_only"] == 1
    assert job["verify_result"]["message"].endswith("1 by size.")
    [file] = product.get(f"/api/sessions/{job['id']}/files?q=folder%201/file%203").body
    assert (file["state"], file["evidence"]) == ("done", "size_only")
    assert file["error"].startswith("Only the size was compared: at the source: ")


def test_verification_of_an_empty_folder_claims_nothing(product, sftp, tmp_path):
    (tmp_path / "nothing").mkdir()
    body = {"source_config": local(tmp_path / "nothing"), "dest_config": sftp(tmp_path / "host")}
    transfer = submit(product, "/api/transfer", body)
    product.wait_for(transfer)
    assert verify(product, transfer)["verify_result"]["message"] == "There is no file to compare."


def test_transfer_that_is_to_verify_does_it_by_content(product, has_shell, sftp, tmp_path):
    site = small_tree(tmp_path / "site", folders=2, files=3)
    there = tmp_path / "host/folder 0/file 0.txt"
    there.parent.mkdir(parents=True)
    # What a comparison by size and time takes for equal.
    there.write_bytes(b"!" * 1000)
    same = site / "folder 0/file 0.txt"
    os.utime(there, ns=(same.stat().st_mtime_ns,) * 2)
    assert there.stat().st_size == same.stat().st_size
    body = {
        "source_config": local(site),
        "dest_config": sftp(tmp_path / "host"),
        "verify_after_transfer": True,
    }
    job = product.wait_for(submit(product, "/api/transfer", body), "failed")
    result = job["transfer_result"]
    assert (result["files_transferred"], result["errors_count"]) == (5, 0)
    proof = result["verification_result"]
    assert proof["problems"] == [{"path": "folder 0/file 0.txt", "error": "The contents differ (SHA-256)."}]
    evidence = {"two_sided_hash": 5, "readback": 0} if has_shell else {"two_sided_hash": 0, "readback": 5}
    assert proof["evidence"] == evidence | {"size_only": 0}
    there.unlink()
    job = product.wait_for(submit(product, "/api/transfer", body))
    assert sum(job["transfer_result"]["verification_result"]["evidence"].values()) == 6


def test_only_transfers_that_have_ended_are_verified(product, transfer):
    verification = verify(product, transfer)["id"]
    answer = product.post(f"/api/sessions/{verification}/verify")
    assert (answer.status, answer.body["status"]) == (409, "completed")
    assert product.post(f"/api/sessions/{transfer}/verify", {"how": "fast"}).status == 400
    missing = "00000000-0000-4000-8000-000000000000"
    assert product.post(f"/api/sessions/{missing}/verify").status == 404
