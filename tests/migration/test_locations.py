"""What SOURCE and DESTINATION of the command line mean."""

from pathlib import Path
from typing import Any

import pytest

from migration_app import connections
from migration_app.locations import BadLocation, parse_location
from sessions_app.models import Role, User
from tests.migration.test_connections import WEB

Json = dict[str, Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "path"),
    [("site", "site"), ("./a:b", "a:b"), ("sub/a:b", "sub/a:b"), ("a/..", ""), ("link/x", "real/x")],
)
def test_plain_text_is_a_folder_of_this_machine(owner: User, folder: Path, text: str, path: str) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    assert parse_location(text, owner) == {"protocol": "local", "root_path": str(folder / path)}


def test_name_and_path_are_a_stored_connection_of_this_person(owner: User, folder: Path) -> None:
    stored = connections.create(owner, WEB)
    (folder / "web:").mkdir()
    wanted = {"connection": str(stored.pk), "root_path": "/srv/a:b %20"}
    assert parse_location("web:/srv/a:b %20", owner) == wanted
    stranger = User.objects.create(username="stranger", role=Role.OPERATOR)
    with pytest.raises(BadLocation, match="stored: none"):
        parse_location("web:/srv", stranger)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "empty"),
        ("old:/srv", "no stored connection “old”; stored: web"),
        ("C:/Users/me", r"no stored connection “C”.*\./C:/Users/me"),
        ("C:\\Users\\me", "no stored connection “C”"),
        ("root@example.org:/srv", "sftp://user@host/path"),
        ("sftp:/example.org", "no stored connection “sftp”"),
        (":/srv", "no stored connection “”"),
        ("web:site", "whole path, as in web:/var/www"),
        ("web:", "whole path"),
        ("caf\udce9", "UTF-8"),
        ("~nobody-of-this-name/x", "home directory"),
        ("sftp://web@example.org", "names no folder: .* sftp://web@example.org/srv/site"),
        ("ftp://example.org/x", "does not speak ftp yet"),
        ("sftp://u:hunter2@example.org/x", "HAULIER_SOURCE_PASSWORD"),
    ],
)
def test_other_text_is_refused_with_a_sentence_that_helps(
    owner: User, folder: Path, text: str, sentence: str
) -> None:
    connections.create(owner, WEB)
    # Whatever there is: what a text means does not depend on it.
    (folder / "C:/Users/me").mkdir(parents=True)
    with pytest.raises(BadLocation, match=sentence) as refusal:
        parse_location(text, owner)
    assert "hunter2" not in str(refusal.value)


def test_address_is_taken_apart(owner: User) -> None:
    assert parse_location("scp://web%40shop@[::1]:2222/srv/a%20b#c?d", owner) == {
        "protocol": "sftp",
        "host": "::1",
        "port": 2222,
        "username": "web@shop",
        "root_path": "/srv/a b#c?d",
    }
