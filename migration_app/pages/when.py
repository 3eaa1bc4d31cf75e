"""The parts of forms that say when: once, or again and again."""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from django import forms
from django.utils import timezone

from sessions_app import schedules
from sessions_app.instants import in_utc
from sessions_app.models import Missed, Overlap
from sessions_app.timetable import LONGEST, BadCron, BadZone, Timetable, zone_of

Json = dict[str, Any]

USUAL = {
    "0 3 * * *": "Every night at 3:00",
    "0 3 * * SUN": "On Sundays at 3:00",
    "30 22 * * MON-FRI": "On working days at 22:30",
    "0 4 1 * *": "On the first of the month at 4:00",
    "0 */6 * * *": "Every six hours",
    "*/15 * * * *": "Every quarter of an hour",
}
"""Expressions to choose from."""
_AS_TYPED = {"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}


class StartForm(forms.Form):
    """When a job is to start."""

    start_at = forms.CharField(
        label="Start at",
        required=False,
        widget=forms.TextInput(attrs={"type": "datetime-local"}),
        help_text="Empty: at once. The time is in <span data-zone-name>UTC</span>.",
    )
    zone = forms.CharField(
        required=False, initial="UTC", widget=forms.HiddenInput(attrs={"data-zone": "always"})
    )

    @property
    def is_open(self) -> bool:
        """Whether a time is entered."""
        return bool(self["start_at"].value() or self.errors)

    def clean(self) -> Json:
        """A time of day in a zone."""
        self.run_at: datetime | None = None
        try:
            self.run_at = self._run_at()
        except ValueError:
            self.add_error("start_at", "Must be a date and a time, such as 2026-12-31T03:00.")
        return self.cleaned_data

    def _run_at(self) -> datetime | None:
        text = self.cleaned_data.get("start_at")
        if not text:
            return None
        try:
            zone = zone_of(self.cleaned_data.get("zone") or "UTC")
        except BadZone:
            zone = ZoneInfo("UTC")
        return in_utc(datetime.fromisoformat(text).replace(tzinfo=zone))


class CronForm(forms.Form):
    """When a schedule runs, and what it is called."""

    name = forms.CharField(
        label="Name",
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs=_AS_TYPED),
        help_text="Empty: where it copies from and to.",
    )
    cron = forms.CharField(
        label="Times",
        required=False,
        max_length=LONGEST,
        initial="0 3 * * *",
        widget=forms.TextInput(attrs={"list": "usual-times", **_AS_TYPED}),
        help_text="Minute, hour, day of the month, month, day of the week, as cron has it.",
    )
    timezone = forms.CharField(
        label="Time zone",
        required=False,
        initial="UTC",
        widget=forms.TextInput(attrs={"list": "zones", **_AS_TYPED}),
        help_text="The times are those of its clock.",
    )
    on_overlap = forms.ChoiceField(
        label="While the run before is not over",
        required=False,
        choices=[(Overlap.SKIP, "Leave this one out"), (Overlap.QUEUE, "Have one wait for it")],
    )
    on_missed = forms.ChoiceField(
        label="When Haulier was off at the time",
        required=False,
        choices=[(Missed.RUN_ONCE, "Run once as soon as it is on"), (Missed.SKIP, "Wait for the next time")],
    )

    def clean_cron(self) -> str:
        """One that means something."""
        cron = str(self.cleaned_data["cron"])
        try:
            Timetable(cron, "UTC")
        except BadCron as error:
            raise forms.ValidationError(str(error)) from None
        return cron

    def clean_timezone(self) -> str:
        """One that is known here."""
        zone = str(self.cleaned_data["timezone"])
        try:
            zone_of(zone)
        except BadZone as error:
            raise forms.ValidationError(str(error)) from None
        return zone

    def schedule_data(self) -> Json:
        """The fields of a schedule, as the HTTP contract has them."""
        return {name: self.cleaned_data[name] for name in self.fields if self.cleaned_data.get(name)} | {
            "name": self.cleaned_data.get("name", "")
        }

    @property
    def preview(self) -> Json | None:
        """What the times mean that stand in the form; None where they mean nothing."""
        return preview_of(str(self["cron"].value() or ""), str(self["timezone"].value() or ""))


def preview_of(cron: str, zone: str) -> Json | None:
    """An expression in words, and its next runs; None for one that means nothing."""
    try:
        table = Timetable(cron[: LONGEST + 1], zone)
    except (BadCron, BadZone):
        return None
    return {
        "words": table.words,
        "zone": zone,
        "runs": table.runs(timezone.now(), schedules.SHOWN_RUNS),
    }
