"""The options of transfers and scans, through the whole product."""

import os

import pytest

from tests.acceptance.conftest import local, log_of, submit
from tests.trees import digest, small_tree

LONG_AGO = 1_500_000_000


def put(path, text, mtime):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (mtime, mtime))


@pytest.fixture
def sides(tmp_path):
    """Two trees of which one file differs, one is equal and one is missing."""
    source, destination = tmp_path / "source", tmp_path / "host/site"
    put(source / "folder/differs.txt", "new", LONG_AGO + 10)
    put(source / "folder/missing.txt", "missing", LONG_AGO)
    put(destination / "folder/differs.txt", "older and longer", LONG_AGO)
    for root in (source, destination):
        put(root / "folder/equal.txt", "equal", LONG_AGO)
    return source, destination


def transfer(product, sftp, sides, *statuses, **options):
    source, destination = sides
    body = {"source_config": local(source), "dest_config": sftp(destination), "verify_after_transfer": True}
    return product.wait_for(submit(product, "/api/transfer", body | options), *statuses)


@pytest.mark.parametrize(
    ("conflict", "mtime", "content"),
    [
        ("skip", LONG_AGO, "older and longer"),
        ("newer", LONG_AGO, "new"),
        ("newer", LONG_AGO + 20, "older and longer"),
    ],
)
def test_different_file_is_kept_or_replaced_as_conflict_says(product, sftp, sides, conflict, mtime, content):
    _, destination = sides
    os.utime(destination / "folder/differs.txt", (mtime, mtime))
    (destination / "folder").chmod(0o711)
    job = transfer(product, sftp, sides, conflict=conflict)
    result = job["transfer_result"]
    copied = 1 + (content == "new")
    assert (result["files_transferred"], result["files_skipped"]) == (copied, 3 - copied)
    assert result["verification_result"]["success"]
    # Folders that exist are left alone, too.
    assert ((destination / "folder").stat().st_mode & 0o777 == 0o711) == (conflict == "skip")
    assert digest(destination) == {
        "folder": None,
        "folder/differs.txt": content.encode(),
        "folder/equal.txt": b"equal",
        "folder/missing.txt": b"missing",
    }


def test_rename_keeps_both_files_and_does_so_once(product, sftp, sides):
    _, destination = sides
    for copied in (2, 0):
        result = transfer(product, sftp, sides, conflict="rename")["transfer_result"]
        assert result["files_transferred"] == copied
        assert result["verification_result"]["success"], result
        assert result["verification_result"]["source_files"] == 3
        assert digest(destination) == {
            "folder": None,
            "folder/differs.txt": b"older and longer",
            "folder/differs (2).txt": b"new",
            "folder/equal.txt": b"equal",
            "folder/missing.txt": b"missing",
        }


def test_dry_run_says_what_would_be_done_and_writes_nothing(product, sftp, sides):
    source, destination = sides
    before = digest(destination)
    job = transfer(product, sftp, sides, dry_run=True)
    result = job["transfer_result"]
    assert result["summary"] == {
        "create": 1,
        "update": 1,
        "skip": 2,
        "delete": 0,
        "conflict": 0,
        "bytes": len("new" + "missing"),
    }
    assert (result["success"], result["dry_run"], result["files_transferred"]) == (True, True, 0)
    assert job["progress"]["percent_complete"] == 100.0
    assert digest(destination) == before
    rows = product.get(f"/api/sessions/{job['id']}/files").body
    assert {row["path"]: row["action"] for row in rows if row["path"]} == {
        "folder/differs.txt": "update",
        "folder/equal.txt": "skip",
        "folder/missing.txt": "create",
    }
    page = product.get(f"/jobs/{job['id']}", {"Accept": "text/html"})
    assert "Only compared; nothing was written." in page.body
    nowhere = destination.parent / "new/site"
    result = transfer(product, sftp, (source, nowhere), dry_run=True)["transfer_result"]
    assert result["summary"]["create"] == 4
    assert not nowhere.parent.exists()


def test_large_files_are_left_out_counted_and_named(product, sftp, sides):
    source, destination = sides
    put(source / "large.bin", "x" * 20_000, LONG_AGO)
    job = transfer(product, sftp, sides, skip_large_files=0.01)
    result = job["transfer_result"]
    assert (result["files_transferred"], result["files_skipped"]) == (2, 2)
    assert sorted(result["skipped_files"]) == sorted(["large.bin", "folder/equal.txt"])
    assert result["verification_result"]["success"]
    assert "Left out: large.bin. Larger than 0.01 MB." in log_of(product, job)
    assert not (destination / "large.bin").exists()


def test_only_the_files_asked_for_are_copied(product, sftp, sides, tmp_path):
    source, _ = sides
    small_tree(source / "whole")
    put(source / "whole/unwanted.log", "x", LONG_AGO)
    to = tmp_path / "host/some"
    job = transfer(product, sftp, (source, to), files=["whole", "folder/missing.txt"], exclusions=["*.log"])
    assert job["transfer_result"]["files_transferred"] == 16
    wanted = digest(source / "whole")
    del wanted["unwanted.log"]
    assert digest(to / "whole") == wanted
    assert [path.name for path in (to / "folder").iterdir()] == ["missing.txt"]
    job = transfer(product, sftp, (source, to), "failed", files=["folder/gone.txt", "whole"])
    assert job["transfer_result"]["failed_files"] == ["folder/gone.txt"]


def test_failed_files_leave_the_job_completed_where_errors_are_ignored(product, sftp, sides):
    source, destination = sides
    put(source / "blocked", "a file", LONG_AGO)
    put(destination / "blocked/by a folder", "x", LONG_AGO)
    result = transfer(product, sftp, sides, ignore_errors=True)["transfer_result"]
    assert (result["success"], result["errors_count"], result["failed_files"]) == (True, 1, ["blocked"])
    assert "error_message" not in result
    result = transfer(product, sftp, sides, "failed")["transfer_result"]
    assert (result["success"], result["errors_count"]) == (False, 1)


def test_scan_keeps_to_its_limits(product, sftp, tmp_path):
    small_tree(tmp_path / "tree", folders=3, files=5)

    def scan(**limits):
        body = {"server_config": sftp(tmp_path / "tree")} | limits
        return product.wait_for(submit(product, "/api/scan", body))

    statistics = scan(max_depth=1)["scan_result"]["statistics"]
    assert (statistics["total_files"], statistics["total_dirs"]) == (0, 3)
    job = scan(max_files=7)
    assert job["scan_result"]["statistics"]["total_files"] == 7
    assert "Ended at 7 files, as max_files says; there may be more." in log_of(product, job)


def test_bandwidth_is_shared_by_what_runs_at_once(product, sftp, tmp_path):
    # Three work shards for two workers.
    small_tree(tmp_path / "many", folders=45, files=100)
    body = {"source_config": local(tmp_path / "many"), "dest_config": sftp(tmp_path / "host")}
    job = product.wait_for(submit(product, "/api/transfer", body | {"bandwidth_limit": 1, "transfers": 8}))
    result = job["transfer_result"]
    assert (result["files_transferred"], result["bytes_transferred"]) == (4500, 4_500_000)
    # It cannot be faster than that, however slow the machine is.
    assert result["average_speed"] < 1.25
