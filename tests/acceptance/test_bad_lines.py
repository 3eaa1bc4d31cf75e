"""Lines that break or fall silent again and again: whole jobs, with streams of tar and over plain SFTP, both ways."""

import os
import threading
from contextlib import contextmanager

import pytest

from tests.acceptance.conftest import local, log_of, submit
from tests.product import until
from tests.servers.openssh import OpenSshServer
from tests.servers.slow_link import SlowLink
from tests.trees import differences, small_tree

BYTES_PER_S = 5e6
WAYS = {"with a shell": "tar_stream", "SFTP alone": "sftp_stream"}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """3,000 small files, a large one and a link: some 6 s of the line."""
    root = small_tree(tmp_path_factory.mktemp("site") / "site", folders=30, files=100, size_bytes=2000)
    (root / "large").write_bytes(os.urandom(2**20) * 24)
    (root / "link").symlink_to("folder 0")
    return root


@pytest.fixture(params=WAYS)
def host(request):
    with OpenSshServer(has_shell=request.param == "with a shell") as found:
        found.way = WAYS[request.param]
        yield found


@contextmanager
def every(seconds, act):
    """Do something again and again in the background; gives a list with an entry for each time."""
    done, is_over = [], threading.Event()

    def run():
        while not is_over.wait(seconds):
            act()
            done.append(True)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        is_over.set()
        thread.join()


def sides(goes, host, link, site, tmp_path):
    """Source and destination of a job, and where the copy is."""
    there = host.conn(tmp_path / "copy" if goes == "up" else site) | {"port": link.port}
    here = local(site if goes == "up" else tmp_path / "copy")
    return (
        {"source_config": here, "dest_config": there}
        if goes == "up"
        else {
            "source_config": there,
            "dest_config": here,
        }
    )


@pytest.mark.parametrize("goes", ["up", "down"])
def test_line_that_breaks_every_three_seconds_brings_everything(product, host, site, tmp_path, goes):
    with SlowLink(host.port, bytes_per_s=BYTES_PER_S) as link:
        job = submit(product, "/api/transfer", sides(goes, host, link, site, tmp_path))
        with every(3, link.cut) as cuts:
            result = product.wait_for(job, seconds=180)["transfer_result"]
    assert len(cuts) >= 2
    assert (result["success"], result["method"]) == (True, host.way)
    assert differences(site, tmp_path / "copy") == ""
    assert not list((tmp_path / "copy").rglob(".haulier-*"))


# Each waits for a minute: two of the four say it.
@pytest.mark.parametrize(
    ("host", "goes"), [("with a shell", "up"), ("SFTP alone", "down")], indirect=["host"]
)
def test_line_that_falls_silent_is_given_up_and_another_one_goes_on(product, host, site, tmp_path, goes):
    with SlowLink(host.port, bytes_per_s=BYTES_PER_S) as link:
        job = submit(product, "/api/transfer", sides(goes, host, link, site, tmp_path))
        until(lambda: product.job(job)["progress"]["files_transferred"] > 300)
        link.hang()
        found = product.wait_for(job, seconds=180)
    assert found["transfer_result"]["success"]
    assert differences(site, tmp_path / "copy") == ""
    assert not list((tmp_path / "copy").rglob(".haulier-*"))
    assert any("Trying again in" in text for text in log_of(product, found))
