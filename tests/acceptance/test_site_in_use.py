"""A site that is written to while it is moved: what changed is named, no file is a mixture, a second look mends it."""

import itertools
import threading
import time
from contextlib import contextmanager

import pytest

from tests.acceptance.conftest import local, submit
from tests.product import ENDED, until
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree

CHANGED = {
    "It changed after it was listed.",
    "It changed while it was read.",
    "It became shorter while it was read.",
    "It is not there any more.",
}
LARGE_LINES = 600_000


def version(number, lines=1000):
    """The content of a file: lines that tell their version, in a number that no other one nearby has."""
    return b"version %06d\n" % number * (lines + number % 997)


def is_whole(content, lines=1000):
    return content == version(int(content[8:14] or 0), lines)


class Writer:
    """Writes to a site, to each file in another way.

    None is written over twice within 2 s: SFTP tells times in whole seconds, so that what happens to a file of the
    same size within one cannot be told from nothing.
    """

    def __init__(self, site):
        self.in_place = [site / f"folder {n}/in place" for n in range(20)]
        self.replaced = [site / f"folder {n}/replaced" for n in range(20)]
        self.log = site / "folder 3/a log"
        self.large = site / "large"
        self.spare = site.parent / "spare"
        self.number = 0
        for path in self.in_place:
            path.write_bytes(version(0))
        self.large.write_bytes(version(0, LARGE_LINES))
        self.replace()

    def replace(self):
        self.number += 1
        for path in self.replaced:
            self.spare.write_bytes(version(self.number))
            self.spare.rename(path)
        with self.log.open("ab") as log:
            log.write(b"%08d\n" % self.number)

    def write_over(self, path, lines=1000):
        self.number += 1
        with path.open("r+b", buffering=0) as file:
            file.write(version(self.number, lines))
            file.truncate()

    @contextmanager
    def at_work(self):
        """Write in the background."""
        is_over = threading.Event()

        def run():
            turns = itertools.cycle([*self.in_place, self.large])
            turn_at = time.monotonic() + 2
            while not is_over.wait(0.01):
                self.replace()
                if time.monotonic() >= turn_at:
                    path = next(turns)
                    self.write_over(path, LARGE_LINES if path == self.large else 1000)
                    turn_at += 0.12

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            is_over.set()
            thread.join()


@pytest.fixture(params=["with a shell", "SFTP alone"])
def host(request):
    with OpenSshServer(has_shell=request.param == "with a shell") as found:
        yield found


@pytest.mark.parametrize("goes", ["up", "down"])
def test_what_changes_meanwhile_is_named_and_right_after_a_second_look(product, host, tmp_path, goes):
    site, copy = small_tree(tmp_path / "site", folders=20, files=100), tmp_path / "copy"
    there = host.conn(copy if goes == "up" else site)
    source, destination = (local(site), there) if goes == "up" else (there, local(copy))
    body = {"source_config": source, "dest_config": destination}
    writer = Writer(site)
    changing = [*writer.in_place, *writer.replaced, writer.large]
    with writer.at_work():
        # The large one is written to after 20 others.
        time.sleep(3.5)
        job = submit(product, "/api/transfer", body)
        until(lambda: product.status(job) in ENDED, seconds=120)
    result = product.job(job)["transfer_result"]
    failures = {failure["path"]: failure["error"] for failure in result["failures"]}
    written_to = {str(path.relative_to(site)) for path in [*changing, writer.log]}
    assert failures.keys() <= written_to
    assert set(failures.values()) <= CHANGED
    assert result["errors_count"] == len(failures) > 0
    # What came is a version as it was once written, or it is not there.
    for path in changing:
        there, lines = copy / path.relative_to(site), LARGE_LINES if path == writer.large else 1000
        assert there.exists() != (str(path.relative_to(site)) in failures)
        assert not there.exists() or is_whole(there.read_bytes(), lines), path
    log = copy / writer.log.relative_to(site)
    if log.exists():
        assert writer.log.read_bytes().startswith(log.read_bytes())
    product.wait_for(submit(product, "/api/transfer", body), seconds=120)
    assert differences(site, copy) == ""
    assert not list(copy.rglob(".haulier-*"))
