from hashlib import blake2b

from django.db import migrations

from migration_app.paths import path_bytes

BATCH = 5000


def fill(apps, schema_editor):
    """Hashes as they are now: those of one folder lie near each other."""
    model = apps.get_model("migration_app", "ManifestEntry")
    rows = model.objects.order_by("pk").values_list("pk", "path")
    last = 0
    with schema_editor.connection.cursor() as cursor:
        while batch := list(rows.filter(pk__gt=last)[:BATCH]):
            cursor.executemany(
                f"UPDATE {model._meta.db_table} SET path_hash = %s WHERE id = %s",
                [(_hash(path_bytes(path)), pk) for pk, path in batch],
            )
            last = batch[-1][0]


def _hash(path):
    above, _, name = path.rpartition(b"/")
    halves = b"".join(blake2b(part, digest_size=4).digest() for part in (above, name))
    return int.from_bytes(halves, "big", signed=True)


class Migration(migrations.Migration):

    dependencies = [
        ('migration_app', '0005_server_load'),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
