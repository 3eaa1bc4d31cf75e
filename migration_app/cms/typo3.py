"""TYPO3: `Typo3Version.php`, and `config/system/settings.php` or, before 12, `typo3conf/LocalConfiguration.php`."""

from migration_app.cms import php
from migration_app.cms.base import Database, System, database_of

_NAMES = {"name": "dbname", "username": "user", "host": "host", "port": "port"}
_OLD_NAMES = {"name": "database", "username": "username", "host": "host", "port": "port"}
_VERSION_FILES = tuple(
    folder + b"/Classes/Information/Typo3Version.php"
    for folder in (b"vendor/typo3/cms-core", b"typo3/sysext/core", b"public/typo3/sysext/core")
)
_OLD_VERSION_FILE = b"typo3/sysext/core/Classes/Core/SystemEnvironmentBuilder.php"
_CONFIGS = (
    b"config/system/settings.php",
    b"typo3conf/system/settings.php",
    b"public/typo3conf/LocalConfiguration.php",
    b"typo3conf/LocalConfiguration.php",
)


def _version(content: bytes) -> str:
    return php.class_constant(php.source(content), "VERSION")


def _old_version(content: bytes) -> str:
    return php.constant(php.source(content), "TYPO3_version")


def _database(content: bytes) -> Database | None:
    for values in php.arrays(php.source(content), r"\breturn\b"):
        settings = php.inside(values, "DB")
        found = database_of(php.inside(settings, "Connections", "Default"), _NAMES)
        return found or database_of(settings, _OLD_NAMES)
    return None


SYSTEM = System(
    type="typo3",
    name="TYPO3",
    signs=(
        *((path,) for path in _VERSION_FILES),
        (_OLD_VERSION_FILE,),
        (b"typo3conf/LocalConfiguration.php",),
        (b"public/typo3conf/LocalConfiguration.php",),
    ),
    hints=(*_CONFIGS, b"fileadmin", b"public/fileadmin", b"typo3conf/ext", b"typo3/sysext", b"public/typo3"),
    versions={**dict.fromkeys(_VERSION_FILES, _version), _OLD_VERSION_FILE: _old_version},
    configs=dict.fromkeys(_CONFIGS, _database),
    disposables={
        "var/cache": "Cache of TYPO3, which fills again by itself",
        "var/log": "Logs of TYPO3",
        "typo3temp": "Temporary files of TYPO3",
        "public/typo3temp": "Temporary files of TYPO3",
    },
)
