"""The two forms that make a job."""

import uuid
from collections.abc import Callable
from typing import Any, ClassVar, cast
from urllib.parse import urlencode

from django import forms
from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from rest_framework.exceptions import ValidationError

from migration_app import contacts, endpoints
from migration_app.contacts import Contact
from migration_app.pages import drafts
from migration_app.pages.forms import (
    SECRET_FIELDS,
    LinesField,
    OptionsForm,
    ScanOptionsForm,
    SideForm,
    TimetableField,
    TransferOptionsForm,
    zone_data,
)
from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.prefill import first_values, keep_secrets
from migration_app.pages.when import CronForm, StartForm
from migration_app.probing import probe_endpoint
from migration_app.serializers import (
    ConnSerializer,
    ScanRequestSerializer,
    TransferRequestSerializer,
)
from migration_app.storages.base import HostKey
from migration_app.storages.errors import HostKeyRejected
from migration_app.submission import submit_scan, submit_transfer
from migration_app.visits import Busy
from sessions_app.fields import StrictSerializer, validated
from sessions_app.jobs import IdempotencyConflict
from sessions_app.models import Job
from sessions_app.problems import flatten
from sessions_app.submitters import RequestMeta, refuse_instant

Json = dict[str, Any]
LONGEST_ADDRESS = 8000
"""Servers of HTTP take about twice as much."""
NOT_KEPT = (*SECRET_FIELDS, "key")
"""Fields that never stand in an address."""


class JobForm:
    """The forms of one page, taken together: the sides and the options."""

    job_type: ClassVar[str]
    action: ClassVar[str]
    title: str
    button: ClassVar[str]
    lead: ClassVar[str]
    options_class: ClassVar[type[OptionsForm]]
    sides: ClassVar[dict[str, str]]
    """The request's field for each side, with its heading."""
    patterns_field: ClassVar[str]
    serializer: ClassVar[type[StrictSerializer]]
    submit: ClassVar[Callable[..., tuple[Job, bool]]]
    when_class: ClassVar[type[StartForm | CronForm]] = StartForm

    def __init__(self, request: SignedRequest, first: Json | None = None) -> None:
        """`first` are values to begin with, by the request's fields."""
        data = request.POST if request.method == "POST" else None
        first = first or {}
        self.connections = {
            name: SideForm(
                data, prefix=f"{self.action}-{name}", user=request.user, initial=dict(first.get(name, {}))
            )
            for name in self.sides
        }
        self.options = self.options_class(data, prefix=self.action, initial=first)
        self.when = self.when_class(data, prefix=self.action, initial=first)
        for form in self.parts:
            self._fill(form, request.GET)
        self._request = request
        self._word = request.POST.get("draft") or request.GET.get("draft", "")
        self.draft = drafts.find(request, self._word)
        self.drops_secrets = False
        self.is_too_long = False
        """Whether the folders were asked for, and what was entered does not fit into an address."""
        self.asked: dict[str, Contact] = {}
        """The sides whose server shows a key that nobody knows; a person is asked before anything starts."""
        test = request.POST.get("test", "")
        self.tested_side = test if test in self.sides else ""
        """The side whose connection is to be tried out, and nothing started."""

    @property
    def parts(self) -> list[forms.Form]:
        """All of them, in the order of the page."""
        return [*self.connections.values(), self.options, self.when]

    @property
    def address(self) -> str:
        """Where it is sent to."""
        return reverse(self.action)

    @property
    def fieldsets(self) -> list[tuple[str, str, SideForm]]:
        """Heading, name and form of each side, which says what is kept of it."""
        for name, kept in self.draft.sides.items():
            text = "Entered before and kept. Leave this empty to use it."
            self.connections[name].say_held(dict.fromkeys(kept["secrets"], text))
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
        for form in self.parts:
            for name, field in form.fields.items():
                sent = self._request.POST.get(form.add_prefix(name), "")
                if isinstance(field, forms.BooleanField):
                    sent = "on" if sent else "off"
                if sent and name not in NOT_KEPT:
                    found[form.add_prefix(name)] = sent
        return urlencode(found | ({"draft": self.draft.word} if self.draft.word else {}))

    def hidden(self) -> list[tuple[str, str]]:
        """What was entered, without secrets, for a page that stands between the form and the job."""
        names = {
            form.add_prefix(name) for form in self.parts for name in form.fields if name not in SECRET_FIELDS
        }
        found = [(name, value) for name in sorted(names) for value in self._request.POST.getlist(name)]
        if self.tested_side:
            found.append(("test", self.tested_side))
        return [*found, ("draft", self.draft.word)]

    @property
    def next_step(self) -> str:
        """What follows once the keys are trusted."""
        return "Test the connection" if self.tested_side else self.button

    @property
    def shown_keys(self) -> list[Contact]:
        """The servers to ask about, each once."""
        found = {(one.endpoint.host, one.endpoint.port, one.unknown_key): one for one in self.asked.values()}
        return list(found.values())

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
        self._keep_secrets()
        place = {"path": read(side.add_prefix("root_path"), ""), "for": self.action, "side": name}
        address = reverse("browse-connection", args=[stored.pk])
        address = f"{address}?{urlencode(place | {'keep': self.kept()})}"
        if len(address) > LONGEST_ADDRESS:
            self.is_too_long = True
            side.is_valid()
            side.add_error(
                "root_path", "The form holds too much to take along: choose the folder before its options."
            )
            return ""
        return address

    @property
    def errors(self) -> list[tuple[str, str, str]]:
        """For the summary: label, the field's id, and the message."""
        found = []
        for heading, _, form in (*self.fieldsets, ("", "", self.options), ("", "", self.when)):
            # With one side there is nothing to tell apart.
            where = f"{heading} – " if heading and len(self.sides) > 1 else ""
            for name, messages in form.errors.items():
                bound = form[name] if name in form.fields else None
                label = f"{where}{bound.label}" if bound else ""
                place = bound.id_for_label or bound.auto_id if bound else ""
                found += [(label, place, str(message)) for message in messages]
        return found

    def is_valid(self) -> bool:
        """Whether the texts can be handed on; all are asked, so that all errors show at once."""
        return all([form.is_valid() for form in self.parts])  # noqa: C419 - every one

    def data(self) -> Json:
        """The request's body, as the HTTP contract has it."""
        found: Json = {}
        for name in self.connections:
            found[name] = self._conn(name)
        for name, field in self.options.fields.items():
            if isinstance(field, forms.BooleanField):
                found[name] = bool(self.options.cleaned_data[name])
            elif isinstance(field, forms.ChoiceField | LinesField | TimetableField):
                found[name] = self.options.cleaned_data[name]
            elif isinstance(field, forms.IntegerField):
                found[name] = self.options.cleaned_data[name] or 0
        return found | zone_data(self.options) | {self.patterns_field: self.options.patterns()}

    def _conn(self, name: str) -> Json:
        """A side as the HTTP contract has it, with the secrets that were entered before."""
        conn = self.connections[name].connection_data()
        return self.draft.completed(name, conn) if _is_typed(conn) else conn

    def start(self) -> str:
        """The address of what was made; empty with errors beside their fields, or with `asked` host keys."""
        if (earlier := self._earlier()) and "trust" in self._request.POST:
            # A second press of the answer; its draft is gone.
            return earlier
        self._keep_secrets()
        if not self.is_valid():
            return ""
        data = self.data()
        try:
            configs = validated(self.serializer, self._request.user, data)
            sides = {name: configs[name] for name in self.connections}
            if not earlier and not self._is_stored(data) and not self._knows_servers(data, sides):
                return ""
            made = self._make(data)
        except ValidationError as error:
            self._take(flatten(error.detail))
            self._forget_misdirected()
        except IdempotencyConflict:
            self._renew_key()
            self.options.add_error(
                None,
                "This form has started another job already. Press the button again to start this one too.",
            )
        else:
            drafts.drop(self._request, self.draft)
            return made
        return ""

    def _is_stored(self, data: Json) -> bool:
        """Whether this very request is stored already, so that nobody has to look at its servers."""
        return False

    def _make(self, data: Json) -> str:
        """Start the job; its page. Raises ValidationError, IdempotencyConflict."""
        meta = RequestMeta.of(self._request, idempotency_key=self.options.cleaned_data["key"] or None)
        if (run_at := cast(StartForm, self.when).run_at) is not None:
            refuse_instant(run_at, "start_at")
        job, _ = type(self).submit(self._request.user, data, meta.starting(run_at))
        return reverse("job", args=[job.pk])

    def try_out(self) -> None:
        """Connect to the tested side as it was entered: its form then has what came of it, or errors beside its fields,
        or `asked` a host key."""
        name = self.tested_side
        self._attend_to(self.connections[name])
        if self.connections[name].errors:
            return
        conn = self._conn(name)
        try:
            config = validated(ConnSerializer, self._request.user, conn)
        except ValidationError as error:
            self._take({f"{name}.{field}": texts for field, texts in flatten(error.detail).items()})
            self._forget_misdirected()
            return
        if not self._knows_servers({name: conn}, {name: config}):
            return
        endpoint = endpoints.unsaved(self._request.user.pk, config)
        try:
            found = probe_endpoint(self._request.user, endpoint, config["root_path"], asks_first=True)
        except Busy as busy:
            self.connections[name].add_error(None, str(busy.detail))
            return
        self.connections[name].tested = found

    def look_ahead(self) -> None:
        """Say when it would run; nothing is made."""
        self._attend_to(self.when)

    def _attend_to(self, part: forms.Form) -> None:
        """Keep what was entered; what is wrong or missing elsewhere than in one part does not matter yet."""
        self._keep_secrets()
        for form in self.parts:
            form.is_valid()
            if form is not part:
                form.errors.clear()

    def _earlier(self) -> str:
        """The page of the job that this form has made already; empty when it has made none."""
        key = self._key()
        job = Job.objects.owned_by(self._request.user).filter(idempotency_key=key).first() if key else None
        return reverse("job", args=[job.pk]) if job is not None else ""

    def _key(self) -> str:
        """By which a second press is known."""
        return self._request.POST.get(self.options.add_prefix("key"), "")

    def _keep_secrets(self) -> None:
        """Put the secrets that were sent into the draft; ask anew for those of another account."""
        for name, form in self.connections.items():
            form.is_valid()
            conn = form.connection_data()
            if not _is_typed(conn):
                continue
            is_gone = self.draft.forget_others(name, conn) or bool(self._word and not self.draft.word)
            if is_gone and not any(form.cleaned_data.get(secret) for secret in SECRET_FIELDS):
                form.add_error(
                    "password", "Enter it again: it is not kept for another server, user or jump host."
                )
            self.draft.keep(name, conn)
        drafts.save(self._request, self.draft)

    def _forget_misdirected(self) -> None:
        """Forget the secrets of an account that is none; they are kept for one account and no other."""
        for name, form in self.connections.items():
            if {"host", "port", "username", "jump", "jump_connection"} & set(
                form.errors
            ) and name in self.draft.sides:
                del self.draft.sides[name]
                self.drops_secrets = True
        drafts.save(self._request, self.draft)

    def _knows_servers(self, data: Json, configs: dict[str, Json]) -> bool:
        """Whether every server is there and shows the key that it should; else errors or `asked` say what is wrong."""
        self._trust(data, configs)
        try:
            found = contacts.look(self._request.user, configs)
        except Busy as busy:
            self.options.add_error(None, str(busy.detail))
            return False
        for name, contact in found.items():
            if contact.error:
                self.connections[name].add_error(_server_field(data[name]), contact.error)
        if any(contact.error for contact in found.values()):
            return False
        self.asked = {name: contact for name, contact in found.items() if contact.unknown_key is not None}
        self.draft.keys = {
            name: {
                "host": contact.endpoint.host,
                "port": contact.endpoint.port,
                "algorithm": contact.unknown_key.algorithm,
                "fingerprint": contact.unknown_key.fingerprint,
            }
            for name, contact in self.asked.items()
            if contact.unknown_key is not None
        }
        drafts.save(self._request, self.draft)
        return not self.asked

    def _trust(self, data: Json, configs: dict[str, Json]) -> None:
        """Pin the keys that were shown and said yes to, and have the job demand just these."""
        for name, key in self.draft.keys.items():
            if name not in configs:
                continue
            servers = endpoints.servers_of(endpoints.unsaved(self._request.user.pk, configs[name]))
            server = next(
                (one for one in servers if (one.host, one.port) == (key["host"], key["port"])), None
            )
            if server is None or key["fingerprint"] not in self._request.POST.getlist("trust"):
                continue
            try:
                endpoints.pin(server, HostKey(key["algorithm"], key["fingerprint"]))
            except HostKeyRejected as error:
                self.connections[name].add_error(_server_field(data[name]), str(error))
            if _is_typed(data[name]) and server is servers[-1]:
                data[name]["host_key"] = key["fingerprint"]

    def _take(self, fields: dict[str, list[str]]) -> None:
        """Put each error of the shared validation beside its field; a name without a field is named."""
        for dotted, messages in fields.items():
            side, _, rest = dotted.partition(".")
            for message in messages:
                if side in self.connections:
                    self.connections[side].take(rest, message)
                elif dotted.partition(".")[0] == self.patterns_field:
                    self.options.add_error("exclusions", message)
                elif dotted in self.options.fields:
                    self.options.add_error(dotted, message)
                elif dotted in self.when.fields:
                    self.when.add_error(dotted, message)
                elif dotted in ("", "non_field_errors"):
                    self.options.add_error(None, message)
                else:
                    self.options.add_error(None, f"{dotted}: {message}")

    def _renew_key(self) -> None:
        data = self._request.POST.copy()
        data[self.options.add_prefix("key")] = uuid.uuid4().hex
        self.options.data = data


def _is_typed(conn: Json) -> bool:
    """Whether a side is a server that was typed in; neither a stored connection nor this machine."""
    return conn.get("protocol") == "sftp"


def _server_field(conn: Json) -> str:
    return "host" if _is_typed(conn) else "connection"


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
    serializer = ScanRequestSerializer
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
    serializer = TransferRequestSerializer
    submit = staticmethod(submit_transfer)


def _form_page(form_class: type[JobForm]) -> Callable[..., HttpResponse]:
    @page
    def view(request: SignedRequest) -> HttpResponse:
        first = first_values(request, form_class.job_type, form_class.patterns_field)
        form = form_class(request, first)
        if request.method == "GET":
            keep_secrets(request, form.draft, form_class.job_type, first)
        return answer(request, form, "pages/new_job.html")

    return view


def answer(request: SignedRequest, form: JobForm, template: str) -> HttpResponse:
    """What comes of a form: itself, the question whether a host key may be trusted, or the page of what it made."""
    status = 200
    if request.method == "POST":
        if address := form.folders_address():
            return redirect(address)
        made, is_back = "", "back" in request.POST
        if form.tested_side and not is_back:
            form.try_out()
        elif "preview" in request.POST:
            form.look_ahead()
        elif not is_back and not form.is_too_long:
            made = form.start()
        if made:
            return redirect(made)
        if form.asked:
            return render(request, "pages/first_contact.html", {"form": form})
        status = 400 if form.errors and not is_back else 200
    return render(request, template, {"form": form}, status=status)


new_scan = _form_page(ScanForm)
new_transfer = _form_page(TransferForm)
