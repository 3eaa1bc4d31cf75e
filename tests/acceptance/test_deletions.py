"""Deletions at the destination: of what the source does not have, last of all, as much as was agreed to."""

import os
from pathlib import Path

import pytest

from tests.acceptance.conftest import local, log_of, submit
from tests.product import Product
from tests.trees import digest

Ends = dict[str, object]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    for number in range(20):
        (root / f"folder {number % 4}").mkdir(parents=True, exist_ok=True)
        (root / f"folder {number % 4}" / f"{number}.txt").write_text(f"{number}")
    return root


@pytest.fixture
def copy(tmp_path: Path, site: Path) -> Path:
    """The same, and more."""
    root = tmp_path / "copy"
    (root / "folder 1").mkdir(parents=True)
    for number in range(20):
        (root / f"folder {number % 4}").mkdir(exist_ok=True)
        (root / f"folder {number % 4}" / f"{number}.txt").write_text("older")
    (root / "gone/deep/deeper").mkdir(parents=True)
    (root / "gone/deep/deeper/file").write_text("x")
    (root / "gone/link").symlink_to("../folder 1")
    (root / "folder 1/old.txt").write_text("x")
    (root / "folder 1/link to all").symlink_to("..")
    (root / "stays/cache").mkdir(parents=True)
    (root / "stays/cache/entry").write_text("x")
    (root / "stays/goes").write_text("x")
    (root / "folder 2/cache").mkdir()
    (root / "folder 2/cache/entry").write_text("x")
    return root


GONE = {"gone", "gone/deep", "gone/deep/deeper", "gone/deep/deeper/file", "gone/link"}
GONE |= {"folder 1/old.txt", "folder 1/link to all", "stays/goes"}


def paths_in(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


def body_of(way: str, site: Path, copy: Path, sftp) -> Ends:
    source = sftp(site) if way == "down" else local(site)
    destination = sftp(copy) if way == "up" else local(copy)
    return {
        "source_config": source,
        "dest_config": destination,
        "delete_extraneous": True,
        "exclusions": ["cache"],
        "verify_after_transfer": True,
    }


@pytest.mark.parametrize("way", ["up", "down", "local"])
def test_what_the_source_does_not_have_is_deleted_and_all_else_stays(product: Product, sftp, site, copy, way):
    before, outside = paths_in(copy), digest(site)
    body = body_of(way, site, copy, sftp)
    dry = product.wait_for(submit(product, "/api/transfer", body | {"dry_run": True}))["transfer_result"]
    assert dry["summary"]["delete"] == len(GONE)
    assert paths_in(copy) == before
    job = product.wait_for(submit(product, "/api/transfer", body))
    result = job["transfer_result"]
    assert (result["success"], result["entries_deleted"], result["errors_count"]) == (True, len(GONE), 0), (
        result
    )
    assert result["verification_result"]["success"]
    assert result["files_transferred"] == 20
    assert paths_in(copy) == before - GONE
    assert digest(site) == outside
    assert "Deleted at the destination: 8." in log_of(product, job)
    for folder in ("folder 1", "folder 2"):
        times = [(root / folder).stat().st_mtime_ns // 10**9 for root in (copy, site)]
        assert times[0] == times[1]
    files = product.get(f"/api/sessions/{job['id']}/files?limit=200").body
    found = {file["path"]: file["state"] for file in files if file["action"] == "delete"}
    assert found == dict.fromkeys(GONE - {"gone", "gone/deep", "gone/deep/deeper"}, "done")
    # Nothing is left to do.
    again = product.wait_for(submit(product, "/api/transfer", body))["transfer_result"]
    assert (again["files_transferred"], again["entries_deleted"]) == (0, 0)


def test_more_than_goes_without_saying_is_asked_about_before_anything_changes(
    product: Product, sftp, site, copy
):
    for number in range(101):
        (copy / "gone" / f"{number}").write_text("x")
    (copy / "folder 3/3.txt").unlink()
    (copy / "folder 3/3.txt").mkdir()
    before = digest(copy)
    body = body_of("up", site, copy, sftp)
    count = len(GONE) + 101
    for confirmed in (0, count - 1):
        asked = body | {"confirm_deletions": confirmed}
        job = product.wait_for(submit(product, "/api/transfer", asked), "failed")
        assert job["error_message"].startswith(f"{count} entries of ")
        assert f"confirm {count} deletions" in job["error_message"]
        assert job["transfer_result"]["summary"]["delete"] == count
        assert digest(copy) == before
    # Pressing Retry is no answer, and what could be copied by now is not either.
    (copy / "folder 3/3.txt").rmdir()
    before = digest(copy)
    assert product.post(f"/api/sessions/{job['id']}/retry").status == 200
    product.wait_for(job["id"], "failed")
    assert digest(copy) == before
    done = product.wait_for(submit(product, "/api/transfer", body | {"confirm_deletions": count}))
    assert done["transfer_result"]["entries_deleted"] == count
    assert not (copy / "gone").exists()


def test_source_that_is_empty_is_not_followed_without_a_question(product: Product, tmp_path, copy):
    (tmp_path / "empty").mkdir()
    before = digest(copy)
    ends = {"source_config": local(tmp_path / "empty"), "dest_config": local(copy), "delete_extraneous": True}
    job = product.wait_for(submit(product, "/api/transfer", ends), "failed")
    assert "deletions" in job["error_message"]
    assert digest(copy) == before


def test_nothing_is_deleted_when_anything_failed_and_a_retry_does_it(product: Product, sftp, site, copy):
    (copy / "folder 3/3.txt").unlink()
    (copy / "folder 3/3.txt").mkdir()
    (copy / "folder 3/3.txt/inside").write_text("x")
    body = body_of("up", site, copy, sftp)
    job = product.wait_for(submit(product, "/api/transfer", body), "failed")
    assert "Nothing was deleted at the destination, as 1 entry failed." in log_of(product, job)
    assert job["transfer_result"]["entries_deleted"] == 0
    assert (copy / "gone/deep/deeper/file").exists()
    (copy / "folder 3/3.txt/inside").unlink()
    (copy / "folder 3/3.txt").rmdir()
    # What the source has by now stays.
    (site / "gone").mkdir()
    (site / "gone/new").write_text("new")
    product.post(f"/api/sessions/{job['id']}/retry")
    again = product.wait_for(job["id"])
    assert again["transfer_result"]["entries_deleted"] == len(GONE) - 5
    log = str(product.get(f"/api/sessions/{job['id']}/log").body)
    assert "Not deleted: gone. It is kept, as it is at the source by now." in log
    assert (copy / "gone/deep/deeper/file").exists()
    assert not (copy / "stays/goes").exists()


def test_what_has_appeared_stays_where_a_link_leads_in_folders_that_stay_and_beside_the_same_name(
    product: Product, site, copy
):
    for folder in ("real", "link", "GONE"):
        (copy / folder).mkdir()
        (copy / folder / "late").write_text("x")
    (site / "real").mkdir()
    (site / "link").symlink_to("real")
    (copy / "folder 3/3.txt").unlink()
    (copy / "folder 3/3.txt").mkdir()
    body = {"source_config": local(site), "dest_config": local(copy), "exclusions": ["cache"]}
    body |= {"delete_extraneous": True, "follow_symlinks": True}
    job = product.wait_for(submit(product, "/api/transfer", body), "failed")
    (copy / "folder 3/3.txt").rmdir()
    (site / "real/late").write_text("new")
    for folder in ("stays", "gone"):
        (site / folder).mkdir()
    (site / "stays/goes").write_text("new")
    product.post(f"/api/sessions/{job['id']}/retry")
    product.wait_for(job["id"])
    kept = {"real/late", "link/late", "stays/goes", "gone/deep/deeper/file", "gone/link"}
    left = paths_in(copy)
    assert kept <= left
    assert left.isdisjoint({"GONE", "folder 1/old.txt", "folder 1/link to all"})


def test_what_cannot_be_deleted_is_named_and_the_rest_goes(product: Product, sftp, site, copy):
    # Not even root may.
    os.system(f"chattr +i '{copy}/gone/deep/deeper/file'")
    try:
        body = body_of("up", site, copy, sftp)
        job = product.wait_for(submit(product, "/api/transfer", body), "failed")
        result = job["transfer_result"]
        failed = {"gone", "gone/deep", "gone/deep/deeper", "gone/deep/deeper/file"}
        assert set(result["failed_files"]) == failed, result
        assert result["entries_deleted"] == len(GONE) - 4
    finally:
        os.system(f"chattr -i '{copy}/gone/deep/deeper/file'")
    product.post(f"/api/sessions/{job['id']}/retry")
    again = product.wait_for(job["id"])["transfer_result"]
    assert (again["entries_deleted"], again["errors_count"]) == (len(GONE), 0)
    assert not (copy / "gone").exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [({"files": ["folder 1"]}, "whole folder only"), ({"conflict": "rename"}, "rename")],
)
def test_choices_that_do_not_go_with_it_are_refused(product: Product, site, copy, options, word):
    ends = {"source_config": local(site), "dest_config": local(copy), "delete_extraneous": True}
    answer = product.post("/api/transfer", ends | options)
    assert answer.status == 400
    assert word in str(answer.body)
