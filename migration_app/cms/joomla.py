"""Joomla: `libraries/src/Version.php` (before 3.8 another one) and `configuration.php`."""

import re

from migration_app.cms import php
from migration_app.cms.base import LONGEST_VALUE, Database, System, database_of


def _version(content: bytes) -> str:
    text = php.source(content)
    numbers = [php.class_constant(text, f"{part}_VERSION") for part in ("MAJOR", "MINOR", "PATCH")]
    return ".".join(numbers) if all(numbers) else ""


def _old_version(content: bytes) -> str:
    text = php.source(content)
    for read in (php.class_constant, php.variable):
        if release := read(text, "RELEASE"):
            return f"{release}.{read(text, 'DEV_LEVEL')}".rstrip(".")
    return ""


def _manifest_version(content: bytes) -> str:
    match = re.search(rb"<version>\s*([\w.+-]+)\s*</version>", content)
    return match[1].decode()[:LONGEST_VALUE] if match else ""


def _database(content: bytes) -> Database | None:
    text = php.source(content)
    names = {"name": "db", "username": "user", "host": "host", "prefix": "dbprefix"}
    return database_of({name: php.variable(text, name) for name in names.values()}, names)


SYSTEM = System(
    type="joomla",
    name="Joomla",
    signs=(
        (b"administrator/manifests/files/joomla.xml",),
        (b"libraries/src/Version.php", b"administrator/index.php"),
        (b"libraries/cms/version/version.php", b"administrator/index.php"),
    ),
    hints=(b"configuration.php", b"administrator/components", b"plugins/system"),
    versions={
        b"libraries/src/Version.php": _version,
        b"libraries/cms/version/version.php": _old_version,
        b"administrator/manifests/files/joomla.xml": _manifest_version,
    },
    configs={b"configuration.php": _database},
    disposables={
        "cache/?*": "Cache of Joomla, which fills again by itself",
        "administrator/cache/?*": "Cache of Joomla, which fills again by itself",
        "tmp/?*": "Temporary files of Joomla",
        "logs/?*": "Logs of Joomla",
        "administrator/logs/?*": "Logs of Joomla",
        "administrator/components/com_akeeba/backup/?*": "Backups that Akeeba made",
    },
)
