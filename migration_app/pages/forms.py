"""The forms. They only carry text to `migration_app.submission`, which validates for pages and API alike."""

import uuid
from collections.abc import Collection, Mapping
from datetime import timedelta
from typing import Any, cast

from django import forms
from django.conf import settings
from rest_framework.exceptions import ValidationError

from migration_app import connections
from migration_app.bandwidth import timetable_of_text, timetable_text
from migration_app.endpoints import JUMP, MOST_CONNECTIONS, SECRETS
from migration_app.serializers import jump_of_text
from sessions_app.durations import duration_text, parse_duration
from sessions_app.models import HIGHEST_PRIORITY, LOWEST_PRIORITY, User
from sessions_app.retention import FAILED, Rule

Json = dict[str, Any]

_AS_TYPED = {"autocapitalize": "none", "spellcheck": "false"}
# A browser would offer the name and password of Haulier itself.
_NO_GUESSING = {"autocomplete": "off", **_AS_TYPED}


class UnreadTextarea(forms.Textarea):
    """A text area that never gives back what was typed into it."""

    def format_value(self, value: Any) -> str | None:
        """Nothing."""
        return None


def _secret_field(label: str, help_text: str = "") -> forms.CharField:
    """A password or passphrase."""
    widget = forms.PasswordInput(attrs={"autocomplete": "new-password"})
    return forms.CharField(label=label, strip=False, widget=widget, help_text=help_text)


def _key_field(label: str) -> forms.CharField:
    """A private key as text."""
    return forms.CharField(
        label=label,
        strip=False,
        widget=UnreadTextarea(attrs={"rows": 3, **_NO_GUESSING}),
        help_text="The key's whole text, from -----BEGIN to END-----.",
    )


SECRET_FIELDS = (*SECRETS, *(JUMP + name for name in SECRETS))


class ConnectionForm(forms.Form):
    """A server, who we are there, what it is reached through, and a folder."""

    protocol = forms.ChoiceField(
        label="Where",
        choices=[("local", "This machine"), ("sftp", "SFTP server")],
        widget=forms.RadioSelect,
    )
    host = forms.CharField(label="Host", widget=forms.TextInput(attrs=_AS_TYPED))
    port = forms.CharField(
        label="Port",
        widget=forms.TextInput(attrs={"inputmode": "numeric", "placeholder": "22", **_AS_TYPED}),
    )
    username = forms.CharField(label="User", widget=forms.TextInput(attrs=_NO_GUESSING))
    password = _secret_field("Password", "Stored encrypted for this job, never shown again.")
    ssh_key = _key_field("Private key")
    passphrase = _secret_field("Passphrase of the key")
    jump = forms.CharField(
        label="Jump host",
        widget=forms.TextInput(attrs={"placeholder": "user@bastion.example.org:22", **_AS_TYPED}),
        help_text="A server to go through, as with ssh -J. Without a sign-in of its own it gets the one from above.",
    )
    jump_connection = forms.ChoiceField(label="Jump host that is stored")
    jump_password = _secret_field("Password of the jump host")
    jump_ssh_key = _key_field("Private key for the jump host")
    jump_passphrase = _secret_field("Passphrase of that key")
    root_path = forms.CharField(
        label="Folder",
        widget=forms.TextInput(attrs={"placeholder": "/var/www/example.org", **_AS_TYPED}),
        help_text="The absolute path.",
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: dict[str, str] = {}
        for field in self.fields.values():
            field.required = False
        has_local = user.is_owner and bool(settings.LOCAL_ROOTS)
        protocol = cast(forms.ChoiceField, self.fields["protocol"])
        if not has_local:
            protocol.choices = [("sftp", "SFTP server")]
        if not self.is_bound and "protocol" not in self.initial:
            protocol.initial = "local" if has_local else "sftp"
        self.initial["port"] = self.initial.get("port") or ""
        self._jump: Json = self.initial.get("jump") or {}
        if self._jump:
            is_stored = "connection" in self._jump
            self.initial["jump"] = "" if is_stored else jump_text(self._jump)
            self.initial["jump_connection"] = self._jump["connection"] if is_stored else ""
        stored = connections.of(user).filter(protocol="sftp").exclude(options__has_key="jump")
        cast(forms.ChoiceField, self.fields["jump_connection"]).choices = [
            ("", "None"),
            *((str(row.pk), row.name) for row in stored.order_by("name")),
        ]

    def say_held(self, texts: dict[str, str]) -> None:
        """Say beside their fields which secrets are there already, by the names of the fields."""
        self._held |= texts
        for name, text in texts.items():
            self.fields[name].help_text = text

    @property
    def has_key(self) -> bool:
        """Whether there is something about a private key."""
        return any(name in self._held or name in self.errors for name in ("ssh_key", "passphrase"))

    @property
    def has_jump(self) -> bool:
        """Whether there is something in the fields of the jump host."""
        names = ("jump", "jump_connection", *(JUMP + name for name in SECRETS))
        return any(self[name].value() or name in self.errors for name in names)

    def connection_data(self) -> Json:
        """The Conn object of the HTTP contract."""
        read = self.cleaned_data.get
        found: Json = {"protocol": read("protocol") or "", "root_path": read("root_path") or ""}
        if found["protocol"] == "local":
            return found
        port = read("port") or ""
        found["port"] = int(port) if port.isascii() and port.isdigit() and len(port) < 7 else port or 0
        for name in ("host", "username", *SECRETS):
            found[name] = self._text(name)
        found["jump"] = self._jump_data()
        return {name: value for name, value in found.items() if value not in ("", {}) or name == "host"}

    def _jump_data(self) -> Json | str:
        """The jump host as the HTTP contract has it; empty for none."""
        if stored := self._text("jump_connection"):
            return {"connection": stored}
        text = self._text("jump").strip()
        given = {name: self._text(JUMP + name) for name in SECRETS if self._text(JUMP + name)}
        if not text:
            return ""
        if self._jump and text == self.initial["jump"]:
            # What is not on the form is not lost by it.
            return self._jump | given
        try:
            return jump_of_text(text) | given
        except ValidationError:
            # The one who takes the request says why.
            return text

    def _text(self, name: str) -> str:
        # Browsers send a text area's lines with CR LF.
        return str(self.cleaned_data.get(name) or "").replace("\r\n", "\n")

    def clean(self) -> Json:
        """One jump host at most."""
        is_typed = self.cleaned_data.get("protocol") == "sftp"
        if is_typed and self._text("jump") and self._text("jump_connection"):
            self.add_error(
                "jump", "Leave this empty, or choose no stored one: there is one jump host at most."
            )
        return self.cleaned_data

    def take(self, name: str, sentence: str) -> None:
        """Put an error of the shared validation beside its field; a name without a field is named."""
        field = name.replace("jump.", JUMP)
        if field not in self.fields:
            field = name.partition(".")[0]
        if field in self.fields:
            self.add_error(field, sentence)
        elif field in ("", "non_field_errors"):
            self.add_error(None, sentence)
        else:
            self.add_error(None, f"{name}: {sentence}")


def jump_text(jump: Json) -> str:
    """A jump host as it is typed: `user@host:port`."""
    host = f"[{jump['host']}]" if ":" in jump["host"] else jump["host"]
    return f"{jump['username']}@{host}" + (f":{jump['port']}" if jump["port"] else "")


class SideForm(ConnectionForm):
    """One side of a job: as typed, or a stored connection."""

    connection = forms.ChoiceField(label="Connection")
    tested: dict[str, Any] | None = None
    """The ProbeResult of a test that was asked for, to be shown."""

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, user=user, **kwargs)
        stored = [(str(row.pk), row.name) for row in connections.of(user).order_by("name")]
        cast(forms.ChoiceField, self.fields["connection"]).choices = stored
        if stored:
            protocol = cast(forms.ChoiceField, self.fields["protocol"])
            protocol.choices = [*cast(Any, protocol.choices), ("stored", "Stored connection")]
            self.fields[
                "root_path"
            ].help_text = (
                "The absolute path. A stored connection has one of its own: leave this empty to use it."
            )

    def connection_data(self) -> Json:
        """The Conn object of the HTTP contract."""
        if self.cleaned_data.get("protocol") != "stored":
            return super().connection_data()
        read = self.cleaned_data.get
        found = {"connection": read("connection") or "none", "root_path": read("root_path") or ""}
        return {name: value for name, value in found.items() if value}


class LinesField(forms.CharField):
    """A list of texts, one a line; blanks at the ends of a line are part of it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)

    def to_python(self, value: Any) -> Any:
        """The lines that are not empty."""
        return [line for line in str(value or "").replace("\r", "").split("\n") if line.strip()]

    def prepare_value(self, value: Any) -> Any:
        """The text of a list to begin with, or what was typed."""
        return "\n".join(value) if isinstance(value, list) else value


class TimetableField(forms.CharField):
    """Limits of bandwidth by times of day, an entry a line; its value are the entries of a request."""

    widget = forms.Textarea(attrs={"rows": 2, "placeholder": "08:00-18:00 2", **_AS_TYPED})

    def __init__(self) -> None:
        super().__init__(
            label="Bandwidth by time of day",
            required=False,
            help_text=(
                "One entry a line: <code>08:00-18:00 2</code> or <code>sat,sun 00:00-00:00 off</code>. "
                "At all other times the bandwidth above holds."
            ),
        )

    def to_python(self, value: Any) -> Any:
        """The entries."""
        try:
            return timetable_of_text(super().to_python(value) or "")
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None

    def prepare_value(self, value: Any) -> Any:
        """The text of entries, or what was typed."""
        return timetable_text(value) if isinstance(value, list) else value

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether other entries were typed, however they are written."""
        try:
            return bool(self.to_python(data) != (initial or []))
        except forms.ValidationError:
            return True


class ZoneField(forms.CharField):
    """A time zone."""

    def __init__(self) -> None:
        super().__init__(
            label="Time zone of these times",
            required=False,
            initial="UTC",
            widget=forms.TextInput(attrs={"data-zone": "first", **_AS_TYPED}),
            help_text="Such as Europe/Berlin.",
        )


def keep_zone(form: forms.Form) -> None:
    """Leave the zone as it is where there are times in it; else the script enters the reader's own."""
    if form.is_bound or form.initial.get("bandwidth_timetable"):
        form.fields["bandwidth_timezone"].widget.attrs.pop("data-zone")


def zone_data(form: forms.Form) -> Json:
    """The zone of the times that were entered, as a request has it; nothing without times."""
    read = form.cleaned_data.get
    return {"bandwidth_timezone": read("bandwidth_timezone") or "UTC"} if read("bandwidth_timetable") else {}


class StoredConnectionForm(ConnectionForm):
    """A connection to be stored or changed."""

    name = forms.CharField(
        label="Name",
        widget=forms.TextInput(attrs=_AS_TYPED),
        help_text="What you call it; without a colon or a slash.",
    )
    max_connections = forms.CharField(
        label="Connections at once",
        widget=forms.TextInput(
            attrs={"inputmode": "numeric", "placeholder": str(MOST_CONNECTIONS), **_AS_TYPED}
        ),
        help_text="Of all jobs together. Many hosters allow a few only.",
    )
    bandwidth_limit = forms.FloatField(
        label="Bandwidth in MB/s",
        required=False,
        min_value=0,
        help_text="Of all jobs together that use this connection. Heeded at once. Empty: no limit.",
    )
    bandwidth_timetable = TimetableField()
    bandwidth_timezone = ZoneField()

    def __init__(self, *args: Any, user: User, secrets_stored: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, user=user, **kwargs)
        keep_zone(self)
        self.fields["password"].help_text = "Stored encrypted, never shown again."
        whats = {"password": "A password", "ssh_key": "A key", "passphrase": "A passphrase"}
        self.say_held(
            {
                name: f"{whats[name.removeprefix(JUMP)]} is stored. Leave this empty to keep it."
                for name in secrets_stored
            }
        )

    def connection_data(self) -> Json:
        """The Conn object of the HTTP contract."""
        found = super().connection_data()
        number = self._text("max_connections").strip()
        if number and found["protocol"] != "local":
            found["max_connections"] = int(number) if number.isascii() and number.isdigit() else number
        names = ("bandwidth_limit", "bandwidth_timetable")
        given = {name: self.cleaned_data[name] for name in names if self.cleaned_data.get(name)}
        return found | given | zone_data(self)


_SILENT = ("key", "bandwidth_timezone")
"""What says nothing by itself."""


class OptionsForm(forms.Form):
    """What scan and transfer have in common."""

    key = forms.CharField(widget=forms.HiddenInput, required=False, max_length=64)
    exclusions = forms.CharField(
        label="Leave out",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "cache\n*.log", **_AS_TYPED}),
        help_text="One pattern a line. Without a slash it fits a name anywhere, with one it starts at the folder.",
    )

    follow_symlinks = forms.BooleanField(
        label="Follow links",
        required=False,
        help_text="A link to something in the same folder counts as what it leads to. Links that lead out stay links.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["key"].initial = uuid.uuid4().hex
        for name, field in self.fields.items():
            if isinstance(field, forms.IntegerField) and not self.initial.get(name):
                # No limit, which the contract writes as 0.
                self.initial[name] = None

    @property
    def is_open(self) -> bool:
        """Whether something in the folded part is wrong, or not as it is without a choice."""
        said = (
            (self[name].value(), field.initial) for name, field in self.fields.items() if name not in _SILENT
        )
        return bool(self.errors) or any((value or None) != (usual or None) for value, usual in said)

    def patterns(self) -> list[str]:
        """The exclusions as glob strings."""
        lines = str(self.cleaned_data.get("exclusions", "")).splitlines()
        return [line.strip() for line in lines if line.strip()]


class ScanOptionsForm(OptionsForm):
    """The options of a scan."""

    include_hidden = forms.BooleanField(
        label="Hidden files too",
        required=False,
        initial=True,
        help_text="A site without its .htaccess is broken.",
    )
    detect_cms = forms.BooleanField(
        label="Look what kind of site it is",
        required=False,
        initial=True,
        help_text="WordPress, Joomla, Drupal and others: reads version and database name, never a password.",
    )
    max_depth = forms.IntegerField(
        label="Deepest level",
        required=False,
        min_value=0,
        help_text="1: only what lies in the folder itself. Empty: all levels.",
    )
    max_files = forms.IntegerField(
        label="Most files",
        required=False,
        min_value=0,
        help_text="The scan ends there, whichever came first. Empty: no limit.",
    )


class TransferOptionsForm(OptionsForm):
    """The options of a transfer."""

    files = LinesField(  # type: ignore[assignment] # Django takes it into `fields`
        label="Only these paths",
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "wp-content/uploads\nindex.php", **_AS_TYPED}),
        help_text="Files or folders, one a line, as seen from the folder. Empty: everything.",
    )
    verify_after_transfer = forms.BooleanField(
        label="Verify afterwards",
        required=False,
        initial=True,
        help_text="Lists the destination once more and compares both sides by content (SHA-256).",
    )
    checksum = forms.BooleanField(
        label="Compare contents first",
        required=False,
        help_text="Files of equal size are told apart by what they hold (SHA-256), whatever their times. "
        "A server that gives no shell has them read over the network.",
    )
    conflict = forms.ChoiceField(
        label="Files that differ at the destination",
        required=False,
        choices=[
            ("overwrite", "Replace them"),
            ("newer", "Replace older ones"),
            ("skip", "Keep them"),
            ("rename", "Keep them, and put the new ones beside them"),
        ],
        initial="overwrite",
    )
    delete_extraneous = forms.BooleanField(
        label="Delete what the source does not have",
        required=False,
        help_text="At the destination, at the end, and only if nothing failed. What is left out by a pattern stays.",
    )
    confirm_deletions = forms.IntegerField(
        label="Deletions that are right",
        required=False,
        min_value=0,
        help_text="More than 100, or than half of what is there, are asked about: the number that you are told.",
    )
    bandwidth_limit = forms.FloatField(
        label="Bandwidth in MB/s",
        required=False,
        min_value=0,
        help_text="At most so much, for a server that has visitors meanwhile. Empty: no limit.",
    )
    bandwidth_timetable = TimetableField()
    bandwidth_timezone = ZoneField()
    skip_large_files = forms.FloatField(
        label="Largest file in MB",
        required=False,
        min_value=0,
        help_text="Larger ones are left out. Empty: none is too large.",
    )
    ignore_errors = forms.BooleanField(
        label="Complete in spite of files that fail",
        required=False,
        help_text="They are named all the same.",
    )
    dry_run = forms.BooleanField(
        label="Only compare",
        required=False,
        help_text="Says what would be copied; nothing is written.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keep_zone(self)


class ChangeForm(forms.Form):
    """What may be changed of a job."""

    title = forms.CharField(label="Name", max_length=500)
    keep = forms.BooleanField(
        label="Keep it", required=False, help_text="It stays here when its time is over, until you delete it."
    )
    priority = forms.IntegerField(
        label="Priority",
        min_value=LOWEST_PRIORITY,
        max_value=HIGHEST_PRIORITY,
        help_text=f"From {LOWEST_PRIORITY} to {HIGHEST_PRIORITY}: jobs with a higher one go first. Usually 0.",
    )
    bandwidth_limit = forms.FloatField(
        label="Bandwidth in MB/s", required=False, min_value=0, help_text="Heeded at once. Empty: no limit."
    )
    bandwidth_timetable = TimetableField()
    bandwidth_timezone = ZoneField()

    def __init__(self, *args: Any, names: Collection[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        keep_zone(self)
        for name in set(self.fields) - set(names):
            del self.fields[name]

    @property
    def wanted(self) -> Json:
        """What was changed, as a request has it: what was not touched may have been changed elsewhere meanwhile."""
        said = {name: 0 if value is None else value for name, value in self.cleaned_data.items()}
        return {name: said[name] for name in self.changed_data if name != "bandwidth_timezone"} | (
            zone_data(self) if "bandwidth_timezone" in self.changed_data else {}
        )


class RetentionForm(forms.Form):
    """How long finished jobs stay, a row for each type and one for those that failed."""

    def __init__(self, *args: Any, rules: Mapping[str, Rule], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._names = list(rules)
        for name, rule in rules.items():
            word = "Failed jobs" if name == FAILED else f"{name.capitalize()} jobs"
            self.fields[f"{name}-stays"] = DurationField(label=f"{word} stay", initial=rule.stays)
            self.fields[f"{name}-most"] = forms.IntegerField(
                label=f"{word} at the most",
                initial=rule.most,
                required=False,
                min_value=1,
                max_value=2**31 - 1,
                widget=forms.TextInput(attrs={"inputmode": "numeric"}),
            )

    @property
    def rows(self) -> list[tuple[str, forms.BoundField, forms.BoundField]]:
        """Each name with its two fields."""
        return [(name, self[f"{name}-stays"], self[f"{name}-most"]) for name in self._names]

    def rules(self) -> dict[str, Rule]:
        """What was entered."""
        said = self.cleaned_data
        return {name: Rule(said[f"{name}-stays"], said[f"{name}-most"]) for name in self._names}


class DurationField(forms.CharField):
    """A length of time such as 90d."""

    widget = forms.TextInput(attrs=_AS_TYPED)

    def to_python(self, value: Any) -> Any:
        """The length, or None where the field is empty."""
        text = super().to_python(value)
        if not text:
            return None
        try:
            return parse_duration(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None

    def prepare_value(self, value: Any) -> Any:
        """The text of a length, or what was typed."""
        return duration_text(value) if isinstance(value, timedelta) else value
