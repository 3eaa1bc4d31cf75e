"""WordPress: `wp-includes/version.php` and `wp-config.php`."""

from migration_app.cms import php
from migration_app.cms.base import Database, System, database_of


def _version(content: bytes) -> str:
    return php.variable(php.source(content), "wp_version")


def _database(content: bytes) -> Database | None:
    text = php.source(content)
    values = {name: php.constant(text, name) for name in ("DB_NAME", "DB_USER", "DB_HOST")}
    values["prefix"] = php.variable(text, "table_prefix")
    names = {"name": "DB_NAME", "username": "DB_USER", "host": "DB_HOST", "prefix": "prefix"}
    return database_of(values, names)


SYSTEM = System(
    type="wordpress",
    name="WordPress",
    signs=((b"wp-includes/version.php",),),
    hints=(b"wp-config.php", b"wp-login.php", b"wp-admin/index.php", b"wp-content"),
    versions={b"wp-includes/version.php": _version},
    configs={b"wp-config.php": _database},
    disposables={
        "wp-content/cache": "Cache of WordPress, which fills again by itself",
        "wp-content/et-cache": "Cache of WordPress, which fills again by itself",
        "wp-content/litespeed": "Cache of WordPress, which fills again by itself",
        "wp-content/wflogs": "Logs of WordPress",
        "wp-content/upgrade": "Temporary files of WordPress",
        "wp-content/updraft": "Backups that a plugin of WordPress made",
        "wp-content/ai1wm-backups": "Backups that a plugin of WordPress made",
        "wp-content/backups-dup-lite": "Backups that a plugin of WordPress made",
        "wp-content/backupwordpress": "Backups that a plugin of WordPress made",
    },
)
