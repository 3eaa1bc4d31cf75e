"""What was entered into the form of a new job and is not in its page: secrets, and host keys that were shown.

It lies sealed in the person's session, under a word that the page holds.
"""

import json
import secrets as random
import time
from dataclasses import dataclass, field
from typing import Any

from migration_app import endpoints, secrets
from migration_app.pages.frame import SignedRequest

Json = dict[str, Any]

_PLACE = "drafts"
MOST_KEPT = 4
KEPT_S = 3600


@dataclass(slots=True)
class Draft:
    """The secrets of each side, with the account that they were entered for, and the keys that were shown."""

    word: str = ""
    sides: dict[str, Json] = field(default_factory=dict)
    keys: dict[str, Json] = field(default_factory=dict)
    """By side: host, port, algorithm and fingerprint."""

    def keep(self, side: str, conn: Json) -> None:
        """Keep the secrets of a side as it was entered; what is left empty stays as it was."""
        given = {name: value for name, value in endpoints.entered_secrets(conn).items() if value}
        if not given:
            return
        known = self._secrets_of(side, conn)
        account = endpoints.entered_account(conn)
        self.sides[side] = {"account": account, "secrets": endpoints.merged_secrets(known, given)}

    def _secrets_of(self, side: str, conn: Json) -> dict[str, str]:
        """The secrets that were entered for just this account."""
        kept = self.sides.get(side)
        return (
            dict(kept["secrets"])
            if kept is not None and kept["account"] == endpoints.entered_account(conn)
            else {}
        )

    def completed(self, side: str, conn: Json) -> Json:
        """A side with the secrets that were entered for just this account."""
        return endpoints.with_secrets(conn, self._secrets_of(side, conn))

    def forget_others(self, side: str, conn: Json) -> bool:
        """Forget the secrets of a side when they are another account's; whether there were any."""
        kept = self.sides.get(side)
        if kept is None or kept["account"] == endpoints.entered_account(conn):
            return False
        del self.sides[side]
        return True


def find(request: SignedRequest, word: str) -> Draft:
    """The draft of a word; an empty one where there is none any more."""
    kept = _all(request).get(word)
    opened = secrets.unseal_or_nothing(kept["sealed"]).get("draft") if kept is not None else None
    return Draft(word, **json.loads(opened)) if opened else Draft()


def save(request: SignedRequest, draft: Draft) -> None:
    """Keep a draft for an hour, if there is anything in it; a person has a few at most."""
    if not draft.sides and not draft.keys:
        drop(request, draft)
        return
    draft.word = draft.word or random.token_urlsafe(16)
    sealed = secrets.seal({"draft": json.dumps({"sides": draft.sides, "keys": draft.keys})})
    others = [(word, kept) for word, kept in _all(request).items() if word != draft.word]
    request.session[_PLACE] = dict(
        [*others[1 - MOST_KEPT :], (draft.word, {"sealed": sealed, "at": time.time()})]
    )


def drop(request: SignedRequest, draft: Draft) -> None:
    """Forget a draft whose job has started."""
    kept = _all(request)
    if kept.pop(draft.word, None) is not None:
        request.session[_PLACE] = kept


def _all(request: SignedRequest) -> dict[str, Json]:
    return {
        word: kept
        for word, kept in request.session.get(_PLACE, {}).items()
        if time.time() - kept["at"] < KEPT_S
    }
