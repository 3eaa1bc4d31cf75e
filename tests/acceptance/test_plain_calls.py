"""The first users' plain calls, from outside of any library."""

import json
import subprocess

import pytest

from tests.acceptance.conftest import local, submit
from tests.product import Product, until
from tests.trees import small_tree


def curl(*arguments):
    done = subprocess.run(["curl", "-sS", "-m", "20", *arguments], capture_output=True, text=True, check=True)
    return done.stdout


def test_four_plain_calls_without_login(own_product, tmp_path):
    site = small_tree(tmp_path / "site")
    base = f"http://localhost:{own_product.port}/api/sessions"
    assert json.loads(curl(f"{base}/active")) == []
    job = submit(own_product, "/api/scan", {"server_config": local(site)})
    own_product.wait_for(job)
    assert [found["id"] for found in json.loads(curl(base))] == [job]
    assert json.loads(curl(f"{base}/{job}"))["status"] == "completed"
    assert json.loads(curl("-X", "DELETE", base)) == {"deleted": 1}
    assert json.loads(curl(base)) == []


def test_other_sites_and_hosts_are_kept_out_without_login(product):
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        for path in ("/api/scan", "/api/scan/stream", "/api/transfer/stream"):
            assert product.post(path, {}, headers).status == 403
        assert product.delete("/api/sessions", headers).status == 403
    for path in ("/api/sessions", "/api/events", "/", "/health"):
        assert product.get(path, {"Host": "evil.example"}).status == 400


def test_login_is_needed_by_default(tmp_path):
    with Product(tmp_path / "product") as product:
        product.start(workers=1, no_login=False)
        for path in ("/api/sessions", "/api/events", "/api/sessions/active"):
            answer = product.get(path)
            assert answer.status == 401
            assert answer.body["error"]
        assert product.post("/api/scan/stream", {"server_config": local(tmp_path)}).status == 401
        assert product.get("/health").status == 200
        assert f"Sign in: {product.url}/sign-in/link/" in product.printed()
        product.headers = {"Authorization": f"Bearer {product.token()}"}
        assert product.get("/api/sessions").body == []
        small_tree(tmp_path / "site")
        product.wait_for(submit(product, "/api/scan", {"server_config": local(tmp_path / "site")}))
        with product.read_sse("/api/sessions/00000000-0000-4000-8000-000000000000/events") as stream:
            assert stream.status == 404


@pytest.mark.parametrize("bind", ["0.0.0.0:8080", "nonsense", "127.0.0.1:0"])
def test_no_login_needs_a_loopback_address(tmp_path, bind):
    product = Product(tmp_path / "product")
    product.migrate()
    with pytest.raises(AssertionError) as refused:
        product.manage("serve", "--no-login", "--bind", bind)
    assert "loopback" in str(refused.value) or "--bind must look like" in str(refused.value)
    assert "Traceback" not in str(refused.value)


def test_retention_runs_by_itself(tmp_path):
    with Product(tmp_path / "product", HAULIER_RETENTION="1s") as product:
        product.start(workers=1)
        small_tree(tmp_path / "site")
        submit(product, "/api/scan", {"server_config": local(tmp_path / "site")})
        until(lambda: product.get("/api/sessions").body == [])


def test_stream_of_a_job_that_is_deleted_ends(product, tmp_path):
    small_tree(tmp_path / "site")
    for _ in range(4):
        path, body = "/api/scan/stream", {"server_config": local(tmp_path / "site")}
        with product.read_sse(path, "POST", body, timeout_s=20) as stream:
            job = stream.headers["X-Job-ID"]
            for _ in range(2):
                product.delete(f"/api/sessions/{job}")
            *_, last = list(stream)
        assert last.event in ("complete", "error")
