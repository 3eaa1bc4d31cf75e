"""The forms. They only carry text to `migration_app.submission`, which validates for pages and API alike."""

import uuid
from collections.abc import Collection
from typing import Any, cast

from django import forms
from django.conf import settings

from migration_app import connections
from sessions_app.models import User

Json = dict[str, Any]

_AS_TYPED = {"autocapitalize": "none", "spellcheck": "false"}
# A browser would offer the name and password of Haulier itself.
_NO_GUESSING = {"autocomplete": "off", **_AS_TYPED}


class UnreadTextarea(forms.Textarea):
    """A text area that never gives back what was typed into it."""

    def format_value(self, value: Any) -> str | None:
        """Nothing."""
        return None


class ConnectionForm(forms.Form):
    """A server, who we are there, and a folder."""

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
    password = forms.CharField(
        label="Password",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
        help_text="Stored encrypted for this job, never shown again.",
    )
    ssh_key = forms.CharField(
        label="Private key",
        strip=False,
        widget=UnreadTextarea(attrs={"rows": 3, **_NO_GUESSING}),
        help_text="The key's whole text, from -----BEGIN to END-----.",
    )
    passphrase = forms.CharField(
        label="Passphrase of the key",
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )
    root_path = forms.CharField(
        label="Folder",
        widget=forms.TextInput(attrs={"placeholder": "/var/www/example.org", **_AS_TYPED}),
        help_text="The absolute path.",
    )

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.required = False
        has_local = user.is_owner and bool(settings.LOCAL_ROOTS)
        protocol = cast(forms.ChoiceField, self.fields["protocol"])
        if not has_local:
            protocol.choices = [("sftp", "SFTP server")]
        if not self.is_bound and "protocol" not in self.initial:
            protocol.initial = "local" if has_local else "sftp"

    def connection_data(self) -> Json:
        """The Conn object of the HTTP contract."""
        read = self.cleaned_data.get
        found: Json = {"protocol": read("protocol") or "", "root_path": read("root_path") or ""}
        if found["protocol"] == "local":
            return found
        port = read("port") or ""
        found["port"] = int(port) if port.isascii() and port.isdigit() and len(port) < 7 else port or 0
        for name in ("host", "username", "password", "passphrase"):
            found[name] = read(name) or ""
        # Browsers send a text area's lines with CR LF.
        found["ssh_key"] = (read("ssh_key") or "").replace("\r\n", "\n")
        return {name: value for name, value in found.items() if value != "" or name == "host"}


class SideForm(ConnectionForm):
    """One side of a job: as typed, or a stored connection."""

    connection = forms.ChoiceField(label="Connection")

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, user=user, **kwargs)
        stored = [(str(row.pk), row.name) for row in connections.of(user).order_by("name")]
        cast(forms.ChoiceField, self.fields["connection"]).choices = stored
        if stored:
            protocol = cast(forms.ChoiceField, self.fields["protocol"])
            protocol.choices = [*cast(Any, protocol.choices), ("stored", "Stored connection")]

    def connection_data(self) -> Json:
        """The Conn object of the HTTP contract."""
        if self.cleaned_data.get("protocol") != "stored":
            return super().connection_data()
        read = self.cleaned_data.get
        found = {"connection": read("connection") or "none", "root_path": read("root_path") or ""}
        return {name: value for name, value in found.items() if value}


class StoredConnectionForm(ConnectionForm):
    """A connection to be stored or changed."""

    name = forms.CharField(
        label="Name",
        widget=forms.TextInput(attrs=_AS_TYPED),
        help_text="What you call it; without a colon or a slash.",
    )

    def __init__(self, *args: Any, user: User, secrets_stored: Collection[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, user=user, **kwargs)
        self.fields["password"].help_text = "Stored encrypted, never shown again."
        for name, what in (("password", "A password"), ("ssh_key", "A key"), ("passphrase", "A passphrase")):
            if name in secrets_stored:
                self.fields[name].help_text = f"{what} is stored. Leave this empty to keep it."


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


class TransferOptionsForm(OptionsForm):
    """The options of a transfer."""

    verify_after_transfer = forms.BooleanField(
        label="Verify afterwards",
        required=False,
        initial=True,
        help_text="Lists the destination once more and compares sizes.",
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
