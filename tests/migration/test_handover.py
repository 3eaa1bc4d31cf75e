"""Which jobs of a terminal the server's workers can take over when it dies."""

from typing import Any

from migration_app import connections
from migration_app.runners.transfer import TransferRunner
from migration_app.submission import submit_transfer
from sessions_app.models import User
from sessions_app.submitters import RequestMeta
from tests.migration.test_connections import LOCAL, WEB

Json = dict[str, Any]

ADDRESS = {name: WEB[name] for name in ("protocol", "host", "port", "username", "root_path")}


def tie(owner: User, source: Json) -> str:
    body = {"source_config": source, "dest_config": LOCAL}
    job, _ = submit_transfer(owner, body, RequestMeta(None, "", "", executor="somebody"))
    return TransferRunner.tie(job.pk, job.params).replace(str(job.pk), "ID")


def test_what_signs_in_with_nothing_stored_needs_its_terminal(owner: User) -> None:
    sentence = tie(owner, ADDRESS)
    assert sentence.startswith("What it signed in with is not stored.")
    assert sentence.endswith("manage.py move --resume ID")
    keyless = connections.create(owner, WEB | {"password": "", "name": "keyless"})
    assert tie(owner, {"connection": str(keyless.pk)}) == sentence


def test_stored_secrets_serve_every_worker(owner: User) -> None:
    assert tie(owner, {"protocol": "local", "root_path": "/srv/site"}) == ""
    assert tie(owner, ADDRESS | {"ssh_key": "a key"}) == ""
    stored = connections.create(owner, WEB)
    assert tie(owner, {"connection": str(stored.pk)}) == ""
    assert tie(owner, ADDRESS) == ""
