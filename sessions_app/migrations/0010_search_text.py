from itertools import islice

from django.db import migrations


def fill(apps, schema_editor):
    """Jobs of before, some hundred at a time."""
    Job = apps.get_model("sessions_app", "Job")
    rows = Job.objects.only("pk", "title", "public", "error_message").iterator(chunk_size=500)
    while batch := list(islice(rows, 500)):
        for job in batch:
            sides = (job.public.get(name) or {} for name in ("source_config", "dest_config"))
            name = " ".join([*(str(side.get("host", "")) for side in sides), job.title])
            job.search_text = f"{name[:400]} {job.error_message}".strip().lower()[:600]
        Job.objects.bulk_update(batch, ["search_text"])


class Migration(migrations.Migration):

    dependencies = [
        ('sessions_app', '0009_search'),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
