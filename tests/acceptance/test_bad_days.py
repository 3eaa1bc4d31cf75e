"""What goes wrong at the other end: one clear sentence, the right status, and the job failed with it."""

import asyncssh
import pytest

from tests.acceptance.conftest import local, submit
from tests.product import Product, free_port


def failure(product, path, body):
    """The error of a job that is to fail within the 10 s that a first connection has."""
    job = product.wait_for(submit(product, path, body), "failed", seconds=12)
    assert job["error_message"]
    assert "\n" not in job["error_message"]
    assert len(job["error_message"]) < 300
    return job["error_message"]


def test_closed_port(product, sftp, tmp_path):
    conn = sftp(tmp_path) | {"port": free_port()}
    assert f"127.0.0.1:{conn['port']}" in failure(product, "/api/scan", {"server_config": conn})
    body = {"source_config": local(tmp_path), "dest_config": conn}
    assert "refuses connections" in failure(product, "/api/transfer", body)


def test_wrong_key(product, host, sftp, tmp_path):
    other = asyncssh.generate_private_key("ssh-ed25519").export_private_key("openssh").decode()
    sentence = failure(product, "/api/scan", {"server_config": sftp(tmp_path) | {"ssh_key": other}})
    assert f"127.0.0.1:{host.port}" in sentence
    assert host.username in sentence


def test_key_that_is_none(product, sftp, tmp_path):
    body = {"server_config": sftp(tmp_path) | {"ssh_key": "not a key"}}
    assert "private key" in failure(product, "/api/scan", body)


def test_missing_folders(product, sftp, tmp_path):
    missing = tmp_path / "missing"
    for conn in (sftp(missing), local(missing)):
        assert str(missing) in failure(product, "/api/scan", {"server_config": conn})
    body = {"source_config": sftp(missing), "dest_config": local(tmp_path / "made")}
    assert str(missing) in failure(product, "/api/transfer", body)


def test_file_in_place_of_a_folder(product, sftp, tmp_path):
    (tmp_path / "file").write_text("x")
    for conn in (sftp(tmp_path / "file"), local(tmp_path / "file")):
        assert "not a folder" in failure(product, "/api/scan", {"server_config": conn})


def test_host_key_is_pinned_at_first_use_and_a_changed_one_refused(product, host, sftp, tmp_path):
    (tmp_path / "folder").mkdir()
    body = {"server_config": sftp(tmp_path / "folder")}
    job = submit(product, "/api/scan", body)
    product.wait_for(job)
    with product.read_sse(f"/api/sessions/{job}/events", timeout_s=20) as stream:
        logged = []
        for frame in stream:
            logged.append(frame)
            if frame.event == "complete":
                break
    pins = [frame.data["message"] for frame in logged if frame.event == "log"]
    assert len(pins) == 1
    assert host.fingerprint in pins[0]
    again = submit(product, "/api/scan", body)
    product.wait_for(again)
    before = host.fingerprint
    host.new_host_key()
    sentence = failure(product, "/api/scan", body)
    assert before in sentence
    assert host.fingerprint in sentence


def test_demanded_host_key_must_be_the_one(product, host, sftp, tmp_path):
    (tmp_path / "folder").mkdir()
    good = sftp(tmp_path / "folder") | {"host_key": host.fingerprint}
    product.wait_for(submit(product, "/api/scan", {"server_config": good}))
    bad = good | {"host_key": "SHA256:" + "A" * 43}
    assert "demanded" in failure(product, "/api/scan", {"server_config": bad})


def test_strict_refuses_unknown_host_keys(host, sftp, tmp_path):
    with Product(tmp_path / "strict", HAULIER_HOST_KEYS="strict") as product:
        product.start(workers=1)
        (tmp_path / "folder").mkdir()
        assert host.fingerprint in failure(product, "/api/scan", {"server_config": sftp(tmp_path / "folder")})


@pytest.fixture
def site(tmp_path):
    root = tmp_path / "site"
    root.mkdir()
    for number in range(20):
        (root / f"file{number}").write_text(f"{number}")
    return root


def test_failing_file_fails_alone_and_by_name(product, sftp, site, tmp_path):
    (tmp_path / "host/file7").mkdir(parents=True)
    (tmp_path / "host/file7/inside").write_text("stays")
    body = {"source_config": local(site), "dest_config": sftp(tmp_path / "host")}
    job = product.wait_for(submit(product, "/api/transfer", body), "failed")
    result = job["transfer_result"]
    assert (result["success"], result["files_transferred"], result["errors_count"]) == (False, 19, 1)
    assert result["failed_files"] == ["file7"]
    assert "folder" in result["failures"][0]["error"].lower()
    assert job["error_message"].startswith("1 of 20 ")
    assert (tmp_path / "host/file7/inside").read_text() == "stays"
    assert (tmp_path / "host/file8").read_text() == "8"


def test_odd_names_arrive_as_they_are(product, sftp, site, tmp_path):
    names = [
        *(b"with space", b"quo'te\"s", b"new\nline", b"tab\t", b"-dash", b"%2e%2e", b"back\\slash"),
        *("emoji 🚚".encode(), b"caf\xc3\xa9", b"cafe\xcc\x81", b"\xff\xfe", b"x" * 240, b"~", b"*"),
    ]
    for name in names:
        (site / name.decode("utf-8", "surrogateescape")).write_bytes(name)
    body = {
        "source_config": local(site),
        "dest_config": sftp(tmp_path / "host"),
        "verify_after_transfer": True,
    }
    product.wait_for(submit(product, "/api/transfer", body))
    for name in names:
        assert (tmp_path / "host" / name.decode("utf-8", "surrogateescape")).read_bytes() == name
    down = {"source_config": sftp(tmp_path / "host"), "dest_config": local(tmp_path / "down")}
    product.wait_for(submit(product, "/api/transfer", down))
    for name in names:
        assert (tmp_path / "down" / name.decode("utf-8", "surrogateescape")).read_bytes() == name
    again = product.wait_for(submit(product, "/api/transfer", down))
    files = product.get(f"/api/sessions/{again['id']}/files?limit=1000").body
    skipped = again["transfer_result"]["skipped_files"]
    assert sorted(skipped) == sorted(file["path"] for file in files)
    assert {r"back\slash", r"\xff\xfe", "new\nline"} < set(skipped)


def test_no_secret_in_any_process_log_or_file(own_product, host, sftp, site, tmp_path):
    secret = "hunter2-in-the-clear"
    conn = sftp(tmp_path / "host") | {"password": secret}
    job = submit(own_product, "/api/transfer", {"source_config": local(site), "dest_config": conn})
    bad = sftp(tmp_path / "host") | {"password": secret, "ssh_key": "", "port": host.port}
    failed = submit(own_product, "/api/scan", {"server_config": bad})
    own_product.wait_for(failed, "failed")
    own_product.wait_for(job)
    own_product.stop()
    texts = [path.read_bytes() for path in own_product.folder.rglob("*") if path.is_file()]
    key_line = host.private_key.splitlines()[2].encode()
    for text in texts:
        assert secret.encode() not in text
        assert key_line not in text
    for name in ("secret.key", "secrets.keys"):
        assert (own_product.folder / "data" / name).stat().st_mode & 0o777 == 0o600
    assert (own_product.folder / "data").stat().st_mode & 0o777 == 0o700
