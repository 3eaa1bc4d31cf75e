"""A file of 2 GiB, paused on its way, while the whole server is killed and started again."""

import os
import re
import subprocess
import time

import pytest

from tests.acceptance.conftest import local, log_of, sftp_on, submit
from tests.product import until
from tests.servers.openssh import LoggingServer

MIB = 2**20
SIZE = 2048 * MIB
SHARE = 0.37


@pytest.fixture(scope="module")
def two_gigabytes(tmp_path_factory):
    """Random bytes, repeated: nothing in it is a hole, and nothing can be compressed on the way."""
    root = tmp_path_factory.mktemp("two-gigabytes")
    block = os.urandom(64 * MIB)
    with (root / "large.bin").open("wb") as file:
        for _ in range(SIZE // len(block)):
            file.write(block)
    yield root
    # Not to be kept with what pytest keeps of the last runs.
    (root / "large.bin").unlink()


def written(host):
    """Bytes that the server was given for the file, all in all, as it has logged them."""
    log = "".join(host.operations().values())
    return sum(int(size) for size in re.findall(r"^(?:forced )?close .* written (\d+)$", log, re.MULTILINE))


def speed_until(product, job, size):
    """Wait until so many bytes are over; gives the most that a second moved meanwhile."""
    seen = [(time.monotonic(), 0)]
    deadline = seen[0][0] + 120
    while seen[-1][1] <= size:
        assert time.monotonic() < deadline
        time.sleep(0.02)
        seen.append((time.monotonic(), product.job(job)["progress"]["bytes_transferred"]))
    moved = [
        next((later - before for at, later in seen[index:] if at - since >= 1), 0)
        for index, (since, before) in enumerate(seen)
    ]
    # One that took less than a second moved all of it in that.
    return max(moved) or seen[-1][1]


@pytest.mark.parametrize("is_damaged", [False, True])
def test_two_gigabytes_go_on_at_37_per_cent_after_a_restart(own_product, two_gigabytes, tmp_path, is_damaged):
    """At most what a second moved is sent again, counted at the server; all where the beginning was damaged."""
    product, copy = own_product, tmp_path / "copy"
    with LoggingServer(has_shell=True) as host:
        body = {"source_config": local(two_gigabytes), "dest_config": sftp_on(host, copy)}
        job = submit(product, "/api/transfer", body)
        fastest = speed_until(product, job, SHARE * SIZE)
        paused = product.post(f"/api/sessions/{job}/pause").body
        assert paused["status"] == "paused"
        first = until(lambda: written(host))
        assert SHARE * SIZE < first < SIZE
        product.process.kill()
        product.process.wait()
        product.start()
        if is_damaged:
            (temp,) = copy.iterdir()
            with temp.open("r+b") as file:
                file.seek(100 * MIB)
                file.write(b"damaged")
        assert product.post(f"/api/sessions/{job}/resume").status == 200
        done = product.wait_for(job, seconds=180)
        again = written(host) - SIZE
    assert (
        subprocess.run(["cmp", two_gigabytes / "large.bin", copy / "large.bin"], check=False).returncode == 0
    )
    assert [path.name for path in copy.iterdir()] == ["large.bin"]
    (copy / "large.bin").unlink()
    if is_damaged:
        assert again == first
        resumed, proof = done["progress"]["bytes_resumed"], ""
        assert resumed == 0
        said = "What was there of large.bin is not the source's beginning: it is copied from the start."
    else:
        assert 0 <= again <= fastest
        resumed, proof = done["progress"]["bytes_resumed"], "two_sided_hash"
        assert resumed == first - again
        said = f"Goes on with large.bin after {resumed:,} bytes, which were hashed on both sides."
    assert said in log_of(product, done)
    result = done["transfer_result"]
    assert result["bytes_resumed"] == resumed
    assert result["resumed_files"] == [{"path": "large.bin", "bytes": resumed, "proof": proof}]
