"""The pages of stored connections: the list, one of them with its last test, its form, its folders."""

import posixpath
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.http import Http404, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from rest_framework.exceptions import ValidationError

from migration_app import connections, endpoints, secrets
from migration_app.bandwidth import limit_of
from migration_app.models import Endpoint
from migration_app.models import HostKey as HostKeyRow
from migration_app.pages.forms import SECRET_FIELDS, StoredConnectionForm
from migration_app.pages.frame import SignedRequest, page
from migration_app.pages.new_job import JobForm, ScanForm, TransferForm
from migration_app.pages.schedule_form import FORMS
from migration_app.pages.wording import plain_text
from migration_app.paths import path_text
from migration_app.secrets import CannotOpen
from migration_app.storages.base import HostKey
from migration_app.storages.errors import HostKeyRejected, StorageError
from migration_app.visits import Busy
from sessions_app.problems import Conflict, flatten

Json = dict[str, Any]

PAGE_ROWS = 500
_ALL_FORMS: list[type[JobForm]] = [TransferForm, ScanForm, *FORMS.values()]
_JOB_FORMS = {form.action: form for form in _ALL_FORMS}


def _stored(request: SignedRequest, number: int) -> Endpoint:
    found = endpoints.find_stored(request.user, str(number))
    if found is None:
        raise Http404
    return found


@require_safe
@page
def connection_list(request: SignedRequest) -> HttpResponse:
    """All of them, by name."""
    rows = connections.of(request.user).order_by("name")
    return render(request, "pages/connections.html", {"rows": rows})


@require_safe
@page
def connection(request: SignedRequest, number: int) -> HttpResponse:
    """One of them, with its last test, and the question whether an unknown host key may be trusted."""
    stored = _stored(request, number)
    jump = endpoints.jump_of(stored)
    context = {
        "stored": stored,
        "jump": jump,
        "secrets": sorted(secrets.unseal_or_nothing(stored.sealed)),
        "pinned": endpoints.pinned_key(stored),
        "pinned_jump": endpoints.pinned_key(jump) if jump is not None else None,
        "asked_key": _asked_key(stored),
        "changed_key": _changed_key(stored),
        "jobs": connections.jobs_using(stored),
        "schedules": connections.schedules_using(stored),
        "most": endpoints.most_connections(stored),
        "bandwidth": limit_of(stored.options).words,
    }
    return render(request, "pages/stored_connection.html", context)


def _seen_keys(stored: Endpoint, status: str) -> list[Json]:
    """The keys of such a status that the last test saw, with the server that showed them and the pinned one."""
    names = ("host_key",) if endpoints.jump_of(stored) is None else ("jump_host_key", "host_key")
    seen = zip(endpoints.servers_of(stored), names, strict=False)
    keys = [(server, (stored.last_test or {}).get(name)) for server, name in seen]
    return [
        key | {"server": server, "pinned": endpoints.pinned_key(server)}
        for server, key in keys
        if key is not None and key["status"] == status
    ]


def _asked_key(stored: Endpoint) -> Json | None:
    """The unknown key that the last test saw, where a person may trust it."""
    if settings.HOST_KEYS == "strict":
        return None
    return next((key for key in _seen_keys(stored, "new") if key["pinned"] is None), None)


def _changed_key(stored: Endpoint) -> Json | None:
    """The key that the last test saw in place of the wanted one, which is wanted still."""
    keys = _seen_keys(stored, "changed")
    return next((key for key in keys if key["pinned"] or key["server"].options.get("host_key")), None)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def new_connection(request: SignedRequest) -> HttpResponse:
    """Store a connection and try it out."""
    return _form_page(request, None)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def edit_connection(request: SignedRequest, number: int) -> HttpResponse:
    """Change a connection and try it out."""
    return _form_page(request, _stored(request, number))


def _form_page(request: SignedRequest, stored: Endpoint | None) -> HttpResponse:
    known: Json = {}
    if stored is not None:
        known = endpoints.fields(stored) | endpoints.bandwidth(stored) | {"name": stored.name}
    held = secrets.unseal_or_nothing(stored.sealed) if stored is not None else {}
    data = request.POST if request.method == "POST" else None
    form = StoredConnectionForm(data, user=request.user, secrets_stored=held, initial=known)
    status = 200
    if request.method == "POST":
        saved = _save(request, form, stored)
        if saved is not None:
            _try_out(request, saved)
            return redirect("connection", saved.pk)
        status = 400
    context = {
        "form": form,
        "stored": stored,
        "pins": _pins(stored) if stored is not None else [],
        "drops_secrets": form.is_bound and any(form.cleaned_data.get(name) for name in SECRET_FIELDS),
    }
    return render(request, "pages/connection_form.html", context, status=status)


def _pins(stored: Endpoint) -> list[tuple[Endpoint, HostKeyRow]]:
    """The servers on the way whose keys are pinned, the last one first."""
    found = [(server, endpoints.pinned_key(server)) for server in reversed(endpoints.servers_of(stored))]
    return [(server, pinned) for server, pinned in found if pinned is not None]


def _save(request: SignedRequest, form: StoredConnectionForm, stored: Endpoint | None) -> Endpoint | None:
    """The connection as it is stored now, or None with the errors in the form."""
    if not form.is_valid():
        return None
    data = form.connection_data() | {"name": form.cleaned_data["name"]}
    try:
        if stored is None:
            return connections.create(request.user, data)
        if stored.options.get("host_key") and endpoints.is_same_account(stored, data):
            # Not on the form, and not to be lost by it.
            data["host_key"] = stored.options["host_key"]
        return connections.update(request.user, stored, data, is_partial=False)
    except ValidationError as error:
        for name, sentences in flatten(error.detail).items():
            for sentence in sentences:
                form.take(name, sentence)
    except Conflict as error:
        form.add_error(None, str(error.detail))
    return None


@require_POST
@page
def test_connection(request: SignedRequest, number: int) -> HttpResponse:
    """Try a connection out; its page shows what came of it."""
    _try_out(request, _stored(request, number))
    return redirect("connection", number)


def _try_out(request: SignedRequest, stored: Endpoint) -> None:
    try:
        connections.try_out(request.user, stored, asks_first=True)
    except Busy as busy:
        messages.error(request, str(busy.detail))


@require_POST
@page
def trust_host_key(request: SignedRequest, number: int) -> HttpResponse:
    """Pin the key that the last test saw, if it is the one that was shown to the person, and test again."""
    stored = _stored(request, number)
    key = _asked_key(stored)
    if key is None or key["fingerprint"] != request.POST.get("fingerprint"):
        messages.error(request, "That is not the key that the last test saw. Test the connection again.")
        return redirect("connection", number)
    try:
        endpoints.pin(key["server"], HostKey(key["algorithm"], key["fingerprint"]))
    except HostKeyRejected as error:
        messages.error(request, str(error))
        return redirect("connection", number)
    _try_out(request, stored)
    return redirect("connection", number)


@require_POST
@page
def forget_host_key(request: SignedRequest, number: int) -> HttpResponse:
    """Forget the pinned key of a server that has rightly changed it, and look which one it shows now."""
    stored = _stored(request, number)
    for _, pinned in _pins(stored):
        if str(pinned.pk) == request.POST.get("pin"):
            pinned.delete()
            messages.success(request, "The old key is forgotten.")
            _try_out(request, stored)
    return redirect("connection", number)


@require_http_methods(["GET", "HEAD", "POST"])
@page
def delete_connection(request: SignedRequest, number: int) -> HttpResponse:
    """Ask, then delete a connection that no unfinished job uses."""
    stored = _stored(request, number)
    if request.method != "POST":
        context = {
            "stored": stored,
            "jobs": connections.jobs_using(stored),
            "schedules": connections.schedules_using(stored),
        }
        return render(request, "pages/delete_connection.html", context)
    try:
        connections.delete(stored)
    except Conflict as error:
        messages.error(request, str(error.detail))
        return redirect("connection", number)
    messages.success(request, f"Deleted: {plain_text(stored.name)}.")
    return redirect("connections")


@require_safe
@page
def browse_connection(request: SignedRequest, number: int) -> HttpResponse:
    """One folder of the other side, to look around or to choose one for a form."""
    stored = _stored(request, number)
    path = request.GET.get("path", "") or stored.root_path
    view = FolderView(request, stored, path)
    return render(request, "pages/browse.html", {"view": view, "stored": stored}, status=view.status)


class FolderView:
    """A folder, the way to it, and what may be done with it."""

    def __init__(self, request: SignedRequest, stored: Endpoint, path: str) -> None:
        self._request = request
        self._stored = stored
        self.path = path
        self.error = ""
        self.status = 200
        self.rows: list[Json] = []
        self.total = 0
        self._start = _number(request.GET.get("start", ""))
        try:
            folder = connections.browse(request.user, stored, path, asks_first=True)
        except ValidationError as error:
            self.error, self.status = next(iter(flatten(error.detail).values()))[0], 400
        except (StorageError, CannotOpen) as error:
            self.error, self.status = str(error), 502
        except Busy as busy:
            self.error, self.status = str(busy.detail), 429
        else:
            self.path, self.total = folder.path, folder.total
            self._end = min(self._start + PAGE_ROWS, len(folder.entries))
            self.is_truncated = folder.total > len(folder.entries) and self._end == len(folder.entries)
            self._count = len(folder.entries)
            self.rows = [self._row(folder, entry) for entry in folder.entries[self._start : self._end]]

    def _row(self, folder: connections.Folder, entry: Any) -> Json:
        path = folder.path_of(entry) if entry.kind == "folder" else None
        return {
            "name": path_text(entry.path) if folder.path_of(entry) is None else entry.path.decode(),
            "kind": entry.kind.value,
            "size": entry.size,
            "modified_at": connections.modified_at(entry),
            "mode": f"{entry.mode:04o}",
            "address": self._address(path) if path is not None else "",
        }

    @property
    def crumbs(self) -> list[tuple[str, str]]:
        """The folders on the way, with their addresses; nothing where the path is none."""
        if not self.path.startswith("/"):
            return []
        found, above = [("/", self._address("/"))], "/"
        for name in filter(None, self.path.split("/")):
            above = posixpath.join(above, name)
            found.append((name, self._address(above)))
        return found

    @property
    def up(self) -> str:
        """The address of the folder above."""
        is_root = self.path == "/" or not self.path.startswith("/")
        return "" if is_root else self._address(posixpath.dirname(self.path))

    @property
    def next(self) -> str:
        """The address of the next rows."""
        return self._address(self.path, start=self._end) if self._end < self._count else ""

    @property
    def again(self) -> str:
        """The address of this folder."""
        return self._address(self.path)

    def _address(self, path: str, *, start: int = 0) -> str:
        kept = {
            name: self._request.GET[name] for name in ("for", "side", "keep") if name in self._request.GET
        }
        query = {"path": path} | kept | ({"start": str(start)} if start else {})
        return f"{reverse('browse-connection', args=[self._stored.pk])}?{urlencode(query)}"

    @property
    def uses(self) -> list[tuple[str, str]]:
        """What can be done with this folder: words and address, the first one the main one."""
        form = _JOB_FORMS.get(self._request.GET.get("for", ""))
        side = self._request.GET.get("side", "")
        if form is not None and side in form.sides:
            return [("Use this folder", self._form_address(form, side))]
        return [
            ("Transfer from here", self._form_address(TransferForm, "source_config")),
            ("Transfer to here", self._form_address(TransferForm, "dest_config")),
            ("Scan this folder", self._form_address(ScanForm, "server_config")),
        ]

    def _form_address(self, form: type[JobForm], side: str) -> str:
        query = QueryDict(self._request.GET.get("keep", ""), mutable=True)
        prefix = f"{form.action}-{side}"
        query[f"{prefix}-protocol"] = "stored"
        query[f"{prefix}-connection"] = str(self._stored.pk)
        query[f"{prefix}-root_path"] = self.path
        return f"{reverse(form.action)}?{query.urlencode()}"


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0
