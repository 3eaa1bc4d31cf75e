"""Scans of sites as people keep them, over SSH."""

from tests.acceptance.conftest import submit
from tests.cms.test_systems import DRUPAL, SECRET


def test_scan_recognises_a_drupal_and_lists_its_files(product, sftp, tmp_path):
    root = tmp_path / "site"
    for name, text in DRUPAL.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    job = submit(product, "/api/scan", {"server_config": sftp(root), "detect_cms": True})
    done = product.wait_for(job)
    cms = done["scan_result"]["cms_detection"]
    assert (cms["detected"], cms["type"], cms["version"]) == (True, "drupal", "10.2.5")
    assert cms["root_path"] == f"{root}/web"
    assert cms["config_file"] == f"{root}/web/sites/default/settings.php"
    assert cms["database_config"] == {
        "host": "db.internal",
        "port": 3306,
        "database": "portal",
        "username": "drupal",
        "password": "",
        "prefix": "d_",
    }
    assert SECRET not in str(done)
    answer = product.get(done["links"]["files"])
    assert sorted(file["path"] for file in answer.body) == sorted(DRUPAL)
    assert {file["state"] for file in answer.body} == {"done"}
