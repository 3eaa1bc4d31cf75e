"""Laravel: the framework's `Application.php` and `.env`."""

import re

from migration_app.cms import php
from migration_app.cms.base import Database, System, database_of

_APPLICATION = b"vendor/laravel/framework/src/Illuminate/Foundation/Application.php"
_LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?(DB_[A-Z]+)[ \t]*=[ \t]*([^\n]*)", re.MULTILINE)


def _version(content: bytes) -> str:
    return php.class_constant(php.source(content), "VERSION")


def _database(content: bytes) -> Database | None:
    text = content[: php.MOST_READ].decode("utf-8", "replace")
    names = {
        "name": "DB_DATABASE",
        "username": "DB_USERNAME",
        "host": "DB_HOST",
        "port": "DB_PORT",
        "prefix": "DB_PREFIX",
    }
    # The first of each counts, as the file does not overwrite what is set.
    values = {name: _value(raw) for name, raw in reversed(_LINE.findall(text)) if name in names.values()}
    return database_of(values, names)


def _value(raw: str) -> str:
    """What stands behind the equals sign; empty where another variable is to be put in."""
    raw = raw.strip()
    if raw[:1] == "'":
        return raw[1:].partition("'")[0]
    value = raw[1:].partition('"')[0] if raw[:1] == '"' else re.split(r"\s+#|^#", raw)[0].strip()
    return "" if "${" in value else value


SYSTEM = System(
    type="laravel",
    name="Laravel",
    signs=((b"artisan", b"bootstrap/app.php"),),
    hints=(b".env", b"public/index.php", b"routes/web.php", b"storage/framework"),
    versions={_APPLICATION: _version},
    configs={b".env": _database},
    disposables={
        "storage/framework/cache/?*": "Cache of Laravel, which fills again by itself",
        "storage/framework/views/?*": "Cache of Laravel, which fills again by itself",
        "bootstrap/cache/?*": "Cache of Laravel, which fills again by itself",
        "storage/framework/sessions/?*": "Sessions of visitors of Laravel",
        "storage/logs/?*": "Logs of Laravel",
    },
)
