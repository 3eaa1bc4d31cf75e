from migration_app.cms import wordpress

VERSION = b"<?php\n/** $wp_version = '1.0' in a comment */\n$wp_version = '6.4.3';\n"
CONFIG = rb"""<?php
// define( 'DB_NAME', 'commented' );
# define( 'DB_NAME', 'hashed' );
/* define('DB_NAME', 'blocked'); */
define( 'DB_NAME', 'shop\'s // db' );
define("DB_USER", "shop");
define( 'DB_PASSWORD', 'hunter2' );
define( 'DB_HOST', 'db.example.org:3307' );
$table_prefix = 'wp7_';
"""
PATHS = {
    b"wp-includes/version.php",
    b"wp-config.php",
    b"wp-login.php",
    b"wp-admin/index.php",
    b"wp-content",
    b"backup/old/wp-includes/version.php",
}


def test_version_database_and_prefix_are_read_and_no_password():
    found = wordpress.describe(b"", PATHS, VERSION, CONFIG)
    assert (found.version, found.confidence, found.config_file) == ("6.4.3", 1.0, b"wp-config.php")
    database = found.database
    assert (database.name, database.username, database.host, database.port, database.prefix) == (
        "shop's // db",
        "shop",
        "db.example.org",
        3307,
        "wp7_",
    )
    assert "hunter2" not in repr(found)


def test_nearest_installation_counts():
    assert wordpress.find_root(PATHS) == b""
    assert wordpress.find_root({b"a/b/wp-includes/version.php", b"z/wp-includes/version.php"}) == b"z"
    assert wordpress.find_root({b"mywp-includes/version.php", b"wp-config.php"}) is None


def test_configuration_without_plain_values_names_no_database():
    assert wordpress.read_database(b"<?php define('DB_NAME', getenv('DB')); require '/etc/wp.php';") is None
    assert wordpress.read_database(b"\xff\xfe\x00") is None


def test_hosts_with_sockets_and_addresses():
    for text, wanted in (
        ("localhost", ("localhost", 0)),
        ("localhost:/run/mysqld.sock", ("localhost:/run/mysqld.sock", 0)),
        ("[::1]:3306", ("[::1]", 3306)),
        ("::1", ("::1", 0)),
    ):
        found = wordpress.read_database(f"define('DB_NAME','x');define('DB_HOST','{text}');".encode())
        assert (found.host, found.port) == wanted


def test_unreadable_configuration_leaves_the_rest():
    found = wordpress.describe(b"blog", {b"blog/wp-includes/version.php"}, b"", None)
    assert (found.version, found.database, found.config_file) == ("", None, None)
    assert 0 < found.confidence < 0.5
