"""Servers whose key nobody has seen: the forms ask before anything is sent there, and lose nothing over it."""

import re
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from django.test import Client
from playwright.sync_api import BrowserContext, Page, expect

from migration_app import connections, endpoints, secrets
from migration_app.models import Endpoint, HostKey
from sessions_app import accounts
from sessions_app.ioloop import loop_thread
from sessions_app.models import Job
from tests.migration.test_probe import conn
from tests.pages.conftest import Yard
from tests.pages.sound import check_sound
from tests.servers.openssh import OpenSshServer

Fields = dict[str, Any]
FROM, TO, SCAN = "new-transfer-source_config", "new-transfer-dest_config", "new-scan-server_config"
CANARY = "canary in a coal mine"


class Greeter:
    """An SSH server that shows its key and lets nobody in."""

    def __init__(self) -> None:
        self.tried: list[str] = []
        """Users who came past the host key."""
        self.port = 0
        self.start()

    def start(self) -> None:
        """Listen, with a new key, on the same port as before."""
        key = asyncssh.generate_private_key("ssh-ed25519")
        self.fingerprint = key.get_fingerprint("sha256")
        tried = self.tried

        class Server(asyncssh.SSHServer):
            def begin_auth(self, username: str) -> bool:
                tried.append(username)
                return True

        async def listen() -> asyncssh.SSHAcceptor:
            return await asyncssh.create_server(Server, "127.0.0.1", self.port, server_host_keys=[key])

        self._acceptor = loop_thread().submit(listen()).result()
        self.port = self._acceptor.get_port()

    def stop(self) -> None:
        """Refuse connections."""

        async def close() -> None:
            self._acceptor.close()
            await self._acceptor.wait_closed()

        loop_thread().submit(close()).result()


@pytest.fixture
def greeter() -> Iterator[Greeter]:
    server = Greeter()
    yield server
    server.stop()


@pytest.fixture
def other() -> Iterator[Greeter]:
    server = Greeter()
    yield server
    server.stop()


@pytest.fixture
def signed_in(client: Client, transactional_db: None) -> Client:
    client.force_login(accounts.owner())
    return client


def side(prefix: str, server: Greeter, **fields: str) -> Fields:
    every = {"protocol": "sftp", "host": "127.0.0.1", "port": str(server.port), "username": "www"}
    every |= {"root_path": "/srv", "password": CANARY}
    return {f"{prefix}-{name}": value for name, value in (every | fields).items()}


def hidden(text: str) -> Fields:
    """The hidden fields of the form in a page's main part."""
    main = text[text.index("<main") : text.index("</main>")]
    found: Fields = {}
    for name, value in re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)"', main):
        found.setdefault(unescape(name), []).append(unescape(value))
    del found["csrfmiddlewaretoken"]
    return found


def test_unknown_keys_of_both_sides_are_asked_about_and_then_demanded(
    signed_in: Client, greeter: Greeter, other: Greeter
) -> None:
    data = side(FROM, greeter) | side(TO, other, password=CANARY[::-1])
    data |= {"new-transfer-key": "one press", "new-transfer-exclusions": "*.log\ncache\n<b>"}
    answer = signed_in.post("/new/transfer", data)
    text = answer.content.decode()
    assert answer.status_code == 200
    assert "Are these your servers?" in text
    for server in (greeter, other):
        assert f"127.0.0.1:{server.port}" in text
        assert server.fingerprint in text
        assert server.tried == []
    assert "ssh-ed25519" in text
    assert not Job.objects.exists()
    assert not HostKey.objects.exists()
    assert CANARY not in text
    assert CANARY[::-1] not in text
    fields = hidden(text)
    assert fields["new-transfer-exclusions"] == ["*.log\ncache\n<b>"]
    started = signed_in.post("/new/transfer", fields | {"answer": "yes"})
    assert started.status_code == 302
    job = Job.objects.get()
    source, destination = job.endpoints.order_by("pk")
    assert [source.options["host_key"], destination.options["host_key"]] == [
        *(greeter.fingerprint, other.fingerprint)
    ]
    assert secrets.unseal(source.sealed) == {"password": CANARY}
    assert secrets.unseal(destination.sealed) == {"password": CANARY[::-1]}
    assert {row.fingerprint for row in HostKey.objects.all()} == {greeter.fingerprint, other.fingerprint}
    assert not signed_in.session["drafts"]
    again = signed_in.post("/new/transfer", fields | {"answer": "yes"})
    assert again.headers["Location"] == started.headers["Location"]
    assert Job.objects.count() == 1


def test_known_key_is_not_asked_about(signed_in: Client, greeter: Greeter) -> None:
    HostKey.objects.create(
        owner=accounts.owner(),
        host="127.0.0.1",
        port=greeter.port,
        algorithm="ssh-ed25519",
        fingerprint=greeter.fingerprint,
    )
    assert signed_in.post("/new/scan", side(SCAN, greeter)).status_code == 302
    assert greeter.tried == []


def test_no_leads_back_to_the_form_that_still_has_all(signed_in: Client, greeter: Greeter) -> None:
    asked = hidden(signed_in.post("/new/scan", side(SCAN, greeter)).content.decode())
    answer = signed_in.post("/new/scan", asked | {"back": "yes"})
    text = answer.content.decode()
    assert answer.status_code == 200
    assert 'value="/srv"' in text
    assert f'value="{greeter.port}"' in text
    assert "Entered before and kept. Leave this empty to use it." in text
    assert CANARY not in text
    assert not HostKey.objects.exists()
    again = side(SCAN, greeter, password="", root_path="/home") | {"draft": hidden(text)["draft"]}
    asked = hidden(signed_in.post("/new/scan", again).content.decode())
    assert signed_in.post("/new/scan", asked | {"answer": "yes"}).status_code == 302
    endpoint = Job.objects.get().endpoints.get()
    assert secrets.unseal(endpoint.sealed) == {"password": CANARY}


def test_one_side_is_tested_before_anything_else_is_entered(
    signed_in: Client, greeter: Greeter, tmp_path: Path
) -> None:
    (tmp_path / "site").mkdir()
    with OpenSshServer() as host:
        key = {"ssh_key": host.private_key, "username": host.username, "port": str(host.port), "password": ""}
        data = side(FROM, greeter, **key, root_path=str(tmp_path / "site"))
        nothing = {f"{TO}-protocol": "sftp", f"{TO}-host": "", f"{TO}-root_path": ""}
        shown = signed_in.post("/new/transfer", data | nothing | {"test": "source_config"}).content.decode()
        assert "Yes, trust this key and test the connection" in shown
        assert not HostKey.objects.exists()
        tested = signed_in.post("/new/transfer", hidden(shown) | {"answer": "yes"})
        text = tested.content.decode()
        assert tested.status_code == 200
        assert all(word in text for word in ("Works", "Logged in", "File written", "MB/s"))
        assert "Nothing was started" not in text
        assert "This field is required" not in text
        assert host.private_key.splitlines()[1] not in text
        assert HostKey.objects.get().fingerprint == host.fingerprint
        # The key that was tested is there for the job.
        local = {f"{TO}-protocol": "local", f"{TO}-root_path": str(tmp_path / "copy")}
        data = side(FROM, greeter, **(key | {"ssh_key": ""}), root_path=str(tmp_path / "site"))
        started = signed_in.post("/new/transfer", data | local | {"draft": hidden(text)["draft"]})
        assert started.status_code == 302
    source = Job.objects.get().endpoints.order_by("pk")[0]
    assert secrets.unseal(source.sealed)["ssh_key"].split() == host.private_key.split()


def test_failed_test_names_its_stage_and_a_wrong_field_is_named(signed_in: Client, greeter: Greeter) -> None:
    shown = signed_in.post("/new/scan", side(SCAN, greeter) | {"test": "server_config"}).content.decode()
    assert "Is this your server?" in shown
    text = signed_in.post("/new/scan", hidden(shown) | {"answer": "yes"}).content.decode()
    assert ("Failed" in text, CANARY in text, Job.objects.exists()) == (True, False, False)
    assert '<li class="stopped">Logged in' in text
    assert greeter.tried
    wrong = signed_in.post("/new/scan", side(SCAN, greeter, port="0") | {"test": "server_config"})
    assert (wrong.status_code, "server_config-port" in wrong.content.decode()) == (400, True)
    local = {f"{SCAN}-protocol": "local", f"{SCAN}-root_path": "/nowhere/at/all", "test": "server_config"}
    assert "Failed" in signed_in.post("/new/scan", local).content.decode()


def test_secret_is_not_handed_to_another_server(signed_in: Client, greeter: Greeter, other: Greeter) -> None:
    asked = hidden(signed_in.post("/new/scan", side(SCAN, greeter)).content.decode())
    turned = asked | {f"{SCAN}-port": str(other.port), "answer": "yes"}
    answer = signed_in.post("/new/scan", turned)
    assert "it is not kept for another server, user or jump host" in answer.content.decode()
    assert not Job.objects.exists()
    assert not HostKey.objects.exists()


def test_changed_key_stops_with_the_old_and_the_new_one(signed_in: Client, greeter: Greeter) -> None:
    asked = hidden(signed_in.post("/new/scan", side(SCAN, greeter)).content.decode())
    before = greeter.fingerprint
    greeter.stop()
    greeter.start()
    answer = signed_in.post("/new/scan", asked | {"answer": "yes"})
    text = answer.content.decode()
    assert answer.status_code == 400
    assert before in text
    assert greeter.fingerprint in text
    assert "has changed" in text
    assert 'name="trust"' not in text
    assert greeter.tried == []
    assert not Job.objects.exists()


def test_server_that_is_away_gives_the_form_back_with_what_was_entered(
    signed_in: Client, greeter: Greeter
) -> None:
    greeter.stop()
    answer = signed_in.post("/new/scan", side(SCAN, greeter))
    text = answer.content.decode()
    greeter.start()
    assert answer.status_code == 400
    assert f"127.0.0.1:{greeter.port} refuses connections" in text
    assert 'value="/srv"' in text
    assert CANARY not in text
    again = side(SCAN, greeter, password="") | {"draft": hidden(text)["draft"]}
    asked = hidden(signed_in.post("/new/scan", again).content.decode())
    signed_in.post("/new/scan", asked | {"answer": "yes"})
    assert secrets.unseal(Job.objects.get().endpoints.get().sealed) == {"password": CANARY}


def test_strict_keys_are_refused_without_a_question(
    signed_in: Client, greeter: Greeter, settings: Any
) -> None:
    settings.HOST_KEYS = "strict"
    answer = signed_in.post("/new/scan", side(SCAN, greeter))
    text = answer.content.decode()
    assert answer.status_code == 400
    assert f"is unknown: ssh-ed25519 {greeter.fingerprint}" in text
    assert 'name="trust"' not in text


def test_stored_connection_is_asked_about_and_pinned(signed_in: Client, greeter: Greeter) -> None:
    data = {"protocol": "sftp", "host": "127.0.0.1", "port": greeter.port, "username": "www"}
    stored = connections.create(
        accounts.owner(), data | {"name": "site", "root_path": "/srv", "password": CANARY}
    )
    chosen = {f"{SCAN}-protocol": "stored", f"{SCAN}-connection": str(stored.pk)}
    asked = hidden(signed_in.post("/new/scan", chosen).content.decode())
    assert signed_in.post("/new/scan", asked | {"answer": "yes"}).status_code == 302
    assert HostKey.objects.get().fingerprint == greeter.fingerprint
    assert Job.objects.get().endpoints.get().connection_id == stored.pk


def test_secrets_survive_a_visit_to_the_folders_of_the_other_side(
    signed_in: Client, greeter: Greeter, tmp_path: Path
) -> None:
    here = connections.create(
        accounts.owner(), {"name": "here", "protocol": "local", "root_path": str(tmp_path)}
    )
    chosen = {f"{TO}-protocol": "stored", f"{TO}-connection": str(here.pk), "browse": "dest_config"}
    folder = signed_in.post("/new/transfer", side(FROM, greeter) | chosen, follow=True).content.decode()
    use = re.search(r'<a class="button first" href="([^"]*)">Use this folder', folder)
    assert use is not None
    form = signed_in.get(unescape(use[1])).content.decode()
    assert "Entered before and kept." in form
    assert CANARY not in folder + form
    again = side(FROM, greeter, password="") | {f"{TO}-protocol": "local", f"{TO}-root_path": str(tmp_path)}
    asked = signed_in.post("/new/transfer", again | {"draft": hidden(form)["draft"]}).content.decode()
    signed_in.post("/new/transfer", hidden(asked) | {"answer": "yes"})
    source = Endpoint.objects.get(job=Job.objects.get(), protocol="sftp")
    assert secrets.unseal(source.sealed) == {"password": CANARY}


def test_forgotten_key_is_shown_before_a_job_is_done_again_or_verified(
    signed_in: Client, greeter: Greeter, tmp_path: Path
) -> None:
    data = side(FROM, greeter) | {f"{TO}-protocol": "local", f"{TO}-root_path": str(tmp_path)}
    asked = hidden(signed_in.post("/new/transfer", data).content.decode())
    signed_in.post("/new/transfer", asked | {"answer": "yes"})
    job = Job.objects.get()
    Endpoint.objects.filter(job=job).update(options={})
    HostKey.objects.all().delete()
    Job.objects.filter(pk=job.pk).update(status="failed")
    said = f"Nobody has vouched for the host key of 127.0.0.1:{greeter.port}"
    for action in ("again", "verify"):
        text = signed_in.post(f"/jobs/{job.pk}/{action}", follow=True).content.decode()
        assert said in text
    assert Job.objects.count() == 1


@pytest.mark.slow
def test_question_is_sound_and_is_answered_without_a_script(
    yard: Yard, new_context: Callable[..., BrowserContext]
) -> None:
    root = yard.big_tree("site", files=6, size_bytes=1000)

    def ask(page: Page) -> None:
        page.goto(f"{yard.product.url}/new/scan")
        yard.enter_server(page, root)
        page.get_by_role("button", name="Start the scan").click()
        expect(page.get_by_text(yard.server.fingerprint)).to_be_visible()

    scripted = new_context().new_page()
    ask(scripted)
    check_sound(scripted)
    page = new_context(java_script_enabled=False).new_page()
    ask(page)
    page.get_by_role("button", name="Yes, trust this key and start the scan").click()
    expect(page).to_have_url(re.compile("/jobs/"))
    assert yard.product.wait_for(page.url.rpartition("/")[2])["status"] == "completed"


@pytest.mark.slow
@pytest.mark.parametrize("way", ["stored", "typed", "through a stored one"])
def test_jump_host_is_asked_about_before_the_server_behind_it(
    signed_in: Client, openssh: OpenSshServer, tmp_path: Path, way: str
) -> None:
    with OpenSshServer() as jump:
        through = {"host": jump.host, "port": jump.port, "username": jump.username}
        through["ssh_key"] = jump.private_key
        there = conn(openssh, tmp_path)
        data = {f"{SCAN}-{name}": str(value) for name, value in there.items()} | {"new-scan-key": "one press"}
        if way == "stored":
            stored = connections.create(accounts.owner(), there | {"name": "behind", "jump": through})
            data |= {f"{SCAN}-protocol": "stored", f"{SCAN}-connection": str(stored.pk)}
        elif way == "typed":
            data[f"{SCAN}-jump"] = f"{jump.username}@{jump.host}:{jump.port}"
            data[f"{SCAN}-jump_ssh_key"] = jump.private_key.replace("\n", "\r\n")
        else:
            bastion = connections.create(
                accounts.owner(), through | {"name": "bastion", "protocol": "sftp", "root_path": "/srv"}
            )
            data[f"{SCAN}-jump_connection"] = str(bastion.pk)
        answer = signed_in.post("/new/scan", data)
        for server in (jump, openssh):
            text = answer.content.decode()
            assert "Is this your server?" in text
            assert server.fingerprint in text
            assert not any(key.splitlines()[2] in text for key in (jump.private_key, openssh.private_key))
            assert not Job.objects.exists()
            answer = signed_in.post("/new/scan", hidden(text) | {"answer": "yes"})
        assert answer.status_code == 302
        job = Job.objects.get()
        assert job.public["source_config"]["jump"]["port"] == jump.port
        address = endpoints.side_at(job.endpoints.get(), "/").address
        assert address.jump is not None
        assert [hop.ssh_key for hop in (address, address.jump)] == [openssh.private_key, jump.private_key]
    # The same job's form has all but the secrets.
    text = signed_in.get(f"/new/scan?from={job.pk}").content.decode()
    shown = {
        "stored": f'value="{job.endpoints.get().connection_id}" selected',
        "typed": f'value="{jump.username}@{jump.host}:{jump.port}"',
        "through a stored one": " selected>bastion",
    }
    assert shown[way] in text


def test_secrets_are_not_handed_to_another_jump_host(
    signed_in: Client, greeter: Greeter, other: Greeter
) -> None:
    through = {"jump": f"me@127.0.0.1:{greeter.port}", "jump_password": CANARY[::-1]}
    asked = hidden(signed_in.post("/new/scan", side(SCAN, greeter, **through)).content.decode())
    assert CANARY[::-1] not in str(asked)
    turned = asked | {f"{SCAN}-jump": f"me@127.0.0.1:{other.port}", "answer": "yes"}
    answer = signed_in.post("/new/scan", turned)
    assert "it is not kept for another server, user or jump host" in answer.content.decode()
    assert not Job.objects.exists()
    assert other.tried == []


def test_odd_jump_host_is_told_beside_its_field(signed_in: Client, greeter: Greeter) -> None:
    text = signed_in.post("/new/scan", side(SCAN, greeter, jump="a b")).content.decode()
    assert "Must be like user@host:port" in text[text.index(f'id="id_{SCAN}-jump_error"') :]
    assert CANARY not in text


def test_one_jump_host_is_enough(signed_in: Client, greeter: Greeter) -> None:
    bastion = {"protocol": "sftp", "host": "bastion", "username": "me", "root_path": "/", "name": "bastion"}
    stored = connections.create(accounts.owner(), bastion)
    both = side(SCAN, greeter, jump="me@bastion", jump_connection=str(stored.pk))
    assert "there is one jump host at most" in signed_in.post("/new/scan", both).content.decode()
    assert not Job.objects.exists()


@pytest.mark.slow
def test_tested_form_is_sound_and_starts_what_it_tested(yard: Yard, page: Page) -> None:
    root = yard.big_tree("site", files=2, size_bytes=1000)
    page.goto(f"{yard.product.url}/new/scan")
    yard.enter_server(page, root)
    page.get_by_role("button", name="Test the connection").click()
    if page.get_by_role("button", name="Yes, trust this key").count():
        page.get_by_role("button", name="Yes, trust this key and test the connection").click()
    result = page.locator("#server_config-test")
    expect(result).to_be_focused()
    expect(result).to_contain_text("Works")
    expect(result).to_contain_text("Folder listed")
    check_sound(page)
    page.get_by_role("button", name="Start the scan").last.click()
    page.wait_for_url("**/jobs/**")
