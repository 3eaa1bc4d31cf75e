"""Each system is recognised by its files, and its settings are read as they stand there, but for the password."""

from collections.abc import Mapping

import pytest

from migration_app.cms import php
from migration_app.cms.base import Cms, Database
from migration_app.cms.systems import describe, files_to_read, find_system, is_mark

SECRET = "hunter2"

WORDPRESS = {
    "wp-includes/version.php": "<?php\n/** $wp_version = '1.0' in a comment */\n$wp_version = '6.4.3';\n",
    "wp-config.php": r"""<?php
// define( 'DB_NAME', 'commented' );
# define( 'DB_NAME', 'hashed' );
/* define('DB_NAME', 'blocked'); */
define( 'DB_NAME', 'shop\'s // db' );
define("DB_USER", "shop");
define( 'DB_PASSWORD', 'hunter2' );
define( 'DB_HOST', 'db.example.org:3307' );
$table_prefix = 'wp7_';
""",
    "wp-login.php": "",
    "wp-admin/index.php": "",
    "wp-content/plugins/akismet/akismet.php": "",
    "backup/old/wp-includes/version.php": "",
}

JOOMLA = {
    "administrator/manifests/files/joomla.xml": "<extension><version>4.2.0</version></extension>",
    "administrator/index.php": "",
    "administrator/components/com_content/content.xml": "",
    "libraries/src/Version.php": """<?php
namespace Joomla\\CMS;
final class Version
{
    /** @since 3.8.0 */
    public const PRODUCT = 'Joomla!';
    public const MAJOR_VERSION = 4;
    public const MINOR_VERSION = 2;
    public const PATCH_VERSION = 9;
    public const EXTRA_VERSION = '';
}
""",
    "configuration.php": """<?php
class JConfig {
    public $offline = false;
    public $sitename = 'The club\\'s site; $db = \\'wrong\\';';
    public $dbtype = 'mysqli';
    public $host = 'localhost';
    public $user = 'joomla';
    public $password = 'hunter2';
    public $db = 'club';
    public $dbprefix = 'j4x_';
    public $secret = 'hunter2';
    public $smtppass = 'hunter2';
}
""",
}
JOOMLA_3 = {
    "administrator/index.php": "",
    "libraries/cms/version/version.php": """<?php
final class JVersion
{
    const RELEASE = '3.6';
    const DEV_LEVEL = '5';
}
""",
    "configuration.php": "<?php class JConfig { var $db = 'old'; var $host = '[::1]:3306'; var $dbprefix = 'jos_'; }",
}

DRUPAL = {
    "web/core/lib/Drupal.php": """<?php
class Drupal {
  /**
   * The current system version.
   */
  const VERSION = '10.2.5';
  const CORE_COMPATIBILITY = '8.x';
}
""",
    "web/core/modules/node/node.module": "",
    "web/sites/default/settings.php": """<?php
/**
 * @code
 * $databases['default']['default'] = ['database' => 'databasename', 'username' => 'sqlusername'];
 * @endcode
 */
$databases = [];
$settings['hash_salt'] = 'hunter2';
$databases['default']['default'] = array (
  'database' => 'portal',
  'username' => 'drupal',
  'password' => 'hunter2',
  'prefix' => 'd_',
  'host' => 'db.internal',
  'port' => '3306',
  'isolation_level' => 'READ COMMITTED',
  'driver' => 'mysql',
  'init_commands' => ['x' => strtoupper('set, [names]')],
);
""",
    "composer.json": '{"require": {"drupal/core-recommended": "^10"}}',
}
DRUPAL_7 = {
    "includes/bootstrap.inc": "<?php\ndefine('VERSION', '7.98');\n",
    "misc/drupal.js": "",
    "modules/system/system.info": "",
    "sites/default/settings.php": """<?php
$databases = array (
  'default' =>
  array (
    'default' =>
    array (
      'database' => 'seven',
      'username' => 'd7',
      'password' => 'hunter2',
      'host' => 'localhost',
      'port' => '',
      'driver' => 'mysql',
      'prefix' => '',
    ),
  ),
);
$drupal_hash_salt = 'hunter2';
""",
}

MAGENTO = {
    "bin/magento": "#!/usr/bin/env php",
    "app/etc/di.xml": "",
    "app/etc/config.php": "<?php return ['modules' => []];",
    "pub/index.php": "",
    "composer.json": """{"name": "magento/project-community-edition", "version": "2.4.5",
        "require": {"magento/product-community-edition": "2.4.6-p3", "php": "~8.1.0"}}""",
    "app/etc/env.php": """<?php
return [
    'backend' => ['frontName' => 'admin_1x'],
    'crypt' => ['key' => 'hunter2'],
    'db' => [
        'table_prefix' => 'mg_',
        'connection' => [
            'default' => [
                'host' => 'mysql:3310',
                'dbname' => 'magento',
                'username' => 'mage',
                'password' => 'hunter2',
                'model' => 'mysql4',
                'active' => '1',
                'driver_options' => [1014 => false]
            ]
        ]
    ],
    'MAGE_MODE' => 'production'
];
""",
}
MAGENTO_1 = {
    "app/Mage.php": """<?php
final class Mage {
    public static function getVersionInfo()
    {
        return array(
            'major'     => '1',
            'minor'     => '9',
            'revision'  => '4',
            'patch'     => '5',
            'stability' => '',
            'number'    => '',
        );
    }
}
""",
    "app/etc/local.xml": """<?xml version="1.0"?>
<config><global>
  <crypt><key><![CDATA[hunter2]]></key></crypt>
  <resources><db><table_prefix><![CDATA[m1_]]></table_prefix></db>
    <default_setup><connection>
      <host><![CDATA[localhost]]></host>
      <username><![CDATA[mage1]]></username>
      <password><![CDATA[hunter2]]></password>
      <dbname><![CDATA[shop1]]></dbname>
      <active>1</active>
    </connection></default_setup>
  </resources>
</global></config>
""",
    "skin/frontend/base/default/x.css": "",
}

PRESTASHOP = {
    "classes/PrestaShopAutoload.php": "",
    "classes/Product.php": "",
    "config/defines.inc.php": "",
    "themes/classic/config/theme.yml": "",
    "src/Core/Version.php": "<?php\nfinal class Version {\n    public const VERSION = '8.1.5';\n}\n",
    "app/config/parameters.php": """<?php return array (
  'parameters' =>
  array (
    'database_host' => '127.0.0.1',
    'database_port' => '',
    'database_name' => 'presta',
    'database_user' => 'ps',
    'database_password' => 'hunter2',
    'database_prefix' => 'ps_',
    'mailer_password' => NULL,
    'secret' => 'hunter2',
  ),
);
""",
}
PRESTASHOP_16 = {
    "classes/PrestaShopAutoload.php": "",
    "config/defines.inc.php": "",
    "config/settings.inc.php": """<?php
define('_DB_SERVER_', 'localhost');
define('_DB_NAME_', 'presta16');
define('_DB_USER_', 'root');
define('_DB_PASSWD_', 'hunter2');
define('_DB_PREFIX_', 'ps16_');
define('_COOKIE_KEY_', 'hunter2');
define('_PS_VERSION_', '1.6.1.24');
""",
}

TYPO3 = {
    "vendor/typo3/cms-core/Classes/Information/Typo3Version.php": """<?php
class Typo3Version
{
    protected const VERSION = '12.4.11';
    protected const BRANCH = '12.4';
}
""",
    "public/index.php": "",
    "public/fileadmin/logo.svg": "",
    "config/system/settings.php": """<?php
return [
    'BE' => ['installToolPassword' => 'hunter2'],
    'DB' => [
        'Connections' => [
            'Default' => [
                'charset' => 'utf8mb4',
                'dbname' => 'typo3',
                'driver' => 'mysqli',
                'host' => 'db.example.org',
                'password' => 'hunter2',
                'port' => 3306,
                'user' => 't3',
            ],
        ],
    ],
];
""",
}
TYPO3_6 = {
    "typo3/sysext/core/Classes/Core/SystemEnvironmentBuilder.php": (
        "<?php define('TYPO3_version', '6.2.31'); define('TYPO3_branch', '6.2');"
    ),
    "typo3conf/LocalConfiguration.php": """<?php
return array(
	'DB' => array(
		'database' => 't3old',
		'host' => 'localhost',
		'password' => 'hunter2',
		'username' => 'typo',
	),
);
""",
}

LARAVEL = {
    "artisan": "#!/usr/bin/env php",
    "bootstrap/app.php": "",
    "public/index.php": "",
    "routes/web.php": "",
    "vendor/laravel/framework/src/Illuminate/Foundation/Application.php": (
        "<?php\nclass Application extends Container\n{\n    const VERSION = '10.48.4';\n}\n"
    ),
    ".env": """APP_NAME="An app # not a comment"
APP_KEY=base64:hunter2
# DB_DATABASE=commented
DB_CONNECTION=mysql
DB_HOST=127.0.0.1   # the tunnel
DB_PORT=33060
DB_DATABASE='laravel'
export DB_USERNAME="app"\r
DB_PASSWORD=hunter2
DB_DATABASE=second
""",
}

STATIC = {
    "index.html": '<!doctype html><head><meta content="Hugo 0.123.7" name=generator><title>x</title>',
    "css/style.css": "",
    "robots.txt": "",
}


def look(files: Mapping[str, str]) -> Cms | None:
    """What a scan of these files would say."""
    paths = {"/".join(path.split("/")[:n]) for path in files for n in range(1, path.count("/") + 2)}
    marks = {path.encode() for path in paths if is_mark(path)}
    found = find_system(marks, {path.rpartition(".")[2] for path in files})
    if found is None:
        return None
    contents = {path: files[path.decode()].encode() for path in files_to_read(*found, marks)}
    return describe(*found, marks, contents)


@pytest.mark.parametrize(
    ("files", "kind", "version", "config", "database"),
    [
        (
            WORDPRESS,
            "wordpress",
            "6.4.3",
            "wp-config.php",
            Database("shop's // db", "shop", "db.example.org", 3307, "wp7_"),
        ),
        (
            JOOMLA,
            "joomla",
            "4.2.9",
            "configuration.php",
            Database("club", "joomla", "localhost", 0, "j4x_"),
        ),
        (JOOMLA_3, "joomla", "3.6.5", "configuration.php", Database("old", "", "[::1]", 3306, "jos_")),
        (
            DRUPAL,
            "drupal",
            "10.2.5",
            "web/sites/default/settings.php",
            Database("portal", "drupal", "db.internal", 3306, "d_"),
        ),
        (DRUPAL_7, "drupal", "7.98", "sites/default/settings.php", Database("seven", "d7", "localhost")),
        (
            MAGENTO,
            "magento",
            "2.4.6-p3",
            "app/etc/env.php",
            Database("magento", "mage", "mysql", 3310, "mg_"),
        ),
        (
            MAGENTO_1,
            "magento",
            "1.9.4.5",
            "app/etc/local.xml",
            Database("shop1", "mage1", "localhost", 0, "m1_"),
        ),
        (
            PRESTASHOP,
            "prestashop",
            "8.1.5",
            "app/config/parameters.php",
            Database("presta", "ps", "127.0.0.1", 0, "ps_"),
        ),
        (
            PRESTASHOP_16,
            "prestashop",
            "1.6.1.24",
            "config/settings.inc.php",
            Database("presta16", "root", "localhost", 0, "ps16_"),
        ),
        (
            TYPO3,
            "typo3",
            "12.4.11",
            "config/system/settings.php",
            Database("typo3", "t3", "db.example.org", 3306),
        ),
        (
            TYPO3_6,
            "typo3",
            "6.2.31",
            "typo3conf/LocalConfiguration.php",
            Database("t3old", "typo", "localhost"),
        ),
        (LARAVEL, "laravel", "10.48.4", ".env", Database("laravel", "app", "127.0.0.1", 33060)),
        (STATIC, "static", "Hugo 0.123.7", None, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_system_version_and_database_are_read_and_no_password(files, kind, version, config, database):
    found = look(files)
    assert (found.type, found.version, found.database) == (kind, version, database)
    assert found.config_file == (config.encode() if config else None)
    assert found.confidence >= 0.6
    assert found.indicators
    assert SECRET not in repr(found)


def test_installation_nearest_to_the_root_counts():
    shop = {f"shop/{path}": text for path, text in PRESTASHOP.items()}
    assert look(shop | {f"a/b/{path}": text for path, text in WORDPRESS.items()}).root == b"shop"
    assert look(shop | WORDPRESS).type == "wordpress"
    assert look({"public/blog/" + path: text for path, text in WORDPRESS.items()} | LARAVEL).type == "laravel"


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"mywp-includes/version.php": "", "wp-config.php": ""},
        {"artisan": "", "readme.txt": ""},
        {"index.html": "", "contact.php": ""},
        {"a/b/c/index.html": ""},
    ],
)
def test_what_only_looks_alike_is_no_system(files):
    assert look(files) is None


def test_configuration_that_cannot_be_read_leaves_the_rest():
    found = look({"blog/wp-includes/version.php": "", "blog/wp-config.php": ""})
    assert (found.root, found.version, found.database) == (b"blog", "", None)
    assert found.config_file == b"blog/wp-config.php"
    assert 0 < found.confidence < 0.5


@pytest.mark.parametrize(
    "text",
    [
        "<?php define('DB_NAME', getenv('DB')); require '/etc/wp.php';",
        "<?php define('DB_NAME', 'a' . 'b');",
        '<?php define("DB_NAME", "$site");',
        '<?php define("DB_NAME", "{$site[1]}");',
        "\0\ufffe",
    ],
)
def test_what_is_no_plain_value_is_not_guessed(text):
    assert look({"wp-includes/version.php": "", "wp-config.php": text}).database is None


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("localhost", "localhost", 0),
        ("localhost:/run/mysqld.sock", "localhost:/run/mysqld.sock", 0),
        ("[::1]:3306", "[::1]", 3306),
        ("::1", "::1", 0),
    ],
)
def test_hosts_with_sockets_and_addresses(text, host, port):
    config = f"<?php define('DB_NAME','x');define('DB_HOST','{text}');"
    database = look({"wp-includes/version.php": "", "wp-config.php": config}).database
    assert (database.host, database.port) == (host, port)


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece",
    [
        "/*",
        "'",
        '"\\',
        "array(",
        "return [",
        "[",
        "$db = ",
        "<meta ",
        "=>",
        "\\",
        "define(\"'\\",
        "define('DB_NAME',\"'\\",
    ],
)
def test_hostile_file_is_read_in_one_pass(piece):
    # What takes quadratic time here takes minutes.
    text = piece * (php.MOST_READ // len(piece))
    for files in (WORDPRESS, JOOMLA, DRUPAL, MAGENTO, MAGENTO_1, PRESTASHOP, TYPO3, LARAVEL, STATIC):
        look(dict.fromkeys(files, text))
