import pytest

from sessions_app import addresses


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "[::1]", "localhost"])
def test_loopback_is_what_only_this_machine_reaches(host):
    assert addresses.is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "10.1.2.3", "example.org", "::"])
def test_other_addresses_are_reached_by_others(host):
    assert not addresses.is_loopback(host)


def test_server_that_listens_everywhere_is_opened_by_the_loopback():
    assert addresses.url("0.0.0.0", 8080) == addresses.url("[::]", 8080) == "http://127.0.0.1:8080"
    assert addresses.url("192.168.1.7", 80) == "http://192.168.1.7:80"


def test_links_lead_to_the_server_that_was_started_last(settings, tmp_path, monkeypatch):
    settings.DATA_DIR = tmp_path
    monkeypatch.delenv("HAULIER_BIND", raising=False)
    assert addresses.last() == f"http://{settings.BIND_HOST}:{settings.BIND_PORT}"
    addresses.remember("127.0.0.1", 9123)
    assert addresses.last() == "http://127.0.0.1:9123"
