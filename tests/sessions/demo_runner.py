"""A runner that counts: its shards take as long as they are told to."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar
from uuid import UUID

from django.db import OperationalError
from rest_framework.exceptions import ValidationError

from sessions_app import jobs
from sessions_app.fields import Amount
from sessions_app.models import Job, User
from sessions_app.runners import (
    Claim,
    ComeLater,
    JobFailed,
    Json,
    NewEvent,
    Outcome,
    Runner,
    ShardContext,
    Snapshot,
    Submission,
)
from sessions_app.submitters import CannotSubmit, KeptRequest, RequestMeta, Submitter


async def count(first: int, last: int, *, pause_s: float) -> AsyncIterator[int]:
    for number in range(first, last):
        await asyncio.sleep(pause_s)
        yield number


class DemoRunner(Runner):
    """params: shards, steps, pause_s, fail, claim, tie, speed; tells: a line in the log for each step; later: seconds
    that work is put off for, once; die, stop, locked: a file that says it has happened before."""

    type = "demo"
    changeable: ClassVar = {"speed": Amount}

    def prepare(self, context: ShardContext) -> None:
        if context.params.get("fail") == "prepare":
            raise JobFailed("The demo was told to fail.")
        shards = [{"steps": context.params.get("steps", 3)} for _ in range(context.params.get("shards", 1))]
        context.checkpoint(shards=shards, events=[NewEvent("phase", {"phase": "counting"})])

    def work(self, context: ShardContext) -> None:
        if context.params.get("fail") == "work":
            raise ValueError("hunter2 must not be shown")
        if (once := context.params.get("locked")) and not Path(once).exists():
            Path(once).touch()
            context.counters["done"] = 1000
            raise OperationalError("database is locked")
        if context.params.get("die") == "always":
            os._exit(9)
        if (once := context.params.get("die")) and not Path(once).exists():
            Path(once).touch()
            os._exit(9)
        if (once := context.params.get("stop")) and not Path(once).exists():
            Path(once).touch()
            context.checkpoint(write=lambda: os.kill(os.getpid(), signal.SIGSTOP))
        if (wait_s := context.params.get("later")) and context.note is None:
            raise ComeLater(wait_s, "Waits for the demo.", note={"tries": 1})
        if context.note:
            context.counters["tries"] = context.note["tries"]
            context.note = None
        pause_s = context.params.get("pause_s", 0)
        start = context.cursor or 0
        for numbers in context.stream(count(start, context.payload["steps"], pause_s=pause_s)):
            context.counters["done"] = context.counters.get("done", 0) + len(numbers)
            start += len(numbers)
            told = numbers if context.params.get("tells") else []
            lines = [NewEvent("log", {"level": "info", "message": f"At {number}."}) for number in told]
            context.checkpoint(cursor=start, current={"at": start}, events=lines)

    def finish(self, context: ShardContext) -> Outcome:
        return Outcome({"finished_by": os.getpid()}, error=context.params.get("error", ""))

    leaves_traces = True

    def clean(self, context: ShardContext, interrupted: list[Json]) -> None:
        if context.params.get("fail") == "clean":
            raise ValueError("hunter2")
        if context.params.get("fail") == "slow clean":
            context.checkpoint(waiting_for="Waits for the server.")
            time.sleep(1)
            context.checkpoint()
        text = f"Cleaned {len(interrupted)}."
        context.checkpoint(events=[NewEvent("log", {"level": "info", "message": text})])

    @classmethod
    def claims(cls, params: Json) -> list[Claim]:
        return [Claim("demo", params["claim"])] if "claim" in params else []

    @classmethod
    def tie(cls, job_id: UUID, params: Json) -> str:
        return params.get("tie", "")

    @classmethod
    def progress(cls, snapshot: Snapshot) -> Json:
        found: dict[str, Any] = {
            "status": snapshot.status,
            "percent_complete": 0,
            "done": snapshot.counters.get("done", 0),
        }
        if snapshot.waiting_for:
            found["message"] = snapshot.waiting_for
        return found


class DemoSubmitter(Submitter):
    """The request is the runner's params; `secret` is kept apart. refuse, lose, break, kill: what goes wrong."""

    type = "demo"

    def submit(self, user: User, data: Any, meta: RequestMeta) -> tuple[Job, bool]:
        if data.get("refuse"):
            raise ValidationError({"refuse": ["Is refused."]})
        if data.get("break"):
            raise RuntimeError("hunter2 must not be shown")
        found = jobs.submit(
            Submission(
                "demo",
                user.pk,
                "A demo",
                data,
                {},
                idempotency_key=meta.idempotency_key,
                request_digest=str(data),
                run_at=meta.run_at,
                schedule_id=meta.schedule_id,
                origin=meta.origin,
            )
        )
        if (once := data.get("kill")) and not Path(once).exists():
            Path(once).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    def keep(self, user: User, data: Any, earlier: KeptRequest | None) -> KeptRequest:
        if "unknown" in data:
            raise ValidationError({"unknown": ["This field is not known."]})
        return KeptRequest(
            {name: data[name] for name in data if name != "secret"}, data.get("secret", ""), "A demo"
        )

    def restore(self, kept: KeptRequest) -> Json:
        if kept.request.get("lose"):
            raise CannotSubmit("Its secret is lost.")
        return kept.request | ({"secret": kept.sealed} if kept.sealed else {})

    def shown(self, kept: KeptRequest) -> Json:
        return kept.request | {"secret": ""}


class QuickRunner(DemoRunner):
    """One that people wait for."""

    type = "quick"
    is_waited_for = True
