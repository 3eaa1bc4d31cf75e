"""Links that are followed, through the whole product: scanned, copied and verified as what they lead to."""

import pytest

from tests.acceptance.conftest import local, log_of, submit
from tests.product import Product
from tests.servers.openssh import OpenSshServer
from tests.trees import digest


@pytest.fixture
def site(tmp_path):
    """A site as releases are put: the current one is a link, and so is what the releases share."""
    root = tmp_path / "site"
    (root / "releases/2/wp-includes").mkdir(parents=True)
    (root / "shared/uploads").mkdir(parents=True)
    (root / "shared/uploads/pic.jpg").write_text("picture")
    (root / "releases/2/wp-includes/version.php").write_text("<?php\n$wp_version = '6.5.2';\n")
    (root / "releases/2/wp-login.php").touch()
    (root / "shared/wp-config.php").write_text("<?php\ndefine( 'DB_NAME', 'shop' );\n$table_prefix = 'x_';\n")
    (root / "releases/2/wp-config.php").symlink_to("../../shared/wp-config.php")
    (root / "releases/2/uploads").symlink_to(root / "shared/uploads")
    (root / "current").symlink_to("releases/2")
    (root / "out").symlink_to("/etc/passwd")
    (root / "dangling").symlink_to("no/where")
    (root / "shared/loop").symlink_to("..")
    return root


NOT_FOLLOWED = {
    "Not followed: out. It leads out of the root. The link is kept.",
    "Not followed: shared/loop. It leads to a folder that it lies in itself. The link is kept.",
}


@pytest.fixture
def host(request):
    with OpenSshServer(has_shell=getattr(request, "param", False)) as found:
        yield found


@pytest.mark.parametrize(
    ("way", "host", "proof"),
    [("up", False, "readback"), ("down", True, "two_sided_hash")],
    indirect=["host"],
)
def test_tree_is_copied_as_what_its_links_lead_to_and_verified_so(
    product: Product, sftp, site, tmp_path, way, proof
):
    target = tmp_path / "copy"
    ends = (local(site), sftp(target)) if way == "up" else (sftp(site), local(target))
    body = {"source_config": ends[0], "dest_config": ends[1], "follow_symlinks": True}
    job = product.wait_for(submit(product, "/api/transfer", body | {"verify_after_transfer": True}))
    result = job["transfer_result"]
    assert (result["success"], result["files_transferred"]) == (True, 10), result
    assert result["verification_result"]["success"]
    assert set(log_of(product, job)) >= NOT_FOLLOWED
    copied = digest(target)
    assert copied["current/uploads/pic.jpg"] == copied["shared/uploads/pic.jpg"] == b"picture"
    assert copied["current/wp-config.php"] == (site / "shared/wp-config.php").read_bytes()
    assert not (target / "current").is_symlink()
    assert {path.name for path in target.rglob("*") if path.is_symlink()} == {"out", "dangling", "loop"}

    # What is different now is found where a link leads to it.
    (target / "current/uploads/pic.jpg").write_text("PICTURE")
    answer = product.post(f"/api/sessions/{job['id']}/verify")
    verified = product.wait_for(answer.body["id"], "failed")["verify_result"]
    assert [problem["path"] for problem in verified["problems"]] == ["current/uploads/pic.jpg"]
    assert verified["evidence"] == dict.fromkeys(("two_sided_hash", "readback", "size_only"), 0) | {proof: 9}

    (target / "current/uploads/pic.jpg").unlink()
    again = product.wait_for(submit(product, "/api/transfer", body | {"files": ["current/uploads/pic.jpg"]}))
    assert again["transfer_result"]["files_transferred"] == 1
    assert (target / "current/uploads/pic.jpg").read_text() == "picture"


def test_scan_counts_what_links_lead_to_and_reads_a_sites_version_through_them(product: Product, sftp, site):
    body = {"server_config": sftp(site), "detect_cms": True}
    plain = product.wait_for(submit(product, "/api/scan", body))["scan_result"]
    job = product.wait_for(submit(product, "/api/scan", body | {"follow_symlinks": True}))
    found = job["scan_result"]
    assert (plain["statistics"]["total_files"], plain["statistics"]["symlinks_count"]) == (4, 6)
    assert (found["statistics"]["total_files"], found["statistics"]["symlinks_count"]) == (10, 3)
    assert found["unreadable"] == []
    assert set(log_of(product, job)) >= NOT_FOLLOWED
    assert found["cms_detection"]["version"] == "6.5.2"
    assert found["cms_detection"]["database_config"]["database"] == "shop"
    page = product.get(f"/jobs/{job['id']}", {"Accept": "text/html"})
    assert "Not followed: out." in page.body
