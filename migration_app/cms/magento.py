"""Magento: 2 has `app/etc/env.php` and `composer.json`, 1 has `app/etc/local.xml` and `app/Mage.php`."""

import json
import re

from migration_app.cms import php
from migration_app.cms.base import LONGEST_VALUE, Database, System, database_of

_NAMES = {"name": "dbname", "username": "username", "host": "host", "port": "port", "prefix": "table_prefix"}
_PARTS = ("major", "minor", "revision", "patch")


def _version(content: bytes) -> str:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict):
        return ""
    needs = found.get("require")
    needs = needs if isinstance(needs, dict) else {}
    editions = (needs.get(f"magento/product-{edition}-edition") for edition in ("enterprise", "community"))
    version = next((text for text in (*editions, found.get("version")) if isinstance(text, str)), "")
    # A range such as ^2.4 is no version.
    return version[:LONGEST_VALUE] if re.fullmatch(r"\d[\w.+-]*", version) else ""


def _old_version(content: bytes) -> str:
    for values in php.arrays(php.source(content), r"\breturn\b"):
        if "major" in values:
            return ".".join(str(values[part]) for part in _PARTS if values.get(part))
    return ""


def _database(content: bytes) -> Database | None:
    for values in php.arrays(php.source(content), r"\breturn\b"):
        settings = php.inside(values, "db")
        prefix = {"table_prefix": settings.get("table_prefix")}
        return database_of(php.inside(settings, "connection", "default") | prefix, _NAMES)
    return None


def _old_database(content: bytes) -> Database | None:
    text = content[: php.MOST_READ].decode("utf-8", "replace")
    found = re.findall(r"<(host|username|dbname|table_prefix)>\s*(?:<!\[CDATA\[)?([^<\]]*)", text)
    # The first of each: those of the connection that comes first.
    return database_of({name: value.strip() for name, value in reversed(found)}, _NAMES)


SYSTEM = System(
    type="magento",
    name="Magento",
    signs=(
        (b"bin/magento", b"app/etc/di.xml"),
        (b"app/etc/env.php", b"app/etc/config.php"),
        (b"app/Mage.php",),
    ),
    hints=(b"app/etc/env.php", b"app/etc/local.xml", b"pub/index.php", b"pub/static", b"skin/frontend"),
    versions={b"composer.json": _version, b"app/Mage.php": _old_version},
    configs={b"app/etc/env.php": _database, b"app/etc/local.xml": _old_database},
    disposables={
        "var/cache": "Cache of Magento, which fills again by itself",
        "var/page_cache": "Cache of Magento, which fills again by itself",
        "var/view_preprocessed": "Cache of Magento, which fills again by itself",
        "var/full_page_cache": "Cache of Magento, which fills again by itself",
        "var/log": "Logs of Magento",
        "var/report": "Logs of Magento",
        "var/session": "Sessions of visitors of Magento",
        "var/backups": "Backups that Magento made",
    },
)
