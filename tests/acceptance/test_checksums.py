"""Second runs that compare what files of equal size hold, at servers with a shell and without."""

import os
import re
from itertools import chain

import pytest

from tests.acceptance.conftest import local, log_of, sftp_on, submit
from tests.product import until
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree

LONG_AGO = 1_600_000_000
READ_BACK = "gives no shell to hash files in"


@pytest.fixture(scope="module", params=[True, False], ids=["shell", "no shell"])
def has_shell(request):
    return request.param


@pytest.fixture(scope="module")
def one_host(has_shell):
    with OpenSshServer(has_shell=has_shell) as found:
        yield found


@pytest.fixture(scope="module")
def other_host(has_shell):
    with OpenSshServer(has_shell=has_shell) as found:
        yield found


@pytest.fixture
def site(tmp_path):
    root = small_tree(tmp_path / "site", folders=4, files=30)
    (root / "new\nline").write_text("x")
    (root / "empty").touch()
    (root / "link").symlink_to("empty")
    set_times(root, LONG_AGO)
    return root


def set_times(root, mtime):
    for path in chain(root.rglob("*"), [root]):
        os.utime(path, (mtime, mtime), follow_symlinks=False)


def change(path):
    """Another content of the same size and mtime; its folder's mtime stays, too."""
    times = [(one, one.stat()) for one in (path, path.parent)]
    path.write_bytes(bytes(255 - byte for byte in path.read_bytes()))
    for one, stat in times:
        os.utime(one, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def transfer(product, source, destination, *statuses, **options):
    body = {"source_config": source, "dest_config": destination, **options}
    return product.wait_for(submit(product, "/api/transfer", body), *statuses)


@pytest.fixture(params=["up", "down", "relay", "local"])
def pair(request, one_host, other_host):
    """The Conn objects of two folders."""
    way = request.param

    def make(source, destination):
        return (
            sftp_on(one_host, source) if way in ("down", "relay") else local(source),
            sftp_on(other_host, destination) if way in ("up", "relay") else local(destination),
        )

    make.way = way
    return make


def test_what_differs_goes_and_what_is_equal_stays(product, has_shell, pair, site, tmp_path):
    copy = tmp_path / "copy"
    sides = pair(site, copy)
    transfer(product, *sides)
    change(copy / "folder 1/file 3.txt")
    change(copy / "folder 2/file 5.txt")
    # A comparison by size and time finds none of it, and copies this one for nothing.
    os.utime(copy / "folder 3/file 7.txt", (LONG_AGO + 5, LONG_AGO + 5))
    (copy / "folder 3/file 8.txt").chmod(0o600)
    inodes = {path: path.lstat().st_ino for path in copy.rglob("*")}
    planned = transfer(product, *sides, checksum=True, dry_run=True)["transfer_result"]
    assert planned["summary"]["update"] == 2
    assert planned["summary"]["bytes"] == 2000
    assert planned["comparison"]["files_different"] == 2
    assert int((copy / "folder 3/file 7.txt").stat().st_mtime) == LONG_AGO + 5

    job = transfer(product, *sides, checksum=True)
    result = job["transfer_result"]
    assert (result["files_transferred"], result["bytes_transferred"]) == (2, 2000)
    assert result["files_skipped"] == 120
    assert (job["progress"]["total_files"], job["progress"]["totals_grow"]) == (2, False)
    found = result["comparison"]
    assert (found["files_compared"], found["files_equal"], found["files_different"]) == (122, 120, 2)
    assert found["attributes_set"] == 2
    changed = {path for path, inode in inodes.items() if path.lstat().st_ino != inode}
    assert changed == {copy / "folder 1/file 3.txt", copy / "folder 2/file 5.txt"}
    assert differences(site, copy) == ""
    assert {int(path.lstat().st_mtime) for path in [copy, *copy.rglob("*")]} == {LONG_AGO}

    remote = {"local": 0, "relay": 2}.get(pair.way, 1)
    told = [line for line in log_of(product, job) if READ_BACK in line]
    # A name with a line break cannot be told apart in what a server's command prints: it is read.
    read_back = 1 if has_shell else 121
    assert found["files_read_back"] == (read_back if remote else 0)
    assert len(told) == (0 if has_shell else remote)
    assert ("read over the network" in found["message"]) == bool(remote)
    page = product.get(f"/jobs/{job['id']}", {"Accept": "text/html"}).body
    report = product.get(f"/api/sessions/{job['id']}/report?format=html").body
    assert (found["message"] in page, found["message"] in report) == (True, True)
    again = transfer(product, *sides, checksum=True)["transfer_result"]
    assert (again["files_transferred"], again["comparison"]["files_equal"]) == (0, 122)
    assert again["comparison"]["attributes_set"] == 0


@pytest.fixture
def sides(tmp_path):
    """A file that differs and one that is equal, both of equal size; and the Conn objects."""
    source, destination = tmp_path / "site", tmp_path / "copy"
    for root, text in ((source, "new"), (destination, "old")):
        root.mkdir()
        (root / "differs.txt").write_text(text)
        (root / "equal.txt").write_text("equal")
        set_times(root, LONG_AGO)
    return destination, (local(source), local(destination))


@pytest.mark.parametrize(
    ("conflict", "mtime", "text", "equal_mtime"),
    [
        # What is kept keeps its time, too.
        ("skip", LONG_AGO - 5, "old", LONG_AGO - 5),
        ("newer", LONG_AGO - 5, "new", LONG_AGO),
        ("newer", LONG_AGO, "old", LONG_AGO),
        ("newer", LONG_AGO + 5, "old", LONG_AGO + 5),
        ("overwrite", LONG_AGO + 5, "new", LONG_AGO),
    ],
)
def test_conflict_says_what_becomes_of_what_differs(product, sides, conflict, mtime, text, equal_mtime):
    copy, conns = sides
    for name in ("differs.txt", "equal.txt"):
        os.utime(copy / name, (mtime, mtime))
    for run in range(2):
        result = transfer(product, *conns, checksum=True, conflict=conflict, verify_after_transfer=True)[
            "transfer_result"
        ]
        copied = int(text == "new" and run == 0)
        assert (result["files_transferred"], result["files_skipped"]) == (copied, 2 - copied)
        assert result["comparison"]["files_different"] == int(text == "old" or run == 0)
        assert result["verification_result"]["success"], result
        assert (copy / "differs.txt").read_text() == text
        assert int((copy / "equal.txt").stat().st_mtime) == equal_mtime


def test_what_differs_is_put_beside_with_rename_and_once(product, sides):
    copy, conns = sides
    for copied in (1, 0):
        result = transfer(product, *conns, checksum=True, conflict="rename", verify_after_transfer=True)[
            "transfer_result"
        ]
        assert result["files_transferred"] == copied
        assert result["verification_result"]["success"], result
        found = {path.name: path.read_text() for path in copy.iterdir()}
        assert found == {"differs.txt": "old", "differs (2).txt": "new", "equal.txt": "equal"}


def test_too_large_files_are_not_even_hashed(product, sides):
    _, conns = sides
    result = transfer(product, *conns, checksum=True, skip_large_files=0.000004)["transfer_result"]
    assert result["comparison"]["files_compared"] == 1
    assert (result["files_transferred"], result["files_skipped"]) == (1, 1)


def test_comparison_goes_on_where_it_was_after_kills_and_a_pause(own_product, sftp, tmp_path):
    product = own_product
    site = small_tree(tmp_path / "site", folders=20, files=100, size_bytes=20_000)
    set_times(site, LONG_AGO)
    copy = tmp_path / "copy"
    body = {"source_config": local(site), "dest_config": sftp(copy)}
    product.wait_for(submit(product, "/api/transfer", body))
    changed = [copy / f"folder {n}/file {n}.txt" for n in range(20)]
    for path in changed:
        change(path)
    # What is read over the network is held back by the limit.
    job = submit(product, "/api/transfer", body | {"checksum": True, "bandwidth_limit": 8})

    def get_to(share):
        def compared():
            found = product.job(job)["progress"]
            at = re.search(r"Compared by content: ([\d,]+) of", found.get("message", ""))
            is_over = found["status"] in ("completed", "failed")
            return is_over or (at and int(at[1].replace(",", "")) >= 2000 * share)

        until(compared)

    get_to(0.2)
    for worker in product.children("worker"):
        worker.kill()
    get_to(0.4)
    if product.post(f"/api/sessions/{job}/pause").status == 200:
        assert product.status(job) == "paused"
        assert product.post(f"/api/sessions/{job}/resume").status == 200
    result = product.wait_for(job)["transfer_result"]
    # Counted once each, whoever compared them.
    assert result["comparison"]["files_compared"] == 2000
    assert result["comparison"]["files_equal"] == 1980
    assert (result["files_transferred"], result["files_skipped"]) == (20, 1980)
    assert differences(site, copy) == ""


def test_file_that_fails_is_copied_in_the_next_run_and_others_are_not_compared_again(product, tmp_path):
    site = small_tree(tmp_path / "site", folders=2, files=5)
    copy = tmp_path / "copy"
    body = {"source_config": local(site), "dest_config": local(copy), "checksum": True}
    product.wait_for(submit(product, "/api/transfer", body))
    change(copy / "folder 1/file 1.txt")
    (copy / "folder 1/file 2.txt").unlink()
    (copy / "folder 1/file 2.txt").mkdir()
    job = submit(product, "/api/transfer", body)
    result = product.wait_for(job, "failed")["transfer_result"]
    assert (result["files_transferred"], result["failed_files"]) == (1, ["folder 1/file 2.txt"])
    assert result["comparison"]["files_compared"] == 9
    (copy / "folder 1/file 2.txt").rmdir()
    assert product.post(f"/api/sessions/{job}/retry").status == 200
    result = product.wait_for(job)["transfer_result"]
    assert (result["files_transferred"], result["comparison"]["files_compared"]) == (2, 9)
    assert differences(site, copy) == ""


def test_large_file_is_held_while_it_is_read_and_can_be_cancelled(product, sftp, tmp_path):
    site, copy = tmp_path / "site", tmp_path / "copy"
    for root in (site, copy):
        root.mkdir()
        with (root / "large.bin").open("wb") as file:
            file.write(b"0123456789abcdef" * 2**21)
        set_times(root, LONG_AGO)
    # Longer by far than a lease of the tests.
    body = {"source_config": local(site), "dest_config": sftp(copy), "checksum": True, "bandwidth_limit": 4}
    job = product.wait_for(submit(product, "/api/transfer", body))
    found = job["transfer_result"]["comparison"]
    assert (found["files_equal"], found["bytes_read_back"]) == (1, 2**25)
    assert not [line for line in log_of(product, job) if "taken back" in line]

    cancelled = submit(product, "/api/transfer", body)
    until(lambda: "Compared by content: 0 of 1" in product.job(cancelled)["progress"].get("message", ""))
    assert product.delete(f"/api/sessions/{cancelled}").body == {"message": "Session cancelled"}
    assert product.status(cancelled) == "cancelled"
