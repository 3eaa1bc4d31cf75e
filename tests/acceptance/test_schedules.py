"""A schedule in the real product, from its request to the files that its job has copied."""

import time

from tests.acceptance.conftest import local, log_of
from tests.product import until
from tests.trees import differences, small_tree

_DUE = """
import django; django.setup()
from django.utils import timezone
from sessions_app.models import Schedule
assert Schedule.objects.update(next_run_at=timezone.now()) == 1
"""


def test_schedule_copies_again_and_again(product, sftp, tmp_path):
    site, copy = small_tree(tmp_path / "site"), tmp_path / "copy"
    job = {"type": "transfer", "source_config": sftp(site), "dest_config": local(copy)}
    answer = product.post("/api/schedules", {"name": "Nightly", "cron": "0 3 1 1 *", "job": job})
    assert answer.status == 201, answer
    schedule = f"/api/schedules/{answer.body['id']}"
    for count, text in enumerate(("one", "two"), 1):
        (site / "news.txt").write_text(text * count)
        product.python("-c", _DUE)
        runs = until(
            lambda count=count: len(found := product.get(schedule).body["last_runs"]) == count and found
        )
        done = product.wait_for(runs[0]["id"])
        assert "Started by the schedule “Nightly”." in log_of(product, done)
        assert done["schedule"] == answer.body["id"]
        assert differences(site, copy) == ""
    assert product.delete(schedule).status == 200


def test_schedule_of_every_minute_runs_within_the_next_one(product, tmp_path):
    site = small_tree(tmp_path / "site")
    job = {"type": "scan", "server_config": local(site)}
    schedule = product.post("/api/schedules", {"cron": "* * * * *", "job": job}).body
    runs = until(lambda: product.get(f"/api/schedules/{schedule['id']}").body["last_runs"], seconds=150)
    assert product.delete(f"/api/schedules/{schedule['id']}").status == 200
    product.wait_for(runs[-1]["id"])


def test_transfer_starts_at_its_time(product, sftp, tmp_path):
    site, copy = small_tree(tmp_path / "site"), tmp_path / "copy"
    at = time.time() + 8
    body = {
        "type": "transfer",
        "source_config": local(site),
        "dest_config": sftp(copy),
        "run_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)),
    }
    answer = product.post("/api/sessions", body)
    assert (answer.status, answer.body["status"]) == (201, "pending"), answer
    assert answer.body["progress"]["message"].startswith("Starts at ")
    assert not copy.exists()
    done = product.wait_for(answer.body["id"])
    # To the second, which is what the request names.
    assert done["started_at"] >= body["run_at"].replace("Z", ".000000Z")
    assert differences(site, copy) == ""
