"""PrestaShop: `app/config/parameters.php`, before 1.7 `config/settings.inc.php`."""

from migration_app.cms import php
from migration_app.cms.base import Database, System, database_of


def _version(content: bytes) -> str:
    return php.class_constant(php.source(content), "VERSION")


def _old_version(content: bytes) -> str:
    return php.constant(php.source(content), "_PS_VERSION_")


def _database(content: bytes) -> Database | None:
    fields = ("name", "host", "port", "prefix")
    names = {field: f"database_{field}" for field in fields} | {"username": "database_user"}
    for values in php.arrays(php.source(content), r"\breturn\b"):
        return database_of(php.inside(values, "parameters"), names)
    return None


def _old_database(content: bytes) -> Database | None:
    text = php.source(content)
    names = {"name": "_DB_NAME_", "username": "_DB_USER_", "host": "_DB_SERVER_", "prefix": "_DB_PREFIX_"}
    return database_of({name: php.constant(text, name) for name in names.values()}, names)


SYSTEM = System(
    type="prestashop",
    name="PrestaShop",
    signs=(
        (b"classes/PrestaShopAutoload.php",),
        (b"app/config/parameters.php", b"config/defines.inc.php"),
        (b"config/settings.inc.php", b"config/defines.inc.php"),
    ),
    hints=(
        b"app/config/parameters.php",
        b"config/defines.inc.php",
        b"themes/classic",
        b"classes/Product.php",
    ),
    versions={
        b"src/Core/Version.php": _version,
        b"app/AppKernel.php": _version,
        b"config/settings.inc.php": _old_version,
    },
    configs={b"app/config/parameters.php": _database, b"config/settings.inc.php": _old_database},
    disposables={
        "var/cache": "Cache of PrestaShop, which fills again by itself",
        "cache/smarty/cache/?*": "Cache of PrestaShop, which fills again by itself",
        "cache/smarty/compile/?*": "Cache of PrestaShop, which fills again by itself",
        "cache/cachefs/?*": "Cache of PrestaShop, which fills again by itself",
        "img/tmp/?*": "Temporary files of PrestaShop",
        "var/logs": "Logs of PrestaShop",
        "log/?*": "Logs of PrestaShop",
    },
)
