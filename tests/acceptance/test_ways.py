"""The right way for the pair of servers is taken, foreseen by a dry run, and told in the result."""

import shutil

import pytest

from tests.acceptance.conftest import local, sftp_on, submit
from tests.servers.openssh import OpenSshServer
from tests.trees import differences, small_tree

FOLDERS, FILES = 30, 20


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Many small files, one large, a link."""
    root = small_tree(tmp_path_factory.mktemp("ways") / "site", folders=FOLDERS, files=FILES)
    (root / "large").write_bytes(b"large" * 500_000)
    (root / "link").symlink_to("folder 0")
    return root


@pytest.fixture(scope="module")
def hosts():
    with OpenSshServer() as first, OpenSshServer() as second, OpenSshServer(has_shell=False) as third:
        yield {"shell": first, "other shell": second, "SFTP alone": third}


def side(hosts, name, root):
    return local(root) if name == "here" else sftp_on(hosts[name], root)


def transfer(product, **request):
    job = product.wait_for(submit(product, "/api/transfer", request))
    assert job["status"] == "completed", job
    return job["transfer_result"]


@pytest.mark.parametrize(
    ("source", "destination", "wish", "method"),
    [
        ("here", "shell", "", "tar_stream"),
        ("shell", "here", "", "tar_stream"),
        ("shell", "other shell", "", "tar_stream"),
        ("shell", "SFTP alone", "", "tar_stream"),
        ("here", "SFTP alone", "", "sftp_stream"),
        ("SFTP alone", "here", "tar_stream", "sftp_stream"),
        ("here", "shell", "sftp_stream", "sftp_stream"),
        ("shell", "shell", "", "server_copy"),
        ("SFTP alone", "SFTP alone", "", "server_copy"),
        ("shell", "shell", "sftp_stream", "sftp_stream"),
        ("here", "here", "", "local_copy"),
    ],
)
def test_way_is_foreseen_and_taken(product, hosts, site, tmp_path, source, destination, wish, method):
    request = {
        "source_config": side(hosts, source, site),
        "dest_config": side(hosts, destination, tmp_path / "copy"),
        "method": wish,
    }
    assert transfer(product, **request, dry_run=True)["method"] == method
    assert not (tmp_path / "copy").exists()
    assert transfer(product, **request)["method"] == method
    assert differences(site, tmp_path / "copy") == ""
    # A few files are not worth a stream, and come all the same.
    shutil.rmtree(tmp_path / "copy/folder 3")
    result = transfer(product, **request, verify_after_transfer=True)
    assert (result["files_transferred"], result["verification_result"]["success"]) == (FILES, True)
    assert differences(site, tmp_path / "copy") == ""
