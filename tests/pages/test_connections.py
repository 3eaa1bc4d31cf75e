"""The pages of stored connections, as plain forms and links."""

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Page, expect

from migration_app import connections, visits
from migration_app.models import Endpoint, HostKey
from sessions_app import accounts
from sessions_app.models import Job
from tests.pages.conftest import Yard
from tests.pages.gallery import HOSTILE
from tests.product import until
from tests.servers.openssh import OpenSshServer

Fields = dict[str, Any]


@pytest.fixture
def signed_in(client: Client, transactional_db: None) -> Client:
    client.force_login(accounts.owner())
    return client


def fields(server: OpenSshServer, root: Path, **more: Any) -> Fields:
    return {
        "name": "site",
        "protocol": "sftp",
        "host": server.host,
        "port": str(server.port),
        "username": server.username,
        "ssh_key": server.private_key.replace("\n", "\r\n"),
        "root_path": str(root),
        **more,
    }


@pytest.fixture
def add(signed_in: Client) -> Callable[[Fields], str]:
    """Fill in the form; the page that follows."""

    def add(data: Fields) -> str:
        answer = signed_in.post("/connections/new", data, follow=True)
        assert answer.status_code == 200, answer.content.decode()
        return answer.content.decode()

    return add


def links(text: str) -> dict[str, str]:
    """The addresses of a page's links, by their words."""
    found = re.findall(r'<a [^>]*?href="([^"]*)"[^>]*>(.*?)</a>', text)
    return {unescape(re.sub(r"<.*?>", "", words)): unescape(address) for address, words in found}


@pytest.mark.slow
def test_unknown_key_is_shown_and_pinned_only_when_it_is_trusted(
    signed_in: Client, add: Callable[[Fields], str], openssh: OpenSshServer, tmp_path: Path
) -> None:
    text = add(fields(openssh, tmp_path))
    assert "First contact: is this your server?" in text
    assert openssh.fingerprint in text
    assert f"{openssh.host}:{openssh.port}" in text
    assert not HostKey.objects.exists()
    stored = Endpoint.objects.get()
    wrong = signed_in.post(f"/connections/{stored.pk}/trust", {"fingerprint": "SHA256:x"}, follow=True)
    assert "That is not the key" in wrong.content.decode()
    assert not HostKey.objects.exists()
    trusted = signed_in.post(
        f"/connections/{stored.pk}/trust", {"fingerprint": openssh.fingerprint}, follow=True
    )
    text = trusted.content.decode()
    assert "Works" in text
    assert "Ready as source and destination" in text
    assert "First contact" not in text
    assert HostKey.objects.get().fingerprint == openssh.fingerprint
    assert "Private key stored" in text
    assert openssh.private_key.splitlines()[2] not in text
    assert "Works" in signed_in.get("/connections").content.decode()


@pytest.mark.slow
def test_changed_key_stops_everything_until_the_old_one_is_forgotten(
    signed_in: Client, add: Callable[[Fields], str], tmp_path: Path
) -> None:
    with OpenSshServer() as server:
        add(fields(server, tmp_path))
        stored = Endpoint.objects.get()
        signed_in.post(f"/connections/{stored.pk}/trust", {"fingerprint": server.fingerprint})
        before = server.fingerprint
        server.new_host_key()
        text = signed_in.post(f"/connections/{stored.pk}/test", follow=True).content.decode()
        assert "The host key has changed" in text
        assert before in text
        assert server.fingerprint in text
        assert "Trust this key" not in text
        listing = signed_in.get(f"/connections/{stored.pk}/browse")
        assert listing.status_code == 502
        assert "forget the old key on the Edit page of a connection to it" in listing.content.decode()
        assert "Forget the old key" in signed_in.get(f"/connections/{stored.pk}/edit").content.decode()
        pin = {"pin": HostKey.objects.get().pk}
        text = signed_in.post(f"/connections/{stored.pk}/forget-key", pin, follow=True).content.decode()
        assert "Trust this key" in text
        assert server.fingerprint in text
        assert "The host key has changed" not in text


@pytest.mark.slow
def test_jump_host_is_asked_about_before_the_server_behind_it(
    signed_in: Client, add: Callable[[Fields], str], openssh: OpenSshServer, tmp_path: Path
) -> None:
    with OpenSshServer() as jump:
        where = f"{jump.username}@{jump.host}:{jump.port}"
        text = add(fields(openssh, tmp_path, jump=where, jump_ssh_key=jump.private_key))
        stored = Endpoint.objects.get()
        for server in (jump, openssh):
            assert "First contact: is this your server?" in text
            assert server.fingerprint in text
            assert (", the jump host, was never seen before" in text) == (server is jump)
            data = {"fingerprint": server.fingerprint}
            text = signed_in.post(f"/connections/{stored.pk}/trust", data, follow=True).content.decode()
        assert "Ready as source and destination" in text
        assert "Let in at the jump host" in text
        assert f"sftp://{where}" in text
        edit = signed_in.get(f"/connections/{stored.pk}/edit").content.decode()
        assert f'value="{where}"' in edit
        assert "Pinned host key of the jump host" in edit
        assert jump.private_key.splitlines()[2] not in edit
        # What the form does not show is kept.
        again = fields(openssh, tmp_path, jump=where, ssh_key="", name="other")
        assert (
            "Works" in signed_in.post(f"/connections/{stored.pk}/edit", again, follow=True).content.decode()
        )
        pin = HostKey.objects.get(port=jump.port)
        before = jump.fingerprint
        jump.new_host_key()
        text = signed_in.post(f"/connections/{stored.pk}/test", follow=True).content.decode()
        assert "The host key of the jump host has changed" in text
        assert before in text
        assert jump.fingerprint in text
        assert "Trust this key" not in text
        forgotten = {"pin": pin.pk}
        text = signed_in.post(f"/connections/{stored.pk}/forget-key", forgotten, follow=True).content.decode()
        assert "Trust this key" in text


def test_odd_jump_host_is_told_beside_its_field(signed_in: Client) -> None:
    data = {"name": "web", "protocol": "sftp", "host": "h", "username": "u", "root_path": "/srv"}
    for jump, said in (("a b", "Must be like user@host:port"), ("me@bastion:70000", "Must not be more than")):
        text = signed_in.post("/connections/new", data | {"jump": jump}).content.decode()
        assert f"Jump host: {said}" in text
    assert not Endpoint.objects.exists()


@pytest.mark.slow
def test_strict_keys_offer_no_button(
    add: Callable[[Fields], str], openssh: OpenSshServer, tmp_path: Path, settings: Any
) -> None:
    settings.HOST_KEYS = "strict"
    text = add(fields(openssh, tmp_path))
    assert openssh.fingerprint in text
    assert "Trust this key" not in text


def test_edit_keeps_the_secret_and_never_shows_it(signed_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"success": False, "verdict": "No.", "performance": {"latency_ms": 0}}
    monkeypatch.setattr(connections, "probe_endpoint", lambda *_, **__: failed)
    data = {"name": "web", "protocol": "sftp", "host": "example.org", "username": "web", "root_path": "/srv"}
    stored = connections.create(
        accounts.owner(), data | {"password": "canary", "host_key": "SHA256:" + "A" * 43}
    )
    text = signed_in.get(f"/connections/{stored.pk}/edit").content.decode()
    assert "A password is stored. Leave this empty to keep it." in text
    assert 'value="example.org"' in text
    assert "canary" not in text
    assert not re.search(r"<details open>\s*<summary>Use a private key", text)
    answer = signed_in.post(f"/connections/{stored.pk}/edit", data | {"name": "site", "password": ""})
    assert answer.status_code == 302
    stored.refresh_from_db()
    assert stored.name == "site"
    assert stored.sealed
    assert stored.options["host_key"]
    signed_in.post(f"/connections/{stored.pk}/edit", data | {"host": "example.net"})
    stored.refresh_from_db()
    assert (stored.sealed, stored.options) == ("", {})
    signed_in.post(f"/connections/{stored.pk}/edit", data | {"ssh_key": "canary"})
    text = signed_in.get(f"/connections/{stored.pk}/edit").content.decode()
    assert re.search(r"<details open>\s*<summary>Use a private key", text)
    assert "A key is stored. Leave this empty to keep it." in text
    assert "canary" not in text


def test_failed_test_leads_to_the_form(signed_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = {"success": False, "verdict": "No.", "stages": [], "host_key": None}
    monkeypatch.setattr(connections, "probe_endpoint", lambda *_, **__: failed)
    data = {"name": "web", "protocol": "sftp", "host": "example.org", "username": "web", "root_path": "/srv"}
    text = signed_in.post("/connections/new", data, follow=True).content.decode()
    assert f'first" href="/connections/{Endpoint.objects.get().pk}/edit"' in text


def test_errors_stand_beside_their_fields(signed_in: Client) -> None:
    answer = signed_in.post("/connections/new", {"protocol": "sftp", "host": "a b", "password": "canary"})
    text = answer.content.decode()
    assert answer.status_code == 400
    for name in ("name", "host", "username", "root_path"):
        assert f'id="id_{name}_error"' in text
    assert "please enter them again" in text
    assert "canary" not in text
    assert not Endpoint.objects.exists()


def test_delete_asks_first_and_spares_what_a_job_needs(signed_in: Client, tmp_path: Path) -> None:
    stored = connections.create(
        accounts.owner(), {"name": "here", "protocol": "local", "root_path": str(tmp_path)}
    )
    signed_in.post(
        "/new/scan",
        {"new-scan-server_config-protocol": "stored", **_chosen("new-scan-server_config", stored)},
    )
    job = Job.objects.get()
    assert job.params["root"] == str(tmp_path)
    page = f"/connections/{stored.pk}/delete"
    assert "1 job not finished yet needs it" in signed_in.get(page).content.decode()
    assert "cannot be deleted" in signed_in.post(page, follow=True).content.decode()
    signed_in.post(f"/jobs/{job.pk}/cancel")
    assert "Jobs that have ended keep their results" in signed_in.get(page).content.decode()
    assert Endpoint.objects.stored().exists()
    signed_in.post(page)
    assert not Endpoint.objects.stored().exists()


def _chosen(prefix: str, stored: Endpoint, root: str = "") -> Fields:
    return {f"{prefix}-connection": str(stored.pk), f"{prefix}-root_path": root}


def test_folder_is_chosen_by_links_alone_and_the_rest_of_the_form_stays(
    signed_in: Client, tmp_path: Path
) -> None:
    (tmp_path / "www" / "html").mkdir(parents=True)
    stored = connections.create(
        accounts.owner(), {"name": "here", "protocol": "local", "root_path": str(tmp_path)}
    )
    source, destination = "new-transfer-source_config", "new-transfer-dest_config"
    filled = {
        f"{source}-protocol": "stored",
        **_chosen(source, stored),
        f"{destination}-protocol": "local",
        f"{destination}-root_path": "/srv/copy",
        f"{destination}-password": "canary",
        "new-transfer-exclusions": "*.log",
        "browse": "source_config",
    }
    answer = signed_in.post("/new/transfer", filled)
    assert answer.status_code == 302
    assert "canary" not in answer.headers["Location"]
    folder = signed_in.get(answer.headers["Location"]).content.decode()
    below = signed_in.get(links(folder)["www/"]).content.decode()
    assert links(signed_in.get(links(below)["Up"]).content.decode())["www/"] == links(folder)["www/"]
    form = signed_in.get(links(below)["Use this folder"]).content.decode()
    assert f'value="{tmp_path}/www"' in form
    assert 'value="/srv/copy"' in form
    assert "*.log" in form
    assert re.search(rf'value="{stored.pk}" selected', form)
    assert not re.search(r'name="new-transfer-verify_after_transfer"[^>]* checked', form)
    assert not Job.objects.exists()


def test_form_that_is_too_long_to_take_along_says_so_beside_the_folder(
    signed_in: Client, tmp_path: Path
) -> None:
    stored = connections.create(
        accounts.owner(), {"name": "here", "protocol": "local", "root_path": str(tmp_path)}
    )
    source = "new-transfer-source_config"
    data = {f"{source}-protocol": "stored", **_chosen(source, stored), "browse": "source_config"}
    data["new-transfer-files"] = "\n".join(f"wp-content/{number}" for number in range(1000))
    answer = signed_in.post("/new/transfer", data)
    text = answer.content.decode()
    assert answer.status_code == 400
    assert "From – Folder: The form holds too much to take along" in text
    assert "wp-content/999" in text
    assert not Job.objects.exists()


def test_hostile_names_are_marked_and_folders_that_are_none_are_told(
    signed_in: Client, tmp_path: Path
) -> None:
    (tmp_path / HOSTILE.replace("/", "")[:100]).mkdir()
    (tmp_path / "caf\udce9").mkdir()
    stored = connections.create(
        accounts.owner(), {"name": "here", "protocol": "local", "root_path": str(tmp_path)}
    )
    page = f"/connections/{stored.pk}/browse"
    text = signed_in.get(page).content.decode()
    assert "<script>alert" not in text
    assert "caf\\xe9" in text
    for path in (f"{tmp_path}/nowhere", "relative", "/a/../b"):
        answer = signed_in.get(page, {"path": path})
        assert answer.status_code == 400
        assert "Try again" in answer.content.decode()


def test_foreign_connections_do_not_exist(client: Client, signed_in: Client, django_user_model: Any) -> None:
    stored = connections.create(accounts.owner(), {"name": "here", "protocol": "local", "root_path": "/srv"})
    client.force_login(django_user_model.objects.create(username="stranger"))
    for path in ("", "/edit", "/browse", "/delete"):
        assert client.get(f"/connections/{stored.pk}{path}").status_code == 404
    for path in ("/test", "/trust", "/forget-key", "/delete", "/edit"):
        assert client.post(f"/connections/{stored.pk}{path}").status_code == 404
    assert "Stored connection" not in client.get("/new/scan").content.decode()


def test_too_many_visits_are_told(signed_in: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visits, "MOST_EACH", 0)
    stored = connections.create(accounts.owner(), {"name": "here", "protocol": "local", "root_path": "/srv"})
    assert signed_in.get(f"/connections/{stored.pk}/browse").status_code == 429
    text = signed_in.post(f"/connections/{stored.pk}/test", follow=True).content.decode()
    assert "Too many connections" in text


@pytest.mark.slow
def test_from_an_empty_list_to_a_transfer_in_the_browser(page: Page, yard: Yard) -> None:
    root = yard.big_tree("site", files=6, size_bytes=1000)
    page.goto(f"{yard.product.url}/connections")
    page.get_by_role("link", name="Add a connection").click()
    page.get_by_label("Name").fill("my host")
    yard.enter_server(page, yard.folder)
    page.get_by_role("button", name="Save and test").click()
    expect(page.get_by_text(yard.server.fingerprint).first).to_be_visible()
    page.get_by_role("button", name="Trust this key and test again").click()
    expect(page.get_by_text("Works")).to_be_visible()
    page.goto(f"{yard.product.url}/new/transfer")
    source = page.get_by_role("group", name="From")
    source.get_by_label("Stored connection").check()
    expect(source.get_by_label("Host", exact=True)).to_be_hidden()
    source.get_by_role("button", name="Choose a folder there").click()
    page.get_by_role("link", name="site/").click()
    page.get_by_role("link", name="Use this folder").click()
    expect(source.get_by_label("Folder")).to_have_value(str(root))
    destination = page.get_by_role("group", name="To")
    copy = yard.copy()["root_path"]
    destination.get_by_label("This machine").check()
    destination.get_by_label("Folder").fill(copy)
    destination.get_by_label("Folder").press("Enter")
    page.wait_for_url("**/jobs/*")
    until(lambda: len(list(Path(copy).rglob("*.bin"))) == 6)
    # Its page looks at it once more at the end, which must not be gone by then.
    expect(page.locator("[data-part=badge]")).to_contain_text("Completed")
