"""A tree that is moved again: what is right at the destination is left alone, its folders too."""

import os
import re
from contextlib import contextmanager

import pytest

from tests.acceptance.conftest import local, sftp_on, submit
from tests.servers.openssh import LoggingServer
from tests.trees import differences, small_tree

LONG_AGO = 1_600_000_000


@pytest.fixture
def host():
    with LoggingServer() as found:
        yield found


@pytest.fixture
def site(tmp_path):
    """Every folder of another time, none of them now."""
    root = small_tree(tmp_path / "site", folders=4, files=3)
    (root / "folder 0/inner").mkdir()
    for n, folder in enumerate([root, *(path for path in root.rglob("*") if path.is_dir())]):
        os.utime(folder, (LONG_AGO + n, LONG_AGO + n))
    return root


@contextmanager
def asked(host):
    """What the server is told to do meanwhile: paths that get a mode or time, and connections that begin."""
    before = host.operations()
    found = {}
    yield found
    after = host.operations()
    lines = "".join(text[len(before.get(port, "")) :] for port, text in after.items())
    found["set"] = set(re.findall(r'^set "(.*?)"', lines, re.MULTILINE))
    found["connections"] = len(after.keys() - before.keys())


def stats(root):
    return {path: path.stat() for path in [root, *root.rglob("*")]}


def times_of_folders(root):
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    return {str(folder.relative_to(root)): folder.stat().st_mtime_ns // 10**9 for folder in folders}


def move(product, host, site, copy, status="completed", **options):
    body = {"source_config": local(site), "dest_config": sftp_on(host, copy), **options}
    return product.wait_for(submit(product, "/api/transfer", body), status)


@pytest.mark.parametrize("conflict", ["overwrite", "skip"])
def test_nothing_is_set_where_nothing_has_changed(product, host, site, tmp_path, conflict):
    copy = tmp_path / "copy"
    with asked(host) as first:
        move(product, host, site, copy)
    assert str(copy / "folder 1") in first["set"]
    assert times_of_folders(copy) == times_of_folders(site)
    before = stats(copy)
    with asked(host) as again:
        result = move(product, host, site, copy, conflict=conflict)["transfer_result"]
    assert (result["files_transferred"], result["files_skipped"]) == (0, 12)
    assert again["set"] == set()
    # The end needs none of its own.
    assert again["connections"] <= 1
    assert {path: stat.st_ctime_ns for path, stat in stats(copy).items()} == {
        path: stat.st_ctime_ns for path, stat in before.items()
    }


def test_only_folders_that_got_something_are_set(product, host, site, tmp_path):
    copy = tmp_path / "copy"
    move(product, host, site, copy)
    before = stats(copy)
    (site / "folder 1/file 0.txt").write_text("changed")
    (site / "folder 2/new").mkdir()
    os.utime(site / "folder 2", (LONG_AGO, LONG_AGO))
    (copy / "folder 3").chmod(0o700)
    with asked(host) as again:
        move(product, host, site, copy)
    assert differences(site, copy) == ""
    assert times_of_folders(copy) == times_of_folders(site)
    assert (copy / "folder 3").stat().st_mode == (site / "folder 3").stat().st_mode
    changed = {str(copy / name) for name in ("folder 1", "folder 2", "folder 2/new", "folder 3")}
    assert {path for path in again["set"] if ".haulier-" not in path} == changed
    same = [copy, copy / "folder 0", copy / "folder 0/inner"]
    after = stats(copy)
    assert [after[path].st_ctime_ns for path in same] == [before[path].st_ctime_ns for path in same]


def test_folder_that_gets_something_in_a_later_run_is_set_then(product, host, site, tmp_path):
    copy = tmp_path / "copy"
    move(product, host, site, copy)
    times = times_of_folders(site)

    def replace_file(take, put):
        path = copy / "folder 1/file 0.txt"
        take(path)
        put(path)
        # As if nothing had been touched.
        os.utime(path.parent, (times["folder 1"], times["folder 1"]))

    replace_file(lambda path: path.unlink(), lambda path: path.mkdir())
    with asked(host) as failed:
        job = move(product, host, site, copy, "failed")
    assert failed["set"] == set()
    replace_file(lambda path: path.rmdir(), lambda path: None)
    before = stats(copy)
    with asked(host) as again:
        assert product.post(f"/api/sessions/{job['id']}/retry").status == 200
        product.wait_for(job["id"], "completed")
    assert differences(site, copy) == ""
    assert times_of_folders(copy) == times
    assert {path for path in again["set"] if ".haulier-" not in path} == {str(copy / "folder 1")}
    assert stats(copy)[copy / "folder 2"].st_ctime_ns == before[copy / "folder 2"].st_ctime_ns


def test_root_is_set_again_when_something_was_put_into_it(product, host, site, tmp_path):
    copy = tmp_path / "copy"
    move(product, host, site, copy)
    (site / "new.txt").write_text("new")
    os.utime(site, (LONG_AGO, LONG_AGO))
    os.utime(copy, (LONG_AGO, LONG_AGO))
    with asked(host) as again:
        move(product, host, site, copy)
    assert {path for path in again["set"] if ".haulier-" not in path} == {str(copy)}
    assert times_of_folders(copy) == times_of_folders(site)
