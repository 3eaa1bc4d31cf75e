"""The start page and the two forms that make a job."""

import uuid
from collections.abc import Callable
from typing import Any, ClassVar
from urllib.parse import urlencode

from django import forms
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from rest_framework.exceptions import ValidationError

from migration_app import endpoints
from migration_app.endpoints import SECRETS
from migration_app.pages.forms import OptionsForm, ScanOptionsForm, SideForm, TransferOptionsForm
from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.prefill import first_values
from migration_app.pages.rows import rows_of
from migration_app.submission import RequestMeta, submit_scan, submit_transfer
from sessions_app.jobs import IdempotencyConflict
from sessions_app.models import Job
from sessions_app.problems import flatten
from sessions_app.states import FINISHED

Json = dict[str, Any]
LAST_RESULTS = 10
NOT_KEPT = (*SECRETS, "key")
"""Fields that never stand in an address."""


class JobForm:
    """The forms of one page, taken together: the sides and the options."""

    job_type: ClassVar[str]
    action: ClassVar[str]
    title: ClassVar[str]
    button: ClassVar[str]
    lead: ClassVar[str]
    options_class: ClassVar[type[OptionsForm]]
    sides: ClassVar[dict[str, str]]
    """The request's field for each side, with its heading."""
    patterns_field: ClassVar[str]
    submit: ClassVar[Callable[..., tuple[Job, bool]]]

    def __init__(self, request: SignedRequest, first: Json | None = None) -> None:
        """`first` are values to begin with, by the request's fields."""
        data = request.POST if request.method == "POST" else None
        first = first or {}
        self.connections = {
            name: SideForm(data, prefix=f"{self.action}-{name}", user=request.user, initial=first.get(name))
            for name in self.sides
        }
        self.options = self.options_class(data, prefix=self.action, initial=first)
        for form in (*self.connections.values(), self.options):
            self._fill(form, request.GET)
        self._request = request

    @property
    def fieldsets(self) -> list[tuple[str, str, SideForm]]:
        """Heading, name and form of each side."""
        return [(heading, name, self.connections[name]) for name, heading in self.sides.items()]

    def _fill(self, form: forms.Form, query: QueryDict) -> None:
        """Begin with what the address says, as after a visit to the folders of a connection."""
        for name, field in form.fields.items():
            value = query.get(form.add_prefix(name))
            if value is not None and name not in NOT_KEPT:
                form.initial[name] = value == "on" if isinstance(field, forms.BooleanField) else value

    def kept(self) -> str:
        """What was entered so far, without secrets, as the query of an address."""
        found = {}
        for form in (*self.connections.values(), self.options):
            for name, field in form.fields.items():
                sent = self._request.POST.get(form.add_prefix(name), "")
                if isinstance(field, forms.BooleanField):
                    sent = "on" if sent else "off"
                if sent and name not in NOT_KEPT:
                    found[form.add_prefix(name)] = sent
        return urlencode(found)

    def folders_address(self) -> str:
        """Where to choose a folder of the stored connection whose button was pressed; empty when none was."""
        read = self._request.POST.get
        name = read("browse", "")
        side = self.connections.get(name)
        if side is None or read(side.add_prefix("protocol")) != "stored":
            return ""
        stored = endpoints.find_stored(self._request.user, read(side.add_prefix("connection")))
        if stored is None:
            return ""
        place = {"path": read(side.add_prefix("root_path"), ""), "for": self.action, "side": name}
        address = reverse("browse-connection", args=[stored.pk])
        return f"{address}?{urlencode(place | {'keep': self.kept()})}"

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """For the summary: label, the field's id, and the message."""
        found = []
        for heading, _, form in (*self.fieldsets, ("", "", self.options)):
            # With one side there is nothing to tell apart.
            where = f"{heading} – " if heading and len(self.sides) > 1 else ""
            for name, messages in form.errors.items():
                bound = form[name] if name in form.fields else None
                label = f"{where}{bound.label}" if bound else ""
                place = bound.id_for_label or bound.auto_id if bound else ""
                found += [(label, place, str(message)) for message in messages]
        return found

    @property
    def drops_secrets(self) -> bool:
        """Whether a secret was sent, which the page does not give back."""
        return any(side.cleaned_data.get(name) for side in self.connections.values() for name in SECRETS)

    def is_valid(self) -> bool:
        """Whether the texts can be handed on; all are asked, so that all errors show at once."""
        return all([form.is_valid() for form in (*self.connections.values(), self.options)])  # noqa: C419 - every one

    def data(self) -> Json:
        """The request's body, as the HTTP contract has it."""
        found: Json = {name: form.connection_data() for name, form in self.connections.items()}
        for name, field in self.options.fields.items():
            if isinstance(field, forms.BooleanField):
                found[name] = bool(self.options.cleaned_data[name])
            elif isinstance(field, forms.ChoiceField):
                found[name] = self.options.cleaned_data[name]
        return found | {self.patterns_field: self.options.patterns()}

    def start(self) -> Job | None:
        """The job, or None with the errors beside their fields."""
        if not self.is_valid():
            return None
        meta = RequestMeta.of(self._request, idempotency_key=self.options.cleaned_data["key"] or None)
        try:
            return type(self).submit(self._request.user, self.data(), meta)[0]
        except ValidationError as error:
            self._take(flatten(error.detail))
        except IdempotencyConflict:
            self._renew_key()
            self.options.add_error(
                None,
                "This form has started another job already. Press the button again to start this one too.",
            )
        return None

    def _take(self, fields: dict[str, list[str]]) -> None:
        """Put each error of the shared validation beside its field; a name without a field is named."""
        for dotted, messages in fields.items():
            side, _, rest = dotted.partition(".")
            form: forms.Form = self.connections.get(side, self.options)
            name = rest if side in self.connections else dotted
            if name.split(".")[0] == self.patterns_field:
                name = "exclusions"
            for message in messages:
                if name in form.fields:
                    form.add_error(name, message)
                elif name in ("", "non_field_errors"):
                    form.add_error(None, message)
                else:
                    form.add_error(None, f"{dotted}: {message}")

    def _renew_key(self) -> None:
        data = self._request.POST.copy()
        data[self.options.add_prefix("key")] = uuid.uuid4().hex
        self.options.data = data


class ScanForm(JobForm):
    """A new scan."""

    job_type = "scan"
    action = "new-scan"
    title = "New scan"
    button = "Start the scan"
    lead = "Counts what there is and says what kind of site it is. Nothing is changed."
    options_class = ScanOptionsForm
    sides = {"server_config": "Folder to scan"}
    patterns_field = "custom_exclusions"
    submit = staticmethod(submit_scan)


class TransferForm(JobForm):
    """A new transfer."""

    job_type = "transfer"
    action = "new-transfer"
    title = "New transfer"
    button = "Start the transfer"
    lead = "Copies a folder. Files that are already there, with the same size and time, are left alone."
    options_class = TransferOptionsForm
    sides = {"source_config": "From", "dest_config": "To"}
    patterns_field = "exclusions"
    submit = staticmethod(submit_transfer)


def _form_page(form_class: type[JobForm]) -> Callable[..., HttpResponse]:
    @page
    def view(request: SignedRequest) -> HttpResponse:
        form = form_class(request, first_values(request, form_class.job_type, form_class.patterns_field))
        status = 200
        if request.method == "POST":
            if address := form.folders_address():
                return redirect(address)
            job = form.start()
            if job is not None:
                return redirect("job", job.pk)
            status = 400
        return render(request, "pages/new_job.html", {"form": form}, status=status)

    return view


new_scan = _form_page(ScanForm)
new_transfer = _form_page(TransferForm)


@page
def start(request: SignedRequest) -> HttpResponse:
    """What runs, what ended last, and both forms."""
    owned = Job.objects.owned_by(request.user)
    # Of each state by itself, which the index of states has in this order.
    last = [
        job
        for state in FINISHED
        for job in owned.filter(status=state).order_by("-completed_at")[:LAST_RESULTS]
    ]
    finished = sorted(last, key=lambda job: str(job.completed_at), reverse=True)[:LAST_RESULTS]
    context = {"forms": [TransferForm(request), ScanForm(request)], "rows": rows_of(finished)}
    return render(request, "pages/start.html", context)
