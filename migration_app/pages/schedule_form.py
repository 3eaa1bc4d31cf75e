"""The forms of schedules: those of new jobs, and when."""

from typing import Any, cast

from django.urls import reverse
from rest_framework.exceptions import ValidationError

from migration_app.pages.frame import SignedRequest
from migration_app.pages.new_job import JobForm, ScanForm, TransferForm
from migration_app.pages.when import USUAL, CronForm
from sessions_app import schedules
from sessions_app.fields import validated
from sessions_app.models import Schedule
from sessions_app.problems import flatten
from sessions_app.submitters import CannotSubmit, submitter_of
from sessions_app.timetable import zone_names

Json = dict[str, Any]


class ScheduleForm(JobForm):
    """A new schedule, or one that is changed."""

    title = "New schedule"
    button = "Save the schedule"
    when_class = CronForm
    usual = USUAL

    def __init__(
        self, request: SignedRequest, first: Json | None = None, schedule: Schedule | None = None
    ) -> None:
        super().__init__(request, first)
        self.schedule = schedule
        if schedule is not None:
            self.title = f"Edit {schedule.name}"
        elif request.method == "GET" and not self.when.initial.get("timezone"):
            # The script enters the reader's own.
            self.when.fields["timezone"].widget.attrs["data-zone"] = "first"

    @property
    def address(self) -> str:
        """See `JobForm`."""
        if self.schedule is not None:
            return reverse("edit-schedule", args=[self.schedule.pk])
        return reverse(self.action)

    @property
    def zones(self) -> tuple[str, ...]:
        """To choose from."""
        return zone_names()

    def kept(self) -> str:
        """See `JobForm`."""
        mine = f"&schedule={self.schedule.pk}" if self.schedule is not None else ""
        return super().kept() + mine

    def data(self) -> Json:
        """See `JobForm`; what the form has no field for stays as it is stored."""
        data = super().data()
        if self.schedule is None:
            return data
        return {name: one for name, one in self.schedule.request.items() if name not in data} | data

    def _is_stored(self, data: Json) -> bool:
        if self.schedule is None:
            return False
        try:
            kept = submitter_of(self.job_type).restore(schedules.kept_of(self.schedule))
            stored = validated(self.serializer, self._request.user, kept)
        except (CannotSubmit, ValidationError):
            return False
        return _without_keys(validated(self.serializer, self._request.user, data)) == _without_keys(stored)

    def _make(self, data: Json) -> str:
        """Store the schedule; the page of all. Raises ValidationError."""
        when = cast(CronForm, self.when).schedule_data()
        job = {"job": {"type": self.job_type, **data}}
        user = self._request.user
        try:
            if self.schedule is None:
                made = schedules.create(user, when | job, form_key=self._key())
            else:
                # A host key that is demanded is not on the form, and not to be lost by it.
                made = schedules.update(user, self.schedule, when | ({} if self._is_stored(data) else job))
        except ValidationError as error:
            fields = flatten(error.detail)
            raise ValidationError({name.removeprefix("job."): fields[name] for name in fields}) from None
        return f"{reverse('schedules')}#schedule-{made.pk}"

    def _earlier(self) -> str:
        """The page of all when this form has made one already."""
        key = self._key()
        made = key and schedules.of(self._request.user).filter(form_key=key).exists()
        return reverse("schedules") if made and self.schedule is None else ""


def _without_keys(data: Json) -> Json:
    """A request as a form can hold it."""
    return {
        name: {inner: one for inner, one in value.items() if inner != "host_key"}
        if isinstance(value, dict)
        else value
        for name, value in data.items()
    }


class ScheduledTransferForm(ScheduleForm, TransferForm):
    """A schedule of transfers."""

    action = "new-scheduled-transfer"
    lead = "Copies a folder again and again. Files that are already there, with the same size and time, are left alone."


class ScheduledScanForm(ScheduleForm, ScanForm):
    """A schedule of scans."""

    action = "new-scheduled-scan"
    lead = "Scans a folder again and again. Nothing is changed."


FORMS: dict[str, type[ScheduleForm]] = {"transfer": ScheduledTransferForm, "scan": ScheduledScanForm}
"""By the type of job."""
