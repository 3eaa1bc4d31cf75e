"""Scans of sites as people keep them, over SSH."""

import html
import re

from tests.acceptance.conftest import submit
from tests.cms.test_systems import DRUPAL, SECRET


def test_scan_recognises_a_drupal_lists_its_files_and_says_what_may_stay_behind(product, sftp, tmp_path):
    root = tmp_path / "site"
    for name, text in DRUPAL.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    leftovers = {"web/sites/default/files/css/a.css": 70, "web/x.log": 5, ".git/HEAD": 20, "web/.git/x": 4}
    for name, size in leftovers.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * size)
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
    assert sorted(file["path"] for file in answer.body) == sorted({**DRUPAL, **leftovers})
    assert {file["state"] for file in answer.body} == {"done"}
    exclusions = done["scan_result"]["exclusions"]
    assert [(found["pattern"], found["reason"].rpartition(": ")[2]) for found in exclusions] == [
        ("/web/sites/default/files/css/", "1 file, 70 B."),
        (".git/", "2 files, 24 B."),
        ("*.log", "1 file, 5 B."),
    ]
    assert {(found["type"], found["is_automatic"], found["enabled"]) for found in exclusions} == {
        ("glob", True, False)
    }
    report = product.get(f"{done['links']['report']}?format=csv")
    assert len(report.body.splitlines()) == 1 + len(answer.body)
    assert SECRET not in report.body
    printed = product.get(f"{done['links']['report']}?format=html").body
    for words in (
        "Drupal 10.2.5",
        "portal on db.internal:3306, user drupal",
        "table prefix d_",
        "2 files, 24 B.",
    ):
        assert words in html.unescape(re.sub("</?bdi>", "", printed)), words
    assert SECRET not in printed
