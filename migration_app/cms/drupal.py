"""Drupal: `core/lib/Drupal.php` (7: `includes/bootstrap.inc`) and `sites/default/settings.php`."""

from migration_app.cms import php
from migration_app.cms.base import Database, System, database_of

_KEY = r"""\s*\[\s*['"]default['"]\s*\]"""
_NAMES = {
    "name": "database",
    "username": "username",
    "host": "host",
    "port": "port",
    "prefix": "prefix",
}


def _version(content: bytes) -> str:
    return php.class_constant(php.source(content), "VERSION")


def _old_version(content: bytes) -> str:
    return php.constant(php.source(content), "VERSION")


def _database(content: bytes) -> Database | None:
    text = php.source(content)
    found = [php.inside(values, "default", "default") for values in php.arrays(text, r"\$databases\s*=")]
    found += [php.inside(values, "default") for values in php.arrays(text, rf"\$databases{_KEY}\s*=")]
    found += php.arrays(text, rf"\$databases{_KEY}{_KEY}\s*=")
    # The last assignment of a file counts.
    databases = (database_of(values, _NAMES) for values in reversed(found))
    return next((database for database in databases if database is not None), None)


SYSTEM = System(
    type="drupal",
    name="Drupal",
    signs=((b"core/lib/Drupal.php",), (b"includes/bootstrap.inc", b"misc/drupal.js")),
    hints=(b"sites/default/settings.php", b"sites/default", b"core/modules", b"modules/system"),
    versions={b"core/lib/Drupal.php": _version, b"includes/bootstrap.inc": _old_version},
    configs={b"sites/default/settings.php": _database},
    disposables={
        "sites/default/files/css": "Files that Drupal makes again when they are asked for",
        "sites/default/files/js": "Files that Drupal makes again when they are asked for",
        "sites/default/files/php": "Files that Drupal makes again when they are asked for",
        "sites/default/files/styles": "Files that Drupal makes again when they are asked for",
    },
)
