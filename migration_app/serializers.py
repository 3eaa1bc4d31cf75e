"""Requests of the HTTP contract, validated for API and pages alike.

A field that is not known is refused by name; so is a known one whose feature this version does not have,
unless it stands at the value that changes nothing.
"""

import posixpath
import re
from typing import Any
from uuid import UUID

from rest_framework import serializers

from migration_app import endpoints
from migration_app.bandwidth import TimetableField, ZoneField
from migration_app.engine.choices import Conflict
from migration_app.engine.filters import parse_filter
from migration_app.models import Endpoint
from migration_app.paths import path_meant, path_text
from sessions_app.fields import MOST, Amount, StrictSerializer, Switch, Text, Whole
from sessions_app.models import Job, User

Json = dict[str, Any]

LONGEST_PATH = 4096
MOST_EXCLUSIONS = 1000
MOST_FILES = 10_000
MOST_AT_ONCE = 256
PROTOCOLS = ("local", "sftp", "scp", "ftp", "ftps", "s3", "webdav")
BUILT = {"local": "local", "sftp": "sftp", "scp": "sftp"}
METHODS = ("sftp_stream", "tar_stream", "rsync_ssh", "scp", "lftp", "rclone", "fxp")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_.])?|[0-9A-Fa-f:.]+(%[A-Za-z0-9]+)?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
_JUMP = re.compile(r"(?:([^@:/\s]+)@)?(\[[0-9A-Fa-f:.%A-Za-z]+\]|[^@:/\s]+)(?::([0-9]{1,5}))?")
_THIS_MACHINE = ("", "localhost", "127.0.0.1", "::1")


class NotYet(serializers.Field[Any, Any, Any, Any]):
    """A field whose feature this version does not have; `harmless` are the values that ask for nothing."""

    def __init__(self, *harmless: Any) -> None:
        super().__init__(required=False, write_only=True)
        self._harmless = harmless

    def to_internal_value(self, data: Any) -> Any:
        """The value, if it is harmless."""
        # 0 and false are equal to Python, not to JSON.
        if any(
            data == value and isinstance(data, bool) == isinstance(value, bool) for value in self._harmless
        ):
            return data
        raise serializers.ValidationError("This version cannot do that yet; leave the field out.")


class ServerSerializer(StrictSerializer):
    """A server and who we are there."""

    host = Text(default="", allow_blank=True, max_length=255)
    port = Whole(default=0, min_value=0, max_value=65535)
    username = Text(default="", allow_blank=True, max_length=255)
    password = Text(default="", allow_blank=True, max_length=4096)
    ssh_key = Text(default="", allow_blank=True, max_length=65536)
    passphrase = Text(default="", allow_blank=True, max_length=4096)
    host_key = Text(default="", allow_blank=True, max_length=100)
    connection = Text(default="", allow_blank=True, max_length=20)

    def validate_host(self, value: str) -> str:
        """A name or an address; one in brackets is taken out of them."""
        host = value.strip()
        host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if host and not _HOST.fullmatch(host):
            raise serializers.ValidationError(
                "Must be a host name or an IP address, without a port or a path."
            )
        return host

    def validate_username(self, value: str) -> str:
        """Text that can be sent as a name."""
        if _CONTROL.search(value):
            raise serializers.ValidationError("Must not hold control characters.")
        return value

    def validate_host_key(self, value: str) -> str:
        """A fingerprint as ssh-keygen -l prints it."""
        if value and not _FINGERPRINT.fullmatch(value):
            raise serializers.ValidationError(
                "Must be a fingerprint such as SHA256: and 43 characters of base64."
            )
        return value

    def stored_named(self, data: Json) -> Endpoint:
        """The stored connection that a request names, all of whose fields it leaves out. Raises ValidationError."""
        stored = endpoints.find_stored(self.context["user"], data["connection"])
        if stored is None:
            raise serializers.ValidationError({"connection": ["You have no stored connection of this id."]})
        known = endpoints.fields(stored)
        refused = {
            name: ["Leave this out: the stored connection has it."]
            for name, value in data.items()
            if name in self.fields
            and name not in ("connection", "root_path")
            and value not in (None, "", 0, known.get(name))
        }
        if refused:
            raise serializers.ValidationError(refused)
        return stored


class JumpSerializer(ServerSerializer):
    """The server that the way goes through; `connection` is the row of the one that is meant, absent when none is."""

    def validate(self, attrs: Json) -> Json:
        """A server of its own, or one that is stored."""
        if not attrs["connection"]:
            if not attrs["host"]:
                raise serializers.ValidationError({"host": ["Is needed."]})
            return {name: value for name, value in attrs.items() if name != "connection"}
        stored = self.stored_named(dict(self.initial_data))
        refusal = ""
        if stored.protocol != "sftp":
            refusal = "A jump host is reached by SFTP; this connection is not."
        elif stored.options.get("jump"):
            refusal = "A jump host cannot have a jump host itself."
        elif stored.pk == self.context.get("stored"):
            refusal = "A connection cannot go through itself."
        if refusal:
            raise serializers.ValidationError({"connection": [refusal]})
        names = ("host", "port", "username")
        return {
            "connection": stored.pk,
            "host_key": stored.options.get("host_key", ""),
            **{name: getattr(stored, name) for name in names},
        }


class JumpField(serializers.Field[Any, Any, Any, Any]):
    """`user@host:port`, or an object; nothing when empty."""

    def to_internal_value(self, data: Any) -> Json:
        """The object, with every field of a jump host of its own; empty for none."""
        if data in ("", {}, []):
            return {}
        if isinstance(data, str):
            data = jump_of_text(data)
        if not isinstance(data, dict):
            raise serializers.ValidationError("Must be text such as user@host:port, or an object.")
        jump = JumpSerializer(data=data, context=self.context)
        jump.is_valid(raise_exception=True)
        return dict(jump.validated_data)

    def to_representation(self, value: Any) -> Any:
        """The object."""
        return value


def jump_of_text(text: str) -> Json:
    """The object that `user@host:port` stands for. Raises ValidationError."""
    match = _JUMP.fullmatch(text.strip())
    if match is None:
        raise serializers.ValidationError("Must be like user@host:port, without a password or a path.")
    return {"username": match[1] or "", "host": match[2], "port": int(match[3] or 0)}


class ConnSerializer(ServerSerializer):
    """One side of a job; the validated form has every field and `root_path` without detours.

    `connection` is then the row of the stored connection that has the secrets; it and `jump` are absent when there is
    none.
    """

    uses_stored = True
    """Whether the secrets of stored connections may be used."""

    protocol = Text()
    root_path = Text(max_length=LONGEST_PATH)
    jump = JumpField(default=dict)
    max_connections = Whole(required=False, min_value=1, max_value=64)
    bucket = NotYet("")
    region = NotYet("")
    endpoint_url = NotYet("")
    implicit = NotYet(False)

    def to_internal_value(self, data: Any) -> Any:
        """As usual; what SFTP needs besides is told together with all else that is wrong."""
        if isinstance(data, dict) and self.uses_stored and data.get("connection"):
            data = self._of_stored(data)
        is_sftp = isinstance(data, dict) and BUILT.get(str(data.get("protocol"))) == "sftp"
        missing = {
            name: ["Is needed for SFTP."] for name in ("host", "username") if is_sftp and not data.get(name)
        }
        try:
            found = super().to_internal_value(data)
        except serializers.ValidationError as error:
            if isinstance(error.detail, dict):
                raise serializers.ValidationError({**error.detail, **missing}) from None
            raise
        if missing:
            raise serializers.ValidationError(missing)
        return found

    def validate_protocol(self, value: str) -> str:
        """One that this version speaks."""
        if value not in PROTOCOLS:
            raise serializers.ValidationError(f"Must be one of {', '.join(PROTOCOLS)}.")
        if value not in BUILT:
            raise serializers.ValidationError(
                f"This version does not speak {value} yet; it speaks local and sftp."
            )
        return BUILT[value]

    def validate_root_path(self, value: str) -> str:
        """An absolute path without `..` or control characters."""
        return plain_path(value)

    def validate(self, attrs: Json) -> Json:
        """What the protocol needs, and whether this person may use it."""
        user: User = self.context["user"]
        if not self.uses_stored and attrs["connection"]:
            raise serializers.ValidationError({"connection": ["A connection cannot refer to another one."]})
        found = int(attrs.pop("connection") or 0)
        if jump := attrs.pop("jump"):
            if attrs["protocol"] == "local":
                raise serializers.ValidationError({"jump": ["A local folder has no jump host."]})
            attrs["jump"] = jump | {"username": jump["username"] or attrs["username"]}
        if attrs["protocol"] == "local":
            attrs = self._validated_local(attrs, user)
        elif self.uses_stored and not found and not any(attrs[name] for name in endpoints.SECRETS):
            match = endpoints.stored_for(user, attrs)
            if match is not None and (refusal := endpoints.jump_refusal(match, attrs)):
                raise serializers.ValidationError({"jump": [refusal]})
            found = match.pk if match is not None else 0
        return attrs | ({"connection": found} if found else {})

    def _of_stored(self, data: Json) -> Json:
        """The fields of the stored connection that a request names."""
        known = endpoints.fields(self.stored_named(data))
        own = ("connection", "root_path")
        unknown = {name: value for name, value in data.items() if name not in self.fields}
        return unknown | known | {name: data[name] for name in own if data.get(name) not in (None, "")}

    def _validated_local(self, attrs: Json, user: User) -> Json:
        if attrs["host"] not in _THIS_MACHINE:
            raise serializers.ValidationError(
                {"host": ["A local folder has no host; leave it empty or choose sftp."]}
            )
        if not user.is_owner:
            raise serializers.ValidationError({"protocol": ["Only owners may use folders of this machine."]})
        if refusal := endpoints.local_refusal(attrs["root_path"]):
            raise serializers.ValidationError({"root_path": [refusal]})
        if "max_connections" in attrs:
            raise serializers.ValidationError({"max_connections": ["A local folder needs no connection."]})
        nothing = dict.fromkeys(("host", "username", "password", "ssh_key", "passphrase", "host_key"), "")
        return attrs | nothing | {"port": 0}


def plain_path(value: str) -> str:
    """An absolute path without detours. Raises ValidationError."""
    if not value.startswith("/"):
        raise serializers.ValidationError("Must be an absolute path: it starts with a slash.")
    if _CONTROL.search(value):
        raise serializers.ValidationError("Must not hold control characters.")
    if ".." in value.split("/"):
        raise serializers.ValidationError("Must not hold “..”.")
    if len(value.encode()) > LONGEST_PATH:
        raise serializers.ValidationError(f"Must not be longer than {LONGEST_PATH} bytes.")
    return "/" + posixpath.normpath(value).lstrip("/")


class StoredConnectionSerializer(ConnSerializer):
    """A connection to be stored: Conn and a name."""

    uses_stored = False
    name = Text(max_length=100)
    bandwidth_limit = Amount(required=False, min_value=0, max_value=MOST)
    bandwidth_timetable = TimetableField(required=False)
    bandwidth_timezone = ZoneField(required=False)

    def validate_name(self, value: str) -> str:
        """One that `NAME:/path` can be written with, and that no other connection of this person has."""
        name = value.strip()
        if not name or not name.isprintable() or any(sign in name for sign in ":/"):
            raise serializers.ValidationError("Must be printable, without a colon or a slash.")
        others = Endpoint.objects.stored().filter(owner=self.context["user"], name=name)
        if others.exclude(pk=self.context.get("stored", 0)).exists():
            raise serializers.ValidationError("Another of your connections has this name.")
        return name


class ExclusionsField(serializers.Field[Any, Any, Any, Any]):
    """Glob strings, or objects {pattern, type, reason, is_automatic, enabled}."""

    _KNOWN = ("pattern", "type", "reason", "is_automatic", "enabled")

    def to_internal_value(self, data: Any) -> list[Json]:
        """All as objects."""
        if not isinstance(data, list):
            raise serializers.ValidationError("Must be a list of patterns.")
        if len(data) > MOST_EXCLUSIONS:
            raise serializers.ValidationError(f"Must not hold more than {MOST_EXCLUSIONS} patterns.")
        found = [self._exclusion(item) for item in data]
        try:
            parse_filter(found, include_hidden=True)
        except ValueError as error:
            raise serializers.ValidationError(str(error)) from None
        return found

    def _exclusion(self, item: Any) -> Json:
        if isinstance(item, str):
            item = {"pattern": item}
        if not isinstance(item, dict):
            raise serializers.ValidationError("Each pattern must be a string or an object.")
        if unknown := [name for name in item if name not in self._KNOWN]:
            raise serializers.ValidationError(f"A pattern has no field “{unknown[0]}”.")
        given = {name: value for name, value in item.items() if value is not None}
        found = {"pattern": "", "type": "glob", "reason": "", "is_automatic": False, "enabled": True} | given
        for name, kind in (
            ("pattern", str),
            ("type", str),
            ("reason", str),
            ("is_automatic", bool),
            ("enabled", bool),
        ):
            if not isinstance(found[name], kind):
                raise serializers.ValidationError(f"“{name}” of a pattern has the wrong type.")
        return found

    def to_representation(self, value: Any) -> Any:
        """The objects."""
        return value


class FilesField(serializers.Field[Any, Any, Any, Any]):
    """Paths of files and folders below the source's root, in the form in which answers give them."""

    def to_internal_value(self, data: Any) -> list[str]:
        """The paths without detours, each once."""
        if not isinstance(data, list):
            raise serializers.ValidationError("Must be a list of paths.")
        if len(data) > MOST_FILES:
            raise serializers.ValidationError(f"Must not hold more than {MOST_FILES} paths.")
        return list(dict.fromkeys(self._path(item) for item in data))

    def _path(self, item: Any) -> str:
        if not isinstance(item, str):
            raise serializers.ValidationError("Each path must be a string.")
        raw = path_meant(item)
        if raw.startswith(b"/"):
            raise serializers.ValidationError("Each path must be relative to the source's root.")
        path = posixpath.normpath(raw)
        if path == b"." or b".." in raw.split(b"/") or b"\0" in raw:
            raise serializers.ValidationError(
                "Each path must name a file or folder below the source's root, without “..”."
            )
        if len(path) > LONGEST_PATH:
            raise serializers.ValidationError(f"No path may be longer than {LONGEST_PATH} bytes.")
        return path_text(path)

    def to_representation(self, value: Any) -> Any:
        """The paths."""
        return value


class ScanRequestSerializer(StrictSerializer):
    """ScanRequest."""

    server_config = ConnSerializer()
    max_depth = Whole(default=0, min_value=0, max_value=MOST)
    max_files = Whole(default=0, min_value=0, max_value=MOST)
    follow_symlinks = Switch(default=False)
    detect_cms = Switch(default=False)
    custom_exclusions = ExclusionsField(default=list)
    include_hidden = Switch(default=True)


_NOT_WITH_FILES = "Goes with the whole folder only, not with chosen paths."
_NOT_WITH_RENAME = "Does not go with “rename”: it would delete what that puts beside the files that differ."


class TransferRequestSerializer(StrictSerializer):
    """TransferRequest."""

    source_config = ConnSerializer()
    dest_config = ConnSerializer()
    method = Text(default="", allow_blank=True, max_length=50)
    exclusions = ExclusionsField(default=list)
    verify_after_transfer = Switch(default=False)
    checksum = Switch(default=False)
    bandwidth_limit = Amount(default=0, min_value=0, max_value=MOST)
    bandwidth_timetable = TimetableField(default=list)
    bandwidth_timezone = ZoneField(default="UTC")
    enable_resume = Switch(default=True)
    skip_large_files = Amount(default=0, min_value=0, max_value=MOST)
    dry_run = Switch(default=False)
    files = FilesField(default=list)
    follow_symlinks = Switch(default=False)
    plan_id = NotYet("")
    delete_extraneous = Switch(default=False)
    confirm_deletions = Whole(default=0, min_value=0, max_value=MOST)
    conflict = Text(default="", allow_blank=True)
    ignore_errors = Switch(default=False)
    transfers = Whole(default=0, min_value=0, max_value=MOST_AT_ONCE)

    def validate_method(self, value: str) -> str:
        """A wish that is a known word; the result says which way was taken."""
        if value and value not in METHODS:
            raise serializers.ValidationError(f"Must be one of {', '.join(METHODS)}.")
        return value

    def validate_conflict(self, value: str) -> str:
        """A known word; none is the one that replaces."""
        if value and value not in list(Conflict):
            raise serializers.ValidationError(f"Must be one of {', '.join(Conflict)}.")
        return value or Conflict.OVERWRITE.value

    def validate(self, attrs: Json) -> Json:
        """A copy that does not contain itself, and deletes nothing that it was not told of."""
        if attrs["delete_extraneous"]:
            if attrs["files"]:
                raise serializers.ValidationError({"delete_extraneous": [_NOT_WITH_FILES]})
            if attrs["conflict"] == Conflict.RENAME:
                raise serializers.ValidationError({"delete_extraneous": [_NOT_WITH_RENAME]})
        refusal = endpoints.overlap_refusal(
            attrs["source_config"], attrs["dest_config"], deletes=attrs["delete_extraneous"]
        )
        if refusal:
            raise serializers.ValidationError({"dest_config": {"root_path": [refusal]}})
        return attrs


class VerifyRequestSerializer(StrictSerializer):
    """A verification; the validated form has the transfer itself as `parent`."""

    parent = Text(max_length=36)  # type: ignore[assignment] # REST framework takes it into `fields`

    def validate_parent(self, value: str) -> Job:
        """One of this person's jobs."""
        try:
            found = Job.objects.owned_by(self.context["user"]).filter(pk=UUID(value)).first()
        except ValueError:
            found = None
        if found is None:
            raise serializers.ValidationError("You have no session of this id.")
        return found
