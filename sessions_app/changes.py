"""What may be changed of a job that is there: name, whether it stays, priority, and options of its runner."""

import json
from typing import Any

from django.db import transaction
from django.utils import timezone
from rest_framework.exceptions import ValidationError

from sessions_app import events
from sessions_app.fields import StrictSerializer, Switch, Text, Whole, validated
from sessions_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY, Job
from sessions_app.problems import Conflict
from sessions_app.runners import log_info, runner_class

_ALWAYS = ("title", "keep")
_COLUMNS = (*_ALWAYS, "priority")


class ChangeSerializer(StrictSerializer):
    """The new values, those that are given."""

    title = Text(required=False, max_length=500)
    keep = Switch(required=False)
    priority = Whole(required=False, min_value=LOWEST_PRIORITY, max_value=HIGHEST_PRIORITY)

    def get_fields(self) -> dict[str, Any]:
        """Those of every job, and those of its type."""
        options = runner_class(self.context["job_type"]).changeable
        return super().get_fields() | {name: make(required=False) for name, make in options.items()}

    def validate_title(self, value: str) -> str:
        """A line of text."""
        if not value.strip() or not value.isprintable():
            raise ValidationError("Must be printable text.")
        return value.strip()


def change(job: Job, data: Any, by: str) -> None:
    """Change a job and log it: who asked, and what is new.

    `data` are the new values by name: title, keep, priority, and what its runner calls changeable. Workers see the last
    two within a second. Raises ValidationError, and Conflict for what only an active job has.
    """
    values = validated(ChangeSerializer, job.owner, data, job_type=job.type)
    with transaction.atomic():
        row = Job.objects.select_for_update().get(pk=job.pk)
        before = {name: getattr(row, name) if name in _COLUMNS else row.params.get(name) for name in values}
        new = {name: value for name, value in values.items() if value != before[name]}
        if not row.is_active and (names := [name for name in new if name not in _ALWAYS]):
            sentence = f"{names[0]}: A {row.status} session has ended; this cannot be changed any more."
            raise Conflict(sentence, job_status=row.status)
        if not new:
            return
        for name, value in new.items():
            if name in _COLUMNS:
                setattr(row, name, value)
            else:
                row.params[name] = value
        row.updated_at, row.search_text = timezone.now(), row.searched
        row.save(update_fields=[*_COLUMNS, "params", "search_text", "updated_at"])
        told = ", ".join(f"{name} {_word(value)}" for name, value in new.items())
        events.append(row.pk, [log_info(f"Set by {by}: {told}.")])


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, list):
        return json.dumps(value)
    return f"“{value}”" if isinstance(value, str) else f"{value:g}"
