"""Requests of scans, transfers and verifications, submitted at once or kept to be submitted later."""

from collections.abc import Callable
from typing import Any, ClassVar

from rest_framework.exceptions import ValidationError

from migration_app import endpoints, secrets
from migration_app.serializers import (
    ScanRequestSerializer,
    TransferRequestSerializer,
    VerifyRequestSerializer,
    jump_of_text,
)
from migration_app.submission import CannotVerify, place_of, submit_scan, submit_transfer, submit_verify
from sessions_app.fields import StrictSerializer, validated
from sessions_app.models import Job, User
from sessions_app.problems import Conflict
from sessions_app.submitters import CannotSubmit, KeptRequest, RequestMeta, Submitter

Json = dict[str, Any]


class MigrationSubmitter(Submitter):
    """A request with sides; what they sign in with is sealed under the name of the side, a dot, and its own name."""

    sides: ClassVar[tuple[str, ...]]
    serializer: ClassVar[type[StrictSerializer]]
    start: ClassVar[Callable[..., tuple[Job, bool]]]

    def submit(self, user: User, data: Any, meta: RequestMeta) -> tuple[Job, bool]:
        """See `Submitter`."""
        return type(self).start(user, data, meta)

    def keep(self, user: User, data: Any, earlier: KeptRequest | None) -> KeptRequest:
        """See `Submitter`. A side that names a stored connection refers to it, and holds nothing of it."""
        if not isinstance(data, dict):
            raise ValidationError("Must be an object.")
        given = {name: value for name, value in data.items() if value is not None}
        for side in self.sides:
            if isinstance(given.get(side), dict):
                given[side] = self._entered(side, given[side], earlier)
        found = validated(self.serializer, user, given)
        held: dict[str, str] = {}
        for side in self.sides:
            own = endpoints.secrets_of(found[side])
            held |= {f"{side}.{name}": value for name, value in own.items()}
            given[side] = _without_secrets(given[side])
        title = " → ".join(place_of(found[side]) for side in self.sides)
        return KeptRequest(given, secrets.seal(held), title)

    def restore(self, kept: KeptRequest) -> Json:
        """See `Submitter`."""
        try:
            held = secrets.unseal(kept.sealed)
        except secrets.CannotOpen as error:
            raise CannotSubmit(str(error)) from None
        sides = {
            side: endpoints.with_secrets(kept.request[side], _of_side(held, side)) for side in self.sides
        }
        return kept.request | sides

    def shown(self, kept: KeptRequest) -> Json:
        """See `Submitter`."""
        return kept.request | {side: _shown(kept.request[side]) for side in self.sides}

    def _entered(self, side: str, conn: Json, earlier: KeptRequest | None) -> Json:
        """A side with the secrets that are kept for just this account."""
        conn = {name: value for name, value in conn.items() if value is not None}
        if isinstance(conn.get("jump"), str) and conn["jump"].strip():
            try:
                conn["jump"] = jump_of_text(conn["jump"])
            except ValidationError:
                # The one who validates says why.
                return conn
        if earlier is None or not _is_typed(conn):
            return conn
        before = earlier.request.get(side, {})
        if endpoints.entered_account(conn) != endpoints.entered_account(before):
            return conn
        known = _of_side(secrets.unseal_or_nothing(earlier.sealed), side)
        given = {name: value for name, value in endpoints.entered_secrets(conn).items() if value}
        return endpoints.with_secrets(conn, endpoints.merged_secrets(known, given))


def _is_typed(conn: Json) -> bool:
    return conn.get("protocol") != "local" and not conn.get("connection")


def _of_side(held: dict[str, str], side: str) -> dict[str, str]:
    names = ((name.partition("."), value) for name, value in held.items())
    return {name: value for (of, _, name), value in names if of == side}


def _without_secrets(conn: Json) -> Json:
    if conn.get("connection"):
        return {name: conn[name] for name in ("connection", "root_path") if name in conn}
    found = {name: value for name, value in conn.items() if name not in endpoints.SECRETS}
    if isinstance(found.get("jump"), dict):
        found["jump"] = {
            name: value for name, value in found["jump"].items() if name not in endpoints.SECRETS
        }
    return found


def _shown(conn: Json) -> Json:
    if not _is_typed(conn):
        return conn
    nothing = dict.fromkeys(endpoints.SECRETS, "")
    jump = conn.get("jump")
    hop = {"jump": jump | nothing} if isinstance(jump, dict) and jump and not jump.get("connection") else {}
    return conn | nothing | hop


class ScanSubmitter(MigrationSubmitter):
    """Scans."""

    type = "scan"
    sides = ("server_config",)
    serializer = ScanRequestSerializer
    start = staticmethod(submit_scan)


class TransferSubmitter(MigrationSubmitter):
    """Transfers."""

    type = "transfer"
    sides = ("source_config", "dest_config")
    serializer = TransferRequestSerializer
    start = staticmethod(submit_transfer)


class VerifySubmitter(Submitter):
    """Verifications: `parent` is the transfer that is compared once more."""

    type = "verify"

    def submit(self, user: User, data: Any, meta: RequestMeta) -> tuple[Job, bool]:
        """See `Submitter`. Raises Conflict for a transfer that cannot be verified now."""
        transfer: Job = validated(VerifyRequestSerializer, user, data)["parent"]
        try:
            return submit_verify(user, transfer, meta)
        except CannotVerify as error:
            raise Conflict(str(error), job_status=error.status) from error

    def keep(self, user: User, data: Any, earlier: KeptRequest | None) -> KeptRequest:
        """Raises ValidationError: a verification belongs to one run of a transfer."""
        reason = "A verification is of one run; schedule the transfer, with verify_after_transfer."
        raise ValidationError({"type": [reason]})

    def restore(self, kept: KeptRequest) -> Json:
        """See `Submitter`."""
        return kept.request

    def shown(self, kept: KeptRequest) -> Json:
        """See `Submitter`."""
        return kept.request
